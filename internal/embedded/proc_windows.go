package embedded

import (
	"context"
	"errors"
	"syscall"
)

// chooseIdentity refuses: PostgreSQL on Windows has no private socket, and wants a start of its own kind.
func chooseIdentity(context.Context, string, string, binaries) (identity, error) {
	return identity{}, errors.New("obs does not start PostgreSQL on Windows: start it yourself and give OBS_DATABASE_URL")
}

func (id identity) blockedBy(string) string { return "" }

func procAttr(identity) *syscall.SysProcAttr { return nil }

func inspect(int) processState { return processState{} }
