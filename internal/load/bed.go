package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

// Kind is the kind of the jobs that do nothing.
const Kind events.Kind = "bench"

// Look is how often a measurement looks whether all is done.
const Look = 5 * time.Millisecond

// BedConfig says where a Bed is made. Database, Dial and a prefix of the streams are needed.
type BedConfig struct {
	Database string                     // a URL; its schema is brought up to date
	Dial     func() (*nats.Conn, error) // a connection of its own for each process that there would be
	Streams  outbox.Streams             // with a prefix that is this bed's alone; what they hold is ours to say
	Payload  int                        // bytes of a job's arguments; 0 means 512
	Slots    int                        // jobs that a worker does at once; 0 means 1000
	Untold   bool                       // followers are told nothing: what that costs is the difference
	Claimed  bool                       // each job is claimed before it is done, as one is that takes long
	Log      *slog.Logger               // nil: nothing is logged
}

// Bed is a database and a broker with one tenant. Close it.
type Bed struct {
	cfg     BedConfig
	callers *pgxpool.Pool // of those who ask for jobs
	pool    *pgxpool.Pool // of the relay and the worker
	conns   []*nats.Conn
	relayJS jetstream.JetStream
	workJS  jetstream.JetStream
	streams outbox.Streams
	asking  *db.Jobs
	jobs    *db.Jobs
	scope   events.Scope
	pad     string
	next    atomic.Int64 // numbers the jobs
}

// Callers is how many connections those who ask have, and others may be measured with.
const Callers = 16

// systemConns is as many connections as a program of ours has unless told otherwise, for relay and worker each.
const systemConns = 20

// NewBed connects, migrates, and makes the tenant and the streams. room is how many messages the stream of jobs must
// be able to hold at once.
func NewBed(ctx context.Context, cfg BedConfig, room int) (_ *Bed, err error) {
	if cfg.Payload == 0 {
		cfg.Payload = 512
	}
	if cfg.Slots == 0 {
		cfg.Slots = 1000
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bed{
		cfg: cfg, scope: events.Scope{Team: "bench", Project: "bench"}, pad: Pad(cfg.Payload),
		streams: cfg.Streams,
	}
	b.streams.Kinds, b.streams.JobsMaxMsgs = []events.Kind{Kind}, int64(max(2*room, 100_000))
	defer func() {
		if err != nil {
			b.closeLinks()
		}
	}()
	if b.pool, err = db.Open(ctx, db.Config{URL: cfg.Database, MaxConns: systemConns, Name: "obs bench"}); err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, b.pool); err != nil {
		return nil, err
	}
	if b.callers, err = db.Open(ctx, db.Config{URL: cfg.Database, MaxConns: Callers + 1, Name: "obs bench callers"}); err != nil {
		return nil, err
	}
	for _, js := range []*jetstream.JetStream{&b.relayJS, &b.workJS} {
		nc, err := cfg.Dial()
		if err != nil {
			return nil, err
		}
		b.conns = append(b.conns, nc)
		if *js, err = jetstream.New(nc); err != nil {
			return nil, err
		}
	}
	if err := outbox.Ensure(ctx, b.relayJS, b.streams); err != nil {
		return nil, err
	}
	for _, sql := range []string{
		`INSERT INTO teams (id, name) VALUES ('bench', 'bench') ON CONFLICT DO NOTHING`,
		`INSERT INTO projects (id, team_id, name) VALUES ('bench', 'bench', 'bench') ON CONFLICT DO NOTHING`,
		`CREATE TABLE IF NOT EXISTS bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, payload text NOT NULL, at timestamptz NOT NULL DEFAULT now())`,
	} {
		if _, err := b.pool.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("make the bench's tenant: %w", err)
		}
	}
	b.asking = db.NewJobs(b.callers, db.JobsConfig{Process: "bench", Build: "bench"})
	b.jobs = db.NewJobs(b.pool, db.JobsConfig{Process: "bench", Build: "bench"})
	return b, nil
}

// Close deletes the streams and ends the connections. The database stays the caller's.
func (b *Bed) Close(ctx context.Context) error {
	err := errors.Join(
		b.relayJS.DeleteStream(ctx, b.streams.JobsStream()),
		b.relayJS.DeleteStream(ctx, b.streams.EventsStream()),
	)
	b.closeLinks()
	return err
}

func (b *Bed) closeLinks() {
	for _, nc := range b.conns {
		nc.Close()
	}
	for _, pool := range []*pgxpool.Pool{b.callers, b.pool} {
		if pool != nil {
			pool.Close()
		}
	}
}

// Pad is a JSON string's inside of that many bytes.
func Pad(n int) string { return strings.Repeat("0123456789abcdef", n/16+1)[:n] }

// step is one new job, named as our application names its own, by time. Its number is in its arguments.
func (b *Bed) step(n int64) (events.Step, error) {
	name := fmt.Sprintf("%s-%d", b.cfg.Streams.Prefix, n)
	return events.New(events.Job{
		ID: events.NewIDAtMilli(Kind, time.Now(), name), Kind: Kind, Scope: b.scope, SourceType: "bench", SourceID: name,
		Args: fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, n, b.pad),
	}, events.Event{Actor: "bench"})
}

// ask commits a batch of new jobs in one transaction and gives the number of the first, and one that is alone by its name.
func (b *Bed) ask(ctx context.Context, batch int) (first int64, alone []events.Envelope, err error) {
	first = b.next.Add(int64(batch)) - int64(batch)
	steps := make([]events.Step, batch)
	for i := range steps {
		if steps[i], err = b.step(first + int64(i)); err != nil {
			return 0, nil, err
		}
	}
	added, err := b.asking.Enqueue(ctx, nil, steps...)
	if err == nil && batch == 1 && added[0] {
		made, _, err := steps[0].Next()
		return first, []events.Envelope{made.Envelope()}, err
	}
	return first, nil, err
}

// system is a relay and a worker that run, as two processes of ours would.
type system struct {
	bell  *outbox.Bell
	relay *outbox.Relay
	done  atomic.Int64
	stop  func() error
}

// run starts the relay with its feed, and the worker when there is a handler. Stop it.
func (b *Bed) run(ctx context.Context, window int, handle func(n int64)) (*system, error) {
	s := &system{bell: outbox.NewBell(b.relayJS.Conn(), b.cfg.Streams.Prefix)}
	ctx, cancel := context.WithCancel(ctx)
	wake, wakeFeed, err := s.bell.Listen(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	var feed outbox.Feed = b.jobs
	if b.cfg.Untold {
		feed = nil
	}
	s.relay = outbox.New(b.jobs, feed, b.relayJS, outbox.Config{Streams: b.streams, WindowMin: window, Wake: wake, WakeFeed: wakeFeed, Named: s.bell.Named, Log: b.cfg.Log})
	ended := make(chan error, 2)
	go func() { ended <- s.relay.Run(ctx) }()
	stopWorker := func() error { return nil }
	if handle != nil {
		stopWorker = b.work(ctx, s.bell, &s.done, handle)
	}
	s.stop = func() error {
		err := stopWorker()
		cancel()
		return errors.Join(err, <-ended)
	}
	return s, nil
}

// work runs a worker until it is stopped. done counts what it has settled.
func (b *Bed) work(ctx context.Context, bell *outbox.Bell, done *atomic.Int64, handle func(n int64)) (stop func() error) {
	w := pipeline.New(b.jobs, b.workJS, pipeline.Config{
		Stream: b.streams.JobsStream(), Consumer: b.streams.Consumer, Name: "bench", Log: b.cfg.Log,
		Settled: func(steps []events.Step) {
			for _, st := range steps {
				if st.Event.Type == events.Completed {
					done.Add(1)
				}
			}
			bell.Settled(steps)
		},
	})
	type args struct {
		N   int64
		Pad string
	}
	opts := []pipeline.Option{pipeline.Slots(b.cfg.Slots)}
	if !b.cfg.Claimed {
		opts = append(opts, pipeline.Brief())
	}
	pipeline.Handle(w, Kind, func(_ context.Context, _ events.Job, a args) (pipeline.Commit, error) {
		handle(a.N)
		return nil, nil
	}, opts...)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// until waits for a condition; what is shows in the error when ctx ends first.
func until(ctx context.Context, every time.Duration, what string, is func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := is()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// told waits until followers were told of everything: then the history of all jobs is on the stream of events too.
func (b *Bed) told(ctx context.Context) error {
	if b.cfg.Untold {
		return nil
	}
	return until(ctx, Look, "telling the events", func() (bool, error) {
		var left bool
		err := b.callers.QueryRow(ctx, `SELECT EXISTS (SELECT FROM job_feed)`).Scan(&left)
		return !left, err
	})
}
