package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/observe"
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
	return s.drop()
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
	_, err = s.start(ctx, workerName, "obs-worker", "--slots", "event="+strconv.Itoa(s.e.opts.EventSlots))
	return server, err
}

// meter reads all processes; this one only sends.
func (s *stack) meter() load.Meter {
	return s.e.meter("client", append([]*program{s.broker}, s.procs...)...)
}

// event is a command that failed, so that there is something to note: about 0.6 KB, as claude-mem's were.
func (s *stack) event(buf []byte, n int64) []byte {
	return fmt.Appendf(buf, `{"projectId":%q,"sourceType":"hook","eventType":"tool_use","occurredAtEpoch":%d,"sourceEventId":"bench-%d","contentSessionId":"session-%d",`+
		`"payload":{"tool_name":"Bash","tool_input":{"command":"go test ./part%d -run TestPart%d -count=1"},"tool_response":{"exit_code":1,`+
		`"stdout":"--- FAIL: TestPart%d (0.01s)\n    part_test.go:%d: the relay published %d messages, want %d\n    part_test.go:%d: two leaders at once\nFAIL\nFAIL\texample.com/part%d\t0.012s\nFAIL"}}}`,
		s.project, 1_795_435_200_000+n, n, n%100, n, n, n, n%1000, n, n+1, n%1000+1, n)
}

const batchOf = 100

func (s *stack) single() load.Request {
	return load.Request{Path: "/v1/events", Units: 1, Body: s.event}
}

func (s *stack) batch() load.Request {
	return load.Request{Path: "/v1/events/batch", Units: batchOf, Body: func(buf []byte, n int64) []byte {
		buf = append(buf, '[')
		for i := range int64(batchOf) {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = s.event(buf, n*batchOf+i)
		}
		return append(buf, ']')
	}}
}

// wholeGroups are the real programs.
func wholeGroups(o options) []group {
	return []group{
		{"http", "Events over HTTP, each answer after its commit; only the server runs", []figure{
			onServer(o, "event", "POST /v1/events, 64 connections", 64, (*stack).single),
			onServer(o, "batch", "POST /v1/events/batch of 100, 16 connections", 16, (*stack).batch),
		}},
		{"stored", "From an event accepted to its observation stored, by all three programs", []figure{
			onStack("stored", fmt.Sprintf("%d events in batches of 100, offline extractor", o.Events), "observations", false, storedRate),
			onStack("stored-paced", "POST sent to observation stored, 10 a second", "observations", false, storedPaced),
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

// onServer floods the server, and then asks it at half of what it took: its latency there is what the sample has.
func onServer(o options, what, title string, conns int, request func(*stack) load.Request) figure {
	return onStack(what, title, "events", false, func(ctx context.Context, s *stack) (load.Sample, error) {
		server, err := s.server(ctx)
		if err != nil {
			return load.Sample{}, err
		}
		h, err := load.DialHTTP(ctx, server.url, s.key, conns)
		if err != nil {
			return load.Sample{}, err
		}
		defer h.Close()
		r := request(s)
		for range 5 { // connections to Postgres, statements, the key
			if err := h.One(ctx, r); err != nil {
				return load.Sample{}, err
			}
		}
		full, err := h.Flood(ctx, s.meter(), r, o.For, 0)
		if err != nil {
			return full, err
		}
		half, err := h.Pace(ctx, nil, r, full.Rate()/float64(r.Units)/2, o.For)
		if err != nil {
			return full, err
		}
		full.Latency = half.Latency
		return full, s.accepted(ctx, full.N+half.N+5*r.Units)
	})
}

// accepted verifies that what was answered for is there, each with its job.
func (s *stack) accepted(ctx context.Context, n int) error {
	var stored, jobs int
	err := s.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM agent_events WHERE team_id = $1 AND project_id = $2),
		(SELECT count(*) FROM observation_generation_jobs WHERE team_id = $1 AND project_id = $2)`, s.team, s.project).Scan(&stored, &jobs)
	if err == nil && (stored != n || jobs != n) {
		err = fmt.Errorf("%d events were answered for, but %d are stored, with %d jobs", n, stored, jobs)
	}
	return err
}

func storedRate(ctx context.Context, s *stack) (load.Sample, error) {
	server, err := s.all(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	h, err := load.DialHTTP(ctx, server.url, s.key, 8)
	if err != nil {
		return load.Sample{}, err
	}
	defer h.Close()
	if err := h.One(ctx, s.batch()); err != nil {
		return load.Sample{}, err
	}
	if err := s.stored(ctx, batchOf); err != nil {
		return load.Sample{}, err
	}
	n := s.e.opts.Events / batchOf * batchOf
	m := s.meter()
	before, began := m.Start(), time.Now()
	sent, err := h.Flood(ctx, nil, s.batch(), 0, n)
	if err != nil {
		return load.Sample{}, err
	}
	if err := s.stored(ctx, batchOf+sent.N); err != nil {
		return load.Sample{}, err
	}
	out := load.Sample{N: sent.N, Seconds: time.Since(began).Seconds(), Also: map[string]float64{"accepted_per_s": sent.Rate()}}
	m.Complete(&out, before)
	for _, p := range s.procs {
		_, most := load.Memory(p.pid())
		out.Also[p.name+" MiB"] = float64(most) / (1 << 20)
	}
	return out, s.accepted(ctx, batchOf+sent.N)
}

// stored waits until there are n observations, each with a source and with words to be searched for.
func (s *stack) stored(ctx context.Context, n int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var there int
		err := s.pool.QueryRow(ctx, `SELECT count(*) FROM observations WHERE team_id = $1 AND project_id = $2`, s.team, s.project).Scan(&there)
		if err != nil {
			return err
		}
		if there >= n {
			return s.complete(ctx, n)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d observations are stored: %w", there, n, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// complete verifies that observations have their sources and their jobs three events.
func (s *stack) complete(ctx context.Context, n int) error {
	var sources, events int
	err := s.pool.QueryRow(ctx, `SELECT (SELECT count(DISTINCT source_id) FROM observation_sources WHERE team_id = $1 AND project_id = $2),
		(SELECT count(*) FROM observation_generation_job_events WHERE team_id = $1 AND project_id = $2)`, s.team, s.project).Scan(&sources, &events)
	if err == nil && (sources != n || events < 3*n) {
		err = fmt.Errorf("%d observations are stored, but of %d sources, and their jobs have %d events", n, sources, events)
	}
	return err
}

// storedPaced posts ten events a second, and looks for each observation until it is there.
func storedPaced(ctx context.Context, s *stack) (load.Sample, error) {
	server, err := s.all(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	h, err := load.DialHTTP(ctx, server.url, s.key, 1)
	if err != nil {
		return load.Sample{}, err
	}
	defer h.Close()
	const rate, warm = 10, 10
	n := warm + max(10, int(rate*s.e.opts.For.Seconds()))
	took := make([]time.Duration, 0, n)
	m := s.meter()
	before, began := m.Start(), time.Now()
	_, err = load.Paced(ctx, 1, n, rate, func(ctx context.Context, i int) error {
		sent := time.Now()
		if err := h.One(ctx, s.single()); err != nil {
			return err
		}
		for there := 0; there <= i; {
			if err := s.pool.QueryRow(ctx, `SELECT count(*) FROM observations WHERE team_id = $1 AND project_id = $2`, s.team, s.project).Scan(&there); err != nil {
				return err
			}
		}
		took = append(took, time.Since(sent))
		return nil
	})
	if err != nil {
		return load.Sample{}, err
	}
	out := load.Sample{N: n, Seconds: time.Since(began).Seconds()}
	m.Complete(&out, before)
	out.Latency = load.LatencyOf(took[warm:])
	return out, nil
}

// idleAfter is how long the programs may settle before they count as idle.
const idleAfter = 8 * time.Second

// idle counts what nothing to do costs: one unit is one second. Postgres writes each statement to its log meanwhile,
// which is how they are counted.
func idle(ctx context.Context, s *stack) (load.Sample, error) {
	if _, err := s.pool.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET log_statement = ''all''', current_database()); END $$`)); err != nil {
		return load.Sample{}, err
	}
	if _, err := s.all(ctx); err != nil {
		return load.Sample{}, err
	}
	if err := wait(ctx, idleAfter); err != nil {
		return load.Sample{}, err
	}
	m := s.meter()
	began, statements := time.Now(), s.e.lines.statements.Load()
	before := m.Start()
	if err := wait(ctx, 2*s.e.opts.For); err != nil {
		return load.Sample{}, err
	}
	took := time.Since(began).Seconds()
	out := load.Sample{N: int(took), Seconds: took, Also: map[string]float64{
		"statements_per_s": float64(s.e.lines.statements.Load()-statements) / took,
	}}
	m.Complete(&out, before)
	delete(out.CPU, "client")
	for _, p := range s.procs {
		now, _ := load.Memory(p.pid())
		out.Also[p.name+" MiB"] = float64(now) / (1 << 20)
	}
	return out, nil
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
