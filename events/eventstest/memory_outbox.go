package eventstest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// Asks is outbox.Store's.
func (m *Memory) Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []events.Ask
	if q.Delayed {
		now := clock()
		for row, en := range m.asks {
			if due := en.job.NextAt; !due.IsZero() && !due.After(now) {
				found = append(found, ask(row, en))
			}
		}
		slices.SortFunc(found, func(a, b events.Ask) int {
			return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.Row, b.Row))
		})
		return found[:min(len(found), q.Limit)], nil
	}
	limit := q.Limit
	if q.Tenant == nil {
		now := clock()
		rows := slices.Clone(q.Rows)
		slices.Sort(rows)
		for _, row := range slices.Compact(rows) {
			if en := m.asks[row]; en != nil && !en.job.NextAt.After(now) {
				found = append(found, ask(row, en))
			}
		}
		limit += len(found)
	}
	start, _ := slices.BinarySearch(m.order, q.After+1)
	for _, row := range m.order[start:] {
		if len(found) >= limit {
			break
		}
		en := m.asks[row]
		switch {
		case en == nil, !en.job.NextAt.IsZero(), q.Tenant == nil && slices.Contains(q.Rows, row):
		case q.Tenant != nil && (en.job.Scope != *q.Tenant || en.job.Kind != q.Kind):
		default:
			found = append(found, ask(row, en))
		}
	}
	return found, nil
}

func ask(row int64, en *entry) events.Ask {
	return events.Ask{Row: row, Envelope: en.job.Envelope(), Priority: en.job.Priority, DueAt: en.job.NextAt}
}

// Waiting is outbox.Store's.
func (m *Memory) Waiting(ctx context.Context, rows []int64) ([]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var there []int64
	for _, row := range rows {
		if m.asks[row] != nil {
			there = append(there, row)
		}
	}
	return there, nil
}

// Enqueued is outbox.Store's.
func (m *Memory) Enqueued(ctx context.Context, rows []int64) error {
	_, err := m.each(ctx, rows, events.Event{Type: events.Enqueued, Actor: "relay"})
	return err
}

// Again is outbox.Store's.
func (m *Memory) Again(ctx context.Context, rows []int64) (events.Lost, error) {
	n, err := m.each(ctx, rows, events.Event{
		Type: events.Reclaimed, Actor: "relay", Reason: "its message was lost",
	})
	return events.Lost{Reclaimed: n}, err
}

// each appends e to the jobs whose asks are in these rows.
func (m *Memory) each(ctx context.Context, rows []int64, e events.Event) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, row := range rows {
		en := m.asks[row]
		if en == nil {
			continue
		}
		if err := m.append(en, e); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Reclaim is outbox.Store's.
func (m *Memory) Reclaim(ctx context.Context, lease time.Duration) (events.Lost, error) {
	if err := ctx.Err(); err != nil {
		return events.Lost{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var lost events.Lost
	for _, en := range m.jobs {
		if en.job.Status != events.StatusProcessing || m.alive(en.job.LockedBy, lease) {
			continue
		}
		e := events.Event{Type: events.Reclaimed, Actor: "relay", Reason: "its worker " + en.job.LockedBy + " was lost"}
		count := &lost.Reclaimed
		if en.job.Attempts >= en.job.MaxAttempts {
			e.Type, count = events.Failed, &lost.Failed
			e.Reason += "; all attempts are spent"
		}
		if err := m.append(en, e); err != nil {
			return lost, err
		}
		*count++
	}
	return lost, nil
}

func (m *Memory) alive(worker string, lease time.Duration) bool {
	w, ok := m.workers[worker]
	return ok && clock().Sub(w.at) < lease
}

// Slots is outbox.Store's.
func (m *Memory) Slots(ctx context.Context, lease time.Duration) (map[events.Kind]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	slots := map[events.Kind]int{}
	for id, w := range m.workers {
		if m.alive(id, lease) {
			for kind, n := range w.holder.Slots {
				slots[kind] += n
			}
		}
	}
	return slots, nil
}

// ErrDeposed is the cause of a led context that [Memory.Depose] ended.
var ErrDeposed = errors.New("deposed by the test")

// Lead is outbox.Store's.
func (m *Memory) Lead(ctx context.Context) (led context.Context, release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader != nil {
		return nil, nil, events.ErrNotLeader
	}
	led, cancel := context.WithCancelCause(ctx)
	m.term++
	term := m.term
	m.leader = cancel
	return led, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.term == term {
			m.leader = nil
		}
		cancel(context.Canceled)
	}, nil
}

// Depose takes the leadership away from whoever has it, as a lost session
// does, and frees it for the next.
func (m *Memory) Depose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader != nil {
		m.leader(ErrDeposed)
		m.leader = nil
	}
}

// Fresh is outbox.Feed's.
func (m *Memory) Fresh(ctx context.Context, limit int) ([]events.FeedRow, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := min(limit, len(m.feed))
	for 0 < n && n < len(m.feed) && m.feed[n].Row == m.feed[n-1].Row {
		n++
	}
	m.growing = nil
	var rows []events.FeedRow
	for i := range m.feed[:n] {
		f := &m.feed[i]
		if i == 0 || m.feed[i-1].Row != f.Row {
			rows = append(rows, events.FeedRow{Row: f.Row, Scope: f.Scope, Kind: f.Kind, Event: f.Event})
			rows[len(rows)-1].Event.Job = ""
		}
		r := &rows[len(rows)-1]
		r.Jobs = append(r.Jobs, f.Event.Job)
		r.Versions, r.Attempts = append(r.Versions, int32(f.Event.Version)), append(r.Attempts, int32(f.Event.Attempt))
		r.Ats, r.NextAts = append(r.Ats, f.Event.At), append(r.NextAts, f.Event.NextAt)
		r.RequestIDs, r.Reasons = append(r.RequestIDs, f.Event.RequestID), append(r.Reasons, f.Event.Reason)
	}
	return rows, nil
}

// Told is outbox.Feed's.
func (m *Memory) Told(ctx context.Context, rows []int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.growing = nil
	for _, row := range rows {
		from, _ := slices.BinarySearchFunc(m.feed, row, func(f events.FeedEvent, row int64) int { return cmp.Compare(f.Row, row) })
		to := from
		for to < len(m.feed) && m.feed[to].Row == row {
			to++
		}
		if from == 0 { // the usual case
			m.feed = m.feed[to:]
		} else {
			m.feed = slices.Delete(m.feed, from, to)
		}
	}
	return nil
}
