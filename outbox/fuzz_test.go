package outbox_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

var plainSubject = regexp.MustCompile(`^ev(\.~?[A-Za-z0-9_-]{1,64}){4}$`)

// What a ring names is a few envelopes that could be on the stream, or nothing.
func FuzzNamesIn(f *testing.F) {
	one := string(first(teamA, "one").Marshal())
	f.Add(one)
	f.Add(one + "\n" + one)
	f.Add(one + "\n")
	f.Add(strings.Repeat(one+"\n", outbox.MostNamed) + one)
	f.Add("{}")
	f.Fuzz(func(t *testing.T, lines string) {
		asks, all := outbox.NamesIn(lines)
		if !all {
			require.Empty(t, asks)
			return
		}
		require.NotEmpty(t, asks)
		require.LessOrEqual(t, len(asks), outbox.MostNamed)
		said := make([]string, len(asks))
		for i, e := range asks {
			said[i] = string(e.Marshal())
		}
		again, all := outbox.NamesIn(strings.Join(said, "\n"))
		require.True(t, all)
		require.Equal(t, asks, again)
	})
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"job":"note_1","version":2,"type":"queued","kind":"note","team":"a","project":"b"}`))
	f.Add([]byte(`{"job":"a.>","version":1}`))
	f.Add([]byte(`{"job":"x","version":1,"type":"t","kind":"k","team":"a.>","at":"0000-00-00"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := outbox.ParseEvent(b)
		if err != nil {
			return
		}
		s := outbox.Streams{}.EventSubject(events.Scope{Team: m.Team, Project: m.Project}, m.Kind, m.Type)
		require.Regexp(t, plainSubject, s)
		again, err := json.Marshal(m)
		if err != nil {
			return // a time with a zone that JSON cannot say
		}
		if len(again) > outbox.MaxEvent {
			return
		}
		back, err := outbox.ParseEvent(again)
		require.NoError(t, err)
		require.Equal(t, m.MsgID(), back.MsgID())
	})
}

// What the relay writes is what encoding/json writes, in one line.
func FuzzEventLine(f *testing.F) {
	f.Add("note_1", 2, "queued", "queued", 0, int64(1_700_000_000_000_001), int64(0), "note", "a", "pa", "", "", "")
	f.Add("", -1, "<&>", "\"\\", 1, int64(-1), int64(1), "\n\t\x00\x7f", "é\u2028", "\xff\xfe", "why", "r-1", "host:1")
	f.Fuzz(func(t *testing.T, job string, version int, typ, status string, attempt int, at, next int64, kind, team, project, reason, request, process string) {
		e := events.FeedEvent{
			Scope: events.Scope{Team: team, Project: project}, Kind: events.Kind(kind),
			Event: events.Event{
				Job: events.ID(job), Version: version, Type: events.Type(typ), Status: events.Status(status), Attempt: attempt,
				At: time.UnixMicro(at).UTC(), Reason: reason, RequestID: request, Process: process,
			},
		}
		if next != 0 {
			e.Event.NextAt = time.UnixMicro(next).UTC()
		}
		got := outbox.AppendEvent([]byte("before"), &e)
		want, err := json.Marshal(outbox.EventMessage{
			Job: e.Event.Job, Version: version, Type: e.Event.Type, Status: e.Event.Status, Attempt: attempt, At: e.Event.At, NextAt: e.Event.NextAt,
			Kind: e.Kind, Team: team, Project: project, Reason: reason, RequestID: request, Process: process,
		})
		if err != nil { // a year that JSON cannot say
			require.True(t, json.Valid(got[6:]), "%s", got)
			return
		}
		require.Equal(t, "before"+string(want), string(got))
		require.NotContains(t, string(got), "\n")
	})
}
