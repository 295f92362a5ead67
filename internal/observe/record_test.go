package observe_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func TestRecordOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.event(1)
	e.PlatformSource, e.HasPlatform = new("Claude Code"), true
	e.SourceEventID = new("toolu_1")
	e.Metadata = json.RawMessage(`{"a":1}`)
	got, err := w.Record(t.Context(), w.me, []observe.NewEvent{e}, observe.RecordOptions{Generate: true})
	require.NoError(t, err)
	r := got[0]
	require.True(t, r.Created)
	require.Equal(t, w.team, r.Event.TeamID)
	require.Equal(t, w.project, r.Event.ProjectID)
	require.Equal(t, "hook", r.Event.SourceAdapter)
	require.Equal(t, "claude", *r.Event.PlatformSource)
	require.Equal(t, "toolu_1", *r.Event.SourceEventID)
	require.JSONEq(t, string(e.Payload), string(r.Event.Payload))
	require.JSONEq(t, `{"a":1}`, string(r.Event.Metadata))
	require.Equal(t, e.OccurredAtEpoch, r.Event.OccurredAt.UnixMilli())
	require.WithinDuration(t, time.Now(), r.Event.ReceivedAt, time.Minute)
	require.Equal(t, observe.KindEvent, r.Job.Kind)
	require.Equal(t, events.StatusQueued, r.Job.Status)
	require.Equal(t, r.Event.ID, r.Job.SourceID)
	require.Equal(t, events.NewIDAtMilli(observe.KindEvent, r.Event.ReceivedAt, w.team, w.project, observe.SourceEvent, r.Event.ID), r.Job.ID)
	require.Equal(t, "req-1", r.Job.RequestID)
	require.Equal(t, 1, w.audited(t, "event.received"))
	require.EqualValues(t, 1, w.rings.Load())

	read, err := w.Event(t.Context(), w.me, r.Event.ID)
	require.NoError(t, err)
	require.Equal(t, r.Event, read)
	w.check(t)
}

func TestRecordWithoutGenerating(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := []observe.NewEvent{w.event(1)}
	got, err := w.Record(t.Context(), w.me, e, observe.RecordOptions{})
	require.NoError(t, err)
	require.Nil(t, got[0].Job)
	require.Zero(t, w.count(t, "observation_generation_jobs"))
	require.Zero(t, w.rings.Load())

	got = w.record(t, e...)
	require.False(t, got[0].Created)
	require.NotNil(t, got[0].Job, "asked for later, it is made later")
}

func TestRecordAgainChangesNothingButMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.record(t, w.event(1), w.event(2))
	again := w.record(t, w.event(2), w.event(3), w.event(1))
	require.Equal(t, first[1].Event, again[0].Event)
	require.Equal(t, first[0].Event, again[2].Event)
	require.JSONEq(t, string(first[0].Job.Args), string(again[2].Job.Args))
	first[0].Job.Args = again[2].Job.Args // as Postgres prints it
	require.Equal(t, first[0].Job, again[2].Job)
	require.Equal(t, []bool{false, true, false}, []bool{again[0].Created, again[1].Created, again[2].Created})
	require.Equal(t, 3, w.count(t, "agent_events"))
	require.Equal(t, 3, w.count(t, "observation_generation_jobs"))
	require.Equal(t, 3, w.count(t, "outbox"))

	e := w.event(1)
	e.Metadata = json.RawMessage(`{"b":2}`)
	got := w.record(t, e)
	require.JSONEq(t, `{"b":2}`, string(got[0].Event.Metadata))
	e.Metadata = json.RawMessage(`{"c":3}`)
	got = w.record(t, e)
	require.JSONEq(t, `{"b":2,"c":3}`, string(got[0].Event.Metadata))
	w.check(t)
}

// What was stored when a name was nothing but a hash is known again by it,
// whether its name would be another one today or not.
func TestAnEventKeepsTheNameThatItHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	evs := []observe.NewEvent{w.event(1), w.event(2), w.event(3), w.event(4)}
	evs[1].SourceEventID, evs[2].SourceEventID = new("session/toolu_1"), new("toolu_1")
	first, err := w.Record(t.Context(), w.me, evs, observe.RecordOptions{Batch: true})
	require.NoError(t, err)
	var old []string
	for _, r := range first[:3] {
		var key string
		require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT idempotency_key FROM agent_events WHERE id = $1", r.Event.ID).Scan(&key))
		name := string(events.NewID("ae", w.team, w.project, key))
		old = append(old, name)
		w.exec(t, "UPDATE agent_events SET id = '"+name+"' WHERE id = '"+r.Event.ID+"'")
	}
	require.NotEqual(t, first[0].Event.ID, old[0])
	require.NotEqual(t, first[1].Event.ID, old[1])
	require.Equal(t, first[2].Event.ID, old[2])
	w.exec(t, "INSERT INTO hashed_events SELECT max(occurred_at) FROM agent_events WHERE source_event_id IS NULL AND id = '"+old[0]+"'")

	later := newWorldOn(t, w.pool)
	later.team, later.project, later.me = w.team, w.project, w.me
	evs[1].OccurredAtEpoch += 1e9 // sent again by who takes the time anew
	again := later.record(t, append(evs, w.event(5))...)
	for i, r := range again {
		require.Equal(t, i == 4, r.Created, i)
		require.NotNil(t, r.Job)
	}
	for i, name := range old {
		require.Equal(t, name, again[i].Event.ID)
	}
	require.Equal(t, first[3].Event.ID, again[3].Event.ID)
	require.Equal(t, 5, w.count(t, "agent_events"))
	for i, r := range later.record(t, evs...) {
		require.False(t, r.Created)
		require.Equal(t, again[i].Event, r.Event)
		require.Equal(t, again[i].Job.ID, r.Job.ID)
	}
	require.Equal(t, 5, w.count(t, "agent_events"))
	require.Equal(t, 5, w.count(t, "observation_generation_jobs"))
	w.check(t)
}

// What has an order in an event's identity is in front of its name: the events
// of a time, and those of a session, are neighbours in the indexes.
func TestNamesOfEventsAreInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := func(n int, source *string) string {
		e := w.event(n)
		e.SourceEventID = source
		return w.record(t, e)[0].Event.ID
	}
	require.Less(t, name(1, nil), name(2, nil))
	require.Less(t, name(2, nil), name(100_000_000, nil))
	const front = len("ae_") + 7
	require.Equal(t, name(1, new("a/toolu_1"))[:front], name(9, new("a/toolu_2"))[:front])
	require.NotEqual(t, name(1, new("a/toolu_1")), name(1, new("a/toolu_2")))
	require.NotEqual(t, name(1, new("a/toolu_1"))[:front], name(1, new("b/toolu_1"))[:front])
	require.NotEqual(t, name(1, new("a/b/toolu_1"))[:front], name(1, new("a/toolu_1"))[:front])
	require.NotEqual(t, name(1, new("/toolu_1")), name(1, new("toolu_1")))
	require.Equal(t, name(1, new("a/toolu_1")), name(2, new("a/toolu_1")), "whatever the time")
	w.check(t)
}

func TestTheSameEventTwiceInOneRequestIsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.record(t, w.event(1), w.event(2), w.event(1))
	require.Equal(t, got[0], got[2])
	require.NotEqual(t, got[0].Event.ID, got[1].Event.ID)
	require.Equal(t, 2, w.count(t, "agent_events"))
	require.Equal(t, 2, w.count(t, "observation_generation_jobs"))
}

func TestConcurrentCopiesMakeOneEventAndOneJob(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*observe.Config){"each": debounce(0), "burst": debounce(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, change)
			session := w.session(t, "s")
			var evs, back []observe.NewEvent
			for i := range 20 {
				e := w.event(i)
				e.ServerSessionID = &session.ID
				evs = append(evs, e)
				back = append([]observe.NewEvent{e}, back...)
			}
			var wg sync.WaitGroup
			answers := make([][]observe.Recorded, 8)
			failed := make([]error, len(answers))
			for i := range answers {
				wg.Go(func() {
					mine := evs
					if i%2 == 1 {
						mine = back
					}
					answers[i], failed[i] = w.Record(t.Context(), w.me, mine, observe.RecordOptions{Generate: true, Batch: true})
				})
			}
			wg.Wait()
			ids := map[string]events.ID{}
			for i := range answers {
				require.NoError(t, failed[i])
				for _, r := range answers[i] {
					if ids[r.Event.ID] == "" {
						ids[r.Event.ID] = r.Job.ID
					}
					require.Equal(t, ids[r.Event.ID], r.Job.ID, "everybody is told of the same job")
				}
			}
			require.Equal(t, 20, w.count(t, "agent_events"))
			want := 20
			if name == "burst" {
				want = 1
			}
			require.Equal(t, want, w.count(t, "observation_generation_jobs"))
			w.check(t)
		})
	}
}

func TestABatchOfFiveHundred(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	evs := make([]observe.NewEvent, observe.MaxBatch)
	for i := range evs {
		evs[i] = w.event(i)
	}
	got := w.record(t, evs...)
	for i, r := range got {
		require.Equal(t, evs[i].OccurredAtEpoch, r.Event.OccurredAt.UnixMilli(), "in the order of the request")
	}
	require.Equal(t, 500, w.count(t, "agent_events"))
	require.Equal(t, 1, w.audited(t, "event.batch_received"))
	w.check(t)
}

func TestABadEventChangesNoRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deep := json.RawMessage(strings.Repeat("[", 1001) + strings.Repeat("]", 1001))
	_, other := w.tenant(t, "other")
	for name, bad := range map[string]struct {
		change func(*observe.NewEvent)
		field  string
		code   string
	}{
		"no project":      {func(e *observe.NewEvent) { e.ProjectID = "" }, "projectId", observe.CodeTooSmall},
		"no type":         {func(e *observe.NewEvent) { e.EventType = "" }, "eventType", observe.CodeTooSmall},
		"long type":       {func(e *observe.NewEvent) { e.EventType = strings.Repeat("x", 501) }, "eventType", observe.CodeTooBig},
		"source":          {func(e *observe.NewEvent) { e.SourceType = "alien" }, "sourceType", observe.CodeValue},
		"before 1970":     {func(e *observe.NewEvent) { e.OccurredAtEpoch = -1 }, "occurredAtEpoch", observe.CodeTooSmall},
		"after all dates": {func(e *observe.NewEvent) { e.OccurredAtEpoch = 8_640_000_000_000_001 }, "occurredAtEpoch", observe.CodeTooBig},
		"deep payload":    {func(e *observe.NewEvent) { e.Payload = deep }, "payload", observe.CodeCustom},
		"broken payload":  {func(e *observe.NewEvent) { e.Payload = json.RawMessage(`{"a":`) }, "payload", observe.CodeCustom},
		"metadata":        {func(e *observe.NewEvent) { e.Metadata = json.RawMessage(`[1]`) }, "metadata", observe.CodeType},
		"empty event id":  {func(e *observe.NewEvent) { e.SourceEventID = new("") }, "sourceEventId", observe.CodeTooSmall},
		"long session":    {func(e *observe.NewEvent) { e.ContentSessionID = new(strings.Repeat("x", 501)) }, "contentSessionId", observe.CodeTooBig},
	} {
		t.Run(name, func(t *testing.T) { // not parallel: they look at all rows of one database
			evs := []observe.NewEvent{w.event(1), w.event(2), w.event(3)}
			bad.change(&evs[1])
			w.same(t, func() {
				_, err := w.Record(t.Context(), w.me, evs, observe.RecordOptions{Generate: true, Batch: true})
				require.ErrorIs(t, err, observe.ErrInvalid)
				issue := as[*observe.Invalid](t, err).Issues[0]
				require.Equal(t, []any{1, bad.field}, issue.Path)
				require.Equal(t, bad.code, issue.Code)

				_, err = w.Record(t.Context(), w.me, evs[1:2], observe.RecordOptions{Generate: true})
				require.Equal(t, []any{bad.field}, as[*observe.Invalid](t, err).Issues[0].Path)
			})
		})
	}
	for name, change := range map[string]func(*observe.NewEvent){
		"foreign project": func(e *observe.NewEvent) { e.ProjectID = other },
		"unknown project": func(e *observe.NewEvent) { e.ProjectID = "nope" },
		"unknown session": func(e *observe.NewEvent) { e.ServerSessionID = new("nope") },
	} {
		t.Run(name, func(t *testing.T) {
			evs := []observe.NewEvent{w.event(1), w.event(2), w.event(3)}
			change(&evs[2])
			w.same(t, func() {
				_, err := w.Record(t.Context(), w.me, evs, observe.RecordOptions{Generate: true, Batch: true})
				require.ErrorIs(t, err, observe.ErrForbidden)
			})
		})
	}
	w.same(t, func() {
		_, err := w.Record(t.Context(), w.me, nil, observe.RecordOptions{Batch: true})
		require.ErrorIs(t, err, observe.ErrInvalid)
		_, err = w.Record(t.Context(), w.me, make([]observe.NewEvent, 501), observe.RecordOptions{Batch: true})
		require.Equal(t, observe.CodeTooBig, as[*observe.Invalid](t, err).Issues[0].Code)
	})
	require.Zero(t, w.rings.Load())
}

// What Postgres cannot store is stored as near as it can be, and the identity
// is still that of what was sent.
func TestWhatPostgresRefusesIsNotLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nul, half, replaced := w.event(1), w.event(1), w.event(1)
	nul.Payload = json.RawMessage(`{"a\u0000":"x\u0000y","n":1e400,"m":1e-99999}`)
	half.Payload = json.RawMessage(`{"a":"\ud800"}`)
	replaced.Payload = json.RawMessage(`{"a":"` + "\uFFFD" + `"}`)
	odd := w.event(2)
	odd.EventType, odd.SourceEventID = "tool\x00use\xff", new("id\x00")
	odd.ContentSessionID, odd.PlatformSource, odd.HasPlatform = new("c\x00"), new("p\x00"), true
	odd.OccurredAtEpoch = 8_640_000_000_000_000
	got := w.record(t, nul, half, replaced, odd)
	require.JSONEq(t, `{"a`+"\uFFFD"+`":"x`+"\uFFFD"+`y","n":null,"m":0}`, string(got[0].Event.Payload))
	require.JSONEq(t, `{"a":"`+"\uFFFD"+`"}`, string(got[1].Event.Payload))
	require.NotEqual(t, got[1].Event.ID, got[2].Event.ID, "sent differently, they are different events")
	require.Equal(t, "tool\uFFFDuse\uFFFD", got[3].Event.EventType)
	require.EqualValues(t, 8_640_000_000_000_000, got[3].Event.OccurredAt.UnixMilli())
	require.Equal(t, 4, w.doAll(t))

	for _, payload := range []string{`null`, ``, `"text"`, `[]`, `7`, `true`, `{"a":1,"a":2,"__proto__":{}}`} {
		e := w.event(3)
		e.Payload = json.RawMessage(payload)
		w.record(t, e)
	}
}

func TestSessionsAreFoundByContentID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	start := func(external, content string, platform *string) observe.Session {
		s, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{
			ProjectID: w.project, ExternalSessionID: &external, ContentSessionID: &content, PlatformSource: platform,
		})
		require.NoError(t, err)
		return s
	}
	bare := start("1", "c", nil)
	claude := start("2", "c", new("claude"))
	newest := start("3", "c", new("cursor"))
	at := 10
	send := func(change func(*observe.NewEvent)) *string {
		at++
		e := w.event(at)
		change(&e)
		return w.record(t, e)[0].Event.ServerSessionID
	}
	require.Equal(t, newest.ID, *send(func(e *observe.NewEvent) { e.ContentSessionID = new("c") }))
	require.Equal(t, claude.ID, *send(func(e *observe.NewEvent) {
		e.ContentSessionID, e.PlatformSource, e.HasPlatform = new("c"), new("Claude Code"), true
	}))
	require.Equal(t, bare.ID, *send(func(e *observe.NewEvent) { e.ContentSessionID, e.HasPlatform = new("c"), true }))
	require.Nil(t, send(func(e *observe.NewEvent) {
		e.ContentSessionID, e.PlatformSource, e.HasPlatform = new("c"), new("codex"), true
	}))
	require.Nil(t, send(func(e *observe.NewEvent) { e.ContentSessionID = new("unknown") }))
	require.Nil(t, send(func(*observe.NewEvent) {}))
	require.Equal(t, bare.ID, *send(func(e *observe.NewEvent) {
		e.ServerSessionID, e.ContentSessionID = &bare.ID, new("c")
	}), "our own id goes first")
}

func TestATeamsKeyRecordsIntoSeveralProjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second, err := w.CreateProject(t.Context(), w.team, "second")
	require.NoError(t, err)
	team := w.caller(t, w.team, "", observe.ScopeWrite)
	a, b := w.event(1), w.event(1)
	b.ProjectID = second
	got, err := w.Record(t.Context(), team, []observe.NewEvent{a, b}, observe.RecordOptions{Generate: true, Batch: true})
	require.NoError(t, err)
	require.Equal(t, w.project, got[0].Event.ProjectID)
	require.Equal(t, second, got[1].Event.ProjectID)
	require.NotEqual(t, got[0].Event.ID, got[1].Event.ID)

	w.same(t, func() {
		_, err = w.Record(t.Context(), w.me, []observe.NewEvent{a, b}, observe.RecordOptions{Generate: true, Batch: true})
		require.ErrorIs(t, err, observe.ErrForbidden)
		require.Equal(t, "API key is scoped to a different project", as[*observe.Problem](t, err).Message)
	})
	w.check(t)
}

// A job from before names had a time in them, or had the second alone, is found
// again, by the one event and within a burst.
func TestOldNamesOfJobsAreKnown(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"per-event", "debounce"} {
		for _, timed := range []bool{false, true} {
			t.Run(fmt.Sprint(policy, " timed ", timed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				in := w.event(1)
				in.ServerSessionID = new(w.session(t, "s").ID)
				r := w.record(t, in)[0]
				var at time.Time
				if timed {
					at = r.Event.ReceivedAt
				}
				old := w.nameAsBefore(t, r, at)
				require.NotEqual(t, r.Job.ID, old)
				require.NoError(t, w.SetPolicy(t.Context(), w.me, w.project, observe.Policy{Name: policy}))
				again := w.record(t, in, w.event(2))
				require.Equal(t, old, again[0].Job.ID)
				require.False(t, again[0].Created)
				require.Equal(t, 2, w.count(t, "observation_generation_jobs"))
				w.do(t, old)
				w.check(t)
			})
		}
	}
}

// nameAsBefore gives an event's job the name that it would have had once, by
// the second or by no time.
func (w *world) nameAsBefore(t *testing.T, r observe.Recorded, at time.Time) events.ID {
	t.Helper()
	old := events.NewIDAt(observe.KindEvent, at, r.Event.TeamID, r.Event.ProjectID, observe.SourceEvent, r.Event.ID)
	_, err := w.pool.Exec(t.Context(), `ALTER TABLE observation_generation_job_events DISABLE TRIGGER ALL`)
	require.NoError(t, err)
	for _, sql := range []string{
		`UPDATE observation_generation_job_events SET job_id = $1 WHERE job_id = $2`,
		`UPDATE observation_generation_jobs SET id = $1 WHERE id = $2`,
		`UPDATE outbox SET job_id = $1 WHERE job_id = $2`,
	} {
		_, err := w.pool.Exec(t.Context(), sql, old, r.Job.ID)
		require.NoError(t, err)
	}
	return old
}
