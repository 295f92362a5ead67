package observe_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func (w *world) inSession(n int, session string) observe.NewEvent {
	e := w.event(n)
	e.ServerSessionID = &session
	return e
}

func TestABurstSharesOneJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, debounce(time.Minute))
	a, b := w.session(t, "a"), w.session(t, "b")
	one := w.record(t, w.inSession(1, a.ID))[0]
	require.Equal(t, observe.KindBatch, one.Job.Kind)
	require.Equal(t, observe.SourceBatch, one.Job.SourceType)
	require.Equal(t, a.ID, observe.JobSession(*one.Job))
	require.WithinDuration(t, time.Now().Add(time.Minute), one.Job.NextAt, 10*time.Second)
	require.EqualValues(t, 1, w.rings.Load())

	more := w.record(t, w.inSession(2, a.ID), w.inSession(3, b.ID), w.event(4), w.inSession(5, a.ID), w.inSession(1, a.ID))
	require.Equal(t, one.Job.ID, more[0].Job.ID)
	require.NotEqual(t, one.Job.ID, more[1].Job.ID, "another session has its own")
	require.Equal(t, observe.KindEvent, more[2].Job.Kind, "without a session there is no burst")
	require.Equal(t, one.Job.ID, more[3].Job.ID)
	require.Equal(t, one.Job.ID, more[4].Job.ID)
	require.Equal(t, 3, w.count(t, "observation_generation_jobs"))

	w.do(t, one.Job.ID)
	require.Len(t, w.provider.questions()[0].Events, 3)
	next := w.record(t, w.inSession(6, a.ID))[0]
	require.NotEqual(t, one.Job.ID, next.Job.ID, "a batch that was begun takes no more")
	again := w.record(t, w.inSession(1, a.ID))[0]
	require.Equal(t, one.Job.ID, again.Job.ID, "a copy is told of the job that had it")
	w.check(t)
}

func TestTwoRequestsDoNotOpenTwoBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t, debounce(time.Hour))
	for round := range 5 {
		s := w.session(t, strconv.Itoa(round))
		var wg sync.WaitGroup
		jobs := make([]events.ID, 8)
		for i := range jobs {
			wg.Go(func() {
				got, err := w.Record(t.Context(), w.me, []observe.NewEvent{w.inSession(round*100+i, s.ID)}, observe.RecordOptions{Generate: true})
				if err == nil {
					jobs[i] = got[0].Job.ID
				}
			})
		}
		wg.Wait()
		require.NotEmpty(t, jobs[0])
		require.Len(t, slices.Compact(jobs), 1)
	}
	w.check(t)
}

func TestABatchThatIsFullTakesNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, debounce(time.Hour))
	s := w.session(t, "s")
	var evs []observe.NewEvent
	for i := range observe.MaxBurst {
		evs = append(evs, w.inSession(i, s.ID))
	}
	full := w.record(t, evs...)[0]
	next := w.record(t, w.inSession(1000, s.ID), w.inSession(1001, s.ID))
	require.NotEqual(t, full.Job.ID, next[0].Job.ID)
	require.Equal(t, next[0].Job.ID, next[1].Job.ID)
	require.Equal(t, 2, w.count(t, "observation_generation_jobs"))
}

// Turning the debounce on or off leaves no event with two jobs.
func TestTheDebounceMayChange(t *testing.T) {
	t.Parallel()
	each := newWorld(t)
	burst := &world{me: each.me, Service: observe.New(observe.Config{Pool: each.pool, Jobs: each.jobs, Debounce: time.Hour})}
	s := each.session(t, "s")
	first := each.record(t, each.inSession(1, s.ID))[0]
	again := burst.record(t, each.inSession(1, s.ID), each.inSession(2, s.ID))
	require.Equal(t, first.Job.ID, again[0].Job.ID)
	require.Equal(t, observe.KindBatch, again[1].Job.Kind)
	back := each.record(t, each.inSession(2, s.ID))[0]
	require.Equal(t, again[1].Job.ID, back.Job.ID)
	require.Equal(t, 2, each.count(t, "observation_generation_jobs"))
}

// Events that come while a worker begins the batch are either in it before
// the worker reads it, or in another one: none is forgotten, none is twice.
func TestEventsRaceWithTheWorkerThatBeginsTheirBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, debounce(time.Millisecond))
	s := w.session(t, "s")
	const senders, each = 4, 15
	var wg sync.WaitGroup
	failed := make(chan error, senders*each)
	for i := range senders {
		wg.Go(func() {
			for k := range each {
				_, err := w.Record(t.Context(), w.me, []observe.NewEvent{w.inSession(i*each+k, s.ID)}, observe.RecordOptions{Generate: true})
				if err != nil {
					failed <- err
				}
			}
		})
	}
	sent := make(chan struct{})
	go func() { wg.Wait(); close(sent) }()
	for done := false; ; {
		if w.doAll(t) == 0 && done {
			break
		}
		select {
		case <-sent:
			done = true
		default:
		}
	}
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
	var asked []string
	for _, q := range w.provider.questions() {
		for _, e := range q.Events {
			asked = append(asked, e.ID)
		}
	}
	require.Len(t, asked, senders*each)
	slices.Sort(asked)
	require.Len(t, slices.Compact(asked), senders*each)
	w.check(t)
}

// The order of the race in slow motion: the worker's claim waits for the
// request that holds the batch, and then sees its event.
func TestAWorkerWaitsForThoseWhoJoin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, debounce(time.Hour))
	s := w.session(t, "s")
	one := w.record(t, w.inSession(1, s.ID))[0]

	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }() // after a failed assertion
	// As joinBursts does.
	_, err = tx.Exec(t.Context(), "SELECT FROM observation_generation_jobs WHERE id = $1 AND status = 'queued' FOR UPDATE", string(one.Job.ID))
	require.NoError(t, err)
	claimed := make(chan events.Claim, 1)
	go func() {
		claims, err := w.jobs.Begin(t.Context(), holder, []events.Envelope{one.Job.Envelope()})
		if err != nil {
			claims = []events.Claim{{Err: err}}
		}
		claimed <- claims[0]
	}()
	require.Eventually(t, func() bool {
		var n int
		err := w.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n)
		return err == nil && n == 1
	}, time.Minute, 5*time.Millisecond, "the claim waits")
	require.Empty(t, claimed)
	require.NoError(t, tx.Commit(t.Context()))
	claim := <-claimed
	require.NoError(t, claim.Err)
	require.Equal(t, events.StatusProcessing, claim.Job.Status)
}
