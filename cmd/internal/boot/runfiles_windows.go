package boot

import (
	"errors"
	"os"
	"syscall"
)

// lookAt tells whether a process lives; when it was started is not asked for.
func lookAt(pid int) (alive bool, token string) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false, ""
	}
	_ = p.Release()
	return true, ""
}

// Detached is how a process is started that stays when its terminal goes.
func Detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// Stop is not possible: Windows cannot ask another process to end.
func (s *Server) Stop() error {
	return errors.New("it cannot be done on Windows: end it in the Task Manager")
}
