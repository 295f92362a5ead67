package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// ErrInUse means that another process works on the data directory.
var ErrInUse = errors.New("data directory in use")

// inUseError is [ErrInUse] with the line for a person.
type inUseError struct {
	dir string
	pid int // 0: unknown
}

func (e *inUseError) Error() string {
	who := ""
	if e.pid != 0 {
		who = fmt.Sprintf(" (pid %d)", e.pid)
	}
	return fmt.Sprintf("another obs is using %s%s: stop it or choose another --data-dir", e.dir, who)
}

func (e *inUseError) Is(target error) bool { return target == ErrInUse }

// lockDir takes the file dir/name for this process. The kernel lets go of it when the process dies, however it
// dies, so a lock that is held means a live owner. The file itself stays: removing it would let two others each
// lock a different file of the same name.
func lockDir(dir, name string) (*flock.Flock, error) {
	path := filepath.Join(dir, name)
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w; choose another --data-dir", dir, err)
	}
	if !held {
		text, _ := os.ReadFile(path) // the owner may not have written its number yet: then we do not name it
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, &inUseError{dir: dir, pid: pid}
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory %s: %w", dir, err), lock.Unlock())
	}
	return lock, nil
}
