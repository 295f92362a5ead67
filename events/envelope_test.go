package events_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
)

func envelopes() *rapid.Generator[events.Envelope] {
	token := rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)
	return rapid.Custom(func(t *rapid.T) events.Envelope {
		return events.Envelope{
			Job: events.ID(token.Draw(t, "job")), Kind: events.Kind(token.Draw(t, "kind")),
			Asked: rapid.IntRange(1, 1<<30).Draw(t, "asked"),
			Scope: events.Scope{
				Team:    rapid.StringN(0, 64, -1).Draw(t, "team"),
				Project: rapid.StringN(0, 64, -1).Draw(t, "project"),
			},
		}
	})
}

func TestEnvelopeRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := envelopes().Draw(t, "envelope")
		back, err := events.ParseEnvelope(e.Marshal())
		require.NoError(t, err)
		require.Equal(t, e, back)
		var read map[string]any
		require.NoError(t, json.Unmarshal(e.Marshal(), &read))
		require.Equal(t, map[string]any{
			"job": string(e.Job), "kind": string(e.Kind), "asked": float64(e.Asked), "team": e.Scope.Team, "project": e.Scope.Project,
		}, read, "it is JSON to everybody")

		other := envelopes().Draw(t, "other")
		require.Equal(t, e.Job == other.Job && e.Asked == other.Asked, e.MsgID() == other.MsgID())
		other = e
		other.Asked++
		require.NotEqual(t, e.MsgID(), other.MsgID(), "whatever asks again is not a duplicate")
		require.Regexp(t, `^[A-Za-z0-9_-]{22}$`, e.MsgID())
	})
}

// The form is on the wire: old messages must stay readable.
func TestEnvelopeWire(t *testing.T) {
	t.Parallel()
	e := events.Envelope{Job: "event_0", Kind: "event", Asked: 7, Scope: events.Scope{Team: "t", Project: "p"}}
	require.JSONEq(t, `{"job":"event_0","kind":"event","asked":7,"team":"t","project":"p"}`, string(e.Marshal()))
	j := events.Job{ID: "event_0", Kind: "event", Asked: 7, Version: 9, Scope: e.Scope}
	require.Equal(t, e, j.Envelope())
	later, err := events.ParseEnvelope([]byte(`{"job":"event_0","kind":"event","asked":7,"team":"t","project":"p","new":[1]}`))
	require.NoError(t, err, "a newer relay may say more")
	require.Equal(t, e, later)
}

func TestParseEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"nothing":         ``,
		"not JSON":        `{`,
		"null":            `null`,
		"a list":          `[]`,
		"a number":        `7`,
		"no job":          `{"kind":"a","asked":1}`,
		"no kind":         `{"job":"a","asked":1}`,
		"asked zero":      `{"job":"a","kind":"a","asked":0}`,
		"asked negative":  `{"job":"a","kind":"a","asked":-1}`,
		"asked a text":    `{"job":"a","kind":"a","asked":"1"}`,
		"asked a half":    `{"job":"a","kind":"a","asked":1.5}`,
		"asked too large": `{"job":"a","kind":"a","asked":1e99}`,
		"wildcard":        `{"job":"a.>","kind":"a","asked":1}`,
		"wildcard kind":   `{"job":"a","kind":"*","asked":1}`,
		"NUL":             `{"job":"a\u0000","kind":"a","asked":1}`,
		"long id":         `{"job":"` + strings.Repeat("a", 65) + `","kind":"a","asked":1}`,
		"too large":       `{"job":"a","kind":"a","asked":1,"team":"` + strings.Repeat("a", events.MaxEnvelope) + `"}`,
		"two":             `{"job":"a","kind":"a","asked":1}{}`,
	} {
		_, err := events.ParseEnvelope([]byte(body))
		require.ErrorContains(t, err, "envelope", name)
		require.Less(t, len(err.Error()), 300, "%s: the message is not told in full", name)
	}
}

func FuzzParseEnvelope(f *testing.F) {
	for _, s := range []string{
		``, `{`, `null`, `{"job":"a","kind":"a","asked":1}`, `{"job":"a","kind":"a","asked":1,"team":"\u0000"}`,
		`{"job":"a","kind":"a","asked":1,"team":"t","project":"p"}`, `{"job":"a","kind":"a","asked":01,"team":"t","project":"p"}`,
		`{"job":"a","kind":"a","asked":123456789012,"team":"t","project":"p"} `, `{"job":"a","kind":"a","asked":1,"team":"\u00e9","project":"p"}`,
		`{"job":"a","kind":"a","asked":-1,"team":"t","project":"p","team":"u"}`,
		"\xff", `{"JOB":"a","kind":"a","asked":1}`, `{"job":"a","job":"b","kind":"a","asked":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := events.ParseEnvelope(body)
		if len(body) < events.MaxEnvelope { // the space makes it a body as no one of ours makes it
			slow, err2 := events.ParseEnvelope(append([]byte(" "), body...))
			require.Equal(t, err == nil, err2 == nil, "%v, %v", err, err2)
			require.Equal(t, slow, e)
		}
		if err != nil {
			require.Zero(t, e)
			return
		}
		require.True(t, json.Valid(body))
		require.Regexp(t, idForm, string(e.Job))
		require.Regexp(t, idForm, string(e.Kind))
		require.Positive(t, e.Asked)
		if again := e.Marshal(); len(again) <= events.MaxEnvelope { // escapes may make it longer
			back, err := events.ParseEnvelope(again)
			require.NoError(t, err)
			require.Equal(t, e, back)
		}
	})
}
