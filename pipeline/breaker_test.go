package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

var errAway = errors.New("the provider is away")

// provider is what handlers ask: it refuses between two moments, and keeps
// when it was asked by whom.
type provider struct {
	from, to time.Time
	refuse   func() error

	mu       sync.Mutex
	answered int
	refused  map[string][]time.Time
}

func (p *provider) ask(worker string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.from) || !now.Before(p.to) {
		p.answered++
		return nil
	}
	p.refused[worker] = append(p.refused[worker], now)
	return p.refuse()
}

// outage runs jobs through a relay and two workers while the provider is away
// for ten minutes, and gives the provider and the jobs' histories.
func outage(t *testing.T, jobs int, refuse func() error) (p *provider, histories [][]events.Event) {
	b := setup(t)
	streams := outbox.Streams{Kinds: []events.Kind{"a"}}
	require.NoError(t, b.js.DeleteStream(t.Context(), "JOBS"))
	// The broker goes on tidying up after its last stream, and for a moment has
	// no folder for the next.
	require.Eventually(t, func() bool { return outbox.Ensure(t.Context(), b.js, streams) == nil }, patience, tick)
	var ids []events.ID
	for i := range jobs {
		ids = append(ids, b.add(t, "a", fmt.Sprint(i)))
	}
	start := time.Now()
	p = &provider{from: start.Add(5 * time.Second), to: start.Add(5*time.Second + 10*time.Minute), refuse: refuse, refused: map[string][]time.Time{}}

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = outbox.New(b.mem, nil, b.js, outbox.Config{Streams: streams}).Run(ctx) })
	var workers []*pipeline.Worker
	for _, name := range []string{"w1", "w2"} {
		cfg := b.cfg
		cfg.ID, cfg.Backoff, cfg.Settled, cfg.Heartbeat, cfg.Log = name, nil, nil, 2*time.Second, nil
		w := pipeline.New(b.ledger, b.js, cfg)
		pipeline.Handle(w, "a", func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
			// What is answered before the provider is away also ends before: in between it would be a success.
			if left := time.Until(p.from); left > 0 && left <= time.Second {
				work(ctx, left)
			}
			if err := p.ask(name); err != nil {
				return nil, err
			}
			work(ctx, time.Second)
			return nil, ctx.Err()
		}, pipeline.Slots(4))
		workers = append(workers, w)
		running.Go(func() { require.NoError(t, w.Run(ctx)) })
	}

	work(ctx, 5*time.Minute) // in the middle of it
	for _, w := range workers {
		s := w.State().Lanes[0]
		require.Contains(t, s.RestsFor, errAway.Error())
		require.False(t, s.RestUntil.IsZero())
		require.Positive(t, s.Rests)
		require.Zero(t, s.Failed)
	}
	done := func() bool {
		return !slices.ContainsFunc(ids, func(id events.ID) bool { return b.job(t, id).Status != events.StatusCompleted })
	}
	for !done() {
		require.Less(t, time.Since(p.to), time.Hour, "the backlog drains")
		work(ctx, 5*time.Second)
	}
	t.Logf("%d jobs: %d refused, all done %v after the provider came back", jobs, len(p.refused["w1"])+len(p.refused["w2"]), time.Since(p.to))
	// A lane whose jobs the other one has done has nothing to try with, and
	// says so until none can be left that waits for it.
	for _, w := range workers {
		for !w.State().Lanes[0].RestUntil.IsZero() {
			require.Less(t, time.Since(p.to), time.Hour, "it works")
			work(ctx, time.Second)
		}
		require.Empty(t, w.State().Lanes[0].RestsFor)
	}
	cancel()
	running.Wait()
	for _, id := range ids {
		_, es, err := b.mem.Get(context.Background(), scope, id)
		require.NoError(t, err)
		histories = append(histories, es)
	}
	return p, histories
}

func ofType(histories [][]events.Event, typ events.Type) (n int) {
	for _, es := range histories {
		for _, e := range es {
			if e.Type == typ {
				n++
			}
		}
	}
	return n
}

// A provider that refuses for ten minutes ends no job: the lanes rest, try
// now and then with one job, and do the rest when it is back.
func TestTenMinutesOfRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, histories := outage(t, 1000, func() error { return pipeline.Unavailable(0, errAway) })
		require.Equal(t, 1000, ofType(histories, events.Completed))
		require.Zero(t, ofType(histories, events.Failed))
		require.Zero(t, ofType(histories, events.RetryScheduled), "no attempt is lost")
		refused := 0
		for worker, times := range p.refused {
			refused += len(times)
			require.GreaterOrEqual(t, len(times), 5)
			require.Less(t, len(times), 25, "%s tries now and then, not all the time", worker)
		}
		require.Equal(t, refused, ofType(histories, events.Released))
		// The two do not try together: after the first lot each goes its way.
		apart := 0
		for _, at := range p.refused["w1"][8:] {
			if !slices.ContainsFunc(p.refused["w2"], at.Equal) {
				apart++
			}
		}
		require.Positive(t, apart)
	})
}

// Trouble costs the attempts of those that found it out, and no more.
func TestTenMinutesOfTrouble(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, histories := outage(t, 1000, func() error { return pipeline.Trouble(0, errAway) })
		require.Equal(t, 1000, ofType(histories, events.Completed))
		require.Zero(t, ofType(histories, events.Failed))
		require.LessOrEqual(t, ofType(histories, events.RetryScheduled), 2*4, "four at each worker, before the fifth")
	})
}

// Who says how long to wait is not asked before.
func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const after = 3 * time.Minute
		p, histories := outage(t, 100, func() error { return pipeline.Unavailable(after, errAway) })
		require.Zero(t, ofType(histories, events.Failed))
		for worker, times := range p.refused {
			first := 0
			for _, at := range times {
				if at.Equal(times[0]) || at.Sub(times[0]) < time.Second {
					first++
				}
			}
			rest := times[first:]
			require.LessOrEqual(t, len(rest), 3, "%s was told three minutes, of ten", worker)
			last := times[first-1]
			for _, at := range rest {
				require.GreaterOrEqual(t, at.Sub(last), after)
				last = at
			}
		}
	})
}

// A lane that has rested and finds no job to try with does not say for ever
// that it rests. The next refusal makes it rest again at once.
func TestARestWithNothingToDoEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t)
		b.cfg.Heartbeat = 2 * time.Second
		b.cfg.Breaker = pipeline.Breaker{Refusals: 3, Pause: 10 * time.Second, Longest: time.Minute}
		var refused atomic.Int64
		w, stop := b.start(t, func(w *pipeline.Worker) {
			pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
				refused.Add(1)
				return nil, pipeline.Trouble(0, errAway)
			}, pipeline.Slots(1))
		})
		state := func() pipeline.LaneState { return w.State().Lanes[0] }
		var ids []events.ID
		for i := range 3 {
			ids = append(ids, b.add(t, "a", fmt.Sprint(i)))
		}
		attempts := func() (n int) {
			for _, id := range ids {
				n += b.job(t, id).Attempts
			}
			return n
		}
		b.bell <- struct{}{}
		for state().Released == 0 {
			work(t.Context(), time.Second)
		}
		until := state().RestUntil
		require.WithinDuration(t, time.Now(), until, 11*time.Second)
		require.Contains(t, state().RestsFor, errAway.Error())
		for !state().RestUntil.IsZero() { // and the relay of these tests does not ask for them again
			require.Equal(t, until, state().RestUntil)
			require.Less(t, time.Since(until), 10*time.Minute)
			work(t.Context(), time.Second)
		}
		require.Greater(t, time.Since(until), 70*time.Second, "while one may still come back it is not over")
		require.Empty(t, state().RestsFor)

		require.EqualValues(t, 3, refused.Load())
		require.Equal(t, 2, attempts())
		ids = append(ids, b.add(t, "a", "another"))
		b.bell <- struct{}{}
		for state().Released == 1 {
			work(t.Context(), time.Second)
		}
		require.EqualValues(t, 4, refused.Load(), "one was enough")
		require.EqualValues(t, 2, state().Rests)
		require.False(t, state().RestUntil.IsZero())
		require.Equal(t, 2, attempts(), "and it cost no attempt")
		require.NoError(t, stop())
	})
}

// A lane rests by itself: the others go on.
func TestALaneRestsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Breaker = pipeline.Breaker{Refusals: 1, Pause: time.Hour, Longest: time.Hour}
	away := b.add(t, "a", "away")
	w, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
			return nil, pipeline.Trouble(0, errAway)
		})
		pipeline.Handle(w, "b", nothing)
	})
	require.Eventually(t, func() bool { return w.State().Lanes[0].Released == 1 }, patience, tick)
	later := b.add(t, "a", "later")
	other := b.add(t, "b", "other")
	b.bell <- struct{}{}
	b.wait(t, other, events.StatusCompleted)
	require.Empty(t, b.history(t, later), "nobody began it")
	j := b.job(t, away)
	require.Zero(t, j.Attempts)
	require.True(t, j.NextAt.After(time.Now().Add(20*time.Minute)), "not before the lane has rested")
	require.NoError(t, stop(), "a resting lane ends when it is told to")
}

// A job that is held says nothing about what the lane depends on: it is given
// back without the loss of an attempt, its release says so, and the lane goes
// on with others, also while it tries after a rest.
func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t)
		held := map[events.ID]bool{}
		var ids []events.ID
		for i := range 40 {
			id := b.add(t, "a", fmt.Sprint(i))
			if ids = append(ids, id); i%4 != 3 {
				held[id] = true
			}
		}
		var away atomic.Bool
		away.Store(true)
		b.cfg.Breaker = pipeline.Breaker{Refusals: 2, Pause: time.Second, Longest: time.Second}
		w, stop := b.start(t, func(w *pipeline.Worker) {
			pipeline.Handle(w, "a", func(_ context.Context, job events.Job, _ none) (pipeline.Commit, error) {
				switch {
				case held[job.ID]:
					return nil, pipeline.Hold(24*time.Hour, errors.New("used up"))
				case away.Load():
					return nil, pipeline.Unavailable(0, errAway)
				}
				return nil, nil
			})
		})
		sent := map[events.Envelope]bool{}
		due := func() { // as the relay does with what has waited
			asks, err := b.mem.Asks(t.Context(), events.AskQuery{Delayed: true, Limit: 100})
			require.NoError(t, err)
			for _, a := range asks {
				if !sent[a.Envelope] {
					sent[a.Envelope] = true
					_, err := b.js.Publish(t.Context(), "jobs.a", a.Envelope.Marshal())
					require.NoError(t, err)
				}
			}
		}
		require.Eventually(t, func() bool { due(); return w.State().Lanes[0].Rests >= 2 }, patience, tick, "held jobs between them do not count as success")
		away.Store(false)
		for _, id := range ids {
			if held[id] {
				require.Eventually(t, func() bool { return b.job(t, id).NextAt.After(time.Now().Add(12 * time.Hour)) }, patience, tick)
				j, history, err := b.mem.Get(t.Context(), scope, id)
				require.NoError(t, err)
				require.Zero(t, j.Attempts)
				last := history[len(history)-1]
				require.Equal(t, events.Released, last.Type)
				require.JSONEq(t, string(events.Held()), string(last.Details))
				require.Equal(t, "used up", last.Reason)
				continue
			}
			require.Eventually(t, func() bool { due(); return b.job(t, id).Status == events.StatusCompleted }, patience, tick)
		}
		require.True(t, w.State().Lanes[0].RestUntil.IsZero())
		require.NoError(t, stop())
	})
}
