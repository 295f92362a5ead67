//go:build unix && !linux

package main

import "syscall"

// attr starts a child in its own process group, so that Ctrl-C comes to us
// alone.
func attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
