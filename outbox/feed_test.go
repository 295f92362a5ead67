package outbox_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

// told reads what EVENTS has, in order.
func (w *world) told() []outbox.EventMessage {
	w.Helper()
	name := w.cfg.Streams.EventsStream()
	s, err := w.js.Stream(w.Context(), name)
	require.NoError(w, err)
	last := s.CachedInfo().State.LastSeq
	c, err := w.js.OrderedConsumer(w.Context(), name, jetstream.OrderedConsumerConfig{})
	require.NoError(w, err)
	var all []outbox.EventMessage
	for range last {
		m, err := c.Next(jetstream.FetchMaxWait(soon))
		require.NoError(w, err)
		e, err := outbox.ParseEvent(m.Data())
		require.NoError(w, err)
		require.Equal(w, string(e.Job), m.Headers().Get(outbox.HeaderJob))
		require.Equal(w, strconv.Itoa(e.Version), m.Headers().Get(outbox.HeaderVersion))
		require.Equal(w, string(e.Type), m.Headers().Get(outbox.HeaderType))
		require.Equal(w, w.cfg.Streams.EventSubject(events.Scope{Team: e.Team, Project: e.Project}, e.Kind, e.Type), m.Subject())
		all = append(all, e)
	}
	return all
}

// inOrder wants each job's events once, from the first on without a gap.
func inOrder(t *testing.T, told []outbox.EventMessage) {
	t.Helper()
	version := map[events.ID]int{}
	for _, e := range told {
		require.Equal(t, version[e.Job]+1, e.Version, e.Job)
		version[e.Job] = e.Version
	}
}

func TestFollowersAreToldInOrder(t *testing.T) {
	t.Parallel()
	for _, mode := range []outbox.Mode{outbox.Atomic, outbox.Async} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			each(t, func(w *world) {
				w.cfg.Mode = mode
				ids := w.enqueue(300, teamA)
				r, _ := w.relay(w.store)
				begun, _ := w.work(300)
				require.Len(w, begun, 300)
				w.until("all is told", func() bool { return r.State().Told >= 600 })
				told := w.told()
				inOrder(w.T, told)
				require.Equal(w, "a", told[0].Team)
				require.Equal(w, events.Queued, told[0].Type)
				require.Equal(w, events.StatusQueued, told[0].Status)
				require.Contains(w, ids, told[0].Job)
			})
		})
	}
}

// A relay dies after it told and before it forgot: the next one's batch has
// known ids and is refused whole.
func TestEventsToldTwiceAreDropped(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.enqueue(20, teamA)
	deaf := &deafFeed{Feed: w.store}
	deaf.deaf.Store(true)
	r := outbox.New(w.store, deaf, w.js, w.cfg)
	_, err := r.Once(t.Context())
	require.ErrorContains(t, err, "not forgotten")
	deaf.deaf.Store(false)
	w.enqueue(20, teamA)
	w.work(20)
	_, err = r.Once(t.Context())
	require.NoError(t, err)
	told := w.told()
	require.Len(t, told, 60)
	inOrder(t, told)
}

type deafFeed struct {
	outbox.Feed
	deaf atomic.Bool
}

func (d *deafFeed) Told(ctx context.Context, rows []int64) error {
	if d.deaf.Load() {
		return errors.New("not forgotten")
	}
	return d.Feed.Told(ctx, rows)
}

func TestADeletedEventsStreamIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.enqueue(1, teamA)
	r, _ := w.relay(w.store)
	w.until("it is told", func() bool { return r.State().Told == 1 })
	require.NoError(t, w.js.DeleteStream(t.Context(), w.cfg.Streams.EventsStream()))
	w.enqueue(1, teamA)
	w.until("the next is told", func() bool { return r.State().Told >= 2 })
	require.NotEmpty(t, w.told())
	w.until("all is well", func() bool { return r.State().Error == "" })
}

// One that the broker never takes must not hold up the others.
func TestAnEventTooLargeIsLeftOut(t *testing.T) {
	t.Parallel()
	w := memory(t)
	w.enqueue(3, teamA, func(s *events.Step) {
		if w.n == 2 {
			s.Event.Reason = string(make([]byte, 2*outbox.MaxEvent))
		}
	})
	r := outbox.New(w.store, w.store, w.js, w.cfg)
	w.once(r)
	require.Len(t, w.told(), 2)
	left, err := w.store.Fresh(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestParseEvent(t *testing.T) {
	t.Parallel()
	m, err := outbox.ParseEvent([]byte(`{"job":"note_1","version":2,"type":"invented","kind":"note","new":1,"at":"2026-01-02T03:04:05Z"}`))
	require.NoError(t, err, "what we do not know yet is no error")
	require.Equal(t, "note_1.2", m.MsgID())
	require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), m.At)
	for _, bad := range []string{
		"", "null", "[]", `{"job":"a.>","version":1,"type":"queued","kind":"k"}`,
		`{"job":"a","version":0,"type":"queued","kind":"k"}`, `{"job":"a","version":1,"type":"","kind":"k"}`,
		`{"job":"a","version":1,"type":"queued","kind":"k *"}`, string(make([]byte, outbox.MaxEvent+1)),
	} {
		_, err := outbox.ParseEvent([]byte(bad))
		require.Error(t, err, "%.40q", bad)
	}
}
