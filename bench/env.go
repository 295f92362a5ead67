package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/load"
)

// env is what everybody is measured on: one Postgres, a nats-server that syncs as it likes and one that always does, a
// Redis where somebody needs it. All are processes of their own, started here and ended here.
type env struct {
	opts   options
	dir    string // of all that is written; gone afterwards
	tree   string // the source tree of obs
	say    func(format string, args ...any)
	pg     *embedded.Postgres
	pgPID  int
	lines  *lineCount
	nats   *program // set by broker
	synced *program
	seq    int

	profiled int             // the port where nats-server is profiled; 0: it is not
	made     map[string]bool // databases that are templates
	compiled map[string]bool // packages whose programs are in the folder
	limit    *time.Timer     // ends the measurement that is under way
}

// openEnv starts Postgres. Close it.
func openEnv(ctx context.Context, opts options, say func(string, ...any)) (_ *env, err error) {
	e := &env{opts: opts, say: say, lines: &lineCount{}, made: map[string]bool{}, compiled: map[string]bool{}}
	if e.tree, err = sourceTree(); err != nil {
		return nil, err
	}
	if e.dir, err = os.MkdirTemp(opts.Dir, "obs-bench-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close(ctx))
		}
	}()
	if err := os.Chmod(e.dir, 0o755); err != nil { // Postgres may run as another user
		return nil, err
	}
	// Stock settings, and so durable: what is set is where it listens and how many may connect.
	e.pg, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{
		Dir: e.dir, Log: slog.New(e.lines), NoDownload: true, Settings: map[string]string{"max_connections": "200"},
	})
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(e.dir, "pg", "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if e.pgPID, err = strconv.Atoi(strings.TrimSpace(first)); err != nil {
		return nil, fmt.Errorf("read postmaster.pid: %w", err)
	}
	return e, e.durable(ctx)
}

// durable makes sure that nobody has turned off what makes a commit a commit.
func (e *env) durable(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, e.pg.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var value string
		if err := conn.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil {
			return err
		}
		if value != "on" {
			return fmt.Errorf("%s is %s: nothing measured here would count", name, value)
		}
	}
	return nil
}

// close ends all that was started and removes all that was written.
func (e *env) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	for _, p := range []*program{e.nats, e.synced} {
		if p != nil {
			p.end()
		}
	}
	var err error
	if e.pg != nil {
		err = e.pg.Stop(ctx)
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}

// sourceTree is where go.mod of obs is: here or above.
func sourceTree() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module github.com/seed-245eaa15/obs\n")) {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in the source tree of obs: run task bench or go -C bench run . in it", dir)
		}
	}
}

// built makes programs of this tree, once a run. It is no part of what is measured, nor of its time: on a busy machine
// the compiler takes minutes.
func (e *env) built(ctx context.Context, packages ...string) (dir string, err error) {
	dir = filepath.Join(e.dir, "bin")
	if e.compiled[packages[0]] {
		return dir, nil
	}
	if e.limit != nil && e.limit.Stop() {
		defer e.limit.Reset(oneWithin)
	}
	from := e.tree
	if strings.HasPrefix(packages[0], "github.com/") { // a peer's, which only the bench's go.mod knows
		from = filepath.Join(e.tree, "bench")
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-o", dir + string(os.PathSeparator)}, packages...)...)
	cmd.Dir = from
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %v: %w\n%s", packages, err, out)
	}
	e.compiled[packages[0]] = true
	return dir, nil
}

// broker is the nats-server, started when it is first needed.
func (e *env) broker(ctx context.Context, syncAlways bool) (*program, error) {
	at, name, conf := &e.nats, "nats", ""
	if syncAlways {
		at, name, conf = &e.synced, "nats-sync", "sync_interval: always"
	}
	if *at != nil {
		return *at, nil
	}
	bin, err := e.built(ctx, "github.com/nats-io/nats-server/v2")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	outside := ""
	if e.opts.Profile != "" {
		if e.profiled, err = freePort(); err != nil {
			return nil, err
		}
		outside = fmt.Sprintf("prof_port: %d", e.profiled)
	}
	file := filepath.Join(e.dir, name+".conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:%d\"\n%s\njetstream {\n  store_dir: %q\n  %s\n}\n", port, outside, filepath.Join(e.dir, name), conf)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	p, err := start("nats", filepath.Join(bin, "nats-server"), "-c", file)
	if err != nil {
		return nil, err
	}
	p.url = fmt.Sprintf("nats://127.0.0.1:%d", port)
	err = p.ready(ctx, func() bool {
		nc, err := nats.Connect(p.url)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	if err != nil {
		p.end()
		return nil, err
	}
	*at = p
	return p, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// meter reads Postgres, this process under the name that it is measured as, and the programs.
func (e *env) meter(self string, programs ...*program) load.Meter {
	m := load.Meter{{Name: "postgres", PID: e.pgPID, Tree: true}}
	if self != "" {
		m = append(m, load.Self(self))
	}
	for _, p := range programs {
		m = append(m, load.Process{Name: p.name, PID: p.pid(), Tree: true})
	}
	return m
}

// database makes a new database. With a template it is a copy of one that prepare has made ready once. drop drops it.
func (e *env) database(ctx context.Context, template string, prepare func(ctx context.Context, url string) error) (url string, drop func() error, err error) {
	if template != "" && !e.made[template] {
		if err := e.pg.CreateDatabase(ctx, template); err != nil {
			return "", nil, err
		}
		if err := prepare(ctx, e.pg.URL(template)); err != nil {
			return "", nil, fmt.Errorf("prepare %s: %w", template, err)
		}
		e.made[template] = true
	}
	e.seq++
	name := fmt.Sprintf("run%d", e.seq)
	from := template
	if from == "" {
		from = "template1"
	}
	if err := e.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+from); err != nil {
		return "", nil, err
	}
	return e.pg.URL(name), func() error {
		return e.exec(context.WithoutCancel(ctx), "DROP DATABASE "+name+" WITH (FORCE)")
	}, nil
}

func (e *env) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, e.pg.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%.60s: %w", sql, err)
	}
	return nil
}

// pool is a pool of n connections to a database.
func pool(ctx context.Context, url string, n int32) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	c.MaxConns = n
	return pgxpool.NewWithConfig(ctx, c)
}

// lineCount is a log that counts Postgres' lines about statements, which it writes when it is told to.
type lineCount struct{ statements counter }

func (l *lineCount) Enabled(context.Context, slog.Level) bool { return true }
func (l *lineCount) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lineCount) WithGroup(string) slog.Handler            { return l }

func (l *lineCount) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		line := a.Value.String()
		if strings.HasPrefix(line, "LOG:  statement: ") || strings.HasPrefix(line, "LOG:  execute ") {
			l.statements.Add(1)
		}
		return true
	})
	return nil
}

// machine says what all this ran on.
type machine struct {
	CPUs     int               `json:"cpus"`
	Model    string            `json:"model,omitempty"`
	Go       string            `json:"go"`
	Postgres string            `json:"postgres"`
	Commit   string            `json:"commit,omitempty"`
	Others   map[string]string `json:"others,omitempty"` // peers and servers by name
}

// firstLine is the first line that a program prints, or nothing.
func firstLine(ctx context.Context, dir, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// decode reads one line of JSON that a program of ours prints.
func decode(line string, into any) error {
	if err := json.Unmarshal([]byte(line), into); err != nil {
		return fmt.Errorf("it printed %.200q: %w", line, err)
	}
	return nil
}
