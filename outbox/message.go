package outbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/seed-245eaa15/obs/events"
)

// The headers of a message on the EVENTS stream, so that a follower can tell
// without parsing what it is about. One with several events has HeaderEvents
// instead of the name of one.
const (
	HeaderJob     = "Obs-Job"
	HeaderVersion = "Obs-Version"
	HeaderType    = "Obs-Type"   // all events of a message are of one type
	HeaderEvents  = "Obs-Events" // how many there are; absent where it is one
)

// EventMessage is an event of a message on the EVENTS stream: what happened
// to a job, without its data. It is a line of JSON, and a line without a type
// says only what is not as in the event before it, and always the job: most
// events of a message differ in that alone. The names are on the wire for ever. A follower
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

// MsgID is the name under which the stream drops a second copy of a message
// that has this event alone.
func (m EventMessage) MsgID() string { return string(appendName(nil, m.Job, m.Version)) }

func appendName(b []byte, job events.ID, version int) []byte {
	return strconv.AppendInt(append(append(b, job...), '.'), int64(version), 10)
}

// appendEvent writes what a follower is told, as encoding/json writes an
// EventMessage (which costs ten times as much, and there are three a job). The
// event's details stay at home: they may be long, and whoever may see them can
// read the history.
func appendEvent(b []byte, f *events.FeedEvent) []byte {
	e := &f.Event
	b = appendText(append(b, `{"job":`...), string(e.Job))
	b = strconv.AppendInt(append(b, `,"version":`...), int64(e.Version), 10)
	b = appendText(append(b, `,"type":`...), string(e.Type))
	b = appendText(append(b, `,"status":`...), string(e.Status))
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(e.Attempt), 10)
	b = appendTime(append(b, `,"at":`...), e.At)
	if !e.NextAt.IsZero() {
		b = appendTime(append(b, `,"next_at":`...), e.NextAt)
	}
	b = appendText(append(b, `,"kind":`...), string(f.Kind))
	b = appendText(append(b, `,"team":`...), f.Scope.Team)
	b = appendText(append(b, `,"project":`...), f.Scope.Project)
	for _, o := range [...]struct{ name, value string }{
		{`,"reason":`, e.Reason}, {`,"request_id":`, e.RequestID}, {`,"process":`, e.Process},
	} {
		if o.value != "" {
			b = appendText(append(b, o.name...), o.value)
		}
	}
	return append(b, '}')
}

// appendNext writes an event of a row that is not its message's first one: what
// is not as in the one before it. All of it is written where that has something
// and this one has not, since nothing stands for the same.
func appendNext(b []byte, r *events.FeedRow, i int) []byte {
	if ended(r.Attempts, i) || ended(r.RequestIDs, i) || ended(r.Reasons, i) || ended(r.Ats, i) || ended(r.NextAts, i) {
		f := r.At(i)
		return appendEvent(b, &f)
	}
	b = appendText(append(b, `{"job":`...), string(r.Jobs[i]))
	if differs(r.Versions, i) {
		b = strconv.AppendInt(append(b, `,"version":`...), int64(r.Versions[i]), 10)
	}
	if differs(r.Attempts, i) {
		b = strconv.AppendInt(append(b, `,"attempt":`...), int64(r.Attempts[i]), 10)
	}
	if differs(r.Ats, i) {
		b = appendTime(append(b, `,"at":`...), r.Ats[i])
	}
	if differs(r.NextAts, i) {
		b = appendTime(append(b, `,"next_at":`...), r.NextAts[i])
	}
	if differs(r.Reasons, i) {
		b = appendText(append(b, `,"reason":`...), r.Reasons[i])
	}
	if differs(r.RequestIDs, i) {
		b = appendText(append(b, `,"request_id":`...), r.RequestIDs[i])
	}
	return append(b, '}')
}

// differs reports whether an event has something else than the one before it.
func differs[T comparable](list []T, i int) bool { return list != nil && list[i] != list[i-1] }

// ended reports whether the event before it has something, and it has nothing.
func ended[T comparable](list []T, i int) bool {
	var none T
	return list != nil && list[i] == none && list[i-1] != none
}

func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			q, err := json.Marshal(s)
			if err != nil {
				panic("outbox: a string is no JSON: " + err.Error())
			}
			return append(b, q...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendTime writes a time that JSON can say. One beyond the year 9999, which
// no clock of ours gives, is told as the last one before: it must not hold up
// what is behind it.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	switch {
	case t.Year() < 0:
		t = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// ParseEvent reads an event that says all of it: a message by itself, or the
// first line of one. It accepts types that it does not know.
func ParseEvent(b []byte) (EventMessage, error) { return new(lines).next(b) }

// ParseEvents reads a message's body: a line for each event, in their order.
// What is no event is left out, and its error given beside the others.
func ParseEvents(b []byte) ([]EventMessage, error) {
	var all []EventMessage
	var errs []error
	var read lines
	for line := range bytes.SplitSeq(b, newline) {
		m, err := read.next(line)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, m)
	}
	return all, errors.Join(errs...)
}

var newline = []byte{'\n'}

// lines reads a message line by line.
type lines struct{ before EventMessage } // zero: there is none, or it is no event

// next reads a line. With an error the event is empty.
func (l *lines) next(line []byte) (EventMessage, error) {
	m, err := parseLine(line, &l.before)
	if err != nil {
		m = EventMessage{}
	}
	l.before = m
	return m, err
}

func parseLine(b []byte, before *EventMessage) (EventMessage, error) {
	if len(b) > MaxEvent {
		return EventMessage{}, fmt.Errorf("event of %d bytes: want at most %d", len(b), MaxEvent)
	}
	var m EventMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return EventMessage{}, fmt.Errorf("event: %w", err)
	}
	if m.Type == "" {
		m.fill(before)
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

// fill takes over from the event before it what a line does not say.
func (m *EventMessage) fill(before *EventMessage) {
	m.Type, m.Kind, m.Team, m.Project = before.Type, before.Kind, before.Team, before.Project
	m.Version, m.Attempt = cmp.Or(m.Version, before.Version), cmp.Or(m.Attempt, before.Attempt)
	m.At, m.NextAt = cmp.Or(m.At, before.At), cmp.Or(m.NextAt, before.NextAt)
	m.Status, m.Reason = cmp.Or(m.Status, before.Status), cmp.Or(m.Reason, before.Reason)
	m.RequestID, m.Process = cmp.Or(m.RequestID, before.RequestID), cmp.Or(m.Process, before.Process)
}
