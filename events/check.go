package events

import (
	"fmt"
	"reflect"
	"time"
)

// Check verifies what must always hold of one job as a store has it: I1 to I7,
// I12 and I13 of docs/architecture.md. It is given the job's row, its history,
// oldest event first, the asks that are for it, of which only Row and Asked
// are read, and who knows whether a worker is alive.
func Check(job Job, history []Event, asks []Ask, alive func(worker string) bool) []Finding {
	c := jobCheck{job: job, history: history, asks: asks, alive: alive}
	c.versions()
	c.fold()
	c.ends()
	c.place()
	if locked := job.LockedBy != ""; locked != (job.Status == StatusProcessing) {
		c.add("I12", "it is %s and locked by %q", job.Status, job.LockedBy)
	}
	return c.found
}

type jobCheck struct {
	job     Job
	history []Event
	asks    []Ask
	alive   func(worker string) bool
	found   []Finding
}

func (c *jobCheck) add(invariant, format string, args ...any) {
	c.found = append(c.found, Finding{Invariant: invariant, Subject: "job " + string(c.job.ID), Text: fmt.Sprintf(format, args...)})
}

func (c *jobCheck) versions() {
	if len(c.history) == 0 {
		c.add("I2", "it has no history")
	}
	for i, e := range c.history {
		if e.Version != i+1 {
			c.add("I2", "event %d stands where event %d should", e.Version, i+1)
			break
		}
		if i > 0 && e.At.Before(c.history[i-1].At) {
			c.add("I13", "event %d is before event %d", e.Version, e.Version-1)
		}
	}
	if n := len(c.history); n > 0 && c.history[n-1].Version != c.job.Version {
		c.add("I2", "its row is at version %d, its history at %d", c.job.Version, c.history[n-1].Version)
	}
}

func (c *jobCheck) fold() {
	j := c.job.Unborn()
	for i, e := range c.history {
		e.Version = i + 1 // gaps are I2's
		up, err := Upcast(e)
		if err != nil {
			c.add("I3", "%v", err)
			return
		}
		next, err := j.Apply(up)
		if err != nil {
			c.add("I3", "%v", err)
			return
		}
		if e.Status != next.Status || e.Attempt != next.Attempts {
			c.add("I3", "event %d says %s at attempt %d, folded it is %s at attempt %d", e.Version, e.Status, e.Attempt, next.Status, next.Attempts)
		}
		j = next
	}
	for _, d := range differences(c.job, j) {
		c.add("I1", "its row differs from its history in %s", d)
	}
}

// differences names the fields in which two jobs differ.
func differences(a, b Job) []string {
	var names []string
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		x, y := va.Field(i).Interface(), vb.Field(i).Interface()
		if tx, ok := x.(time.Time); ok {
			if ty, _ := y.(time.Time); tx.Equal(ty) {
				continue
			}
		}
		if !reflect.DeepEqual(x, y) {
			names = append(names, va.Type().Field(i).Name)
		}
	}
	return names
}

func (c *jobCheck) ends() {
	completed, attempts := 0, 0
	for i, e := range c.history {
		if i > 0 && c.history[i-1].Status.Settled() && (e.Type != Queued || e.Actor == "") {
			c.add("I4", "%s follows %s", e.Type, c.history[i-1].Type)
		}
		switch e.Type {
		case Completed:
			completed++
		case Queued:
			attempts = 0
		case Processing:
			attempts++
		case Released:
			attempts--
		case Enqueued, RetryScheduled, Failed, Cancelled, Reclaimed:
		}
	}
	if completed > 1 {
		c.add("I4", "it was completed %d times", completed)
	}
	if c.job.Attempts != attempts || attempts > c.job.MaxAttempts {
		c.add("I5", "it counts %d attempts of %d, its history has %d", c.job.Attempts, c.job.MaxAttempts, attempts)
	}
}

// place verifies that somebody will move the job on: it waits in the outbox,
// or a live worker holds it.
func (c *jobCheck) place() {
	switch c.job.Status {
	case StatusQueued:
		if len(c.asks) == 0 {
			c.add("I6", "it is queued and nothing asks for it")
		}
	case StatusProcessing:
		if !c.alive(c.job.LockedBy) {
			c.add("I6", "it is processing under a worker that is gone")
		}
	case StatusCompleted, StatusFailed, StatusCancelled:
	}
	for _, a := range c.asks {
		if c.job.Status != StatusQueued {
			c.add("I7", "it is %s and row %d of the outbox asks for it", c.job.Status, a.Row)
		}
		if a.Envelope.Asked != c.job.Asked {
			c.add("I7", "row %d of the outbox asks for %d, the job for %d", a.Row, a.Envelope.Asked, c.job.Asked)
		}
	}
}
