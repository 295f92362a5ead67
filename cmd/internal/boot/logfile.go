package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// maxLog is the size of a background server's log, in bytes. One old one of
// that size is kept beside it.
const maxLog = 16 << 20

// OpenLogFile opens a log to append to.
func OpenLogFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return f, nil
}

// LogFile writes to a log that others append to as well, such as the runtime
// when it ends the process, and which therefore cannot be exchanged for
// another file: when it has grown to its size, it is copied to path.1 and
// begins anew.
type LogFile struct {
	mu   sync.Mutex
	file *os.File
	path string
	max  int64
	size int64
}

// NewLogFile opens the log at path. max is its size in bytes; 0 means 16 MiB.
func NewLogFile(path string, max int64) (*LogFile, error) {
	if max == 0 {
		max = maxLog
	}
	f, err := OpenLogFile(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the log: %w", err), f.Close())
	}
	return &LogFile{file: f, path: path, max: max, size: info.Size()}, nil
}

// Write appends a line, whole.
func (l *LogFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(line)) > l.max {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	return n, err
}

func (l *LogFile) rotate() error {
	from, err := os.Open(l.path)
	if err != nil {
		return fmt.Errorf("rotate the log: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(l.path+".1", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rotate the log: %w", err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close(), l.file.Truncate(0)); err != nil {
		return fmt.Errorf("rotate the log: %w", err)
	}
	l.size = 0
	return nil
}

// Close closes the file.
func (l *LogFile) Close() error { return l.file.Close() }
