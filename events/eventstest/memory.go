// Package eventstest is a test kit for those who keep, move or do jobs.
//
// [Memory] is a whole store in memory, to test a relay, a worker or a handler
// without Postgres, also inside a testing/synctest bubble: start with
// [NewMemory]. [Suite] is what every store must pass, and [Model] holds a
// store against Memory step by step: start with [Table].
package eventstest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
)

// Memory is a history and a job table in memory. It is an outbox.Store, an
// outbox.Feed and a pipeline.Ledger, safe for concurrent use, and correct:
// what it answers is what db.Jobs answers. Its clock is time.Now, in whole
// microseconds as Postgres keeps them.
//
// There is no transaction in memory, so a commit gets a nil pgx.Tx. What a
// commit did itself is not undone when another one of its batch fails. A
// commit must not call the Memory.
type Memory struct {
	mu      sync.Mutex
	jobs    map[events.ID]*entry
	asks    map[int64]*entry        // :: outbox row → the queued job
	order   []int64                 // rows of asks, ascending; some are gone
	lastRow int64                   // of asks
	feed    []events.FeedEvent      // ascending
	lastFed int64                   // row of feed
	growing map[events.ID]bool      // jobs in the last row of feed; nil: it was read, and stays as it is
	workers map[string]seenWorker   // :: holder id → when it was last seen
	leader  context.CancelCauseFunc // nil: nobody leads
	term    int                     // counts leaderships
}

type entry struct {
	job     events.Job
	history []events.Event
	row     int64 // of its ask; 0 unless queued
}

type seenWorker struct {
	holder events.Holder
	at     time.Time
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{
		jobs:    map[events.ID]*entry{},
		asks:    map[int64]*entry{},
		workers: map[string]seenWorker{},
	}
}

// Enqueue stores new jobs with their first events, all or none (see
// events.New). One whose id is already there is left as it is, and reported
// as not added.
func (m *Memory) Enqueue(ctx context.Context, steps ...events.Step) (added []bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range steps {
		if _, _, err := s.Next(); err != nil {
			return nil, err
		}
	}
	added = make([]bool, len(steps))
	for i, s := range steps {
		if m.jobs[s.Job.ID] != nil {
			continue
		}
		en := &entry{job: s.Job.Unborn()}
		next, e, err := timed(en.job, s).Next()
		if err != nil {
			return nil, err
		}
		m.jobs[s.Job.ID] = en
		m.store(en, next, e)
		added[i] = true
	}
	return added, nil
}

// Get reads a job of this tenant and its history, oldest event first.
func (m *Memory) Get(ctx context.Context, scope events.Scope, id events.ID) (events.Job, []events.Event, error) {
	if err := ctx.Err(); err != nil {
		return events.Job{}, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	en := m.jobs[id]
	if en == nil || en.job.Scope != scope {
		return events.Job{}, nil, fmt.Errorf("job %s: %w", id, events.ErrUnknownJob)
	}
	return en.job, slices.Clone(en.history), nil
}

// Move stores each step by itself, or says why not: ErrHeld when the job
// changed since it was read, or what Apply refused. It is how an operator
// cancels a job or asks for it again.
func (m *Memory) Move(ctx context.Context, steps []events.Step) ([]error, error) {
	return m.Settle(ctx, steps, make([]func(context.Context, pgx.Tx) error, len(steps)))
}

func clock() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// timed sets what the store's clock decides: the event's At, never before the
// event that it follows, and its NextAt.
func timed(j events.Job, s events.Step) events.Step {
	s.Job = j
	s.Event.RequestID = cmp.Or(s.Event.RequestID, j.RequestID)
	s.Event.At = clock()
	if s.Event.At.Before(j.UpdatedAt) {
		s.Event.At = j.UpdatedAt
	}
	s.Event.NextAt = time.Time{}
	if s.Delay > 0 && s.Event.Type.Asks() {
		s.Event.NextAt = s.Event.At.Add(s.Delay.Truncate(time.Microsecond))
	}
	return s
}

// store appends e, and keeps the ask in step with it. The caller holds mu.
func (m *Memory) store(en *entry, next events.Job, e events.Event) {
	en.job = next
	en.history = append(en.history, e)
	if en.row != 0 && (e.Type.Asks() || next.Status != events.StatusQueued) {
		delete(m.asks, en.row)
		en.row = 0
	}
	if e.Type.Asks() {
		m.lastRow++
		en.row = m.lastRow
		m.asks[en.row] = en
		m.order = append(m.order, en.row)
	}
	if len(m.order) > 64 && len(m.order) > 2*len(m.asks) {
		m.order = slices.DeleteFunc(m.order, func(row int64) bool { return m.asks[row] == nil })
	}
	m.tell(events.FeedEvent{Scope: next.Scope, Kind: next.Kind, Event: e})
}

// tell puts an event into the feed: as in Postgres, those of a row share all
// but what is the job's own, and are of several jobs.
func (m *Memory) tell(f events.FeedEvent) {
	shared := func(f events.FeedEvent) [8]string {
		e := f.Event
		return [...]string{f.Scope.Team, f.Scope.Project, string(f.Kind), string(e.Type), string(e.Status), e.Actor, e.Process, e.Build}
	}
	if m.growing == nil || m.growing[f.Event.Job] || shared(m.feed[len(m.feed)-1]) != shared(f) {
		m.lastFed++
		m.growing = map[events.ID]bool{}
	}
	m.growing[f.Event.Job] = true
	f.Row = m.lastFed
	m.feed = append(m.feed, f)
}

// append is a step of the store's own making, on the job as it is now.
func (m *Memory) append(en *entry, e events.Event) error {
	next, e, err := timed(en.job, events.Step{Event: e}).Next()
	if err != nil {
		return err
	}
	m.store(en, next, e)
	return nil
}
