package outbox_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

// leads runs a relay that listens to a bell, and has had one job to publish, so
// that it knows its lane.
func (w *world) leads(c *counting) (r *outbox.Relay, bell *outbox.Bell, stop func()) {
	w.Helper()
	w.store = c
	bell = outbox.NewBell(w.js.Conn(), "")
	ctx, cancel := context.WithCancel(w.Context())
	wake, wakeFeed, err := bell.Listen(ctx)
	require.NoError(w, err)
	w.cfg.Wake, w.cfg.WakeFeed, w.cfg.Named = wake, wakeFeed, bell.Named
	r = outbox.New(w.store, w.store, w.js, w.cfg)
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	w.enqueue(1, teamA)
	pause(w.Context(), 10*time.Second)
	synctest.Wait()
	require.EqualValues(w, 1, r.State().Published)
	w.begin()
	return r, bell, func() {
		cancel()
		require.NoError(w, <-ended)
	}
}

// begin takes all off the stream, begins the jobs, and gives what was there.
func (w *world) begin() []events.Envelope {
	w.Helper()
	es := w.pull(10)
	require.NoError(w, w.store.Seen(w.Context(), worker))
	_, err := w.store.Begin(w.Context(), worker, es)
	require.NoError(w, err)
	return es
}

func first(scope events.Scope, id events.ID) events.Envelope {
	return events.Envelope{Job: id, Kind: kind, Asked: 1, Scope: scope}
}

// told has the bell ring, and waits until nothing is left to do but by a clock.
func told(bell *outbox.Bell, asks ...events.Envelope) {
	bell.Ring(asks...)
	synctest.Wait()
}

func TestWhatARingNamesIsPublishedWithoutBeingRead(t *testing.T) {
	bubble(t, func(w *world) {
		c := &counting{store: w.store}
		r, bell, stop := w.leads(c)
		defer stop()
		asked := c.asks.Load()
		id := w.enqueue(1, teamA)[0]
		told(bell, first(teamA, id))
		require.Equal(w, asked, c.asks.Load())
		require.EqualValues(w, 2, r.State().Published)
		pause(w.Context(), 10*time.Second) // it is read, and not published again
		require.EqualValues(w, 2, r.State().Published)
		require.Zero(w, r.State().Duplicates)
		_, history, err := w.store.Get(w.Context(), teamA, id)
		require.NoError(w, err)
		require.Equal(w, events.Enqueued, history[1].Type, "it is looked after like any other")
		require.Equal(w, []events.Envelope{first(teamA, id)}, w.begin())
	})
}

// While a job is on its way to its worker the relay asks the store for nothing
// that is due by the clock, and does it soon after, also where one job follows
// the other.
func TestAJobOnItsWayHasTheProcessors(t *testing.T) {
	bubble(t, func(w *world) {
		c := &counting{store: w.store}
		r, bell, stop := w.leads(c)
		defer stop()
		for _, every := range []time.Duration{time.Millisecond, 97 * time.Millisecond} { // fast, then slowly
			before, fresh, beside := c.asks.Load(), c.fresh.Load(), 0
			const n = 300
			for range n {
				id := w.enqueue(1, teamA)[0]
				asked, published := c.asks.Load(), r.State().Published
				told(bell, first(teamA, id))
				if every > 10*time.Millisecond {
					pause(w.Context(), 2*time.Millisecond)
					synctest.Wait()
					require.Equal(w, published+1, r.State().Published)
					if c.asks.Load() > asked {
						beside++
					}
				}
				w.begin()
				bell.Settled([]events.Step{{Event: events.Event{Type: events.Completed}}})
				pause(w.Context(), every)
			}
			took := n * every
			require.GreaterOrEqual(w, c.asks.Load()-before, int64(took/(2*time.Second)), "it is not put off for ever")
			if every > 10*time.Millisecond {
				require.LessOrEqual(w, beside, n/8, "a window that is used up is looked at, and its outbox read") // it was a quarter
				require.LessOrEqual(w, c.fresh.Load()-fresh, int64(3*n), "looks for events")
			}
		}
	})
}

func TestWhatWasReadBeforeTheRingIsNotPublishedTwice(t *testing.T) {
	bubble(t, func(w *world) {
		r, bell, stop := w.leads(&counting{store: w.store})
		defer stop()
		id := w.enqueue(1, teamA)[0]
		pause(w.Context(), 2*time.Second)
		synctest.Wait()
		require.EqualValues(w, 2, r.State().Published)
		told(bell, first(teamA, id))
		pause(w.Context(), 2*time.Second)
		require.EqualValues(w, 2, r.State().Published)
		require.Zero(w, r.State().Duplicates)
	})
}

// A job that is begun before its row is read leaves nothing behind, and one whose
// message is lost is asked for again.
func TestWhatWasNamedIsLookedAfter(t *testing.T) {
	bubble(t, func(w *world) {
		r, bell, stop := w.leads(&counting{store: w.store})
		defer stop()
		done, lost := w.enqueue(1, teamA)[0], w.enqueue(1, teamB)[0]
		told(bell, first(teamA, done), first(teamB, lost))
		require.EqualValues(w, 3, r.State().Published)
		claims, err := w.store.Begin(w.Context(), worker, []events.Envelope{first(teamA, done)})
		require.NoError(w, err)
		require.NoError(w, claims[0].Err)
		require.Len(w, w.pull(10), 2) // taken off the stream
		for range 12 {
			pause(w.Context(), 5*time.Second)
			require.NoError(w, w.store.Seen(w.Context(), worker))
		}
		_, history, err := w.store.Get(w.Context(), teamB, lost)
		require.NoError(w, err)
		require.Equal(w, events.Reclaimed, history[len(history)-2].Type)
		require.EqualValues(w, 1, r.State().Reclaimed)
	})
}

// What a ring says is believed only as far as a message is, whoever rings.
func TestARingThatNamesWhatIsNotThere(t *testing.T) {
	bubble(t, func(w *world) {
		r, bell, stop := w.leads(&counting{store: w.store})
		defer stop()
		id := w.enqueue(1, teamA)[0]
		later := w.enqueue(1, teamA)[0]
		told(bell,
			events.Envelope{Job: "none", Kind: kind, Asked: 1, Scope: teamA},
			events.Envelope{Job: "other", Kind: "unknown", Asked: 1, Scope: teamA},
			events.Envelope{Job: id, Kind: kind, Asked: 7, Scope: teamA},
		)
		pause(w.Context(), 10*time.Second) // a kind that nobody has: all is read
		require.EqualValues(w, 5, r.State().Published, "two that are none, and both that are")
		require.Empty(w, r.State().Error)
		got := w.pull(10)
		require.Contains(w, got, first(teamA, id))
		require.Contains(w, got, first(teamA, later))
		require.NotContains(w, got, events.Envelope{Job: "other", Kind: "unknown", Asked: 1, Scope: teamA})
	})
}

// The window and the turns of tenants are not got round by ringing.
func TestWhatIsNamedWaitsBehindWhatWaits(t *testing.T) {
	bubble(t, func(w *world) {
		w.cfg.WindowMin, w.cfg.WindowMax = 4, 4
		r, bell, stop := w.leads(&counting{store: w.store})
		defer stop()
		for range 20 {
			told(bell, first(teamA, w.enqueue(1, teamA)[0]))
		}
		pause(w.Context(), 10*time.Second)
		require.EqualValues(w, 1+4, r.State().Published)
		for got := 0; got < 20; {
			begun := w.begin()
			require.NotEmpty(w, begun)
			got += len(begun)
			pause(w.Context(), time.Second)
		}
		require.EqualValues(w, 21, r.State().Published)
	})
}

// What was named on a stream that is gone is published on the new one.
func TestNamedBeforeTheStreamVanishes(t *testing.T) {
	bubble(t, func(w *world) {
		r, bell, stop := w.leads(&counting{store: w.store})
		defer stop()
		told(bell, first(teamA, w.enqueue(1, teamA)[0]))
		require.EqualValues(w, 2, r.State().Published)
		require.NoError(w, w.js.DeleteStream(w.Context(), w.cfg.Streams.JobsStream()))
		pause(w.Context(), time.Minute)
		require.GreaterOrEqual(w, r.State().Published, uint64(3))
		require.NotEmpty(w, w.pull(10))
	})
}

func TestBellNames(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t)
	here, there := outbox.NewBell(nc, "n"), outbox.NewBell(nc, "n")
	_, _, err := here.Listen(t.Context())
	require.NoError(t, err)
	asks, _, err := there.Listen(t.Context())
	require.NoError(t, err)
	heard, err := nc.SubscribeSync("n.obs.wake")
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	named := func(want []events.Envelope, whole bool) {
		t.Helper()
		rung(t, asks)
		got, all := there.Named()
		require.Equal(t, want, got)
		require.Equal(t, whole, all)
	}
	one, odd := first(teamA, "one"), events.Envelope{Job: "two", Kind: kind, Asked: 3, Scope: events.Scope{Team: "a\nb", Project: `"`}}
	here.Ring(one, odd)
	named([]events.Envelope{one, odd}, true)
	here.Ring()
	named(nil, false)
	here.Ring(make([]events.Envelope, 100)...)
	named(nil, false)
	got, all := here.Named()
	require.Empty(t, got)
	require.False(t, all)
	for range 3 {
		_, err := heard.NextMsg(soon)
		require.NoError(t, err)
	}
	for _, body := range []string{"old", "old\n", "old\nnonsense", "old\n" + strings.Repeat(string(one.Marshal())+"\n", 100)} {
		require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: "n.obs.wake", Data: []byte(body)}))
		named(nil, false)
	}
}
