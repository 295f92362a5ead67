//go:build unix && !linux

package boot

import (
	"os/exec"
	"strconv"
	"strings"
)

// lookAt tells whether a process lives, and when it was started, as ps says
// it: to the second.
func lookAt(pid int) (alive bool, token string) {
	out, err := exec.Command("ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false, ""
	}
	state, started, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return state != "" && !strings.HasPrefix(state, "Z"), strings.Join(strings.Fields(started), " ")
}
