package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Status is where a job stands.
type Status string

// The statuses. The comment says who moves a job on.
const (
	StatusQueued     Status = "queued"     // waits for a worker; the relay publishes it when it is due
	StatusProcessing Status = "processing" // a worker holds it; if that worker dies, the relay reclaims it
	StatusCompleted  Status = "completed"  // final
	StatusFailed     Status = "failed"     // final until an operator asks again
	StatusCancelled  Status = "cancelled"  // final until an operator asks again
)

// Statuses lists every status.
func Statuses() []Status {
	return []Status{StatusQueued, StatusProcessing, StatusCompleted, StatusFailed, StatusCancelled}
}

// Settled reports whether no attempt is wanted or running.
func (s Status) Settled() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCancelled
}

// The states that a caller branches on. Test for them with errors.Is.
var (
	ErrSettled    = errors.New("the job is settled")                         // nothing is left to do, or this attempt is no longer the one asked for
	ErrHeld       = errors.New("the job changed since it was read")          // someone else was first, or holds it
	ErrUnknownJob = errors.New("no such job")                                // no job of that id
	ErrScope      = errors.New("the job belongs to another team or project") // the envelope claims what is not so
	ErrNotLeader  = errors.New("another process leads")                      // of a store: only one relay reads it at a time
)

// A TransitionError is a step that the state machine has no arrow for.
type TransitionError struct {
	Job    ID
	From   Status // empty for a job that has no history
	Type   Type
	Reason string // the guard that failed; empty when there is no arrow at all
}

func (e *TransitionError) Error() string {
	from := e.From
	if from == "" {
		from = "new"
	}
	s := fmt.Sprintf("job %s: no %s from %s", e.Job, e.Type, from)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Is makes every refused step from a settled job an ErrSettled, and every
// other one an ErrHeld: the job is not where the caller thought it was.
func (e *TransitionError) Is(target error) bool {
	if e.From.Settled() {
		return target == ErrSettled
	}
	return target == ErrHeld
}

// Scope is the tenant a job belongs to.
type Scope struct {
	Team, Project string
}

// DefaultMaxAttempts is the number of attempts of a job that names none.
const DefaultMaxAttempts = 3

// Job is work to be done once. The first group of fields is what was asked
// for and never changes; the second is the fold of its events.
type Job struct {
	ID          ID
	Kind        Kind
	Scope       Scope
	SourceType  string          // what the work is about, in the application's words
	SourceID    string          //
	Args        json.RawMessage // small: ids, not data; nil means none
	Priority    int             // 0 is usual; a higher number goes first within its lane
	MaxAttempts int             // at least 1; zero means DefaultMaxAttempts
	RequestID   string          // of the request that asked for it, if any

	Status      Status
	Version     int       // of the last event; 0 means no history yet
	Asked       int       // the version of the event that last asked for an attempt
	Attempts    int       // attempts begun since the last operator's queued, less those released
	NextAt      time.Time // while queued: not before this time; zero means at once
	LockedBy    string    // the worker that holds it: set exactly while processing
	LockedAt    time.Time //
	LastError   string    // why the last attempt failed; empty after success
	CompletedAt time.Time // exactly one of these three is set on a settled job
	FailedAt    time.Time //
	CancelledAt time.Time //
	CreatedAt   time.Time // of the first event
	UpdatedAt   time.Time // of the last event
}

// New checks and completes a job that has no history yet, and gives the event
// that begins it. The job's ID and Kind must be set.
func New(j Job, e Event) (Step, error) {
	if j.MaxAttempts == 0 {
		j.MaxAttempts = DefaultMaxAttempts
	}
	switch {
	case !isToken(string(j.ID)):
		return Step{}, fmt.Errorf("job id %q: want 1 to 64 letters, digits, '_' or '-'", j.ID)
	case !isToken(string(j.Kind)):
		return Step{}, fmt.Errorf("job kind %q: want 1 to 64 letters, digits, '_' or '-'", j.Kind)
	case j.Scope.Team == "" || j.Scope.Project == "":
		return Step{}, fmt.Errorf("job %s: want a team and a project", j.ID)
	case j.MaxAttempts < 1:
		return Step{}, fmt.Errorf("job %s: want at least one attempt, got %d", j.ID, j.MaxAttempts)
	case len(j.Args) > 0 && !isJSON(j.Args):
		return Step{}, fmt.Errorf("job %s: args are not JSON", j.ID)
	}
	e.Type, e.Job = Queued, j.ID
	return Step{Job: j, Event: e}, nil
}

// arrows is the whole state machine: what a status becomes by an event. A
// missing pair is forbidden. The empty status is a job without history.
var arrows = map[Status]map[Type]Status{
	"": {Queued: StatusQueued},
	StatusQueued: {
		Enqueued:   StatusQueued,
		Processing: StatusProcessing,
		Reclaimed:  StatusQueued,
		Failed:     StatusFailed,
		Cancelled:  StatusCancelled,
	},
	StatusProcessing: {
		RetryScheduled: StatusQueued,
		Reclaimed:      StatusQueued,
		Released:       StatusQueued,
		Completed:      StatusCompleted,
		Failed:         StatusFailed,
		Cancelled:      StatusCancelled,
	},
	StatusCompleted: {},
	StatusFailed:    {Queued: StatusQueued},
	StatusCancelled: {Queued: StatusQueued},
}

// Apply gives the job as it is once e has happened. It is the only rule by
// which a job changes. A step that the state machine forbids is a
// *[TransitionError], which is ErrSettled from a settled status and ErrHeld
// otherwise; the job is then returned unchanged.
func (j Job) Apply(e Event) (Job, error) {
	to, ok := arrows[j.Status][e.Type]
	if !ok {
		return j, refusal(j, e, "")
	}
	if e.Version != 0 && e.Version != j.Version+1 {
		return j, refusal(j, e, fmt.Sprintf("version %d does not follow %d", e.Version, j.Version))
	}
	spent := j.Attempts >= j.MaxAttempts
	switch {
	case e.Type == Processing && spent:
		return j, refusal(j, e, "all attempts are spent")
	case e.Type == Processing && e.Process == "":
		return j, refusal(j, e, "no worker is named")
	case e.Type == RetryScheduled && spent:
		return j, refusal(j, e, "all attempts are spent")
	case e.Type == Reclaimed && j.Status == StatusProcessing && spent:
		return j, refusal(j, e, "all attempts are spent")
	}

	n := j
	n.Status, n.Version, n.UpdatedAt = to, j.Version+1, e.At
	if n.Version == 1 {
		n.CreatedAt = e.At
	}
	if e.Type == Enqueued {
		return n, nil // a note: nothing else changes
	}
	n.NextAt, n.LockedBy, n.LockedAt = time.Time{}, "", time.Time{}
	n.CompletedAt, n.FailedAt, n.CancelledAt = time.Time{}, time.Time{}, time.Time{}
	if e.Type.Asks() {
		n.Asked, n.NextAt = n.Version, e.NextAt
	}
	switch e.Type {
	case Queued:
		n.Attempts, n.LastError = 0, ""
	case Processing:
		n.Attempts++
		n.LockedBy, n.LockedAt = e.Process, e.At
	case Released:
		n.Attempts--
	case RetryScheduled, Reclaimed:
		n.LastError = e.Reason
	case Completed:
		n.CompletedAt, n.LastError = e.At, ""
	case Failed:
		n.FailedAt, n.LastError = e.At, e.Reason
	case Cancelled:
		n.CancelledAt = e.At
	case Enqueued: // returned above
	}
	return n, nil
}

func refusal(j Job, e Event, reason string) error {
	return &TransitionError{Job: j.ID, From: j.Status, Type: e.Type, Reason: reason}
}

// Fold applies a history, oldest event first, to a job that has none: only
// the fields that were asked for are read from j. An event of a newer schema
// than this package knows is an error: better no answer than a wrong one.
func Fold(j Job, history iter.Seq[Event]) (Job, error) {
	j = j.Unborn()
	for e := range history {
		up, err := Upcast(e)
		if err != nil {
			return j, err
		}
		if up.Job != j.ID {
			return j, fmt.Errorf("event %d of job %s is in the history of job %s", e.Version, e.Job, j.ID)
		}
		if j, err = j.Apply(up); err != nil {
			return j, err
		}
	}
	return j, nil
}

// Unborn is the job as it was asked for, without its history.
func (j Job) Unborn() Job {
	return Job{
		ID: j.ID, Kind: j.Kind, Scope: j.Scope, SourceType: j.SourceType, SourceID: j.SourceID,
		Args: j.Args, Priority: j.Priority, MaxAttempts: j.MaxAttempts, RequestID: j.RequestID,
	}
}

// Upcast brings an event of an older schema into the form of today. Stored
// events are never rewritten.
func Upcast(e Event) (Event, error) {
	switch e.Schema {
	case 0, Schema:
		e.Schema = Schema
		return e, nil
	default:
		return e, fmt.Errorf("event %d of job %s has schema %d, newer than %d: upgrade this program", e.Version, e.Job, e.Schema, Schema)
	}
}
