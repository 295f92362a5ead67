package outbox_test

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

var plainSubject = regexp.MustCompile(`^ev(\.~?[A-Za-z0-9_-]{1,64}){4}$`)

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
