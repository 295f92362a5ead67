package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/outbox"
)

var errEnough = errors.New("enough")

// ear follows one tenant in the background.
type ear struct {
	*world
	heard chan events.Heard
	stop  func() error
}

func (w *world) listen(scope events.Scope, after events.Cursor) *ear {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	e := &ear{world: w, heard: make(chan events.Heard, 10_000)}
	done := make(chan error, 1)
	go func() {
		done <- outbox.Follow(ctx, w.js, outbox.Following{
			Streams: w.cfg.Streams, Scope: scope, After: after, Beat: 50 * time.Millisecond, Log: w.cfg.Log,
		}, func(h events.Heard) error {
			e.heard <- h
			return nil
		})
	}()
	e.stop = func() error { cancel(); return <-done }
	w.Cleanup(cancel)
	return e
}

// next is the next word that is not only about the place.
func (e *ear) next() events.Heard {
	e.Helper()
	for {
		if h := e.any(); h.Event != nil || h.Reset {
			return h
		}
	}
}

func (e *ear) any() events.Heard {
	e.Helper()
	select {
	case h := <-e.heard:
		return h
	case <-time.After(soon):
		require.FailNow(e, "nothing is heard")
		panic("unreachable")
	}
}

func (e *ear) expect(ids ...events.ID) (last events.Cursor) {
	e.Helper()
	for _, id := range ids {
		h := e.next()
		require.False(e, h.Reset)
		require.Equal(e, id, h.Event.Event.Job)
		last = h.At
	}
	return last
}

// tell publishes an event as a relay would, under a message id of its own.
func (w *world) tell(scope events.Scope, job events.ID, version int, on events.Scope) {
	w.Helper()
	body, err := json.Marshal(outbox.EventMessage{
		Job: job, Version: version, Type: events.Queued, Status: events.StatusQueued, Kind: kind, Team: scope.Team, Project: scope.Project,
	})
	require.NoError(w, err)
	id := jetstream.WithMsgID(nats.NewInbox())
	w.until("it is published", func() bool {
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		_, err := w.js.Publish(ctx, w.cfg.Streams.EventSubject(on, kind, events.Queued), body, id)
		return err == nil
	})
}

func (w *world) ensure() *world {
	w.Helper()
	require.NoError(w, outbox.Ensure(w.Context(), w.js, w.cfg.Streams))
	return w
}

// A follower that is cut off at random places, and goes on from the last one,
// hears what one hears that is never cut off.
func TestFollowAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := memory(t).ensure()
	stream, err := w.js.Stream(t.Context(), w.cfg.Streams.EventsStream())
	require.NoError(t, err)
	at := events.CursorAt(stream.CachedInfo().Created, 0)
	w.relay(w.store)
	var steps []events.Step
	for n := range 60 {
		steps = append(steps, step(t, n, teamA), step(t, n, teamB))
	}
	go func() {
		for some := range slices.Chunk(steps, 4) {
			if _, err := w.store.Enqueue(t.Context(), some...); err != nil {
				return
			}
		}
	}()
	var got []string
	cuts := 0
	for len(got) < 60 {
		left := rand.IntN(7)
		err := outbox.Follow(t.Context(), w.js, outbox.Following{Streams: w.cfg.Streams, Scope: teamA, After: at, Beat: often},
			func(h events.Heard) error {
				require.False(t, h.Reset)
				if h.Event != nil && h.Event.Event.Type == events.Queued { // and not noted to wait, on a slow machine
					if left == 0 {
						return errEnough // it is not taken, so it comes again
					}
					left--
					got = append(got, fmt.Sprint(h.Event.Event.Job, h.Event.Event.Version))
				}
				at = h.At
				if len(got) == 60 {
					return errEnough
				}
				return nil
			})
		require.ErrorIs(t, err, errEnough)
		cuts++
	}
	require.Greater(t, cuts, 5)
	var want []string
	w.until("all is told", func() bool { told, _ := w.queued(); return len(told) == 120 })
	told, _ := w.queued()
	for _, m := range told {
		if m.Team == "a" {
			want = append(want, fmt.Sprint(m.Job, m.Version))
		}
	}
	require.Equal(t, want, got)
}

// Whoever gets a message onto a tenant's subject is not believed, and an id
// that looks like a pattern is none.
func TestFollowHearsOneTenant(t *testing.T) {
	t.Parallel()
	w := memory(t).ensure()
	odd := events.Scope{Team: "a.>", Project: "*"}
	twin := events.Scope{Team: events.Token(odd.Team), Project: events.Token(odd.Project)} // a team of the name that odd is hashed to
	all := map[events.Scope]*ear{}
	for _, s := range []events.Scope{teamA, teamB, odd, twin, {Team: "a"}, {Team: "a", Project: "other"}} {
		all[s] = w.listen(s, events.Cursor{})
		require.NotZero(t, all[s].any().At)
	}
	w.tell(teamB, "forged", 1, teamA)
	_, err := w.js.Publish(t.Context(), w.cfg.Streams.EventSubject(teamA, kind, events.Queued), []byte("{"))
	require.NoError(t, err)
	for _, s := range []events.Scope{teamA, teamB, odd, twin, {Team: "a", Project: "other"}} {
		w.tell(s, "same", 1, s)
	}
	for _, s := range []events.Scope{teamA, teamB, odd, twin, {Team: "a", Project: "other"}} {
		h := all[s].next()
		require.Equal(t, s, h.Event.Scope)
		require.EqualValues(t, "same", h.Event.Event.Job)
	}
	require.Equal(t, teamA, all[events.Scope{Team: "a"}].next().Event.Scope)
	for s, e := range all {
		require.ErrorIs(t, e.stop(), context.Canceled)
		close(e.heard)
		for h := range e.heard {
			require.Nil(t, h.Event, "%v", s)
		}
	}
}

func TestFollowToldTwice(t *testing.T) {
	t.Parallel()
	w := memory(t).ensure()
	e := w.listen(teamA, events.Cursor{})
	e.any()
	w.tell(teamA, "one", 1, teamA)
	w.tell(teamA, "one", 2, teamA)
	w.tell(teamA, "one", 1, teamA)
	w.tell(teamA, "two", 1, teamA)
	at := e.expect("one", "one", "two")
	w.tell(teamA, "one", 2, teamA)
	w.tell(teamA, "three", 1, teamA)
	e.expect("three")
	// One who comes back does not know what it heard, and is not told again.
	w.listen(teamA, at).expect("three")
}

func TestFollowReset(t *testing.T) {
	t.Parallel()
	w := memory(t).ensure()
	e := w.listen(teamA, events.Cursor{})
	e.any()
	w.tell(teamA, "one", 1, teamA)
	at := e.expect("one")

	t.Log("the stream is made anew, and has come as far as the old one")
	require.NoError(t, w.js.DeleteStream(t.Context(), w.cfg.Streams.EventsStream()))
	w.ensure()
	w.tell(teamA, "lost", 1, teamA)
	w.tell(teamA, "lost", 2, teamA)
	h := e.next()
	require.True(t, h.Reset)
	require.NotEqual(t, at.Epoch, h.At.Epoch)
	again := w.listen(teamA, at)
	require.True(t, again.next().Reset)
	w.tell(teamA, "two", 1, teamA)
	now := again.expect("two")

	t.Log("a place that is not there yet")
	now.Seq += 1000
	require.True(t, w.listen(teamA, now).next().Reset)

	t.Log("a place that is dropped")
	stream, err := w.js.Stream(t.Context(), w.cfg.Streams.EventsStream())
	require.NoError(t, err)
	cfg := stream.CachedInfo().Config
	for i := range 5 {
		w.tell(teamA, events.ID(fmt.Sprint("more", i)), 1, teamA)
	}
	cfg.MaxMsgs = 2
	_, err = w.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	require.True(t, w.listen(teamA, events.Cursor{Epoch: now.Epoch, Seq: 3}).next().Reset)
}

// A tenant where nothing happens moves on with the others, so that its place
// is not dropped.
func TestFollowMovesOn(t *testing.T) {
	t.Parallel()
	w := memory(t).ensure()
	e := w.listen(teamA, events.Cursor{})
	e.any()
	for i := range 20 {
		w.tell(teamB, events.ID(fmt.Sprint(i)), 1, teamB)
	}
	at := e.any().At
	for at.Seq < 20 {
		h := e.any()
		require.Nil(t, h.Event)
		at = h.At
	}
	require.EqualValues(t, 20, at.Seq)
	w.tell(teamA, "one", 1, teamA)
	w.listen(teamA, at).expect("one")
}

// One that is so slow that messages are dropped before they reach it is told so.
func TestFollowTooSlow(t *testing.T) {
	t.Parallel()
	w := memory(t).ensure()
	stream, err := w.js.Stream(t.Context(), w.cfg.Streams.EventsStream())
	require.NoError(t, err)
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 10
	_, err = w.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	held, free, reset := make(chan struct{}), make(chan struct{}), make(chan struct{})
	first := true
	go func() {
		_ = outbox.Follow(t.Context(), w.js, outbox.Following{Streams: w.cfg.Streams, Scope: teamA, Beat: 20 * time.Millisecond}, func(h events.Heard) error {
			if first {
				first = false
				close(held)
				<-free
			}
			if h.Reset {
				close(reset)
				return errEnough
			}
			return nil
		})
	}()
	<-held
	for i := range 500 {
		w.tell(teamA, events.ID(fmt.Sprint(i)), 1, teamA)
	}
	close(free)
	select {
	case <-reset:
	case <-time.After(soon):
		require.FailNow(t, "it is not told")
	}
}

func TestFollowOverARestartOfTheBroker(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	dir := t.TempDir()
	start := func() *embedded.NATS {
		n, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Dir: dir, Port: port})
		require.NoError(t, err)
		t.Cleanup(n.Stop)
		return n
	}
	n := start()
	nc, err := nats.Connect(n.ClientURL(), nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	w := (&world{T: t, js: js, cfg: outbox.Config{Streams: outbox.Streams{Kinds: []events.Kind{kind}}}}).ensure()
	e := w.listen(teamA, events.Cursor{})
	e.any()
	w.tell(teamA, "one", 1, teamA)
	at := e.expect("one")
	for i := range 3 {
		n.Stop()
		late := w.listen(teamA, at) // begins while the broker is away
		n = start()
		w.until("the connection is back", nc.IsConnected)
		id := events.ID(fmt.Sprint("after", i))
		w.tell(teamA, id, 1, teamA)
		at = e.expect(id)
		require.Equal(t, at, late.expect(id))
		require.ErrorIs(t, late.stop(), context.Canceled)
	}
}
