package pipeline_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// brief handles the kind "a" in a lane of brief jobs.
func brief(h func(ctx context.Context, job events.Job, _ none) (pipeline.Commit, error), opts ...pipeline.Option) func(*pipeline.Worker) {
	return func(w *pipeline.Worker) { pipeline.Handle(w, "a", h, append(opts, pipeline.Brief())...) }
}

// operate is what an operator does.
func (b *bundle) operate(t *testing.T, id events.ID, typ events.Type) {
	t.Helper()
	errs, err := b.mem.Move(t.Context(), []events.Step{{Job: b.job(t, id), Event: events.Event{Type: typ, Actor: "operator"}}})
	require.NoError(t, err)
	require.NoError(t, errs[0])
}

// lateClaimsWait makes what is claimed wait until the channel is closed.
func (b *bundle) lateClaimsWait() chan struct{} {
	moved := make(chan struct{})
	f := func() error { <-moved; return nil }
	b.ledger.begin.Store(&f)
	return moved
}

// A brief job leaves the history of any other, and nothing was asked of the
// ledger but to look and to settle.
func TestBriefJobsAreNotClaimed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	moved := b.lateClaimsWait() // those of a slow machine: nothing comes of any claim
	var ids []events.ID
	for _, name := range []string{"x", "y", "z"} {
		ids = append(ids, b.add(t, "a", name))
	}
	var committed atomic.Int64
	w, stop := b.start(t, brief(func(_ context.Context, job events.Job, _ none) (pipeline.Commit, error) {
		if job.Attempts != 1 || job.LockedBy != "w1" || job.Status != events.StatusProcessing {
			return nil, pipeline.Permanent(errors.New("it is not as a claimed one"))
		}
		return func(context.Context, pgx.Tx) error { committed.Add(1); return nil }, nil
	}, pipeline.Slots(10)))
	for _, id := range ids {
		b.wait(t, id, events.StatusCompleted)
	}
	b.empty(t)
	close(moved)
	require.NoError(t, stop())
	for _, id := range ids {
		require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
	}
	require.EqualValues(t, 3, committed.Load())
	require.NotZero(t, b.ledger.looked.Load())
	require.EqualValues(t, 3, w.State().Lanes[0].Completed)
}

// What was delivered before, and what was asked for again, is claimed: that
// attempt has to be on record before its handler can end the process.
func TestBriefOnlyTheFirstTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	again, fails := b.add(t, "a", "again"), b.add(t, "a", "fails")
	require.NoError(t, b.publish(t.Context()))
	c, err := b.js.Consumer(t.Context(), "JOBS", "workers-a")
	require.NoError(t, err)
	m, err := c.Next()
	require.NoError(t, err)
	require.Contains(t, string(m.Data()), string(again))
	require.NoError(t, m.Nak())
	_, stop := b.start(t, brief(func(_ context.Context, job events.Job, _ none) (pipeline.Commit, error) {
		if job.ID == fails && job.Attempts == 1 {
			return nil, errors.New("no")
		}
		return nil, nil
	}))
	b.wait(t, again, events.StatusCompleted)
	b.wait(t, fails, events.StatusCompleted)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, again))
	require.Equal(t, []events.Type{events.Processing, events.RetryScheduled, events.Processing, events.Completed}, b.history(t, fails))
	require.GreaterOrEqual(t, b.ledger.begun.Load(), int64(2), "the redelivered one, and the second attempt of the other")
}

// A handler that takes long is claimed while it runs: operators see it.
func TestBriefThatTakesLongIsClaimed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.add(t, "a", "x")
	end := make(chan struct{})
	_, stop := b.start(t, brief(func(context.Context, events.Job, none) (pipeline.Commit, error) {
		<-end
		return nil, nil
	}))
	j := b.wait(t, id, events.StatusProcessing)
	require.Equal(t, "w1", j.LockedBy)
	close(end)
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
}

// And it has the time that its lane has.
func TestBriefThatTakesTooLong(t *testing.T) {
	t.Parallel()
	for name, listens := range map[string]bool{"listens": true, "is deaf": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.cfg.Grace = 2 * time.Second
			id := b.add(t, "a", "x", func(j *events.Job) { j.MaxAttempts = 1 })
			end := make(chan struct{})
			_, stop := b.start(t, brief(func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
				if !listens {
					<-end
					return nil, nil
				}
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}, pipeline.Timeout(400*time.Millisecond)))
			j := b.wait(t, id, events.StatusFailed)
			require.Contains(t, j.LastError, pipeline.ErrTimeout.Error())
			close(end)
			require.NoError(t, stop())
		})
	}
}

// Whoever is first: the brief attempt's result is dropped, its message is
// acknowledged.
func TestBriefLosesAgainstAnOperator(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.add(t, "a", "x")
	moved := b.lateClaimsWait()
	began, end := make(chan struct{}), make(chan struct{})
	w, stop := b.start(t, brief(func(context.Context, events.Job, none) (pipeline.Commit, error) {
		close(began)
		<-end
		return func(context.Context, pgx.Tx) error { return errors.New("it must not run") }, nil
	}))
	<-began
	b.operate(t, id, events.Cancelled)
	close(moved)
	close(end)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, events.StatusCancelled, b.job(t, id).Status)
	require.EqualValues(t, 1, w.State().Lanes[0].Lost)
}

// When it is to be claimed late and is gone, its handler is told.
func TestBriefIsToldThatItsJobIsTaken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.add(t, "a", "x")
	moved := b.lateClaimsWait()
	began, cause := make(chan struct{}), make(chan error, 1)
	_, stop := b.start(t, brief(func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
		close(began)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil, ctx.Err()
	}))
	<-began
	b.operate(t, id, events.Cancelled)
	close(moved)
	require.ErrorIs(t, <-cause, pipeline.ErrTaken)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Cancelled}, b.history(t, id))
}

// Two workers do the same job at the same time, as when the broker has two
// messages of it: one result is stored.
func TestBriefInTwoWorkersAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.add(t, "a", "x")
	_, err := b.js.Publish(t.Context(), "jobs.a", b.job(t, id).Envelope().Marshal()) // and the relay's
	require.NoError(t, err)
	both := make(chan struct{})
	var began, committed atomic.Int64
	handle := func(context.Context, events.Job, none) (pipeline.Commit, error) {
		if began.Add(1) == 2 {
			close(both)
		}
		select {
		case <-both:
		case <-time.After(200 * time.Millisecond): // on a slow machine the other one comes too late
		}
		return func(context.Context, pgx.Tx) error { committed.Add(1); return nil }, nil
	}
	_, stop1 := b.start(t, brief(handle))
	b.cfg.ID = "w2"
	other := pipeline.New(b.ledger, b.js, b.cfg)
	brief(handle)(other)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- other.Run(ctx) }()
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	cancel()
	require.NoError(t, <-ran)
	require.NoError(t, stop1())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
	require.EqualValues(t, 1, committed.Load())
}

// A note of the relay's that came between spoils nothing.
func TestBriefIsNotSpoiledByANote(t *testing.T) {
	t.Parallel()
	b := setup(t)
	moved := b.lateClaimsWait()
	id := b.add(t, "a", "x")
	_, stop := b.start(t, brief(func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
		asks, err := b.mem.Asks(ctx, events.AskQuery{Limit: 1})
		if err != nil || len(asks) != 1 {
			return nil, pipeline.Permanent(errors.New("it is queued still"))
		}
		return nil, b.mem.Enqueued(ctx, []int64{asks[0].Row})
	}))
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	close(moved)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Enqueued, events.Processing, events.Completed}, b.history(t, id))
}

// The transaction that settles it may have been stored though its answer got
// lost: asked again, the ledger says so.
func TestBriefSettledWithUnknownOutcome(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{"completed": nil, "to be tried again": errors.New("no")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.ledger.stored.Store(times(1, io.ErrUnexpectedEOF))
			id := b.add(t, "a", "x")
			var ran atomic.Int64
			w, stop := b.start(t, brief(func(_ context.Context, job events.Job, _ none) (pipeline.Commit, error) {
				if ran.Add(1); job.Attempts == 1 {
					return nil, end
				}
				return nil, nil
			}))
			b.bell <- struct{}{} // who was not told looks by himself
			if end == nil {
				b.wait(t, id, events.StatusCompleted)
				b.empty(t)
			} else {
				require.Eventually(t, func() bool {
					select {
					case b.bell <- struct{}{}:
					default:
					}
					return b.job(t, id).Status == events.StatusCompleted
				}, patience, tick)
			}
			require.NoError(t, stop())
			require.Equal(t, end != nil, len(b.history(t, id)) == 4, "%v", b.history(t, id))
			require.EqualValues(t, len(b.history(t, id))/2, ran.Load(), "no attempt that is not on record")
			require.EqualValues(t, 1, w.State().Lanes[0].Lost)
		})
	}
}

// The late claim may have been stored though its answer got lost, and the
// handler be done before it is asked again: what we hold we have to settle.
func TestBriefClaimedWithUnknownOutcome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.add(t, "a", "x")
	end := make(chan struct{})
	var tries atomic.Int64
	f := func() error {
		if tries.Add(1) > 1 {
			return nil
		}
		_, err := b.mem.Begin(t.Context(), events.Holder{ID: "w1"}, []events.Envelope{b.job(t, id).Envelope()})
		close(end)
		require.Eventually(t, func() bool { return b.ledger.begun.Load() > 1 }, patience, tick, "it is judged by who settles it")
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	b.ledger.begin.Store(&f)
	committed := 0
	_, stop := b.start(t, brief(func(context.Context, events.Job, none) (pipeline.Commit, error) {
		<-end
		return func(context.Context, pgx.Tx) error { committed++; return nil }, nil
	}))
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
	require.Equal(t, 1, committed)
}

// A ledger that does not answer is waited for by claiming; no attempt is lost.
func TestBriefWhileTheLedgerIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ledger.look.Store(times(1, io.ErrUnexpectedEOF))
	b.ledger.begin.Store(times(2, io.ErrUnexpectedEOF))
	b.ledger.settle.Store(times(3, io.ErrUnexpectedEOF))
	id := b.add(t, "a", "x")
	_, stop := b.start(t, brief(nothing))
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
}

// A worker that stops gives back what the ledger does not know of with no word
// to it.
func TestBriefIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Grace = time.Millisecond
	id := b.add(t, "a", "x")
	began := make(chan struct{})
	_, stop := b.start(t, brief(func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	<-began
	require.NoError(t, stop())
	switch h := b.history(t, id); len(h) {
	case 0:
		m := b.next(t, patience)
		meta, err := m.Metadata()
		require.NoError(t, err)
		require.EqualValues(t, 2, meta.NumDelivered, "it comes again at once, and is claimed then")
	default: // it was claimed, on a slow machine
		require.Equal(t, []events.Type{events.Processing, events.Released}, h)
	}
	require.Zero(t, b.job(t, id).Attempts)
}

// next takes a message as another worker would.
func (b *bundle) next(t *testing.T, wait time.Duration) jetstream.Msg {
	t.Helper()
	c, err := b.js.Consumer(t.Context(), "JOBS", "workers-a")
	require.NoError(t, err)
	m, err := c.Next(jetstream.FetchMaxWait(wait))
	require.NoError(t, err)
	return m
}

// A worker that cannot reach the ledger, and has lost its lease, keeps no
// message from others for what the ledger does not know of.
func TestBriefWithoutALeaseIsLeftToOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t)
		b.cfg.Heartbeat = 10 * time.Second
		b.add(t, "a", "x")
		away := func() error { return errors.New("away") }
		b.ledger.begin.Store(&away)
		b.ledger.settle.Store(&away)
		began := make(chan struct{})
		_, stop := b.start(t, brief(func(context.Context, events.Job, none) (pipeline.Commit, error) {
			close(began)
			b.ledger.seen.Store(&away)
			return nil, nil
		}))
		<-began
		m := b.next(t, 2*time.Minute)
		meta, err := m.Metadata()
		require.NoError(t, err)
		require.EqualValues(t, 2, meta.NumDelivered)
		b.ledger.begin.Store(nil)
		b.ledger.settle.Store(nil)
		b.ledger.seen.Store(nil)
		require.NoError(t, stop())
	})
}
