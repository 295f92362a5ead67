package events

import "time"

// Claim is the store's answer to an envelope: the job, held by the worker
// that asked, or why it is not.
type Claim struct {
	Job Job
	Err error // nil, ErrSettled, ErrHeld, ErrUnknownJob or ErrScope
}

// Holder is a worker process as the store knows it. Jobs are held by a
// worker, and a worker that has not been seen for the lease holds nothing.
type Holder struct {
	ID    string       // unique to one run of one process
	Name  string       // for people: a host and a process id
	Build string       // the program's version
	Slots map[Kind]int // attempts that it can run at once, by kind
}

// Ask is a queued job's wish for an attempt, as the relay reads it.
type Ask struct {
	Row      int64 // its place in the outbox: grows, with gaps
	Envelope Envelope
	Priority int
	DueAt    time.Time // zero means at once
}

// Lost says what a reconciliation asked for again.
type Lost struct {
	Reclaimed int // jobs asked for again
	Failed    int // jobs whose attempts were spent
}
