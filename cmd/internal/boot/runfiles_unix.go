//go:build unix

package boot

import "syscall"

// Detached is how a process is started that stays when its terminal goes.
func Detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// Stop asks the server to end, and does not wait for it.
func (s *Server) Stop() error { return s.process.Signal(syscall.SIGTERM) }
