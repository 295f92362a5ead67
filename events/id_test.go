package events_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
)

// Names are on the wire, in other people's databases and in a stream's
// memory: these never change.
func TestNewIDGolden(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind  events.Kind
		parts []string
		want  events.ID
	}{
		{"event", nil, "event_h6le1pujbk0ba6uur5cvjrmdmm0rracv"},
		{"event", []string{""}, "event_n4rtauh5cc19jinknrbqhurj4j61gp7n"},
		{"event", []string{"team", "project", "42"}, "event_bfb01b96hcih8cv720vomc19h78g2r6h"},
		{"summary", []string{"team", "project", "42"}, "summary_1r5vocmijlgftnm08dfhk8s6ksd7s892"},
		{"event", []string{"team", "project42"}, "event_ftufvtdg6pf1itmqvehgvqtodhiajhg4"},
		{"event", []string{"ünï", "日本", "\x00"}, "event_pvokqfrvhhvqm1fvs4ob9jn5a4f72j0t"},
		{"a.b>", []string{"x"}, "k081crlhkq7onb6k0dmk47tfd_5p6db5e6g76rbl79q44pl49jblsbrsmk"},
	} {
		require.Equal(t, tt.want, events.NewID(tt.kind, tt.parts...))
	}
}

func TestMsgIDGolden(t *testing.T) {
	t.Parallel()
	e := events.Envelope{Job: "event_0", Kind: "event", Asked: 1, Scope: events.Scope{Team: "t", Project: "p"}}
	require.Equal(t, "WEIJj1XyLrBn7rGtFAY5UQ", e.MsgID())
	e.Asked = 2
	require.Equal(t, "5bB2sOm4Fsk0l-arsO8m9A", e.MsgID())
	e.Job, e.Asked = "event_01", 1
	require.Equal(t, "OLiEQgVBIv5rJ9QIPziUWg", e.MsgID())
}

// Whatever the kind, the name is one that New takes.
func TestNewIDOfAnyKindIsAnID(t *testing.T) {
	t.Parallel()
	for _, kind := range []events.Kind{"", "a.b>", events.Kind(strings.Repeat("k", 31)), events.Kind(strings.Repeat("k", 32)), "\x00 *"} {
		id := events.NewID(kind, "x")
		_, err := events.New(events.Job{ID: id, Kind: "k", Scope: events.Scope{Team: "t", Project: "p"}}, events.Event{})
		require.NoError(t, err, "%q", kind)
	}
}

// Parts that hold separators, are empty, or are cut elsewhere are other work.
func TestNewIDCannotBeInjected(t *testing.T) {
	t.Parallel()
	seen := map[events.ID][]string{}
	for _, parts := range [][]string{
		{},
		{""},
		{"", ""},
		{"a"},
		{"a", ""},
		{"", "a"},
		{"ab"},
		{"a", "b"},
		{"a:b"},
		{"a", ":b"},
		{"a:", "b"},
		{"a\x00b"},
		{"a\x00", "b"},
		{"a", "\x00b"},
		{"a/b"},
		{"a", "/", "b"},
		{"\x00\x00\x00\x00\x00\x00\x00\x01a"},
		{"a\x00\x00\x00\x00\x00\x00\x00\x01b"},
		{"A"},
		{" a"},
		{"a "},
		{"a,b"},
		{`["a","b"]`},
	} {
		id := events.NewID("k", parts...)
		require.NotContains(t, seen, id, "%q and %q", parts, seen[id])
		seen[id] = parts
		require.NotEqual(t, id, events.NewID("l", parts...), "the kind is part of the name")
	}
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_~-]{1,100}$`)

func TestNewIDProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.String(), 0, 5).Draw(t, "parts")
		other := rapid.SliceOfN(rapid.String(), 0, 5).Draw(t, "other")
		kind := events.Kind(rapid.StringMatching(`[a-z]{1,20}`).Draw(t, "kind"))
		id := events.NewID(kind, parts...)
		require.Equal(t, id, events.NewID(kind, parts...))
		require.Regexp(t, `^`+string(kind)+`_[0-9a-v]{32}$`, string(id))
		_, err := events.New(events.Job{ID: id, Kind: kind, Scope: events.Scope{Team: "t", Project: "p"}}, events.Event{})
		require.NoError(t, err, "a name that New takes")
		same := len(parts) == len(other)
		for i := range parts {
			same = same && parts[i] == other[i]
		}
		require.Equal(t, same, id == events.NewID(kind, other...))
		joined := strings.Join(parts, "")
		if len(parts) > 1 {
			require.NotEqual(t, id, events.NewID(kind, joined))
		}
	})
}

// FuzzToken: no text, however made, gets out of its place in a subject.
func FuzzToken(f *testing.F) {
	for _, s := range []string{
		"", "plain", "a.b", "*", ">", "a b", "~abc", "\x00", "\r\n", "ü", strings.Repeat("a", 64), strings.Repeat("a", 65),
		strings.Repeat("x", 5000), "../..", "%s", "\u202e", "'; drop table jobs", "$JS.API",
	} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := events.Token(a), events.Token(b)
		require.Regexp(t, idForm, x)
		require.LessOrEqual(t, len(x), 64)
		require.Equal(t, x, events.Token(a))
		require.Equal(t, a == b, x == y, "other texts, other tokens")
		if !strings.HasPrefix(x, "~") {
			require.Equal(t, a, x, "plain ones stay readable")
		}
	})
}

// FuzzNewID: a name can stand in a subject, a header and a URL.
func FuzzNewID(f *testing.F) {
	f.Add("event", "a", "b")
	f.Add("a.>", "", "\x00")
	f.Fuzz(func(t *testing.T, kind, a, b string) {
		id := events.NewID(events.Kind(kind), a, b)
		require.Regexp(t, idForm, string(id))
		if a != "" {
			require.NotEqual(t, id, events.NewID(events.Kind(kind), "", a+b))
		}
	})
}

func TestNewIDAt(t *testing.T) {
	at := time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC)
	id := namedAt(t, at)
	require.Equal(t, events.ID("event_1lgefi0"), id[:13])
	require.Len(t, id, len(events.NewID("event", "a", "b")))
	require.Equal(t, events.NewID("event", "a", "b")[6:31], id[13:])
	require.Equal(t, id, namedAt(t, at.Add(999*time.Millisecond)), "whole seconds count")
	require.Equal(t, id, namedAt(t, at.In(time.FixedZone("", 3600))))
	for _, never := range []time.Time{{}, time.Unix(-1, 0), time.Unix(1<<35, 0)} {
		require.Equal(t, events.NewID("event", "a", "b"), namedAt(t, never))
	}
	last := namedAt(t, time.Unix(0, 0))
	for _, sec := range []int64{1, 31, 32, 1 << 20, at.Unix(), at.Unix() + 1, 1<<35 - 1} {
		next := namedAt(t, time.Unix(sec, 0))
		require.Less(t, last, next, "in the order of time")
		require.Equal(t, string(next), events.Token(string(next)))
		last = next
	}
}

func TestNewIDAtMilli(t *testing.T) {
	named := func(at time.Time) events.ID { return events.NewIDAtMilli("event", at, "a", "b") }
	at := time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC)
	id := named(at.Add(500 * time.Millisecond))
	require.Equal(t, events.ID("event_1lgefi0g0"), id[:15])
	require.Len(t, id, len(events.NewID("event", "a", "b")))
	require.Equal(t, events.NewID("event", "a", "b")[6:29], id[15:])
	require.Equal(t, id, named(at.Add(500*time.Millisecond+900*time.Microsecond)), "a part of 1,024 counts")
	require.Equal(t, id, named(at.Add(500*time.Millisecond).In(time.FixedZone("", 3600))))
	for _, never := range []time.Time{{}, time.Unix(-1, 0), time.Unix(0, -1), time.Unix(1<<35, 0), time.Unix(1<<54, 0)} {
		require.Equal(t, events.NewID("event", "a", "b"), named(never))
	}
	last := named(time.Unix(0, 0))
	for _, next := range []time.Time{
		time.Unix(0, 976_563), time.Unix(0, 1_953_125), time.Unix(0, 999_999_999), time.Unix(1, 0), at, at.Add(time.Millisecond), time.Unix(1<<35-1, 999_999_999),
	} {
		require.Less(t, last, named(next), "in the order of time")
		last = named(next)
		require.Equal(t, string(last), events.Token(string(last)))
		require.Equal(t, events.NewIDAt("event", next, "a", "b")[:13], last[:13], "those of whole seconds stand beside it")
	}
}

func namedAt(t *testing.T, at time.Time) events.ID {
	t.Helper()
	return events.NewIDAt("event", at, "a", "b")
}
