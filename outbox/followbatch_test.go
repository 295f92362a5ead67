package outbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

// hear follows until n jobs are heard to be asked for.
func (w *world) hear(scope events.Scope, after events.Cursor, n int) []events.Heard {
	w.Helper()
	var heard []events.Heard
	e := w.listen(scope, after)
	for len(heard) < n {
		h := e.next()
		require.False(w, h.Reset)
		if h.Event.Event.Type == events.Queued { // and not noted to wait, on a slow machine
			heard = append(heard, h)
		}
	}
	require.ErrorIs(w, e.stop(), context.Canceled)
	return heard
}

func jobsOf(heard []events.Heard) []events.ID {
	ids := []events.ID{}
	for _, h := range heard {
		ids = append(ids, h.Event.Event.Job)
	}
	return ids
}

// Every event of a message of 57 is a place to come back to, also when all of
// it was told again meanwhile, split in other ways.
func TestFollowGoesOnWithinAMessage(t *testing.T) {
	t.Parallel()
	w := memory(t).ensure()
	start := w.listen(teamA, events.Cursor{}).any().At
	r := outbox.New(w.store, w.store, w.js, w.cfg)
	want := []events.ID{}
	for _, n := range []int{1, 57, 1} {
		w.enqueue(2, teamB)
		want = append(want, w.enqueue(n, teamA)...)
		w.once(r)
	}
	_, messages := w.queued()
	require.Equal(t, 6, messages)
	all := w.hear(teamA, start, len(want))
	require.Equal(t, want, jobsOf(all))
	for i, h := range all {
		back, err := events.ParseCursor(h.At.String())
		require.NoError(t, err)
		require.Equal(t, h.At, back)
		require.True(t, h.From.Before(h.At))
		if i > 0 {
			require.True(t, all[i-1].At.Before(h.At))
			require.False(t, h.From.Before(all[i-1].At))
		}
	}
	comeBack := func() {
		t.Helper()
		for i, h := range all {
			require.Equal(t, want[i:i+1], jobsOf(w.hear(teamA, h.From, 1)))
			require.Equal(t, want[i+1:], jobsOf(w.hear(teamA, h.At, len(want)-i-1)))
		}
	}
	comeBack()

	stream, err := w.js.Stream(t.Context(), w.cfg.Streams.EventsStream())
	require.NoError(t, err)
	m, err := stream.GetMsg(t.Context(), all[1].At.Seq+1)
	require.NoError(t, err)
	lines := whole(t, m.Data)
	require.Len(t, lines, 57)
	for _, size := range []int{57, 20, 1, 56} {
		for some := range slices.Chunk(lines, size) {
			_, err := w.js.Publish(t.Context(), m.Subject, bytes.Join(some, []byte("\n")), jetstream.WithMsgID(nats.NewInbox()))
			require.NoError(t, err)
		}
	}
	w.tell(teamA, "last", 1, teamA)
	want = append(want, "last")
	comeBack()

	// Other tenants go on from there too, and then from the end of the stream.
	teamC := events.Scope{Team: "c", Project: "pc"}
	require.NotZero(t, all[20].At.Part)
	last, err := stream.Info(t.Context())
	require.NoError(t, err)
	other, quiet := w.listen(teamB, all[20].At), w.listen(teamC, all[20].At)
	other.next() // what was for it
	for _, e := range []*ear{other, quiet} {
		for e.any().At.Seq < last.State.LastSeq { // what is not
		}
	}
	forC, forB := w.enqueue(3, teamC), w.enqueue(3, teamB)
	w.once(r)
	other.expect(forB...)
	quiet.expect(forC...)
}

// Whatever is told, told again, told again in another split, and wherever a
// follower is cut off: it hears each event once, and those of a job in order.
func TestFollowHearsEachEventOnce(t *testing.T) {
	t.Parallel()
	js, err := jetstream.New(testenv.NATS(t))
	require.NoError(t, err)
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		s := newStory(t, js, fmt.Sprint("run", runs))
		defer s.forget()
		for range rapid.IntRange(2, 12).Draw(t, "acts") {
			switch rapid.IntRange(0, 6).Draw(t, "act") {
			case 0, 1:
				s.enqueue(rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(50, 150)).Draw(t, "jobs"))
			case 2:
				s.work(rapid.IntRange(1, 100).Draw(t, "begun"))
			case 3:
				s.relay(false)
			case 4:
				s.relay(true)
			case 5:
				s.again(rapid.IntRange(1, 32).Draw(t, "messages"))
			case 6:
				s.follow(rapid.IntRange(1, 100).Draw(t, "heard"))
			}
		}
		s.end()
	})
}

// story is a store, its relay and two tenants' followers.
type story struct {
	t      *rapid.T
	js     jetstream.JetStream
	cfg    outbox.Config
	mem    *eventstest.Memory
	feed   *deafFeed
	jobs   int
	sentry int
	at     map[events.Scope]events.Cursor
	heard  map[events.Scope]map[events.ID]int
}

func newStory(t *rapid.T, js jetstream.JetStream, prefix string) *story {
	mem := eventstest.NewMemory()
	s := &story{
		t: t, js: js, mem: mem, feed: &deafFeed{Feed: mem},
		at: map[events.Scope]events.Cursor{}, heard: map[events.Scope]map[events.ID]int{teamA: {}, teamB: {}},
		cfg: outbox.Config{Streams: outbox.Streams{Prefix: prefix, Kinds: []events.Kind{kind}, Storage: jetstream.MemoryStorage}},
	}
	require.NoError(t, outbox.Ensure(t.Context(), js, s.cfg.Streams))
	for scope := range s.heard {
		s.at[scope] = events.CursorAt(s.stream().CachedInfo().Created, 0)
	}
	return s
}

func (s *story) forget() {
	_ = s.js.DeleteStream(s.t.Context(), s.cfg.Streams.EventsStream())
	_ = s.js.DeleteStream(s.t.Context(), s.cfg.Streams.JobsStream())
}

func (s *story) stream() jetstream.Stream {
	stream, err := s.js.Stream(s.t.Context(), s.cfg.Streams.EventsStream())
	require.NoError(s.t, err)
	return stream
}

func (s *story) enqueue(n int) {
	steps := make([]events.Step, n)
	for i := range steps {
		s.jobs++
		scope := []events.Scope{teamA, teamB}[rapid.IntRange(0, 1).Draw(s.t, "tenant")]
		id := events.NewID(kind, fmt.Sprint(s.jobs))
		var err error
		steps[i], err = events.New(events.Job{ID: id, Kind: kind, Scope: scope, SourceType: "test", SourceID: string(id), Args: []byte("{}")}, events.Event{Actor: "test"})
		require.NoError(s.t, err)
	}
	_, err := s.mem.Enqueue(s.t.Context(), steps...)
	require.NoError(s.t, err)
}

// work begins some jobs, completes half of them and gives up the other half.
func (s *story) work(n int) {
	asks, err := s.mem.Asks(s.t.Context(), events.AskQuery{Limit: n})
	require.NoError(s.t, err)
	es := make([]events.Envelope, len(asks))
	for i, a := range asks {
		es[i] = a.Envelope
	}
	require.NoError(s.t, s.mem.Seen(s.t.Context(), worker))
	claims, err := s.mem.Begin(s.t.Context(), worker, es)
	require.NoError(s.t, err)
	steps := make([]events.Step, len(claims))
	for i, c := range claims {
		require.NoError(s.t, c.Err)
		steps[i] = events.Step{Job: c.Job, Event: events.Event{Type: []events.Type{events.Completed, events.RetryScheduled}[i%2], Actor: "worker", Process: worker.ID}}
	}
	_, err = s.mem.Move(s.t.Context(), steps)
	require.NoError(s.t, err)
}

// relay tells what is in the feed, and may die before it is noted.
func (s *story) relay(dies bool) {
	s.feed.deaf.Store(dies)
	_, err := outbox.New(s.mem, s.feed, s.js, s.cfg).Once(s.t.Context())
	if !dies {
		require.NoError(s.t, err)
	}
}

// whole is the events of a message as a relay of before wrote them: each says all.
func whole(t require.TestingT, body []byte) [][]byte {
	all, err := outbox.ParseEvents(body)
	require.NoError(t, err)
	lines := make([][]byte, len(all))
	for i, m := range all {
		lines[i], err = json.Marshal(m)
		require.NoError(t, err)
	}
	return lines
}

// again tells the last messages once more, each split anew, under other ids:
// as a relay of another make would, after the stream has forgotten the ids.
func (s *story) again(n int) {
	stream := s.stream()
	last := stream.CachedInfo().State.LastSeq
	for seq := max(last, uint64(n)) - uint64(n) + 1; seq <= last; seq++ {
		m, err := stream.GetMsg(s.t.Context(), seq)
		require.NoError(s.t, err)
		lines := whole(s.t, m.Data)
		for some := range slices.Chunk(lines, rapid.IntRange(len(lines)/3+1, len(lines)).Draw(s.t, "size")) {
			_, err := s.js.Publish(s.t.Context(), m.Subject, bytes.Join(some, []byte("\n")), jetstream.WithMsgID(nats.NewInbox()))
			require.NoError(s.t, err)
		}
	}
}

// follow hears at most n events of each tenant, and is cut off.
func (s *story) follow(n int) {
	for scope := range s.heard {
		s.sentry++ // what comes last, so that it ends if there are fewer
		sentry := events.ID(fmt.Sprint("sentry", s.sentry))
		body := fmt.Appendf(nil, `{"job":%q,"version":1,"type":"queued","kind":%q,"team":%q,"project":%q}`, sentry, kind, scope.Team, scope.Project)
		_, err := s.js.Publish(s.t.Context(), s.cfg.Streams.EventSubject(scope, kind, events.Queued), body)
		require.NoError(s.t, err)
		left := n
		ctx, cancel := context.WithTimeout(s.t.Context(), soon)
		err = outbox.Follow(ctx, s.js, outbox.Following{Streams: s.cfg.Streams, Scope: scope, After: s.at[scope], Beat: often}, func(h events.Heard) error {
			require.False(s.t, h.Reset)
			if h.Event == nil {
				s.at[scope] = h.At
				return nil
			}
			if left == 0 {
				return errEnough // it is not taken, so it comes again
			}
			e := h.Event.Event
			require.Equal(s.t, scope, h.Event.Scope)
			require.False(s.t, h.From.Before(s.at[scope]))
			require.Equal(s.t, s.heard[scope][e.Job]+1, e.Version, "%s at %s, behind %s", e.Job, h.At, s.at[scope])
			s.heard[scope][e.Job] = e.Version
			s.at[scope] = h.At
			left--
			if e.Job == sentry {
				return errEnough
			}
			return nil
		})
		cancel()
		require.ErrorIs(s.t, err, errEnough)
	}
}

// end tells all that is left, hears it, and compares.
func (s *story) end() {
	s.relay(false)
	s.follow(1_000_000)
	total := 0
	for scope, heard := range s.heard {
		for id, versions := range heard {
			if _, history, err := s.mem.Get(s.t.Context(), scope, id); err == nil {
				require.Len(s.t, history, versions)
				total++
			}
		}
	}
	require.Equal(s.t, s.jobs, total)
}
