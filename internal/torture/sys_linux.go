package main

import "syscall"

// attr starts a child in its own process group, so that Ctrl-C comes to us
// alone, and lets the kernel kill it when we die.
func attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
