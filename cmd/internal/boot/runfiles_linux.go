package boot

import (
	"bytes"
	"fmt"
	"os"
)

// lookAt tells whether a process lives, and when it was started, in clock
// ticks since the system was: the 22nd field of its stat.
func lookAt(pid int) (alive bool, token string) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false, ""
	}
	return parseStat(stat)
}

// parseStat reads "4242 (obs) S 1 …": the name may hold spaces and brackets,
// so the last bracket closes it. What follows begins with the third field.
func parseStat(stat []byte) (alive bool, token string) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return false, ""
	}
	state := fields[0][0]
	return state != 'Z' && state != 'X', string(fields[19])
}
