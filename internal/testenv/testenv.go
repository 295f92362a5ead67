// Package testenv gives a test a world of its own: [Postgres] or [Pool] for a migrated database, [NATS] for a
// broker with JetStream, [Log] for a logger that writes to the test's output. All of it is real, nothing is
// shared between tests, so every test can run in parallel, and all of it is gone when the test ends.
//
// The databases are clones of one migrated template. Its server is started by the first test of a test binary
// that asks, and kept for that binary: one for a whole `go test ./...` would need a process that outlives the
// binaries and knows when the last has gone. It takes under a second, lives in memory where there is room
// (/dev/shm), and dies with the binary however that ends. Its folder is removed by [Main] where a package has a
// TestMain, otherwise by the next test binary that starts a server.
//
// Three variables change this:
//   - OBS_TEST_DATABASE_URL: a URL of a server to use instead of starting one, as a user that may make databases
//   - OBS_TEST_KEEP: when set, a failed test's database is not dropped and its URL is logged
//   - OBS_PG_BIN: the folder of PostgreSQL's programs, where they are not found by themselves
package testenv

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

const cleanupWithin = 30 * time.Second

// Main runs a package's tests, then stops the server and removes its folder at once, and then looks for goroutines
// that nobody has ended: one is a failure. Call it as the whole of a TestMain; it does not return.
func Main(m *testing.M, opts ...goleak.Option) {
	opts = append(opts, goleak.Cleanup(os.Exit))
	goleak.VerifyTestMain(run{m}, opts...)
}

// run stops the server before anybody looks for what is left.
type run struct{ m *testing.M }

func (r run) Run() int {
	code := r.m.Run()
	stopCluster()
	http.DefaultClient.CloseIdleConnections() // what tests asked over HTTP
	return code
}

// NATS returns a connection to a new JetStream server of this test alone, inside this process and without a port.
func NATS(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := startNATS(t, 0).Connect(append([]nats.Option{nats.Timeout(time.Minute)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// NATSServer returns a new JetStream server of this test alone that listens on a free port of this machine, for
// tests that run other processes.
func NATSServer(t testing.TB) *embedded.NATS {
	t.Helper()
	return startNATS(t, -1)
}

func startNATS(t testing.TB, port int) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Dir: t.TempDir(), Port: port})
	require.NoError(t, err)
	t.Cleanup(n.Stop)
	return n
}

// Log returns a logger of all levels that writes to the test's output. What is logged after the test has ended
// is dropped.
func Log(t testing.TB) *slog.Logger {
	t.Helper()
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// testWriter stands before t.Output, which panics when a test has ended.
type testWriter struct {
	t testing.TB

	mu     sync.Mutex
	closed bool
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return len(p), nil
	}
	return w.t.Output().Write(p)
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// cleanupContext is for work after a test, when its own context has ended.
func cleanupContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), cleanupWithin)
}
