package testenv

import "syscall"

// free is how many bytes an unprivileged user can still write below dir, 0 when that is unknown.
func free(dir string) uint64 {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0
	}
	return stat.Bavail * uint64(stat.Bsize)
}
