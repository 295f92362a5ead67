package embedded

import (
	"context"
	"errors"
	"syscall"
)

// StartPostgres refuses Windows before any of these is called.

func chooseIdentity(context.Context, string, string, binaries) (identity, error) {
	return identity{}, errors.ErrUnsupported
}

func (id identity) blockedBy(string) string { return "" }

func procAttr(identity) *syscall.SysProcAttr { return nil }

func inspect(int) processState { return processState{} }
