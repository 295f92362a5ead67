package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/outbox"
)

// stack is the real programs as processes, on a database and streams of their own.
type stack struct {
	e       *env
	broker  *program
	pool    *pgxpool.Pool // for looking
	url     string
	prefix  string
	bin     string
	team    string
	project string
	key     string
	procs   []*program
	drop    func() error
}

const (
	serverName = "obs server"
	relayName  = "obs-relay"
	workerName = "obs-worker"
)

func (e *env) stack(ctx context.Context) (_ *stack, err error) {
	s := &stack{e: e}
	if s.broker, err = e.broker(ctx, false); err != nil {
		return nil, err
	}
	if s.bin, err = e.built(ctx, "./cmd/obs", "./cmd/obs-relay", "./cmd/obs-worker"); err != nil {
		return nil, err
	}
	if s.url, s.drop, err = e.database(ctx, "obs", migrated); err != nil {
		return nil, err
	}
	s.prefix = fmt.Sprintf("s%d", e.seq)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.pool, err = pool(ctx, s.url, 2); err != nil {
		return nil, err
	}
	svc := observe.New(observe.Config{Pool: s.pool, Jobs: db.NewJobs(s.pool, db.JobsConfig{})})
	if s.team, s.project, err = svc.EnsureLocal(ctx, "bench"); err != nil {
		return nil, err
	}
	_, s.key, err = svc.IssueKey(ctx, s.team, s.project, "bench", "bench", []string{observe.ScopeRead, observe.ScopeWrite}, time.Time{})
	return s, err
}

func (s *stack) close() error {
	for _, p := range s.procs {
		p.end()
	}
	if s.pool != nil {
		s.pool.Close()
	}
	return errors.Join(s.drop(), s.dropStreams())
}

// dropStreams gives back what nats-server has set aside for the stack's streams: of ten stacks it is more than many a
// disk has.
func (s *stack) dropStreams() error {
	nc, err := nats.Connect(s.broker.url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	own := outbox.Streams{Prefix: s.prefix}
	for _, name := range []string{own.JobsStream(), own.EventsStream()} {
		if e := js.DeleteStream(ctx, name); !errors.Is(e, jetstream.ErrStreamNotFound) { // the server alone makes none of jobs
			err = errors.Join(err, e)
		}
	}
	return err
}

// start runs one of the programs until the stack is closed.
func (s *stack) start(ctx context.Context, name, file string, args ...string) (*program, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	p, err := start(name, filepath.Join(s.bin, file), append(args,
		"--database-url", s.url, "--nats-url", s.broker.url, "--nats-prefix", s.prefix, "--addr", addr, "--log-level", "warn")...)
	if err != nil {
		return nil, err
	}
	p.url = "http://" + addr
	s.procs = append(s.procs, p)
	return p, p.ready(ctx, func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/healthz", nil)
		if err != nil {
			return false
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = res.Body.Close() // only the status counts
		return res.StatusCode == http.StatusOK
	})
}

func (s *stack) server(ctx context.Context) (*program, error) {
	return s.start(ctx, serverName, "obs", "server")
}

// all starts the three programs, the worker with as many slots as keep it busy.
func (s *stack) all(ctx context.Context) (server *program, err error) {
	if server, err = s.server(ctx); err != nil {
		return nil, err
	}
	if _, err = s.start(ctx, relayName, "obs-relay"); err != nil {
		return nil, err
	}
	_, err = s.start(ctx, workerName, "obs-worker")
	return server, err
}

// meter reads all processes; this one only sends.
func (s *stack) meter() load.Meter {
	return s.e.meter("client", append([]*program{s.broker}, s.procs...)...)
}

// app is the server, for those who ask it.
func (s *stack) app(server *program) load.App {
	return load.App{URL: server.url, Key: s.key, Team: s.team, Project: s.project, Pool: s.pool}
}

// wholeGroups are the real programs.
func wholeGroups(o options) []group {
	return []group{
		{"http", "Events over HTTP, each answer after its commit; only the server runs", []figure{
			onServer(o, "event", "POST /v1/events, 64 connections", 64, load.App.Single),
			leastHTTP(o, "event", 64, load.App.Single),
			onServer(o, "batch", "POST /v1/events/batch of 100, 16 connections", 16, load.App.Batch),
			leastHTTP(o, "batch", 16, load.App.Batch),
			// What writes as much to Postgres' log as batches of 100 events at about half their rate: no answer is sooner.
			onPostgres("batch", "Postgres alone: 300 rows of 700 bytes a transaction, 150 of them a second, 16 clients", "rows",
				func(ctx context.Context, m load.Meter, p *pgxpool.Pool) (load.Sample, error) {
					return load.PacedRows(ctx, m, p, 16, 300, 700, 150, o.For)
				}),
		}},
		{"stored", "From an event accepted to its observation stored, by all three programs", []figure{
			onStack("stored", fmt.Sprintf("%d events in batches of 100, offline extractor", o.Events), "observations", false, storedRate),
			onStack("stored-paced", "POST sent to observation stored, 10 a second", "observations", false, storedPaced),
			leastStoredPaced(o),
		}},
		{"idle", "All three programs with nothing to do", []figure{onStack("idle", "idle", "seconds", true, idle)}},
	}
}

func onStack(what, title, unit string, once bool, run func(ctx context.Context, s *stack) (load.Sample, error)) figure {
	return figure{who: "obs", what: what, title: title, unit: unit, once: once, run: func(ctx context.Context, e *env) (load.Sample, error) {
		s, err := e.stack(ctx)
		if err != nil {
			return load.Sample{}, err
		}
		out, err := run(ctx, s)
		return out, errors.Join(err, s.close())
	}}
}

// onServer is what the server alone takes.
func onServer(o options, what, title string, conns int, request func(load.App) load.Request) figure {
	return onStack(what, title, "events", false, func(ctx context.Context, s *stack) (load.Sample, error) {
		server, err := s.server(ctx)
		if err != nil {
			return load.Sample{}, err
		}
		app := s.app(server)
		return app.Door(ctx, s.meter(), conns, request(app), o.For)
	})
}

// storedRate is what all three programs take, and how much memory that takes.
func storedRate(ctx context.Context, s *stack) (load.Sample, error) {
	server, err := s.all(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	out, err := s.app(server).Store(ctx, s.meter(), s.e.opts.Events)
	if err != nil {
		return out, err
	}
	for _, p := range s.procs {
		_, most := load.Memory(p.pid())
		out.Also[p.name+" MiB"] = mib(most)
	}
	return out, nil
}

func storedPaced(ctx context.Context, s *stack) (load.Sample, error) {
	server, err := s.all(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	return s.app(server).StorePaced(ctx, s.meter(), 10, s.e.opts.For)
}

func mib(bytes int64) float64 { return math.Round(float64(bytes)/(1<<20)*10) / 10 }

// idleAfter is how long the programs may settle before they count as idle: what nats-server has to tidy up after its start,
// and after the figures before, takes it as long.
const idleAfter = 20 * time.Second

// idle counts what nothing to do costs: one unit is one second. The statements are counted afterwards, for as long, by
// having Postgres write each to its log, which costs it more than most of them do.
func idle(ctx context.Context, s *stack) (load.Sample, error) {
	if _, err := s.all(ctx); err != nil {
		return load.Sample{}, err
	}
	if err := wait(ctx, idleAfter); err != nil {
		return load.Sample{}, err
	}
	m := s.meter()
	began, before := time.Now(), m.Start()
	if err := wait(ctx, 2*s.e.opts.For); err != nil {
		return load.Sample{}, err
	}
	took := time.Since(began).Seconds()
	out := load.Sample{N: int(took), Seconds: took}
	m.Complete(&out, before)
	delete(out.CPU, "client")
	each, err := s.statements(ctx, 2*s.e.opts.For)
	if err != nil {
		return load.Sample{}, err
	}
	out.Also = map[string]float64{"statements_per_s": each}
	for _, p := range s.procs {
		now, _ := load.Memory(p.pid())
		out.Also[p.name+" MiB"] = mib(now)
	}
	return out, nil
}

// statements is how many Postgres is asked for in a second.
func (s *stack) statements(ctx context.Context, lasting time.Duration) (each float64, err error) {
	if err := s.e.exec(ctx, "ALTER SYSTEM SET log_statement = 'all'"); err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, s.e.exec(context.WithoutCancel(ctx), "ALTER SYSTEM RESET log_statement"), s.e.exec(context.WithoutCancel(ctx), "SELECT pg_reload_conf()"))
	}()
	if err := s.e.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return 0, err
	}
	began, before := time.Now(), s.e.lines.statements.Load()
	if err := wait(ctx, lasting); err != nil {
		return 0, err
	}
	return float64(s.e.lines.statements.Load()-before) / time.Since(began).Seconds(), nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
