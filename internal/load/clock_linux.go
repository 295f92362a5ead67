package load

import (
	"syscall"
	"time"
	"unsafe"
)

// clock is the processor time that a process has taken, all its threads together.
func clock(pid int) (time.Duration, bool) {
	const process = 2 // its whole group of threads, as the scheduler counts
	var now syscall.Timespec
	id := int32(^pid)<<3 | process
	_, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&now)), 0) //nolint:gosec // the kernel writes there, and only there
	return time.Duration(now.Nano()), failed == 0
}
