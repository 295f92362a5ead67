package pipeline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// bubble runs a test in virtual time, the real broker included. The server's
// clock for file access waits on a channel of its package, so it has to live
// outside.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	ats.Register()
	t.Cleanup(ats.Unregister)
	synctest.Test(t, test)
}

// An hour is 120 AckWaits and leases long: nobody else is given the job.
func TestAnHourOfWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t)
		b.cfg.Heartbeat = 10 * time.Second
		id := b.add(t, "a", "long")
		start := time.Now()
		_, stop := b.start(t, func(w *pipeline.Worker) {
			pipeline.Handle(w, "a", func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
				work(ctx, time.Hour)
				return nil, ctx.Err()
			}, pipeline.Slots(2), pipeline.Timeout(2*time.Hour))
		})
		for range 61 {
			work(t.Context(), time.Minute)
			lost, err := b.mem.Reclaim(t.Context(), 30*time.Second)
			require.NoError(t, err)
			require.Zero(t, lost, "the worker is seen well within the lease")
			require.Zero(t, b.redelivered(t, "a"), "and the message is kept")
		}
		j := b.wait(t, id, events.StatusCompleted)
		require.NoError(t, stop())
		require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
		require.InDelta(t, time.Hour, j.CompletedAt.Sub(start), float64(time.Minute))
	})
}

// The handler stops before the lease ends, so before anybody else may begin.
func TestHandlersEndBeforeTheLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t)
		b.cfg.Heartbeat = 10 * time.Second
		b.add(t, "a", "x")
		began, ended := make(chan struct{}), make(chan time.Time, 1)
		_, stop := b.start(t, func(w *pipeline.Worker) {
			pipeline.Handle(w, "a", func(ctx context.Context, job events.Job, _ none) (pipeline.Commit, error) {
				if job.Version > 2 {
					return nil, nil
				}
				close(began)
				<-ctx.Done()
				ended <- time.Now()
				return nil, ctx.Err()
			}, pipeline.Timeout(time.Hour))
		})
		<-began
		last := time.Now() // it was seen just now
		away := func() error { return errors.New("away") }
		b.ledger.seen.Store(&away)
		took := (<-ended).Sub(last)
		require.LessOrEqual(t, took, 20*time.Second, "two thirds of 30 s")
		require.Greater(t, took, 10*time.Second, "but a single failure is no reason")
		b.ledger.seen.Store(nil)
		require.NoError(t, stop())
	})
}
