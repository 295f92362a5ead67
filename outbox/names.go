package outbox

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
)

// Streams says how the two streams and the consumers are to be. The zero
// value is right for one server: each field's comment names its default.
// Processes that share a broker must agree on all of it.
type Streams struct {
	Prefix          string                // before the names and subjects, made of letters, digits, '_' and '-'; default none
	Kinds           []events.Kind         // a lane is made for each; those that turn up later get theirs then
	Replicas        int                   // default 1; 3 on a cluster
	Storage         jetstream.StorageType // default file
	JobsMaxMsgs     int64                 // messages; default 100,000; -1 means no limit
	JobsMaxBytes    int64                 // bytes; default 256 MiB; -1 means no limit
	EventsMaxAge    time.Duration         // default 7 days
	EventsMaxBytes  int64                 // bytes; default 1 GiB, the oldest go first; -1 means no limit
	DuplicateWindow time.Duration         // how long a message id is remembered; default 2 minutes
	AckWait         time.Duration         // after which an unacknowledged message is delivered again; default 30 s
	MaxAckPending   int                   // messages of a lane that workers hold at once; default 10,000
}

// MaxEvent is the largest message on the EVENTS stream, headers included, in
// bytes.
const MaxEvent = 64 << 10

func (s Streams) withDefaults() Streams {
	or := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	s.Replicas = max(s.Replicas, 1)
	or(&s.JobsMaxMsgs, 100_000)
	or(&s.JobsMaxBytes, 256<<20)
	or(&s.EventsMaxBytes, 1<<30)
	orTime(&s.EventsMaxAge, 7*24*time.Hour)
	orTime(&s.DuplicateWindow, 2*time.Minute)
	orTime(&s.AckWait, 30*time.Second)
	if s.MaxAckPending == 0 {
		s.MaxAckPending = 10_000
	}
	return s
}

// JobsStream is the name of the stream that carries work.
func (s Streams) JobsStream() string { return s.name("JOBS") }

// EventsStream is the name of the stream of all that happens to jobs.
func (s Streams) EventsStream() string { return s.name("EVENTS") }

// Consumer is the name of the durable consumer of a kind's lane, on the
// stream [Streams.JobsStream].
func (s Streams) Consumer(kind events.Kind) string { return "workers-" + events.Token(string(kind)) }

// JobSubject is where jobs of a kind are published. It names no tenant.
func (s Streams) JobSubject(kind events.Kind) string {
	return s.subject("jobs.") + events.Token(string(kind))
}

// EventSubject is where an event of that type is published:
// ev.<team>.<project>.<kind>.<type>, each made a token by [events.Token], so
// that no id can widen or forge a subject.
func (s Streams) EventSubject(scope events.Scope, kind events.Kind, typ events.Type) string {
	return s.subject("ev.") + events.Token(scope.Team) + "." + events.Token(scope.Project) + "." +
		events.Token(string(kind)) + "." + events.Token(string(typ))
}

// EventsOf is where events of these types are published, whosever they are.
func (s Streams) EventsOf(types ...events.Type) []string {
	subjects := make([]string, len(types))
	for i, t := range types {
		subjects[i] = s.subject("ev.*.*.*.") + events.Token(string(t))
	}
	return subjects
}

// WakeSubject is where a [Bell] rings.
func (s Streams) WakeSubject() string { return s.subject("obs.wake") }

func (s Streams) name(n string) string {
	if s.Prefix == "" {
		return n
	}
	return s.Prefix + "-" + n
}

func (s Streams) subject(n string) string {
	if s.Prefix == "" {
		return n
	}
	return s.Prefix + "." + n
}
