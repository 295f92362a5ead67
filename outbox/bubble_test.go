package outbox_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/outbox"
)

// bubble runs a test with a real server in virtual time.
func bubble(t *testing.T, test func(w *world)) {
	t.Helper()
	// The server's clock for access times has a goroutine that virtual time
	// would wait for. Started here, it is outside of the bubble.
	ats.Register()
	defer ats.Unregister()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true})
		require.NoError(t, err)
		s.Start()
		require.True(t, s.ReadyForConnections(soon))
		nc, err := nats.Connect("", nats.InProcessServer(s))
		require.NoError(t, err)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		w := &world{T: t, store: eventstest.NewMemory(), js: js, cfg: outbox.Config{
			Streams: outbox.Streams{Kinds: []events.Kind{kind}},
		}}
		test(w)
		js.CleanupPublisher()
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
}

// in runs a relay for a while of virtual time.
func (w *world) in(d time.Duration, feed outbox.Feed) *outbox.Relay {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), d)
	defer cancel()
	r := outbox.New(w.store, feed, w.js, w.cfg)
	require.NoError(w, r.Run(ctx))
	return r
}

// Workers that are away for hours are no reason to ask again: the messages
// lie where they were put.
func TestWorkersAwayForHours(t *testing.T) {
	bubble(t, func(w *world) {
		id := w.enqueue(10, teamA)[0]
		r := w.in(2*time.Hour, nil)
		require.Zero(w, r.State().Reclaimed)
		require.EqualValues(w, 10, r.State().Published)
		_, history, err := w.store.Get(w.Context(), teamA, id)
		require.NoError(w, err)
		require.Len(w, history, 2, "queued and, once, enqueued")
		require.Equal(w, events.Enqueued, history[1].Type)
		require.Len(w, w.pull(20), 10)
	})
}

// Reading is the relay's dearest part: what fits into memory is read once.
func TestABacklogIsReadOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.enqueue(5000, teamA)
		w.cfg.WindowMin = 20_000
		c := &counting{store: w.store}
		require.Equal(t, 5000, w.once(outbox.New(c, nil, w.js, w.cfg)))
		require.EqualValues(t, 5000, c.rows.Load())
	})
}

// noting is a store that notes how much was published when a tenant's asks were first read on.
type noting struct {
	store
	published func() uint64
	first     uint64
}

func (n *noting) Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error) {
	if q.Tenant != nil && n.first == 0 {
		n.first = n.published()
	}
	return n.store.Asks(ctx, q)
}

// What did not fit into memory is read on before the rest is sent, or there
// would be nothing to send meanwhile.
func TestABacklogIsReadOnInTime(t *testing.T) {
	bubble(t, func(w *world) {
		const more, kept = 10_000, 8 << 10
		for range 10 {
			w.enqueue(more/10, teamA)
		}
		w.cfg.WindowMin = 2 * more
		s := &noting{store: w.store, published: func() uint64 { return w.state().Msgs }}
		require.Equal(t, more, w.once(outbox.New(s, nil, w.js, w.cfg)))
		require.Positive(t, s.first)
		require.Less(t, s.first, uint64(kept))
	})
}

func TestHoursOfDelay(t *testing.T) {
	bubble(t, func(w *world) {
		w.enqueue(1, teamA, delay(4*time.Hour))
		require.Zero(w, w.in(4*time.Hour-time.Second, nil).State().Published)
		require.EqualValues(w, 1, w.in(2*time.Second, nil).State().Published)
	})
}

// Whatever eats the messages of a queued job makes it be asked for again
// less and less often.
func TestAMessageEaterIsNotFedForEver(t *testing.T) {
	bubble(t, func(w *world) {
		id := w.enqueue(1, teamA)[0]
		ctx, cancel := context.WithCancel(w.Context())
		defer cancel()
		eaten := make(chan struct{})
		go func() {
			defer close(eaten)
			for pause(ctx, 500*time.Millisecond) {
				w.pull(10)
			}
		}()
		w.in(10*time.Minute, nil)
		cancel()
		<-eaten
		_, history, err := w.store.Get(w.Context(), teamA, id)
		require.NoError(w, err)
		require.Greater(w, len(history), 5)
		require.Less(w, len(history), 60)
	})
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// counting counts what a relay asks of its store.
type counting struct {
	store
	asked atomic.Int64
	asks  atomic.Int64 // of these, for asks
	rows  atomic.Int64 // asks that were read
	fresh atomic.Int64 // … and for events
}

func (c *counting) Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error) {
	c.asked.Add(1)
	c.asks.Add(1)
	asks, err := c.store.Asks(ctx, q)
	c.rows.Add(int64(len(asks)))
	return asks, err
}

func (c *counting) Waiting(ctx context.Context, rows []int64) ([]int64, error) {
	c.asked.Add(1)
	return c.store.Waiting(ctx, rows)
}

func (c *counting) Slots(ctx context.Context, lease time.Duration) (map[events.Kind]int, error) {
	c.asked.Add(1)
	return c.store.Slots(ctx, lease)
}

func (c *counting) Reclaim(ctx context.Context, lease time.Duration) (events.Lost, error) {
	c.asked.Add(1)
	return c.store.Reclaim(ctx, lease)
}

func (c *counting) Fresh(ctx context.Context, limit int) ([]events.FeedRow, error) {
	c.asked.Add(1)
	c.fresh.Add(1)
	return c.store.Fresh(ctx, limit)
}

func TestAnIdleHourCostsLittle(t *testing.T) {
	bubble(t, func(w *world) {
		c := &counting{store: w.store}
		w.store = c
		w.in(time.Hour, c)
		perSecond := float64(c.asked.Load()) / 3600
		w.Logf("%.2f questions a second", perSecond)
		require.Less(w, perSecond, 3.5)
	})
}

// What happens at a ring is a matter of no time, but where several jobs or
// their events are to be read together.
func TestARingAfterASilence(t *testing.T) {
	bubble(t, func(w *world) {
		wake, wakeFeed := make(chan struct{}, 1), make(chan struct{}, 1)
		w.cfg.Wake, w.cfg.WakeFeed = wake, wakeFeed
		ctx, cancel := context.WithCancel(w.Context())
		r := outbox.New(w.store, w.store, w.js, w.cfg)
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		pause(w.Context(), 10*time.Second)
		synctest.Wait()

		w.enqueue(1, teamA)
		wake <- struct{}{}
		synctest.Wait()
		require.EqualValues(w, 1, r.State().Published, "at once")
		require.Zero(w, r.State().Told, "the job is not held up by those who follow it")
		w.enqueue(1, teamA)
		wake <- struct{}{}
		synctest.Wait()
		require.EqualValues(w, 1, r.State().Published, "right after a read it waits for more")
		pause(w.Context(), 2*time.Millisecond)
		synctest.Wait()
		require.EqualValues(w, 2, r.State().Published)
		require.Zero(w, r.State().Told)
		pause(w.Context(), 20*time.Millisecond)
		synctest.Wait()
		require.EqualValues(w, 2, r.State().Told, "but not for long")

		pause(w.Context(), 50*time.Millisecond) // before it looks by itself: right after that it would wait for more
		w.enqueue(1, teamA)
		wakeFeed <- struct{}{}
		synctest.Wait()
		require.EqualValues(w, 3, r.State().Told, "at once")
		require.EqualValues(w, 2, r.State().Published, "there was nothing to publish, it said")
		cancel()
		require.NoError(w, <-ended)
	})
}

// Where jobs come by themselves but fast, they are read together; where they
// come slowly, each as soon as may be.
func TestRingsThatComeFastAreReadTogether(t *testing.T) {
	bubble(t, func(w *world) {
		c := &counting{store: w.store}
		w.store = c
		wake := make(chan struct{}, 1)
		w.cfg.Wake, w.cfg.WindowMin = wake, 5000
		ctx, cancel := context.WithCancel(w.Context())
		r := outbox.New(w.store, nil, w.js, w.cfg)
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		reads := func(n int, every time.Duration) int {
			pause(ctx, time.Second)
			before, published := c.asks.Load(), r.State().Published
			for range n {
				w.enqueue(1, teamA)
				select {
				case wake <- struct{}{}:
				default:
				}
				pause(ctx, every)
			}
			pause(ctx, 6*time.Millisecond)
			synctest.Wait()
			w.pull(n) // makes room
			require.EqualValues(w, n, r.State().Published-published)
			return int(c.asks.Load() - before)
		}
		fast, slow := reads(2000, 100*time.Microsecond), reads(25, 2*time.Millisecond)
		w.Logf("%d reads of 2,000 asks in 200 ms, %d of 25 in 50", fast, slow)
		require.Less(w, fast, 120)
		require.GreaterOrEqual(w, slow, 25)
		cancel()
		require.NoError(w, <-ended)
	})
}

// away is a store that does not answer for a while.
type away struct {
	store
	until time.Time
}

func (a *away) Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error) {
	if time.Now().Before(a.until) {
		return nil, errors.New("away")
	}
	return a.store.Asks(ctx, q)
}

// A relay that has not read all that waits waits for the next read: what it does
// only after that is not due before.
func TestALeaderWhoseStoreIsAwayWaits(t *testing.T) {
	bubble(t, func(w *world) {
		w.enqueue(3, teamA)
		w.store = &away{store: w.store, until: time.Now().Add(time.Minute)}
		w.cfg.PollMax = 10 * time.Second // it is less often read than the store is tried again
		r := outbox.New(w.store, nil, w.js, w.cfg)
		passes := outbox.Passes(w.Context(), r, 90*time.Second, 10_000)
		w.Logf("%d passes", passes)
		require.Less(w, passes, 1000)
		require.EqualValues(w, 3, r.State().Published)
	})
}
