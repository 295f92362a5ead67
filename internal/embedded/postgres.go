package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/jackc/pgx/v5"
)

// Database is the database that [StartPostgres] makes for obs.
const Database = "obs"

const (
	superuser  = "postgres"
	socketPort = 5432 // only a part of the socket's file name

	readyEvery   = 20 * time.Millisecond
	readyWithin  = 2 * time.Minute // crash recovery of a large log can take this long
	staleWithin  = 10 * time.Second
	stopWithin   = 10 * time.Second
	quitWithin   = 6 * time.Second // PostgreSQL kills its own children 5 s after SIGQUIT
	retryEvery   = 200 * time.Millisecond
	lockFileName = "postgres.lock"
)

// PostgresConfig says where the server keeps its data and which programs it runs. Only Dir has no default.
type PostgresConfig struct {
	// Dir is the folder that holds pg/ (the data), run/ (the socket) and postgres.lock. It is made when missing.
	Dir string
	// Log receives the server's own log lines at debug level; nil discards them.
	Log *slog.Logger
	// BinDir is the folder of the programs postgres and initdb; empty searches the machine.
	BinDir string
	// NoDownload forbids fetching the programs when none are installed.
	NoDownload bool
	// CacheDir keeps fetched programs; empty means the user's cache folder (/var/cache/obs for root).
	CacheDir string
	// DownloadURL is the Maven repository to fetch from; empty means Maven Central.
	DownloadURL string
	// Fast gives up durability for speed, and makes no database: for tests only.
	Fast bool
	// Settings are server settings by name, on top of ours.
	Settings map[string]string
	// Progress is told, in a few words for a person, what a slow first start is doing; nil is silent.
	Progress func(string)
}

// Postgres is a running server. Close it with [Postgres.Stop]; it also dies with this process.
type Postgres struct {
	// Version is what the server calls itself, such as "15.18".
	Version string
	// BinDir is the folder of the programs in use: psql and pg_dump are often beside them.
	BinDir string

	cfg     PostgresConfig
	log     *slog.Logger
	dataDir string
	runDir  string
	tempRun bool // runDir is a temporary folder that Stop removes
	as      identity
	bin     binaries
	lock    *flock.Flock
	server  *process
	stop    sync.Once
	stopErr error
}

// StartPostgres starts a server on cfg.Dir, made with initdb when the folder is new, and returns when it answers.
// The error is [ErrInUse] when another process has the folder, [ErrNoPostgres] when no programs are to be had,
// and a [*VersionError] when the folder was made by a major version that is not installed.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if runtime.GOOS == "windows" { // no private socket, no user to become, and a start of its own kind
		return nil, errors.New("obs does not start PostgreSQL on Windows: start it yourself and give OBS_DATABASE_URL")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil || cfg.Dir == "" {
		return nil, errors.New("start postgres: no data directory given")
	}
	cfg.Dir = dir
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := lockDir(dir, lockFileName)
	if err != nil {
		return nil, err
	}
	p := &Postgres{cfg: cfg, log: cfg.Log, dataDir: filepath.Join(dir, "pg"), lock: lock}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.cleanup())
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context) error {
	var err error
	if p.bin, err = chooseBinaries(ctx, p.cfg, p.dataDir); err != nil {
		return err
	}
	p.BinDir, p.Version = p.bin.dir, p.bin.version
	if p.as, err = chooseIdentity(ctx, p.cfg.Dir, p.dataDir, p.bin); err != nil {
		return err
	}
	if err := p.initData(ctx); err != nil {
		return err
	}
	if err := p.makeRunDir(); err != nil {
		return err
	}
	stale, err := clearStale(ctx, p.log, p.dataDir)
	if err != nil {
		return err
	}
	if err := p.launch(ctx, stale); err != nil {
		return err
	}
	if p.cfg.Fast {
		return nil
	}
	if err := p.CreateDatabase(ctx, Database); err != nil {
		return errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
	}
	return nil
}

// launch starts the server and waits for it. After a crash the predecessor's last processes may hold its shared
// memory for a moment: then, and only then, it tries again.
func (p *Postgres) launch(ctx context.Context, again bool) error {
	deadline := time.Now().Add(staleWithin)
	for {
		server, err := startProcess(ctx, p.log, p.bin.path("postgres"), p.args(), p.cfg.Dir, p.as)
		if err != nil {
			return fmt.Errorf("start postgres: %w", err)
		}
		p.server = server
		err = p.waitReady(ctx)
		if err == nil {
			return nil
		}
		p.server.end(context.WithoutCancel(ctx))
		p.server = nil
		if !again || ctx.Err() != nil || !errors.Is(err, errExited) || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, retryEvery); err != nil {
			return err
		}
	}
}

var errExited = errors.New("the server did not start")

func (p *Postgres) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.server.exited:
			return fmt.Errorf("start postgres: %w: %s", errExited, p.server.output.tail())
		case <-ctx.Done():
			return fmt.Errorf("start postgres: %w: %w; the server says: %s", ctx.Err(), err, p.server.output.tail())
		case <-time.After(readyEvery):
		}
	}
}

// ready is nil when our own child answers. The process id in postmaster.pid must be the child's, or the answer
// could come from a dying predecessor on the same socket.
func (p *Postgres) ready(ctx context.Context) error {
	file, err := readPidFile(p.dataDir)
	if err != nil {
		return err
	}
	if file.pid != p.server.pid {
		return fmt.Errorf("postmaster.pid names process %d", file.pid)
	}
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (p *Postgres) args() []string {
	settings := map[string]string{
		"listen_addresses":        "",
		"port":                    strconv.Itoa(socketPort),
		"unix_socket_directories": `"` + strings.ReplaceAll(p.runDir, `"`, `""`) + `"`,
		"unix_socket_permissions": "0700",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_destination":         "stderr",
		"logging_collector":       "off",
		"log_line_prefix":         "",
		// Errors of statements go to the client that sent them; in the log they would carry what people stored.
		"log_min_messages":        "log",
		"log_min_error_statement": "panic",
	}
	if p.cfg.Fast {
		maps.Copy(settings, map[string]string{
			"fsync":              "off",
			"synchronous_commit": "off",
			"full_page_writes":   "off",
			"wal_level":          "minimal",
			"max_wal_senders":    "0",
			"autovacuum":         "off", // with a hundred short-lived databases its launcher never rests
			"jit":                "off",
		})
	}
	maps.Copy(settings, p.cfg.Settings)
	args := []string{"-D", p.dataDir}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// URL is the connection string of a database of this server, for pgx and for psql, as its superuser.
func (p *Postgres) URL(database string) string {
	query := url.Values{
		"host":    {p.runDir},
		"port":    {strconv.Itoa(socketPort)},
		"sslmode": {"disable"}, // or the reader's PGSSLMODE would count
	}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// CreateDatabase makes a database unless it exists.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// Done is closed when the server process has ended, asked to by [Postgres.Stop] or not.
func (p *Postgres) Done() <-chan struct{} { return p.server.exited }

// Stop ends the server: clients are cut off and everything is written out. When that takes longer than ctx or
// 10 s the server is told to quit at once, which the next start makes good from its log. Later calls do nothing
// and return the same.
func (p *Postgres) Stop(ctx context.Context) error {
	p.stop.Do(func() {
		if clean := p.server.end(ctx); !clean {
			p.log.WarnContext(ctx, "postgres did not stop in time and was made to quit", "data_dir", p.dataDir)
		}
		p.stopErr = p.cleanup()
	})
	return p.stopErr
}

func (p *Postgres) cleanup() error {
	var err error
	if p.tempRun {
		err = os.RemoveAll(p.runDir)
	}
	return errors.Join(err, p.lock.Unlock())
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
