package observe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// The identities below are those that clients and imported rows already have
// (see docs/api.md): what they are computed from must not change.

// digest is the hash of the canonical JSON of a list; nil stands for null.
// The list is what makes it safe: a part that holds quotes or commas cannot
// pass for two parts.
func digest(parts ...*string) string { return digestWith(nil, parts...) }

// digestWith is digest of the parts and one more, unless that is nil.
func digestWith(last []byte, parts ...*string) string {
	room := scratch.Get().(*[]byte)
	b := (*room)[:0]
	b = append(b, '[')
	for i, p := range parts {
		if i > 0 {
			b = append(b, ',')
		}
		if p == nil {
			b = append(b, "null"...)
		} else {
			b = appendText(b, *p)
		}
	}
	if last != nil {
		b = appendText(append(b, ','), last)
	}
	b = append(b, ']')
	sum := sha256.Sum256(b)
	if *room = b; cap(b) <= 1<<16 { // one large document is not to stay for ever
		scratch.Put(room)
	}
	var text [2 * sha256.Size]byte
	return string(hex.AppendEncode(text[:0], sum[:]))
}

// scratch is where texts stand that are hashed, and then forgotten.
var scratch = sync.Pool{New: func() any { return new(make([]byte, 0, 1024)) }}

// AgentEventKey is the idempotency key of an agent event: the same report
// sent again has the same key. platform is the normalised one or nil, payload
// the [Canonical] text of the event's, which an event with an id of its source
// does not need.
func AgentEventKey(team string, e NewEvent, platform *string, payload []byte) string {
	parts := append(make([]*string, 0, 6), &team, &e.ProjectID, &e.SourceType)
	if platform != nil {
		parts = append(parts, platform)
	}
	if e.SourceEventID != nil {
		return "agent_event:v1:" + digest(append(parts, e.SourceEventID)...)
	}
	session := e.ContentSessionID
	if session == nil {
		session = e.ServerSessionID
	}
	parts = append(parts, session, &e.EventType, new(isoTime(e.OccurredAtEpoch)))
	return "agent_event:v1:" + digestWith(payload, parts...)
}

// isoTime is JavaScript's toISOString of a time that is not before 1970.
func isoTime(ms int64) string {
	t := time.UnixMilli(ms).UTC()
	if t.Year() > 9999 {
		return fmt.Sprintf("+%06d", t.Year()) + t.Format("-01-02T15:04:05.000Z")
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

// jobTypes are the kinds' names in the keys of jobs.
var jobTypes = map[events.Kind]string{
	KindEvent:   "observation_generate_for_event",
	KindBatch:   "observation_generate_for_event_batch",
	KindSummary: "observation_generate_session_summary",
	KindReindex: "observation_reindex",
}

// JobType is the job's kind as clients know it.
func JobType(kind events.Kind) string {
	if t := jobTypes[kind]; t != "" {
		return t
	}
	return string(kind)
}

// JobKey is the idempotency key of a job.
func JobKey(scope events.Scope, sourceType, sourceID, jobType string) string {
	return "observation_generation_job:v1:" + digest(&scope.Team, &scope.Project, &sourceType, &sourceID, &jobType)
}

// transports are the kinds' names and prefixes in the ids of [TransportID].
var transports = map[events.Kind]struct{ name, prefix string }{
	KindEvent:   {"event", "evt"},
	KindBatch:   {"event-batch", "evtb"},
	KindSummary: {"summary", "sum"},
	KindReindex: {"reindex", "rdx"},
}

// TransportID is the job's id as clients of older servers know it
// (bullmqJobId). Nothing here rests on it.
func TransportID(j events.Job) string {
	t, ok := transports[j.Kind]
	if !ok {
		t.name, t.prefix = string(j.Kind), string(j.Kind)
	}
	var room [512]byte
	b := appendText(append(room[:0], `{"kind":`...), t.name)
	b = appendText(append(b, `,"team_id":`...), j.Scope.Team)
	b = appendText(append(b, `,"project_id":`...), j.Scope.Project)
	b = appendText(append(b, `,"source_type":`...), j.SourceType)
	b = appendText(append(b, `,"source_id":`...), j.SourceID)
	sum := sha256.Sum256(append(b, '}'))
	var text [80]byte
	return string(hex.AppendEncode(append(append(text[:0], t.prefix...), '_'), sum[:]))
}

// GenerationKey is the identity of an observation: the job, its place among
// all that the provider answered, and its content.
func GenerationKey(job events.ID, index int, content string) string {
	content = strings.TrimSpace(content)
	canonical := string(appendText(make([]byte, 0, len(content)+len(content)/8+2), content))
	return fmt.Sprintf("generation:v1:%s:%d:%s", job, index, digest(&canonical))
}

// SessionKey is the idempotency key of a session, or nil when it has no id to
// be known again by: then each start is a new session. platform is the
// normalised one or nil.
func SessionKey(team string, n NewSession, platform *string) *string {
	word := func(s string) *string { return &s }
	var d string
	switch {
	case n.ExternalSessionID != nil:
		parts := []*string{&team, &n.ProjectID, word("external")}
		if platform != nil {
			parts = append(parts, platform)
		}
		d = digest(append(parts, n.ExternalSessionID)...)
	case n.ContentSessionID != nil:
		d = digest(&team, &n.ProjectID, word("content"), platform, n.AgentID, n.ContentSessionID)
	case n.AgentID != nil && platform != nil:
		d = digest(&team, &n.ProjectID, word("agent"), platform, n.AgentID, n.AgentType)
	default:
		return nil
	}
	return new("server_session:v1:" + d)
}

// NormalizePlatform gives the one name of a platform that clients write in
// several ways.
func NormalizePlatform(s string) string {
	s = strings.Join(strings.Fields(strings.ToLower(s)), "-")
	switch {
	case s == "":
		return "claude"
	case s == "transcript" || strings.Contains(s, "codex"):
		return "codex"
	case strings.Contains(s, "cursor"):
		return "cursor"
	case strings.Contains(s, "claude"):
		return "claude"
	}
	return s
}

func platformOf(s *string) *string {
	if s == nil {
		return nil
	}
	return new(NormalizePlatform(*s))
}
