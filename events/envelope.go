package events

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
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
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return Envelope{}, fmt.Errorf("envelope: %w", err)
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
