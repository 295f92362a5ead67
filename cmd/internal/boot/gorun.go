package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// parentEvery is how often a program started by `go run` looks whether that
// is still there.
const parentEvery = 500 * time.Millisecond

var errParentGone = errors.New("go run has ended")

// WithGoRun gives a context that also ends when this program was started by
// `go run` and that has been killed: it passes SIGINT on but no SIGKILL or
// SIGTERM, and would leave us running unseen. A program that was started in
// any other way may outlive its parent, as with nohup.
func WithGoRun(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	path, err := os.Executable()
	if err == nil && BuiltByGoRun(path) {
		go watchParent(ctx, cancel)
	}
	return ctx, func() { cancel(nil) }
}

func watchParent(ctx context.Context, cancel context.CancelCauseFunc) {
	parent := os.Getppid()
	tick := time.NewTicker(parentEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if os.Getppid() != parent {
				cancel(errParentGone)
				return
			}
		}
	}
}

// Where `go run` puts a program: a temporary folder, or since Go 1.24 the
// build cache.
var (
	workFolder    = regexp.MustCompile(`^go-build[0-9]*$`)
	cachedProgram = regexp.MustCompile(`^[0-9a-f]{64}-d$`)
)

// BuiltByGoRun reports whether the program at path is one that `go run` made,
// and will remove.
func BuiltByGoRun(path string) bool {
	dir := filepath.Dir(path)
	if cachedProgram.MatchString(filepath.Base(dir)) {
		return true
	}
	for one := range strings.SplitSeq(filepath.ToSlash(dir), "/") {
		if workFolder.MatchString(one) {
			return !strings.HasSuffix(path, ".test") && !strings.HasSuffix(path, ".test.exe")
		}
	}
	return false
}
