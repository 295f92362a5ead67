package outbox

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// The headers of a message on the EVENTS stream, so that a follower can tell
// without parsing what it is about.
const (
	HeaderJob     = "Obs-Job"
	HeaderVersion = "Obs-Version"
	HeaderType    = "Obs-Type"
)

// EventMessage is the body of a message on the EVENTS stream: what happened
// to a job, without its data. The names are on the wire for ever. A follower
// may meet types and fields that it does not know, and may meet one event
// twice: job and version are its name.
type EventMessage struct {
	Job       events.ID     `json:"job"`
	Version   int           `json:"version"`
	Type      events.Type   `json:"type"`
	Status    events.Status `json:"status"` // once it has happened
	Attempt   int           `json:"attempt"`
	At        time.Time     `json:"at"`
	NextAt    time.Time     `json:"next_at,omitzero"` // zero: at once
	Kind      events.Kind   `json:"kind"`
	Team      string        `json:"team"`
	Project   string        `json:"project"`
	Reason    string        `json:"reason,omitempty"`
	RequestID string        `json:"request_id,omitempty"`
	Process   string        `json:"process,omitempty"`
}

// message is what a follower is told. The event's details stay at home: they
// may be long, and whoever may see them can read the history.
func message(f events.FeedEvent) EventMessage {
	e := f.Event
	return EventMessage{
		Job: e.Job, Version: e.Version, Type: e.Type, Status: e.Status, Attempt: e.Attempt,
		At: e.At.UTC(), NextAt: e.NextAt, Kind: f.Kind, Team: f.Scope.Team, Project: f.Scope.Project,
		Reason: e.Reason, RequestID: e.RequestID, Process: e.Process,
	}
}

// MsgID is the name under which the stream drops a second copy.
func (m EventMessage) MsgID() string { return string(m.Job) + "." + strconv.Itoa(m.Version) }

// ParseEvent reads a message's body. It accepts types that it does not know.
func ParseEvent(b []byte) (EventMessage, error) {
	if len(b) > MaxEvent {
		return EventMessage{}, fmt.Errorf("event of %d bytes: want at most %d", len(b), MaxEvent)
	}
	var m EventMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return EventMessage{}, fmt.Errorf("event: %w", err)
	}
	for _, f := range []struct{ name, value string }{
		{"job", string(m.Job)},
		{"type", string(m.Type)},
		{"kind", string(m.Kind)},
	} {
		if events.Token(f.value) != f.value {
			return EventMessage{}, fmt.Errorf("event: %s is %.80q, want 1 to 64 letters, digits, '_' or '-'", f.name, f.value)
		}
	}
	if m.Version < 1 {
		return EventMessage{}, fmt.Errorf("event: version is %d, want at least 1", m.Version)
	}
	return m, nil
}
