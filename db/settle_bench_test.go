package db_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// What settling a batch may cost: round trips, whatever its size, and
// allocations a job in a large one.
const (
	settleTrips        = 1 // the statement is its own transaction
	settleWritingTrips = 3 // begin with the steps, what is written together, commit
	settleAllocs       = 6
	briefAllocs        = 1
)

// BenchmarkSettle records jobs as completed, claimed before or brief, with
// nothing to write and with a statement for what all of them write. It fails beyond its budgets,
// which a busy machine does not change.
func BenchmarkSettle(b *testing.B) {
	for _, size := range []int{1, 100, 500} {
		for _, writing := range []bool{false, true} {
			for _, brief := range []bool{false, true} {
				b.Run(fmt.Sprintf("jobs=%d/writing=%v/brief=%v", size, writing, brief), func(b *testing.B) { benchSettle(b, size, writing, brief) })
			}
		}
	}
}

func benchSettle(b *testing.B, size int, writing, brief bool) {
	b.Helper()
	ctx := b.Context()
	cfg, err := pgxpool.ParseConfig(testenv.Postgres(b))
	require.NoError(b, err)
	var trips counter
	cfg.ConnConfig.Tracer, cfg.AfterConnect = &trips, db.FastArrays // as Open does
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	_, err = pool.Exec(ctx, `INSERT INTO teams VALUES ('t', 't'); INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p'); CREATE TABLE made (n int)`)
	require.NoError(b, err)
	jobs := db.NewJobs(pool, db.JobsConfig{})
	commits, budget := make([]func(context.Context, pgx.Tx) error, size), settleTrips
	var last []func(context.Context, pgx.Tx) error
	if writing {
		budget = settleWritingTrips
		last = append(last, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO made SELECT generate_series(1, $1)`, size)
			return err
		})
	}
	n := 0
	next := func() []events.Step {
		steps := make([]events.Step, size)
		es := make([]events.Envelope, size)
		for i := range steps {
			n++
			name := fmt.Sprint(n)
			st, err := events.New(events.Job{ID: events.NewID("event", name), Kind: "event", Scope: scope, SourceType: "thing", SourceID: name}, events.Event{})
			require.NoError(b, err)
			j, _, err := st.Next()
			require.NoError(b, err)
			steps[i], es[i] = st, j.Envelope()
		}
		require.NoError(b, db.InTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := jobs.Enqueue(ctx, tx, steps...)
			return err
		}))
		claim := jobs.Begin
		if brief {
			claim = jobs.Look
		}
		claims, err := claim(ctx, events.Holder{ID: "w"}, es)
		require.NoError(b, err)
		for i, c := range claims {
			require.NoError(b, c.Err)
			steps[i] = events.Step{Job: c.Job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: "w"}, Begins: brief}
		}
		return steps
	}
	settle := func(steps []events.Step) {
		errs, err := jobs.Settle(ctx, steps, commits, last...)
		require.NoError(b, err)
		for _, err := range errs {
			require.NoError(b, err)
		}
	}
	settle(next()) // statements are prepared once
	waiting := [][]events.Step{next(), next(), next()}
	before := trips.Load()
	allocs := testing.AllocsPerRun(len(waiting)-1, func() { settle(waiting[0]); waiting = waiting[1:] })
	require.EqualValues(b, 3*budget, trips.Load()-before, "round trips of three batches")
	if size >= 100 {
		most := settleAllocs
		if brief {
			most = briefAllocs
		}
		require.LessOrEqual(b, allocs/float64(size), float64(most), "allocations a job")
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		steps := next()
		b.StartTimer()
		settle(steps)
	}
	b.ReportMetric(float64(budget), "trips/op")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/job")
}

// counter counts what goes to Postgres: single statements, and those that are
// sent together as one.
type counter struct{ atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.Add(1)
	return ctx
}

func (c *counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}
