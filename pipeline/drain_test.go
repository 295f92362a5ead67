package pipeline_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

func TestDrainLetsHandlersFinish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Grace = patience
	running := b.add(t, "a", "running")
	waiting := b.add(t, "a", "waiting") // one slot: it is not begun
	began, goOn := make(chan events.ID, 2), make(chan struct{})
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(ctx context.Context, job events.Job, _ none) (pipeline.Commit, error) {
			began <- job.ID
			<-goOn
			return nil, ctx.Err()
		})
	})
	first := <-began
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		require.Fail(t, "a handler was left behind", "Run returned %v", err)
	case <-time.After(50 * time.Millisecond): // nothing to wait for: it must not stop
	}
	close(goOn)
	require.NoError(t, <-stopped)
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, first))
	for _, id := range []events.ID{running, waiting} {
		if id != first {
			require.Empty(t, b.history(t, id))
		}
	}
}

func TestDrainGivesBackWhatDoesNotFinish(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(ctx context.Context) error{
		"listens":      func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
		"plain error":  func(ctx context.Context) error { <-ctx.Done(); return errors.New("my call was cut off") },
		"wraps it all": func(ctx context.Context) error { <-ctx.Done(); return pipeline.Permanent(ctx.Err()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.cfg.Grace = 50 * time.Millisecond
			id := b.add(t, "a", "x", func(j *events.Job) { j.MaxAttempts = 1 })
			began := make(chan struct{})
			cause := make(chan error, 1)
			_, stop := b.start(t, func(w *pipeline.Worker) {
				pipeline.Handle(w, "a", func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
					close(began)
					err := handler(ctx)
					cause <- context.Cause(ctx)
					return nil, err
				})
			})
			<-began
			require.NoError(t, stop())
			require.ErrorIs(t, <-cause, pipeline.ErrDraining)
			j := b.job(t, id)
			require.Equal(t, []events.Type{events.Processing, events.Released}, b.history(t, id))
			require.Equal(t, events.StatusQueued, j.Status)
			require.Zero(t, j.Attempts, "no attempt is lost")
			require.True(t, j.NextAt.IsZero(), "and nothing is waited for")
			b.empty(t)
		})
	}
}

// A handler that does not listen loses its job all the same, and what it
// returns later is ignored.
func TestDrainLeavesTheDeaf(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Grace = 50 * time.Millisecond
	id := b.add(t, "a", "x")
	began, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
			defer close(ended)
			close(began)
			<-goOn
			return nil, nil
		})
	})
	<-began
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Released}, b.history(t, id))
	close(goOn)
	<-ended
	require.Equal(t, events.StatusQueued, b.job(t, id).Status)
}

// When the ledger is away for the whole drain, the worker ends all the same
// and says what it left; the lease heals it.
func TestDrainWithoutLedger(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Grace = 50 * time.Millisecond
	away := func() error { return errors.New("away") }
	b.ledger.settle.Store(&away)
	id := b.add(t, "a", "x")
	w, stop := b.start(t, func(w *pipeline.Worker) { pipeline.Handle(w, "a", nothing) })
	require.Eventually(t, func() bool { return w.State().Lanes[0].Trouble != "" }, patience, tick)
	require.ErrorContains(t, stop(), "1 attempts are not settled")
	lost, err := b.mem.Reclaim(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Equal(t, events.Lost{Reclaimed: 1}, lost)
	require.Equal(t, events.StatusQueued, b.job(t, id).Status)
}

// A worker that cannot say that it lives stops its handlers before anyone
// else may begin, and cannot settle what was taken from it.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	for name, reclaimed := range map[string]bool{"and the job": true, "and back in time": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.cfg.Lease = 600 * time.Millisecond
			id := b.add(t, "a", "x")
			var ran atomic.Int64
			began := make(chan time.Time, 1)
			ended := make(chan error, 1)
			w, stop := b.start(t, func(w *pipeline.Worker) {
				pipeline.Handle(w, "a", func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
					if ran.Add(1) > 1 {
						return nil, nil
					}
					began <- time.Now()
					<-ctx.Done()
					ended <- context.Cause(ctx)
					if reclaimed { // somebody else is told that we are lost
						if err := b.mem.Gone(context.Background(), events.Holder{ID: "w1"}); err != nil {
							return nil, err
						}
						if _, err := b.mem.Reclaim(context.Background(), time.Hour); err != nil {
							return nil, err
						}
					}
					return nil, nil // a result that comes too late
				})
			})
			<-began
			away := func() error { return errors.New("away") }
			b.ledger.seen.Store(&away)
			require.ErrorIs(t, <-ended, pipeline.ErrLeaseLost)
			if reclaimed {
				require.Eventually(t, func() bool { return w.State().Lanes[0].Lost == 1 }, patience, tick)
				require.Equal(t, []events.Type{events.Processing, events.Reclaimed}, b.history(t, id))
				require.False(t, w.State().Held)
				b.ledger.seen.Store(nil)
				b.bell <- struct{}{}
				b.wait(t, id, events.StatusCompleted)
				require.Equal(t, []events.Type{events.Processing, events.Reclaimed, events.Processing, events.Completed}, b.history(t, id))
			} else { // nobody took it, so the version lets it through
				b.wait(t, id, events.StatusCompleted)
				require.EqualValues(t, 1, ran.Load())
				b.ledger.seen.Store(nil)
			}
			require.Eventually(t, func() bool { return w.State().Held }, patience, tick)
			require.NoError(t, stop())
		})
	}
}

// An operator can stop a job and ask for it again while its handler runs: the
// old attempt is told, and what it returns is refused.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.add(t, "a", "x")
	var ran atomic.Int64
	began := make(chan struct{}, 2)
	cause := make(chan error, 1)
	w, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
			if ran.Add(1) > 1 {
				return nil, nil
			}
			began <- struct{}{}
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return nil, nil
		}, pipeline.Slots(2))
	})
	<-began
	for _, typ := range []events.Type{events.Cancelled, events.Queued} {
		errs, err := b.mem.Move(t.Context(), []events.Step{{Job: b.job(t, id), Event: events.Event{Type: typ, Actor: "operator"}}})
		require.NoError(t, errors.Join(append(errs, err)...))
	}
	b.bell <- struct{}{}
	require.ErrorIs(t, <-cause, pipeline.ErrSuperseded)
	b.wait(t, id, events.StatusCompleted)
	require.Eventually(t, func() bool { return w.State().Lanes[0].Active == 0 }, patience, tick)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{
		events.Processing, events.Cancelled, events.Queued, events.Processing, events.Completed,
	}, b.history(t, id))
	require.EqualValues(t, 1, w.State().Lanes[0].Lost)
}
