package hook

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// maxLog is how large the log becomes before it is put aside, in bytes. One
// older log is kept.
const maxLog = 1 << 20

// OpenLog opens the log in dir, which is made where it is not there. The log
// has no payload, prompt or key in it. What cannot be written, as on a disk
// that is full, goes to other.
func OpenLog(dir string, other io.Writer) (*slog.Logger, io.Closer, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	path := filepath.Join(dir, "hook.log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		// Two processes may do this at once: then one of them moves a new,
		// short log. Nobody waits for a lock because of that.
		_ = os.Rename(path, path+".1")
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	return slog.New(slog.NewTextHandler(fallback{f, other}, nil)).With("pid", os.Getpid()), f, nil
}

type fallback struct{ first, other io.Writer }

func (w fallback) Write(p []byte) (int, error) {
	n, err := w.first.Write(p)
	// A closed log is that of a hook which has ended: what is still under way
	// then has nobody to tell.
	if err == nil || errors.Is(err, os.ErrClosed) {
		return n, err
	}
	return w.other.Write(p)
}
