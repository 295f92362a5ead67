package events

import (
	"encoding/json"
	"time"
)

// Type says what happened to a job.
type Type string

// The types of event. Old ones stay readable for ever.
const (
	Queued         Type = "queued"          // asked for: by the one who made the job, or again by an operator
	Enqueued       Type = "enqueued"        // a note: the broker has it and no worker took it yet
	Processing     Type = "processing"      // a worker began an attempt
	RetryScheduled Type = "retry_scheduled" // the attempt failed, another one is due at NextAt
	Completed      Type = "completed"       // done, its effects are stored
	Failed         Type = "failed"          // given up
	Cancelled      Type = "cancelled"       // stopped by an operator
	Reclaimed      Type = "reclaimed"       // its message or its worker was lost, so it is asked for again
	Released       Type = "released"        // the worker gave it back unfinished; the attempt does not count
)

// Types lists every type of event.
func Types() []Type {
	return []Type{Queued, Enqueued, Processing, RetryScheduled, Completed, Failed, Cancelled, Reclaimed, Released}
}

// Asks reports whether an event of this type asks for an attempt, and so puts
// the job on the way to a worker under a new message id.
func (t Type) Asks() bool {
	switch t {
	case Queued, RetryScheduled, Reclaimed, Released:
		return true
	default:
		return false
	}
}

// Schema is the version of the event's form that this package writes. A store
// keeps it beside each event; [Upcast] reads the older ones.
const Schema = 1

// An Event is one thing that happened to one job. It carries ids and hashes,
// never payloads or a model's output, so that a tenant's data can be deleted
// without editing history.
type Event struct {
	Job       ID
	Version   int       // its number in the job's history, from 1; the zero value lets Apply number it
	Type      Type      //
	Attempt   int       // the job's Attempts once the event has happened; set by Apply
	Status    Status    // the job's Status once the event has happened; set by Apply
	At        time.Time // UTC, by the store's clock, never before the event it follows
	Actor     string    // who caused it: a key's id, an operator, or "relay" and "worker"
	Process   string    // the process that wrote it (see Holder)
	Build     string    // that process's version
	RequestID string    // of the request that caused it, if any
	NextAt    time.Time // for those that ask: not before this time; zero means now
	Reason    string    // a short cause, for people: never a payload
	Details   json.RawMessage
	Schema    int // the form it was written in; zero means [Schema]
}

// Held gives the details of a released event that puts a job off for a reason
// of its own or of its tenant's, where no one was asked to do it: `held` is
// true in them. They change nothing in the fold.
func Held() json.RawMessage { return json.RawMessage(`{"held": true}`) }

// Step is a change that is not yet stored: the job as it was read, and the
// event that is to happen to it. The store sets the event's At by its own
// clock, and its NextAt to Delay after that.
type Step struct {
	Job   Job
	Event Event
	Delay time.Duration // for events that ask: how long to wait first; zero means not at all

	// Begins says that the attempt that Event ends is not stored either: Job is
	// as Look gave it, and its processing, since LockedAt, is stored with Event.
	Begins bool
}

// Next applies the step: the job as it will be, and the event as it will be
// stored.
func (s Step) Next() (Job, Event, error) {
	next, err := s.Job.Apply(s.Event)
	if err != nil {
		return s.Job, s.Event, err
	}
	e := s.Event
	e.Job, e.Version, e.Attempt, e.Status, e.Schema = next.ID, next.Version, next.Attempts, next.Status, Schema
	return next, e, nil
}
