package outbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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
		some, err := outbox.ParseEvents(m.Data())
		require.NoError(w, err)
		h := m.Headers()
		if len(some) == 1 {
			require.Equal(w, some[0].MsgID(), h.Get(jetstream.MsgIDHeader))
			require.Equal(w, string(some[0].Job), h.Get(outbox.HeaderJob))
			require.Equal(w, strconv.Itoa(some[0].Version), h.Get(outbox.HeaderVersion))
			require.Empty(w, h.Get(outbox.HeaderEvents))
		} else {
			require.Equal(w, strconv.Itoa(len(some)), h.Get(outbox.HeaderEvents))
			require.Empty(w, h.Get(outbox.HeaderJob)+h.Get(outbox.HeaderVersion))
		}
		for _, e := range some {
			require.Equal(w, string(e.Type), h.Get(outbox.HeaderType))
			require.Equal(w, w.cfg.Streams.EventSubject(events.Scope{Team: e.Team, Project: e.Project}, e.Kind, e.Type), m.Subject())
		}
		all = append(all, some...)
	}
	return all
}

// queued is what EVENTS tells of jobs that were asked for, and in how many
// messages. The relay of a slow machine notes that they wait, which is told too.
func (w *world) queued() (told []outbox.EventMessage, messages int) {
	w.Helper()
	s, err := w.js.Stream(w.Context(), w.cfg.Streams.EventsStream())
	require.NoError(w, err)
	info, err := s.Info(w.Context(), jetstream.WithSubjectFilter(w.cfg.Streams.EventsOf(events.Queued)[0]))
	require.NoError(w, err)
	for _, n := range info.State.Subjects {
		messages += int(n)
	}
	for _, e := range w.told() {
		if e.Type == events.Queued {
			told = append(told, e)
		}
	}
	return told, messages
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

// The events of a row are one message, or as few as they fit in; one by itself
// is what it has always been.
func TestARowIsFewMessages(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		r := outbox.New(w.store, w.store, w.js, w.cfg)
		ids := w.enqueue(1, teamA, func(s *events.Step) { s.Event.Reason = "why" }) // without one Postgres tells it later
		w.once(r)
		stream, err := w.js.Stream(w.Context(), w.cfg.Streams.EventsStream())
		require.NoError(w, err)
		lone, err := stream.GetMsg(w.Context(), 1)
		require.NoError(w, err)
		_, history, err := w.store.Get(w.Context(), teamA, ids[0])
		require.NoError(w, err)
		e := history[0]
		body, err := json.Marshal(outbox.EventMessage{
			Job: e.Job, Version: e.Version, Type: e.Type, Status: e.Status, Attempt: e.Attempt, At: e.At.UTC(), NextAt: e.NextAt,
			Kind: kind, Team: teamA.Team, Project: teamA.Project, Reason: e.Reason, RequestID: e.RequestID, Process: e.Process,
		})
		require.NoError(w, err)
		require.Equal(w, string(body), string(lone.Data))
		require.Equal(w, nats.Header{
			jetstream.MsgIDHeader: {string(e.Job) + ".1"}, jetstream.ExpectedStreamHeader: {"EVENTS"},
			outbox.HeaderJob: {string(e.Job)}, outbox.HeaderVersion: {"1"}, outbox.HeaderType: {"queued"},
		}, lone.Header)

		for i, c := range []struct{ events, messages int }{{57, 1}, {256, 1}, {257, 2}, {600, 3}, {2, 1}} {
			told, messages := w.queued()
			w.enqueue(c.events, teamA)
			w.once(r)
			after, now := w.queued()
			require.Equal(w, messages+c.messages, now, "row %d", i)
			require.Len(w, after, len(told)+c.events)
		}
		inOrder(w.T, w.told())

		told, messages := w.queued()
		w.enqueue(20, teamA, func(s *events.Step) { s.Event.Reason = fmt.Sprint(w.n, strings.Repeat(" long", 1000)) })
		w.once(r)
		after, now := w.queued()
		require.Equal(w, messages+2, now, "it has to fit")
		require.Len(w, after, len(told)+20)
	})
}

// What the broker never takes must not hold up the others, whether it is an
// event or only a message of many.
func TestAnEventTooLargeIsLeftOut(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		w.enqueue(30, teamA, func(s *events.Step) {
			if w.n%10 == 2 {
				s.Event.Reason = string(bytes.Repeat([]byte{'x'}, 2*outbox.MaxEvent))
			}
		})
		r := outbox.New(w.store, w.store, w.js, w.cfg)
		w.once(r)
		told, _ := w.queued()
		require.Len(w, told, 27)
		left, err := w.store.Fresh(w.Context(), 10)
		require.NoError(w, err)
		require.Empty(w, left)

		stream, err := w.js.Stream(w.Context(), w.cfg.Streams.EventsStream())
		require.NoError(w, err)
		small := stream.CachedInfo().Config
		small.MaxMsgSize, small.Metadata["obs.schema"] = 1000, "99" // so ours leave it alone
		_, err = w.js.UpdateStream(w.Context(), small)
		require.NoError(w, err)
		w.enqueue(10, teamA)
		w.once(r)
		told, _ = w.queued()
		require.Len(w, told, 27+10)
		left, err = w.store.Fresh(w.Context(), 10)
		require.NoError(w, err)
		require.Empty(w, left)
	})
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

func TestParseEvents(t *testing.T) {
	t.Parallel()
	line := func(n int) string {
		return fmt.Sprintf(`{"job":"note_%d","version":2,"type":"queued","kind":"note"}`, n)
	}
	all, err := outbox.ParseEvents([]byte(line(1) + "\n" + line(2)))
	require.NoError(t, err)
	require.Len(t, all, 2)
	all, err = outbox.ParseEvents([]byte(line(1) + "\n{}\n" + line(3) + "\n"))
	require.Error(t, err)
	require.Len(t, all, 2)
	require.EqualValues(t, "note_3", all[1].Job)
}

// A line without a type says what differs from the event before it, and nothing
// where that was not read.
func TestParseEventsThatSayWhatDiffers(t *testing.T) {
	t.Parallel()
	whole := `{"job":"one","version":2,"type":"queued","status":"queued","attempt":1,"at":"2026-01-02T03:04:05Z","kind":"note","team":"a","project":"b","reason":"why"}`
	all, err := outbox.ParseEvents([]byte(whole + "\n" + `{"job":"two"}` + "\n" + `{"job":"three","version":5,"reason":"because"}` + "\n" + `{"job":"four"}`))
	require.NoError(t, err)
	require.Len(t, all, 4)
	two := all[0]
	two.Job = "two"
	require.Equal(t, two, all[1])
	three := two
	three.Job, three.Version, three.Reason = "three", 5, "because"
	require.Equal(t, three, all[2])
	three.Job = "four"
	require.Equal(t, three, all[3])
	for _, bad := range []string{`{"version":3}`, `{"job":"x.y"}`, `{"job":"x","version":-1}`, "what", ""} {
		all, err = outbox.ParseEvents([]byte(whole + "\n" + bad + "\n" + `{"job":"two"}` + "\n" + whole + "\n" + `{"job":"two"}`))
		require.Error(t, err)
		require.Len(t, all, 3, "what is behind %q is not guessed", bad)
		require.Equal(t, two, all[2])
	}
	_, err = outbox.ParseEvent([]byte(`{"job":"two"}`))
	require.Error(t, err)
}

// Whatever the events of a row have in common, what is read of a message is
// what a line for each that says all of it would tell.
func TestLinesSayAllTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "events")
		texts, numbers, times := []string{"", "a", "b c"}, []int32{0, 1, 2}, []time.Time{{}, time.UnixMicro(1_700_000_000_000_001).UTC(), time.UnixMicro(1).UTC()}
		row := events.FeedRow{Scope: teamA, Kind: kind, Event: events.Event{
			Type: events.Queued, Status: events.StatusQueued, Version: 1, Attempt: 1, At: times[1], RequestID: "r", Reason: "why", Process: rapid.SampledFrom(texts).Draw(t, "process"),
		}}
		for i := range n {
			row.Jobs = append(row.Jobs, events.ID(fmt.Sprint("job", i)))
		}
		row.Versions = some(t, n, numbers[1:])
		row.Attempts = some(t, n, numbers)
		row.Ats, row.NextAts = some(t, n, times), some(t, n, times)
		row.RequestIDs, row.Reasons = some(t, n, texts), some(t, n, texts)
		first := row.At(0)
		lines, whole := outbox.AppendEvent(nil, &first), outbox.AppendEvent(nil, &first)
		for i := 1; i < n; i++ {
			e := row.At(i)
			lines, whole = outbox.AppendNext(append(lines, '\n'), &row, i), outbox.AppendEvent(append(whole, '\n'), &e)
		}
		want, err := outbox.ParseEvents(whole)
		require.NoError(t, err)
		got, err := outbox.ParseEvents(lines)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.LessOrEqual(t, len(lines), len(whole))
	})
}

// some is a list of n of these values, or none.
func some[T any](t *rapid.T, n int, of []T) []T {
	if rapid.Bool().Draw(t, "the same") {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(of), n, n).Draw(t, "list")
}
