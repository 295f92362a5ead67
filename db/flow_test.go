package db_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

// flow is the whole house on a real Postgres and a real broker.
type flow struct {
	bundle
	js      jetstream.JetStream
	streams outbox.Streams
	relay   *outbox.Relay
	worker  *pipeline.Worker
	done    atomic.Int64
	wake    chan struct{}
	at      time.Time // in the names of jobs; zero: they have none
}

func newFlow(tb testing.TB, slots int, mode outbox.Mode) *flow {
	tb.Helper()
	pool := testenv.Pool(tb)
	_, err := pool.Exec(tb.Context(), `INSERT INTO teams VALUES ('t', 't'); INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p')`)
	require.NoError(tb, err)
	return newFlowOn(tb, pool, slots, mode)
}

func newFlowOn(tb testing.TB, pool *pgxpool.Pool, slots int, mode outbox.Mode) *flow {
	tb.Helper()
	f := &flow{bundle: bundle{pool: pool}, streams: outbox.Streams{Kinds: []events.Kind{"event"}}, wake: make(chan struct{}, 1)}
	f.jobs = db.NewJobs(f.pool, db.JobsConfig{Process: "test"})
	var err error
	f.js, err = jetstream.New(testenv.NATS(tb))
	require.NoError(tb, err)
	require.NoError(tb, outbox.Ensure(tb.Context(), f.js, f.streams))
	f.relay = outbox.New(f.jobs, f.jobs, f.js, outbox.Config{Streams: f.streams, Wake: f.wake, Mode: mode})
	f.worker = pipeline.New(f.jobs, f.js, pipeline.Config{
		Stream: f.streams.JobsStream(), Consumer: f.streams.Consumer,
		Lanes: map[events.Kind]pipeline.Lane{"event": {Slots: slots}},
	})
	pipeline.Handle(f.worker, "event", func(context.Context, events.Job, struct{}) (pipeline.Commit, error) {
		f.done.Add(1)
		return nil, nil
	})
	return f
}

func (f *flow) start(tb testing.TB) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.relay.Run(ctx) })
	wg.Go(func() { _ = f.worker.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

func (f *flow) fill(tb testing.TB, from, n int) {
	tb.Helper()
	steps := make([]events.Step, n)
	for i := range steps {
		name := fmt.Sprint(from + i)
		st, err := events.New(events.Job{ID: events.NewIDAt("event", f.at, name), Kind: "event", Scope: scope, SourceType: "thing", SourceID: name}, events.Event{Actor: "test"})
		require.NoError(tb, err)
		steps[i] = st
	}
	require.NoError(tb, db.InTx(tb.Context(), f.pool, func(tx pgx.Tx) error {
		_, err := f.jobs.Enqueue(tb.Context(), tx, steps...)
		return err
	}))
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *flow) completed(tb testing.TB) int {
	tb.Helper()
	var n int
	require.NoError(tb, f.pool.QueryRow(tb.Context(), `SELECT count(*) FROM observation_generation_jobs WHERE status = 'completed'`).Scan(&n))
	return n
}

func TestJobsFlowThroughAndTheChecksAreClean(t *testing.T) {
	t.Parallel()
	f := newFlow(t, 50, "")
	stop := f.start(t)
	for i := range 10 {
		f.fill(t, i*100, 100)
	}
	require.Eventually(t, func() bool { return f.completed(t) == 1000 }, time.Minute, 20*time.Millisecond)
	var fed int
	require.Eventually(t, func() bool {
		require.NoError(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM job_feed`).Scan(&fed))
		return fed == 0
	}, 30*time.Second, 20*time.Millisecond)
	stop()
	require.EqualValues(t, 1000, f.done.Load())

	check, err := outbox.ReadStreams(t.Context(), f.js, f.streams)
	require.NoError(t, err)
	n := 0
	found, err := f.jobs.Check(t.Context(), db.CheckConfig{Job: func(j events.Job, h []events.Event) {
		n++
		check.Job(j, h, true)
	}})
	require.NoError(t, err)
	require.Empty(t, append(found, check.Findings(true)...))
	require.Equal(t, 1000, n)
}

// What a worker that stops hands back is another one's at once: long before
// the lease or an AckWait, both half a minute.
func TestAReleasedJobIsTakenUpAtOnce(t *testing.T) {
	t.Parallel()
	f := newFlow(t, 1, "")
	ring := func([]events.Step) {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	began := make(chan struct{})
	first := pipeline.New(f.jobs, f.js, pipeline.Config{Grace: 50 * time.Millisecond, Settled: ring})
	pipeline.Handle(first, "event", func(ctx context.Context, _ events.Job, _ struct{}) (pipeline.Commit, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	var others sync.WaitGroup
	defer others.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	others.Go(func() { _ = f.relay.Run(ctx) })
	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- first.Run(leaving) }()
	f.fill(t, 0, 1)
	<-began
	others.Go(func() { _ = f.worker.Run(ctx) })
	leave()
	require.NoError(t, <-left)
	since := time.Now()
	require.Eventually(t, func() bool { return f.completed(t) == 1 }, time.Minute, time.Millisecond)
	t.Logf("completed %v after the first worker had left", time.Since(since))
	job, history, err := f.jobs.Get(t.Context(), scope, events.NewID("event", "0"))
	require.NoError(t, err)
	require.Equal(t, 1, job.Attempts, "what was handed back does not count")
	var types []events.Type
	for _, e := range history {
		if e.Type != events.Enqueued { // written where a claim took more than a second
			types = append(types, e.Type)
		}
	}
	require.Equal(t, []events.Type{events.Queued, events.Processing, events.Released, events.Processing, events.Completed}, types)
}

// BenchmarkFlow drains jobs that already wait: claim and settle with an empty
// handler, through the relay and JetStream, in both modes of publishing (ADR
// 0008).
func BenchmarkFlow(b *testing.B) {
	for _, mode := range []outbox.Mode{outbox.Atomic, outbox.Async} {
		b.Run(string(mode), func(b *testing.B) { benchFlow(b, mode) })
	}
}

func benchFlow(b *testing.B, mode outbox.Mode) {
	b.Helper()
	const batch = 10_000
	f := newFlow(b, 1000, mode)
	n := 0
	for b.Loop() {
		b.StopTimer()
		f.done.Store(0)
		for i := range batch / 1000 {
			f.fill(b, n+i*1000, 1000)
		}
		n += batch
		b.StartTimer()
		if n == batch {
			stop := f.start(b)
			defer stop()
		}
		require.Eventually(b, func() bool { return f.completed(b) == n }, time.Minute, 5*time.Millisecond)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "jobs/s")
}
