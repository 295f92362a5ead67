package events

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// MaxEnvelope is the largest message on the job stream, in bytes.
const MaxEnvelope = 4 << 10

// Envelope is what travels on the job stream: a reference to one attempt of
// one job. A receiver believes nothing in it: the claim in the store compares
// every field with the job's row.
type Envelope struct {
	Job   ID
	Kind  Kind
	Asked int // the version of the event that asked for this attempt
	Scope Scope
}

// Envelope refers to the attempt that the job last asked for.
func (j Job) Envelope() Envelope {
	return Envelope{Job: j.ID, Kind: j.Kind, Asked: j.Asked, Scope: j.Scope}
}

// MsgID is the name under which the stream drops a second copy: a hash of
// the job and of the version that asked. Whatever asks again has a new one,
// because a stream remembers an id even after its message is gone.
func (e Envelope) MsgID() string {
	room := [128]byte{}
	sum := sha256.Sum256(appendPart(appendPart(room[:0], string(e.Job)), strconv.Itoa(e.Asked)))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// wire is the JSON form. The names are on the wire for ever.
type wire struct {
	Job     ID     `json:"job"`
	Kind    Kind   `json:"kind"`
	Asked   int    `json:"asked"`
	Team    string `json:"team"`
	Project string `json:"project"`
}

// Marshal gives the message's body.
func (e Envelope) Marshal() []byte {
	if plain(string(e.Job)) && plain(string(e.Kind)) && plain(e.Scope.Team) && plain(e.Scope.Project) {
		b := make([]byte, 0, 72+len(e.Job)+len(e.Kind)+len(e.Scope.Team)+len(e.Scope.Project))
		b = append(append(b, beforeJob...), e.Job...)
		b = append(append(b, beforeKind...), e.Kind...)
		b = strconv.AppendInt(append(b, beforeAsked...), int64(e.Asked), 10)
		b = append(append(b, beforeTeam...), e.Scope.Team...)
		b = append(append(b, beforeProject...), e.Scope.Project...)
		return append(b, atTheEnd...)
	}
	b, err := json.Marshal(wire{e.Job, e.Kind, e.Asked, e.Scope.Team, e.Scope.Project})
	if err != nil {
		panic("events: an envelope is strings and a number: " + err.Error())
	}
	return b
}

// ParseEnvelope reads a message's body. What is not an envelope of a possible
// job is an error, and can never become one by being read again.
func ParseEnvelope(b []byte) (Envelope, error) {
	if len(b) > MaxEnvelope {
		return Envelope{}, fmt.Errorf("envelope of %d bytes: want at most %d", len(b), MaxEnvelope)
	}
	w, ok := parsePlain(string(b))
	if !ok {
		var some wire
		if err := json.Unmarshal(b, &some); err != nil {
			return Envelope{}, fmt.Errorf("envelope: %w", err)
		}
		w = some
	}
	switch {
	case !isToken(string(w.Job)):
		return Envelope{}, fmt.Errorf("envelope: %.80q is no job id", w.Job)
	case !isToken(string(w.Kind)):
		return Envelope{}, fmt.Errorf("envelope: %.80q is no kind", w.Kind)
	case w.Asked < 1:
		return Envelope{}, fmt.Errorf("envelope: asked is %d, want at least 1", w.Asked)
	}
	return Envelope{Job: w.Job, Kind: w.Kind, Asked: w.Asked, Scope: Scope{w.Team, w.Project}}, nil
}

// What stands between the values of a body that Marshal makes. Nearly every
// message is one of those, and reading it as any JSON takes ten times as long.
const (
	beforeJob     = `{"job":"`
	beforeKind    = `","kind":"`
	beforeAsked   = `","asked":`
	beforeTeam    = `,"team":"`
	beforeProject = `","project":"`
	atTheEnd      = `"}`
)

// plain reports whether s stands in JSON as it is.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// parsePlain reads a body just as Marshal makes it of plain values, and
// reports whether it was one.
func parsePlain(s string) (w wire, ok bool) {
	value := func(before, after string) string {
		rest, found := strings.CutPrefix(s, before)
		end := strings.Index(rest, after)
		if !found || end < 0 || !plain(rest[:end]) {
			ok = false
			return ""
		}
		s = rest[end:]
		return rest[:end]
	}
	ok = true
	w.Job = ID(value(beforeJob, `"`))
	w.Kind = Kind(value(beforeKind, `"`))
	asked := value(beforeAsked, `,`)
	w.Team = value(beforeTeam, `"`)
	w.Project = value(beforeProject, `"`)
	if !ok || s != atTheEnd || len(asked) > 9 || asked == "" || asked[0] < '1' {
		return w, false
	}
	for i := range len(asked) {
		if asked[i] < '0' || asked[i] > '9' {
			return w, false
		}
		w.Asked = 10*w.Asked + int(asked[i]-'0')
	}
	return w, true
}
