package events

import "time"

// Claim is the store's answer to an envelope: the job, held by the worker
// that asked, or why it is not.
type Claim struct {
	Job    Job
	Err    error // nil, ErrSettled, ErrHeld, ErrUnknownJob or ErrScope
	Beside any   // what the store has read for the job's handler at the same time, if anything
}

// Holder is a worker process as the store knows it. Jobs are held by a
// worker, and a worker that has not been seen for the lease holds nothing.
type Holder struct {
	ID    string       // unique to one run of one process
	Name  string       // for people: a host and a process id
	Build string       // the program's version
	Slots map[Kind]int // attempts that it can run at once, by kind
}

// Ask is a queued job's wish for an attempt: a row of the outbox.
type Ask struct {
	Row      int64 // its place: grows, with gaps; asking again takes a new place
	Envelope Envelope
	Priority int
	DueAt    time.Time // zero means at once
}

// AskQuery says which asks to read. Exactly one of its forms is used:
// those behind After (and those of Rows), the Delayed ones, or one Tenant's.
type AskQuery struct {
	After   int64   // asks without a due time whose row is greater, in order of rows
	Rows    []int64 // and those of these rows, wherever they stand
	Delayed bool    // instead: asks with a due time that has come, the longest due first
	Tenant  *Scope  // instead: this tenant's asks of Kind without a due time behind After
	Kind    Kind
	Limit   int // at least 1
}

// Lost says what a reconciliation did.
type Lost struct {
	Reclaimed int  // jobs asked for again
	Failed    int  // jobs whose attempts were spent
	More      bool // not everything was looked at yet: ask again soon
}

// FeedEvent is an event for those who follow, with what it is addressed by.
type FeedEvent struct {
	Row   int64 // its place in the feed, until it is told
	Scope Scope
	Kind  Kind
	Event Event
}

// FeedRow is events on their way to those who follow: what one statement did to
// jobs of a tenant, of one kind and type. Most of it is the same for all of them.
type FeedRow struct {
	Row   int64 // its place in the feed; two that stand there together have the same one
	Scope Scope
	Kind  Kind
	Event Event // what the events have in common, so without a job
	Jobs  []ID  // of each event, none twice
	// What the events do not have in common, one for each; or nil, and Event has it.
	Versions, Attempts  []int32
	Ats, NextAts        []time.Time
	RequestIDs, Reasons []string
}

// At gives an event of the row.
func (r *FeedRow) At(i int) FeedEvent {
	f := FeedEvent{Row: r.Row, Scope: r.Scope, Kind: r.Kind, Event: r.Event}
	e := &f.Event
	e.Job = r.Jobs[i]
	if r.Versions != nil {
		e.Version = int(r.Versions[i])
	}
	if r.Attempts != nil {
		e.Attempt = int(r.Attempts[i])
	}
	if r.Ats != nil {
		e.At = r.Ats[i]
	}
	if r.NextAts != nil {
		e.NextAt = r.NextAts[i]
	}
	if r.RequestIDs != nil {
		e.RequestID = r.RequestIDs[i]
	}
	if r.Reasons != nil {
		e.Reason = r.Reasons[i]
	}
	return f
}

// Finding is something that must always hold and does not.
type Finding struct {
	Invariant string // I1 to I16 of docs/architecture.md
	Subject   string // what it was found on: "job …", "observation …"
	Text      string
}

func (f Finding) String() string { return f.Invariant + " " + f.Subject + ": " + f.Text }
