package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// localConfig says how everything runs in one process.
type localConfig struct {
	boot.Config
	dir        string // of all data
	noDownload bool
	pgBin      string
	natsPort   int // 0: nobody else may connect to it
	log        *slog.Logger
	progress   func(string)
	how        boot.ServerRuntime // how it was started, for those who look after it
}

// local is everything in one process, ready to run.
type local struct {
	url      string
	database string // a URL for psql
	broker   string // a URL, empty when only this process gets at it
	team     string
	project  string
	key      string
	keyFile  string

	process *boot.Process
	pg      *embedded.Postgres
	ns      *embedded.NATS
	links   *boot.Links
	files   *boot.RunFiles
	door    net.Listener
	log     *slog.Logger
}

// startLocal starts all servers and makes the tenant. What it returns is to
// be closed, after run or without it.
func startLocal(ctx context.Context, c localConfig) (*local, error) {
	l := &local{log: c.log}
	if err := l.start(ctx, c); err != nil {
		l.close(ctx)
		return nil, err
	}
	return l, nil
}

func (l *local) start(ctx context.Context, c localConfig) error {
	var err error
	if l.door, err = boot.Listen(c.Addr); err != nil { // first: it is quick to tell
		return cmp.Or(boot.InUse(c.dir), err) // the same one has both: that says more
	}
	l.url = "http://" + l.door.Addr().String()
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w; choose another --data-dir (OBS_DATA_DIR)", err)
	}
	if l.files, err = boot.HoldDir(ctx, c.dir, l.door, c.how); err != nil {
		return err
	}
	if c.DatabaseURL == "" {
		l.pg, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{
			Dir: c.dir, Log: c.log, NoDownload: c.noDownload, BinDir: c.pgBin, Progress: c.progress,
		})
		if err != nil {
			return err
		}
		c.DatabaseURL = l.pg.URL(embedded.Database)
		// Nobody else serves this database, so the secret can be ours alone.
		if !c.Peppers.Any() {
			if c.Peppers, err = ownPepper(filepath.Join(c.dir, pepperFile)); err != nil {
				return err
			}
		}
	}
	l.database = c.DatabaseURL
	var dial boot.Dial
	if c.NATSURL == "" {
		l.ns, err = embedded.StartNATS(ctx, embedded.NATSConfig{Dir: filepath.Join(c.dir, "nats"), Port: c.natsPort, Log: c.log})
		if err != nil {
			return err
		}
		dial = func(_ string, opts ...nats.Option) (*nats.Conn, error) { return l.ns.Connect(opts...) }
		l.broker = l.ns.ClientURL()
	}
	if l.links, err = boot.Connect(ctx, c.Config, "obs-dev", c.log, dial); err != nil {
		return err
	}
	provider, err := c.OpenProvider(c.log)
	if err != nil {
		return err
	}
	l.process = boot.NewProcess(c.Config, l.links, c.log)
	service := l.process.Service(provider)
	if err := l.process.Relay(); err != nil { //nolint:contextcheck // it listens as long as it runs, not as long as we start
		return err
	}
	l.process.Worker(service)
	l.process.API(l.door, service) //nolint:contextcheck // a request has its own
	if l.pg != nil {
		l.process.Add("postgres", func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-l.pg.Done():
				return errors.New("the server has ended; with --log-level debug the log has what it said")
			}
		})
	}
	if err := l.tenant(ctx, service, filepath.Join(c.dir, keyFile)); err != nil {
		return err
	}
	own := ""
	if l.pg != nil {
		own = l.database
	}
	return l.files.Up(l.links.Schema, own, "api", "relay", "worker")
}

// keyFile is where the key of the local project is kept, in the data directory.
const keyFile = "dev.key"

// pepperFile is where what keys are hashed with is kept, in the data directory.
const pepperFile = "key.pepper"

// ownPepper reads the pepper of the data directory, or makes it.
func ownPepper(file string) (observe.Peppers, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(rand.Text() + "\n")
		err = secretFile(file, text)
	}
	if err != nil {
		return observe.Peppers{}, fmt.Errorf("keep the pepper of keys: %w", err)
	}
	p, err := observe.ParsePeppers(string(text))
	if err != nil {
		return p, fmt.Errorf("read %s: %w", file, err)
	}
	return p, nil
}

// secretFile makes a file that only we may read.
func secretFile(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// localName is the name of the team and of the project.
const localName = "local"

// tenant finds or makes the team, the project and the key. The secret of a
// key is nowhere in the database, so it is kept in a file that only we may
// read; when it lets nobody in any more, another one takes its place.
func (l *local) tenant(ctx context.Context, service *observe.Service, file string) error {
	var err error
	if l.team, l.project, err = service.EnsureLocal(ctx, localName); err != nil {
		return err
	}
	l.keyFile = file
	secret, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the key: %w", err)
	}
	l.key = strings.TrimSpace(string(secret))
	caller, err := service.Authenticate(ctx, l.key)
	switch {
	case err == nil && caller.Team == l.team && caller.Project == l.project:
		return nil
	case err != nil && !errors.Is(err, observe.ErrBadKey) && !errors.Is(err, observe.ErrNoKey):
		return err
	}
	_, l.key, err = service.IssueKey(ctx, l.team, l.project, "local", "obs dev", []string{observe.ScopeAll}, time.Time{})
	if err != nil {
		return err
	}
	// A new file in place of the old one: another's file would keep its rights.
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the key: %w", err)
	}
	if err := secretFile(file, []byte(l.key+"\n")); err != nil {
		return fmt.Errorf("keep the key: %w", err)
	}
	return nil
}

// run serves until ctx ends: then the API stops, the relay, and the worker.
func (l *local) run(ctx context.Context) error { return l.process.Run(ctx) }

// stopWithin is how long Postgres may take to write everything out before it
// is made to quit, which the next start mends.
const stopWithin = 3 * time.Second

// close stops what is left: NATS, then Postgres.
func (l *local) close(ctx context.Context) {
	if l.links != nil {
		l.links.Close()
	}
	if l.ns != nil {
		l.ns.Stop()
	}
	if l.pg != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		if err := l.pg.Stop(stop); err != nil {
			l.log.WarnContext(ctx, "postgres did not stop cleanly", "err", err)
		}
	}
	if l.door != nil {
		_ = l.door.Close() // it is closed already when the API has run
	}
	if l.files != nil {
		l.files.Remove() // last: now the next one may have the directory
	}
}
