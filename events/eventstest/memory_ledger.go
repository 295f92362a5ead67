package eventstest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
)

// Begin is pipeline.Ledger's.
func (m *Memory) Begin(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	claims := make([]events.Claim, len(es))
	inBatch := make(map[events.ID]bool, len(es))
	for i, e := range es {
		claims[i].Job, claims[i].Err = m.begin(worker, e, inBatch[e.Job])
		inBatch[e.Job] = inBatch[e.Job] || claims[i].Err == nil
	}
	return claims, nil
}

func (m *Memory) begin(worker events.Holder, e events.Envelope, twice bool) (events.Job, error) {
	en := m.jobs[e.Job]
	switch {
	case en == nil:
		return events.Job{}, events.ErrUnknownJob
	case en.job.Scope != e.Scope, en.job.Kind != e.Kind:
		return events.Job{}, events.ErrScope
	case e.Asked > en.job.Version: // from a future that this store has not seen
		return events.Job{}, events.ErrUnknownJob
	case e.Asked != en.job.Asked, en.job.Status.Settled():
		return events.Job{}, events.ErrSettled
	case twice: // the same message twice in one batch
		return events.Job{}, events.ErrHeld
	case en.job.Status == events.StatusProcessing && en.job.LockedBy == worker.ID:
		return en.job, nil
	case en.job.Status == events.StatusProcessing:
		return events.Job{}, events.ErrHeld
	}
	err := m.append(en, events.Event{
		Type: events.Processing, Actor: "worker", Process: worker.ID, Build: worker.Build,
	})
	if err != nil {
		return events.Job{}, err
	}
	return en.job, nil
}

// Look is pipeline.Ledger's.
func (m *Memory) Look(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	claims := make([]events.Claim, len(es))
	for i, e := range es {
		claims[i].Err = events.ErrHeld
		if en := m.jobs[e.Job]; en != nil && en.job.Status == events.StatusQueued && en.job.Envelope() == e {
			s := timed(en.job, events.Step{Event: events.Event{Type: events.Processing, Process: worker.ID}})
			claims[i].Job, _, claims[i].Err = s.Next()
		}
	}
	return claims, nil
}

// Settle is pipeline.Ledger's. The commits run while the Memory is locked,
// with a nil transaction.
func (m *Memory) Settle(ctx context.Context, steps []events.Step, commits []func(context.Context, pgx.Tx) error, last ...func(context.Context, pgx.Tx) error) ([]error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	type change struct {
		en    *entry
		begun *events.Step // of a step that begins: what goes before it
		next  events.Job
		e     events.Event
	}
	errs := make([]error, len(steps))
	changes := make([]change, len(steps))
	inBatch := make(map[events.ID]bool, len(steps))
	for i, s := range steps {
		if _, _, err := s.Next(); err != nil { // what the caller read forbids it
			errs[i] = err
			continue
		}
		en := m.jobs[s.Job.ID]
		if en == nil || en.job.Scope != s.Job.Scope || inBatch[s.Job.ID] || !s.Begins && en.job.Version != s.Job.Version {
			errs[i] = events.ErrHeld
			continue
		}
		job := en.job
		var begun *events.Step
		if s.Begins {
			if begun = beginning(job, s); begun == nil {
				errs[i] = events.ErrHeld
				continue
			}
			job, _, _ = begun.Next()
		}
		next, e, err := timed(job, s).Next()
		if err != nil {
			errs[i] = err
			continue
		}
		inBatch[s.Job.ID] = true
		changes[i] = change{en, begun, next, e}
	}
	for i, c := range changes {
		if c.en == nil || commits[i] == nil {
			continue
		}
		if err := commits[i](ctx, nil); err != nil {
			return nil, fmt.Errorf("commit of job %s: %w", c.next.ID, err)
		}
	}
	if slices.ContainsFunc(changes, func(c change) bool { return c.en != nil }) {
		for _, write := range last {
			if err := write(ctx, nil); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range changes {
		if c.begun != nil {
			next, e, _ := c.begun.Next()
			m.store(c.en, next, e)
		}
		if c.en != nil {
			m.store(c.en, c.next, c.e)
		}
	}
	return errs, nil
}

// beginning is the step before one that begins its attempt; nil when the job
// does not wait for it any more.
func beginning(job events.Job, s events.Step) *events.Step {
	if job.Status != events.StatusQueued || job.Envelope() != s.Job.Envelope() {
		return nil
	}
	b := timed(job, events.Step{Event: events.Event{Type: events.Processing, Actor: "worker", Process: s.Job.LockedBy, Build: s.Event.Build}})
	b.Event.At = s.Job.LockedAt
	if b.Event.At.Before(job.UpdatedAt) {
		b.Event.At = job.UpdatedAt
	}
	if _, _, err := b.Next(); err != nil {
		return nil
	}
	return &b
}

// Seen is pipeline.Ledger's.
func (m *Memory) Seen(ctx context.Context, worker events.Holder) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	worker.Slots = maps.Clone(worker.Slots)
	m.workers[worker.ID] = seenWorker{worker, clock()}
	return nil
}

// Gone is pipeline.Ledger's.
func (m *Memory) Gone(ctx context.Context, worker events.Holder) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.workers, worker.ID)
	return nil
}
