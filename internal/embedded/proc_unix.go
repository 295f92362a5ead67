//go:build unix && !linux

package embedded

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// procAttr starts a child in its own process group, as the given user. There is no death signal here: what a
// killed obs leaves running is stopped by the next start, see clearStale.
func procAttr(as identity) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	switch {
	case as.credential:
		attr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)}
	case as.namespace:
		// No such thing outside Linux: the program then refuses to run as root, which the probe reports.
	}
	return attr
}

func inspect(pid int) processState {
	out, err := exec.Command("ps", "-o", "stat=,comm=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return processState{}
	}
	state, name, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return processState{
		alive: state != "" && !strings.HasPrefix(state, "Z"),
		name:  filepath.Base(strings.TrimSpace(name)),
	}
}
