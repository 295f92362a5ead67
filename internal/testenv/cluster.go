package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

// roomNeeded is how much a folder in memory must have free before the server goes there.
const roomNeeded = 2 << 30

// startWithin bounds the first test's wait for the server; several test binaries may start theirs at once.
const startWithin = 2 * time.Minute

// server is where test databases are made.
type server struct {
	url      func(database string) string
	admin    string // the database to make others from
	template string // the migrated database to clone; "" on a server that is not ours
	strategy string // how to clone: file by file where the server offers the choice
	stop     func() error
}

var (
	clusterMu  sync.Mutex
	cluster    *server
	clusterErr error // a second test must not wait for the same failure again
)

// start returns the test binary's server, started by the first call.
func start(t testing.TB) *server {
	t.Helper()
	clusterMu.Lock()
	defer clusterMu.Unlock()
	if cluster == nil && clusterErr == nil {
		// Not the test's context: the server outlives the test that happened to be first.
		ctx, cancel := context.WithTimeout(context.Background(), startWithin)
		defer cancel()
		if outside := os.Getenv("OBS_TEST_DATABASE_URL"); outside != "" {
			cluster, clusterErr = useServer(ctx, outside)
		} else {
			cluster, clusterErr = startServer(ctx)
		}
	}
	require.NoError(t, clusterErr, "no server for test databases")
	return cluster
}

func stopCluster() {
	clusterMu.Lock()
	defer clusterMu.Unlock()
	if cluster == nil {
		return
	}
	if err := cluster.stop(); err != nil {
		fmt.Fprintf(os.Stderr, "stop the test server: %v\n", err)
	}
	cluster, clusterErr = nil, errors.New("the test server has been stopped")
}

// useServer works on a server that somebody else runs. No template is left on it: each database is migrated.
func useServer(ctx context.Context, outside string) (*server, error) {
	u, err := url.Parse(outside)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return nil, errors.New("OBS_TEST_DATABASE_URL must be a URL such as postgres://user@host/postgres")
	}
	s := &server{
		url: func(database string) string {
			other := *u
			other.Path = "/" + database
			return other.String()
		},
		admin: strings.TrimPrefix(u.Path, "/"),
		stop:  func() error { return nil },
	}
	return s, s.findStrategy(ctx)
}

// startServer starts our own server in a folder of its own and makes the template.
func startServer(ctx context.Context) (*server, error) {
	dir, release, err := claimFolder(filepath.Join(baseFolder(), "obs-test-"+strconv.Itoa(os.Getuid())))
	if err != nil {
		return nil, err
	}
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{
		Dir:    dir,
		BinDir: os.Getenv("OBS_PG_BIN"),
		Fast:   true,
		Settings: map[string]string{
			"max_connections": "300",
			"shared_buffers":  "64MB",
			"min_wal_size":    "32MB",
		},
	})
	if err != nil {
		return nil, errors.Join(err, release())
	}
	s := &server{url: pg.URL, admin: "postgres"}
	s.stop = func() error {
		ctx, cancel := cleanupContext()
		defer cancel()
		return errors.Join(pg.Stop(ctx), release())
	}
	if err := s.makeTemplate(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *server) makeTemplate(ctx context.Context) error {
	const template = "obs_template"
	if err := s.findStrategy(ctx); err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE DATABASE "+template+s.strategy); err != nil {
		return err
	}
	if err := migrate(ctx, s.url(template)); err != nil {
		return err
	}
	s.template = template
	return nil
}

// findStrategy takes the faster way to clone a small database on a server without fsync: 15 and later ask.
func (s *server) findStrategy(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url(s.admin))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	major, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), ".")
	if n, err := strconv.Atoi(major); err == nil && n >= 15 {
		s.strategy = " STRATEGY file_copy"
	}
	return nil
}

// claimFolder makes a new folder for a server below base and returns what removes it. First it removes those whose test
// binaries have died: their locks are free. A guard keeps others from sweeping between a folder's making and its
// locking.
func claimFolder(base string) (dir string, release func() error, err error) {
	// As root the server runs as another user, who must be able to pass.
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", nil, err
	}
	guard := flock.New(filepath.Join(base, "guard.lock"))
	if err := guard.Lock(); err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, guard.Unlock()) }()
	sweep(base)
	dir, err = os.MkdirTemp(base, "server-")
	if err != nil {
		return "", nil, err
	}
	alive := flock.New(filepath.Join(dir, aliveName))
	if err := errors.Join(os.Chmod(dir, 0o755), alive.Lock()); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, func() error {
		return errors.Join(os.RemoveAll(dir), alive.Unlock())
	}, nil
}

const aliveName = "alive.lock"

// sweep removes the folders of dead test binaries. One whose server is still going down keeps some files, and
// the next sweep gets them.
func sweep(base string) {
	dirs, _ := filepath.Glob(filepath.Join(base, "server-*")) // the pattern is well formed
	for _, dir := range dirs {
		alive := flock.New(filepath.Join(dir, aliveName))
		if held, err := alive.TryLock(); err == nil && held {
			_ = os.RemoveAll(dir)
			_ = alive.Unlock()
		}
	}
}

// baseFolder is a folder in memory where there is one with room, else the usual temporary one.
func baseFolder() string {
	const memory = "/dev/shm"
	if free(memory) >= roomNeeded {
		return memory
	}
	return os.TempDir()
}
