package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/pipeline"
)

// BenchmarkWorker is what the pipeline itself costs a job: fetch, claim,
// handler, settle and ack, on a store that costs next to nothing.
func BenchmarkWorker(b *testing.B) {
	for _, slots := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) {
			m := eventstest.NewMemory()
			benchmark(b, m, m.Enqueue, pipeline.Slots(slots))
		})
		b.Run(fmt.Sprintf("brief/slots=%d", slots), func(b *testing.B) {
			m := eventstest.NewMemory()
			benchmark(b, m, m.Enqueue, pipeline.Slots(slots), pipeline.Brief())
		})
	}
}

// BenchmarkWorkerOnPostgres is the same with the store that matters.
func BenchmarkWorkerOnPostgres(b *testing.B) {
	for _, opts := range [][]pipeline.Option{
		{pipeline.Slots(1)}, {pipeline.Slots(100)}, {pipeline.Slots(1000)}, {pipeline.Slots(1000), pipeline.Brief()},
	} {
		var l pipeline.Lane
		for _, o := range opts {
			o(&l)
		}
		b.Run(fmt.Sprintf("slots=%d/brief=%v", l.Slots, l.Brief), func(b *testing.B) {
			pool := testenv.Pool(b)
			for _, sql := range []string{
				`INSERT INTO teams (id, name) VALUES ('team', 'team')`,
				`INSERT INTO projects (id, team_id, name) VALUES ('project', 'team', 'project')`,
			} {
				_, err := pool.Exec(b.Context(), sql)
				require.NoError(b, err)
			}
			jobs := db.NewJobs(pool, db.JobsConfig{})
			enqueue := func(ctx context.Context, steps ...events.Step) (added []bool, err error) {
				for some := range slices.Chunk(steps, 1000) {
					err = errors.Join(err, db.InTx(ctx, pool, func(tx pgx.Tx) error {
						_, err := jobs.Enqueue(ctx, tx, some...)
						return err
					}))
				}
				return nil, err
			}
			benchmark(b, jobs, enqueue, opts...)
		})
	}
}

type enqueue = func(ctx context.Context, steps ...events.Step) ([]bool, error)

func benchmark(b *testing.B, store pipeline.Ledger, add enqueue, opts ...pipeline.Option) {
	b.Helper()
	bb := setup(b)
	bb.cfg.Log = slog.New(slog.DiscardHandler)
	steps := make([]events.Step, b.N)
	for i := range steps {
		var err error
		name := fmt.Sprint(i)
		steps[i], err = events.New(events.Job{
			ID: events.NewID("a", name), Kind: "a", Scope: scope, SourceType: "bench", SourceID: name,
			Args: fmt.Appendf(nil, `{"n":%d,"pad":"%0512d"}`, i, i),
		}, events.Event{})
		require.NoError(b, err)
	}
	_, err := add(b.Context(), steps...)
	require.NoError(b, err)
	for i, s := range steps {
		e := events.Envelope{Job: s.Job.ID, Kind: "a", Asked: 1, Scope: scope}
		_, err := bb.js.PublishAsync("jobs.a", e.Marshal())
		require.NoError(b, err)
		if i%1000 == 999 {
			<-bb.js.PublishAsyncComplete()
		}
	}
	<-bb.js.PublishAsyncComplete()

	done := make(chan struct{})
	var left atomic.Int64
	left.Store(int64(b.N))
	bb.cfg.Settled = func(steps []events.Step) {
		if left.Add(-int64(len(steps))) == 0 {
			close(done)
		}
	}
	w := pipeline.New(store, bb.js, bb.cfg)
	type args struct {
		N   int
		Pad string
	}
	pipeline.Handle(w, "a", func(context.Context, events.Job, args) (pipeline.Commit, error) { return nil, nil }, opts...)
	ctx, cancel := context.WithCancel(b.Context())
	ran := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { ran <- w.Run(ctx) }()
	<-done
	b.StopTimer()
	cancel()
	require.NoError(b, <-ran)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
