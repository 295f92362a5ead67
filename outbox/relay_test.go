package outbox_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/outbox"
)

func TestEachAskIsPublishedOnce(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.enqueue(3000, teamA)
		r, _ := w.relay(nil)
		begun, refused := w.work(3000)
		for id, n := range begun {
			require.Equal(w, 1, n, id)
		}
		require.Zero(w, refused)
		w.until("it is counted", func() bool { return r.State().Published == 3000 })
		require.Zero(w, r.State().Duplicates)
		require.Empty(w, r.State().Error)
		require.True(w, r.State().Leader)
	})
}

func TestALateCommitIsFound(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	asked := &missed{postgres: p}
	w := newWorld(t, asked)
	r, _ := w.relay(nil)
	w.enqueue(1, teamA)
	w.until("the first is published", w.onStream(1))
	// The sweep finds it as well, and is first where the machine is slow: not each time.
	for n := 1; asked.found.Load() == 0; n += 2 {
		require.Less(t, n, 60, "only the sweep finds them")
		// Its row is taken now and seen only after the next one's.
		tx, err := p.pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = p.Jobs.Enqueue(t.Context(), tx, step(t, 1000+n, teamA))
		require.NoError(t, err)
		w.enqueue(1, teamA)
		w.until("a later one is published", w.onStream(n+1))
		require.NoError(t, tx.Commit(t.Context()))
		w.until("the late one is published", w.onStream(n+2))
	}
	require.Empty(t, r.State().Error)
}

// missed counts the rows that were asked for by their numbers, and found.
type missed struct {
	postgres
	found atomic.Int64
}

func (m *missed) Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error) {
	asks, err := m.postgres.Asks(ctx, q)
	for _, a := range asks {
		if slices.Contains(q.Rows, a.Row) {
			m.found.Add(1)
		}
	}
	return asks, err
}

func TestACommitLaterThanAnyGapIsFoundByTheSweep(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	w := newWorld(t, p)
	w.relay(nil)
	w.enqueue(1, teamA)
	w.until("the first is published", w.onStream(1))
	tx, err := p.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = p.Jobs.Enqueue(t.Context(), tx, step(t, 1000, teamA))
	require.NoError(t, err)
	w.enqueue(1, teamA)
	w.until("a later one is published", w.onStream(2))
	held := time.Now()
	w.until("the gap is forgotten", func() bool { return time.Since(held) > 2500*time.Millisecond })
	require.NoError(t, tx.Commit(t.Context()))
	w.until("the late one is published", w.onStream(3))
}

// A relay that died between publishing and the jobs' begin is followed by one
// that knows nothing.
func TestTheNextRelayPublishesDuplicates(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.enqueue(40, teamA)
		_, stop := w.relay(nil)
		w.until("all are published", w.onStream(40))
		stop()
		w.enqueue(5, teamA)
		r, _ := w.relay(nil) // one batch has known and new ids: it is refused whole, error 10201
		w.until("all are known", func() bool { return r.State().Duplicates == 40 && r.State().Published == 5 })
		require.Equal(w, uint64(45), w.state().Msgs)
		begun, refused := w.work(45)
		require.Len(w, begun, 45)
		require.Zero(w, refused)
	})
}

func TestAPurgeHeals(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		ids := w.enqueue(50, teamA)
		r, _ := w.relay(nil)
		w.until("all are published", w.onStream(50))
		s, err := w.js.Stream(w.Context(), w.cfg.Streams.JobsStream())
		require.NoError(w, err)
		require.NoError(w, s.Purge(w.Context()))
		w.until("all are published again", w.onStream(50))
		begun, _ := w.work(50)
		require.Len(w, begun, 50)
		require.EqualValues(w, 50, r.State().Reclaimed)
		_, history, err := w.store.Get(w.Context(), teamA, ids[0])
		require.NoError(w, err)
		var types []events.Type
		for _, e := range history {
			types = append(types, e.Type)
		}
		require.Contains(w, types, events.Reclaimed, "under a new id: the stream remembers the old one")
	})
}

// A relay that dies after a purge is followed by one that publishes under ids
// that the stream drops.
func TestASwallowedDuplicateHeals(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.enqueue(3, teamA)
	_, stop := w.relay(nil)
	w.until("all are published", w.onStream(3))
	stop()
	s, err := w.js.Stream(t.Context(), w.cfg.Streams.JobsStream())
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context()))
	r, _ := w.relay(nil)
	w.until("all are published again", w.onStream(3))
	require.EqualValues(t, 3, r.State().Duplicates)
	begun, _ := w.work(3)
	require.Len(t, begun, 3)
}

func TestOneLostMessageHealsAfterTheLease(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.cfg.Lease = 2 * time.Second
	w.enqueue(3, teamA)
	r, _ := w.relay(nil)
	w.until("all are published", w.onStream(3))
	s, err := w.js.Stream(t.Context(), w.cfg.Streams.JobsStream())
	require.NoError(t, err)
	require.NoError(t, s.DeleteMsg(t.Context(), 2))
	w.until("it is published again", w.onStream(3))
	require.EqualValues(t, 1, r.State().Reclaimed, "the two others still lie there, and are left alone")
}

func TestADeletedStreamHeals(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.cfg.WindowMin = 200
		w.enqueue(1000, teamA)
		r, _ := w.relay(nil)
		w.until("the window is full", w.onStream(200))
		require.NoError(w, w.js.DeleteStream(w.Context(), w.cfg.Streams.JobsStream()))
		begun, refused := w.work(1000)
		require.Len(w, begun, 1000)
		require.Zero(w, refused)
		w.until("all is well", func() bool { return r.State().Error == "" })
	})
}

func TestADeletedConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.enqueue(10, teamA)
	w.relay(nil)
	w.until("all are published", w.onStream(10))
	require.NoError(t, w.js.DeleteConsumer(t.Context(), w.cfg.Streams.JobsStream(), w.cfg.Streams.Consumer(kind)))
	begun, _ := w.work(10)
	require.Len(t, begun, 10)
}

func TestFairBetweenTenants(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.enqueue(5000, teamA)
		last := w.enqueue(1, teamB)[0]
		w.once(outbox.New(w.store, nil, w.js, w.cfg))
		es := w.pull(2)
		require.Len(w, es, 2)
		require.Contains(w, []events.ID{es[0].Job, es[1].Job}, last)
	})
}

func TestPriorityGoesFirst(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.enqueue(2000, teamA)
		urgent := w.enqueue(3, teamA, priority(5))
		low := w.enqueue(1, teamB, priority(-1))
		w.once(outbox.New(w.store, nil, w.js, w.cfg))
		es := w.pull(4)
		require.ElementsMatch(w, urgent, []events.ID{es[0].Job, es[1].Job, es[2].Job})
		require.NotEqual(w, low[0], es[3].Job)
	})
}

func TestTenantCap(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.cfg.TenantCap = 7
	w.enqueue(100, teamA)
	w.enqueue(3, teamB)
	w.relay(nil)
	w.until("seven and three are published", w.onStream(10))
	begun, _ := w.work(103)
	require.Len(t, begun, 103)
}

func TestTheStreamIsShallow(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.enqueue(10_000, teamA)
		require.NoError(w, w.store.Seen(w.Context(), worker))
		r := outbox.New(w.store, nil, w.js, w.cfg)
		require.Equal(w, 8, w.once(r), "twice four slots")
		require.Zero(w, w.once(r), "nobody works, so nothing more fits")
		require.Len(w, w.pull(5), 5)
		require.GreaterOrEqual(w, w.once(r), 5, "what was taken, and some more where that was quick")
		s := r.State()
		require.Less(w, s.Waiting, 9000, "the backlog stays in the store")
		require.Equal(w, 1, s.Lanes[0].Spilled)
	})
}

func TestABacklogIsWorkedOff(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.cfg.WindowMin = 1000
		w.enqueue(9500, teamA) // more than are kept in memory
		w.enqueue(50, teamB)
		w.enqueue(700, teamB, priority(3))
		w.relay(nil)
		begun, refused := w.work(10_250)
		require.Len(w, begun, 10_250)
		require.Zero(w, refused)
	})
}

func TestTwoLeadersAreHarmless(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.enqueue(500, teamA)
	w.relay(nil)
	real := w.store
	w.store = alwaysLeads{real}
	w.relay(nil)
	w.store = real
	begun, _ := w.work(500)
	for id, n := range begun {
		require.Equal(t, 1, n, id)
	}
}

// alwaysLeads is a store whose lock was lost without notice.
type alwaysLeads struct{ store }

func (alwaysLeads) Lead(ctx context.Context) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

func TestAStandByTakesOver(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.cfg.Lease = time.Second
		first, stop := w.relay(nil)
		w.until("the first leads", func() bool { return first.State().Leader })
		second, _ := w.relay(nil)
		w.enqueue(5, teamA)
		w.until("all are published", w.onStream(5))
		require.False(w, second.State().Leader)
		stop()
		w.enqueue(5, teamA)
		w.until("the second publishes", w.onStream(10))
		require.True(w, second.State().Leader)
		require.False(w, first.State().Leader)
	})
}

func TestALostLeadershipIsTakenAgain(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.cfg.Lease = time.Second
	r, _ := w.relay(nil)
	w.enqueue(1, teamA)
	w.until("it is published", w.onStream(1))
	w.store.(*eventstest.Memory).Depose()
	w.until("it forgot what it had sent", func() bool { return r.State().Duplicates == 1 })
	w.enqueue(1, teamA)
	w.until("the next too", w.onStream(2))
}

func TestDelayedAsksAreNotEarly(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.relay(nil)
		began := time.Now()
		w.enqueue(3, teamA, delay(1200*time.Millisecond))
		now := w.enqueue(1, teamA)
		begun, _ := w.work(1)
		require.Equal(w, 1, begun[now[0]])
		w.until("the others are published", w.onStream(3))
		require.GreaterOrEqual(w, time.Since(began), 1200*time.Millisecond)
	})
}

func TestJobsOfLostWorkersAreAskedForAgain(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.cfg.Lease = time.Second
		w.enqueue(5, teamA)
		require.NoError(w, w.store.Seen(w.Context(), worker))
		r, _ := w.relay(nil)
		begun, _ := w.work(5) // and that was the last that was seen of this worker
		require.Len(w, begun, 5)
		w.until("all are asked for again", func() bool { return r.State().Reclaimed == 5 })
		w.until("all are published again", w.onStream(5))
	})
}

func TestCancelledWhileInMemory(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	w := newWorld(t, p)
	ids := w.enqueue(100, teamA)
	r := outbox.New(w.store, nil, w.js, w.cfg)
	require.Equal(t, 64, w.once(r))
	begun, _ := w.work(64)
	var steps []events.Step
	for _, id := range ids {
		if begun[id] > 0 {
			continue
		}
		j, _, err := p.Get(t.Context(), teamA, id)
		require.NoError(t, err)
		steps = append(steps, events.Step{Job: j, Event: events.Event{Type: events.Cancelled, Actor: "test"}})
	}
	err := db.InTx(t.Context(), p.pool, func(tx pgx.Tx) error {
		errs, err := p.Move(t.Context(), tx, steps)
		return errors.Join(err, errors.Join(errs...))
	})
	require.NoError(t, err)
	read := time.Now()
	w.until("what is in memory is old", func() bool { return time.Since(read) > 2100*time.Millisecond })
	require.Zero(t, w.once(r), "none of the cancelled ones is published")
}

func TestAFullStreamIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.cfg.Streams.JobsMaxMsgs = 20
	w.enqueue(70, teamA)
	r, _ := w.relay(nil)
	w.until("it says so", func() bool { return r.State().Error != "" })
	begun, _ := w.work(70)
	require.Len(t, begun, 70)
	w.until("all is well", func() bool { return r.State().Error == "" })
}

func TestAStoreThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := memory(t)
	broken := &brokenStore{store: w.store}
	broken.broken.Store(true)
	w.store = broken
	w.enqueue(3, teamA)
	r, _ := w.relay(nil)
	w.until("it says so", func() bool { return r.State().Error != "" })
	broken.broken.Store(false)
	w.until("all are published", w.onStream(3))
	w.until("all is well", func() bool { return r.State().Error == "" })
}

// A stand-by is well, whatever went wrong while it led.
func TestTheTroubleOfALeadEndsWithIt(t *testing.T) {
	t.Parallel()
	w := memory(t)
	mem := w.store.(*eventstest.Memory)
	broken := &brokenStore{store: w.store}
	broken.broken.Store(true)
	w.store = broken
	r, _ := w.relay(nil)
	w.until("it says so", func() bool { return r.State().Error != "" })
	w.until("another one leads", func() bool {
		mem.Depose()
		_, _, err := mem.Lead(t.Context())
		return err == nil
	})
	w.until("it is a stand-by", func() bool { return !r.State().Leader })
	require.Empty(t, r.State().Error)
}

type brokenStore struct {
	store
	broken atomic.Bool
}

func (b *brokenStore) Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error) {
	if b.broken.Load() {
		return nil, errors.New("the database is away")
	}
	return b.store.Asks(ctx, q)
}

func TestAsyncMode(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.cfg.Mode = outbox.Async
	w.cfg.WindowMin = 2500
	w.enqueue(2500, teamA)
	require.Equal(t, 2500, w.once(outbox.New(w.store, nil, w.js, w.cfg)))
	begun, _ := w.work(2500)
	require.Len(t, begun, 2500)
}

// A server, or a stream, that takes no batches gets messages.
func TestAStreamWithoutBatches(t *testing.T) {
	t.Parallel()
	w := memory(t)
	require.NoError(t, outbox.Ensure(t.Context(), w.js, w.cfg.Streams))
	s, err := w.js.Stream(t.Context(), w.cfg.Streams.JobsStream())
	require.NoError(t, err)
	cfg := s.CachedInfo().Config
	cfg.AllowAtomicPublish = false
	cfg.Metadata["obs.schema"] = "999" // a newer program's: Ensure leaves it alone
	_, err = w.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	w.enqueue(50, teamA)
	r := outbox.New(w.store, nil, w.js, w.cfg)
	require.Equal(t, 50, w.once(r))
	begun, _ := w.work(50)
	require.Len(t, begun, 50)
}
