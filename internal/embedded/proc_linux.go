package embedded

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// procAttr starts a child in its own process group, interrupted by the kernel when the thread that started it
// ends, as the given user.
func procAttr(as identity) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	switch {
	case as.credential:
		attr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)}
	case as.namespace:
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: as.uid, HostID: 0, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: as.gid, HostID: 0, Size: 1}}
	}
	return attr
}

func inspect(pid int) processState {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processState{}
	}
	// "4242 (postgres) S 1 …": the name may hold spaces and brackets, so the last bracket closes it.
	from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if from < 0 || to < from || to+2 >= len(stat) {
		return processState{}
	}
	dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)) // not ours to read: another user's process
	state := stat[to+2]
	return processState{
		alive: state != 'Z' && state != 'X',
		name:  string(stat[from+1 : to]),
		dir:   strings.TrimSuffix(dir, " (deleted)"),
	}
}
