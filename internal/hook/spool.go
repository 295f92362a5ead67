package hook

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// spool is a folder with a file for each delivery that a server does not have
// yet. A file's name begins with its time in nanoseconds, so that names sort as
// they came, and then has a hash of the project, so that a process that has
// one project's key need not look into the others'.
type spool struct {
	dir      string // has spool, rejected and more
	maxFiles int
	maxBytes int64
	log      *slog.Logger
}

const (
	suffix = ".json"

	maxRejected = 1000 // files that are kept of those that a server will never take
	staleTemp   = time.Hour
)

func openSpool(c Config) (*spool, error) {
	s := &spool{dir: c.Dir, maxFiles: c.MaxFiles, maxBytes: c.MaxBytes, log: c.Log}
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	for _, dir := range []string{s.dir, s.waiting(), s.rejected()} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("open the spool: %w", err)
		}
	}
	return s, nil
}

func (s *spool) waiting() string  { return filepath.Join(s.dir, "spool") }
func (s *spool) rejected() string { return filepath.Join(s.dir, "rejected") }

func (s *spool) path(name string) string { return filepath.Join(s.waiting(), name) }

// projectMark is what the names of a project's files have in them.
func projectMark(project string) string {
	sum := sha256.Sum256([]byte(project))
	return "-" + hex.EncodeToString(sum[:6]) + "-"
}

// add puts a delivery at the end. When it returns, the file is on disk.
func (s *spool) add(d *delivery, now time.Time) (name string, err error) {
	text, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	names, err := s.names("")
	if err != nil {
		return "", err
	}
	at := now.UnixNano()
	if len(names) > 0 { // a clock may go backwards
		last, _, _ := strings.Cut(names[len(names)-1], "-")
		if n, err := strconv.ParseInt(last, 10, 64); err == nil && n < at+int64(time.Hour) {
			at = max(at, n+1)
		}
	}
	name = fmt.Sprintf("%020d%s%s%s", at, projectMark(d.Project), rand.Text()[:8], suffix)
	if err := WriteFile(s.path(name), text, 0o600); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	s.trim(append(names, name))
	return name, nil
}

// names lists what waits, oldest first; of one project, or of all for "".
func (s *spool) names(project string) ([]string, error) {
	mark := ""
	if project != "" {
		mark = projectMark(project)
	}
	entries, err := os.ReadDir(s.waiting()) // sorted
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && !strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), mark) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// trim drops the oldest of names until the rest is within the bounds.
func (s *spool) trim(names []string) {
	var bytes int64
	keep := len(names) // how many, from the end
	for i, name := range slices.Backward(names) {
		info, err := os.Stat(s.path(name))
		if err != nil {
			continue // another process has sent it
		}
		bytes += info.Size()
		if n := len(names) - i; n > 1 && (n > s.maxFiles || bytes > s.maxBytes) {
			keep = n - 1
			break
		}
	}
	dropped := 0
	for _, name := range names[:len(names)-keep] {
		if os.Remove(s.path(name)) == nil {
			dropped++
		}
	}
	if dropped > 0 {
		s.log.Error("the spool is full, the oldest events are lost", "dropped", dropped, "max_files", s.maxFiles, "max_bytes", s.maxBytes)
	}
}

// read gives a delivery. It is fs.ErrNotExist when another process has sent it.
func (s *spool) read(name string) (*delivery, error) {
	text, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, err
	}
	var d delivery
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return &d, nil
}

var errUnreadable = errors.New("the file is not as it was written")

// has reports whether a delivery still waits.
func (s *spool) has(name string) bool {
	_, err := os.Lstat(s.path(name))
	return err == nil
}

// done takes out what a server has.
func (s *spool) done(name string) error {
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// reject puts aside what a server will never take.
func (s *spool) reject(name string) error {
	if err := os.Rename(s.path(name), filepath.Join(s.rejected(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	entries, err := os.ReadDir(s.rejected())
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	for _, e := range entries[:max(0, len(entries)-maxRejected)] {
		_ = os.Remove(filepath.Join(s.rejected(), e.Name())) // the next one that is rejected tries again
	}
	return nil
}

// restore puts what was rejected back where it was, and says how many that is.
func (s *spool) restore() (int, error) {
	entries, err := os.ReadDir(s.rejected())
	if err != nil {
		return 0, fmt.Errorf("spool: %w", err)
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(s.rejected(), e.Name()), s.path(e.Name())); err != nil {
			return 0, fmt.Errorf("spool: %w", err)
		}
	}
	return len(entries), nil
}

// lockEvery is how often a process that waits for the lock looks.
const lockEvery = 5 * time.Millisecond

// lock waits until this process alone sends. ours is a file that the caller
// would send: when another process has done that, or ctx ends, release is nil.
func (s *spool) lock(ctx context.Context, ours string) (release func(), err error) {
	l := flock.New(filepath.Join(s.dir, "lock"), flock.SetPermissions(0o600))
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		ok, err := l.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock the spool: %w", err)
		}
		if ok {
			s.sweep()
			return func() { _ = l.Unlock() }, nil
		}
		if ours != "" && !s.has(ours) {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-tick.C:
		}
	}
}

// sweep removes files that a process was writing when it died.
func (s *spool) sweep() {
	left, err := filepath.Glob(filepath.Join(s.waiting(), tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > staleTemp {
			_ = os.Remove(path) // the next one tries again
		}
	}
}

// paused reports whether the server was too slow, a short time ago: then an
// agent need not wait for it again.
func (s *spool) paused(now time.Time) bool {
	text, err := os.ReadFile(filepath.Join(s.dir, "pause"))
	if err != nil {
		return false
	}
	until, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	left := until - now.UnixMilli()
	return err == nil && left > 0 && left <= maxPause.Milliseconds()
}

func (s *spool) pause(now time.Time, d time.Duration) {
	text := strconv.FormatInt(now.Add(min(d, maxPause)).UnixMilli(), 10)
	if err := WriteFile(filepath.Join(s.dir, "pause"), []byte(text), 0o600); err != nil {
		s.log.Warn("no pause", "err", err)
	}
}

const (
	slowPause = 15 * time.Second // after a server that did not answer in time
	maxPause  = time.Minute
)
