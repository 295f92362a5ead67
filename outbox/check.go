package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
)

// Check holds what the two streams say, to be compared with the store: the
// invariants I10 and I11 of docs/architecture.md. Read the streams first with
// [ReadStreams] and the store after that, so that a live system is not blamed
// for what happened in between.
type Check struct {
	// Since is when EVENTS last lost something, as when the broker was set
	// back or its stream deleted: what happened to jobs before that need not
	// be there. Zero: it never did.
	Since time.Time
	// Pruned is until when jobs may have been taken away after they ended: one
	// of which EVENTS tells nothing later need not be in the store.
	Pruned time.Time

	streams Streams
	whole   bool // EVENTS still has its first message
	told    map[events.ID][]told
	open    map[events.ID][]events.Envelope // what is on JOBS
	found   []events.Finding
	pending int // messages that workers hold
}

type told struct {
	version int
	typ     events.Type
	subject string
	at      time.Time // when the stream took it
}

// ReadStreams reads both streams as they are now. It takes memory for each
// job that EVENTS still names. A stream that is not there is empty.
func ReadStreams(ctx context.Context, js jetstream.JetStream, s Streams) (*Check, error) {
	c := &Check{streams: s.withDefaults(), told: make(map[events.ID][]told), open: make(map[events.ID][]events.Envelope)}
	if err := c.readJobs(ctx, js); err != nil {
		return nil, fmt.Errorf("check stream %s: %w", s.JobsStream(), err)
	}
	if err := c.readEvents(ctx, js); err != nil {
		return nil, fmt.Errorf("check stream %s: %w", s.EventsStream(), err)
	}
	return c, nil
}

// Quiet reports whether no message was on JOBS and no worker held one. A
// message that comes late, of a job that is done, makes a quiet system busy for
// the moment that a worker takes to see it.
func (c *Check) Quiet() bool { return len(c.open) == 0 && c.pending == 0 }

func (c *Check) add(invariant string, job events.ID, format string, args ...any) {
	c.found = append(c.found, events.Finding{Invariant: invariant, Subject: "job " + string(job), Text: fmt.Sprintf(format, args...)})
}

// readJobs asks for message after message: a work queue allows no second
// consumer, and it is shallow.
func (c *Check) readJobs(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, c.streams.JobsStream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for info := range stream.ListConsumers(ctx).Info() {
		c.pending += info.NumAckPending
	}
	state := stream.CachedInfo().State
	all := c.streams.subject("jobs.>")
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(all))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		seq = m.Sequence
		e, err := events.ParseEnvelope(m.Data)
		if err != nil {
			c.found = append(c.found, events.Finding{
				Invariant: "I11", Subject: "message " + strconv.FormatUint(m.Sequence, 10), Text: err.Error(),
			})
			continue
		}
		c.open[e.Job] = append(c.open[e.Job], e)
	}
	return nil
}

// idleRead is how long readEvents waits for the next message before it
// concludes that the stream was changed under it.
const idleRead = 15 * time.Second

func (c *Check) readEvents(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, c.streams.EventsStream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	c.whole = state.FirstSeq <= 1
	if state.Msgs == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	// One pull for all: the consumer's own Next makes a consumer for each
	// message, and on a cluster asks it before everybody knows that it is there.
	msgs, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer msgs.Stop()
	for last := uint64(0); last < state.LastSeq; {
		m, err := msgs.Next(jetstream.NextMaxWait(idleRead))
		if err != nil {
			return fmt.Errorf("read message %d of %d: %w", last+1, state.LastSeq, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		last = meta.Sequence.Stream
		for _, e := range c.tells(last, m) {
			c.told[e.Job] = append(c.told[e.Job], told{e.Version, e.Type, m.Subject(), meta.Timestamp})
		}
	}
	return nil
}

// tells names the events of a message: by its headers where it is one.
func (c *Check) tells(seq uint64, m jetstream.Msg) []EventMessage {
	h := m.Headers()
	if h.Get(HeaderEvents) == "" {
		version, err := strconv.Atoi(h.Get(HeaderVersion))
		if err != nil {
			c.unreadable(seq, "it has no version")
			return nil
		}
		return []EventMessage{{Job: events.ID(h.Get(HeaderJob)), Version: version, Type: events.Type(h.Get(HeaderType))}}
	}
	all, err := ParseEvents(m.Data())
	if err != nil || strconv.Itoa(len(all)) != h.Get(HeaderEvents) {
		c.unreadable(seq, fmt.Sprintf("it has %d events that can be read, and says %s", len(all), h.Get(HeaderEvents)))
	}
	return all
}

func (c *Check) unreadable(seq uint64, why string) {
	c.found = append(c.found, events.Finding{Invariant: "I10", Subject: "message " + strconv.FormatUint(seq, 10), Text: why})
}

// Job compares what the streams say of a job with its history, oldest event
// first. When the system is quiet, EVENTS must have told all of it.
func (c *Check) Job(job events.Job, history []events.Event, quiet bool) {
	msgs := c.told[job.ID]
	delete(c.told, job.ID)
	next := 0 // the version that should come next; 0: any, the stream may have lost its beginning
	if c.whole {
		next = 1
	}
	for _, m := range msgs {
		switch {
		case m.version < 1 || m.version > len(history):
			c.add("I10", job.ID, "EVENTS tells of event %d, its history has %d", m.version, len(history))
			continue
		case history[m.version-1].Type != m.typ:
			c.add("I10", job.ID, "EVENTS tells that event %d is %s, its history says %s", m.version, m.typ, history[m.version-1].Type)
		case m.subject != c.streams.EventSubject(job.Scope, job.Kind, m.typ):
			c.add("I9", job.ID, "event %d was told on %s", m.version, m.subject)
		}
		if next > 0 && c.owes(history, next, m.version) {
			c.add("I10", job.ID, "EVENTS tells of event %d before event %d", m.version, next)
		}
		next = max(next, m.version+1)
	}
	if quiet && c.whole && c.owes(history, next, len(history)+1) {
		c.add("I10", job.ID, "EVENTS has told %d of its %d events", max(next-1, 0), len(history))
	}

	for _, e := range c.open[job.ID] {
		if e.Asked > len(history) || !history[e.Asked-1].Type.Asks() {
			c.add("I11", job.ID, "a message on JOBS says that event %d asked for it", e.Asked)
		}
	}
	if !quiet {
		delete(c.open, job.ID)
	}
}

// owes reports whether one of the versions from next up to before is among
// those that EVENTS has to tell.
func (c *Check) owes(history []events.Event, next, before int) bool {
	return next < before && !history[before-2].At.Before(c.Since)
}

// toldLate is how long after it happened an event may come to EVENTS, and so
// after its job was pruned.
const toldLate = time.Minute

// Findings ends the check: what is left is of jobs that the store does not
// have. When the system is quiet, JOBS must be empty.
func (c *Check) Findings(quiet bool) []events.Finding {
	for _, id := range slices.Sorted(maps.Keys(c.told)) {
		if msgs := c.told[id]; msgs[len(msgs)-1].at.Before(c.Pruned.Add(toldLate)) {
			continue
		}
		c.add("I10", id, "EVENTS tells of it, and it is not there")
	}
	for _, id := range slices.Sorted(maps.Keys(c.open)) {
		if quiet {
			c.add("I11", id, "it has a message on JOBS though all is quiet")
		} else {
			c.add("I11", id, "it has a message on JOBS, and it is not there")
		}
	}
	if quiet && c.pending > 0 {
		c.found = append(c.found, events.Finding{
			Invariant: "I11", Subject: "stream " + c.streams.JobsStream(),
			Text: fmt.Sprintf("workers hold %d messages though all is quiet", c.pending),
		})
	}
	return c.found
}
