package db

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// feedMark is how far the feed was read. What was told is deleted, and while
// somebody holds a snapshot the deleted rows stay in the index: to read from
// its head would pass over all of them each time. So the next read begins
// behind the last one, and looks again at single rows before that: those that
// were read and not told, and the gaps.
//
// A gap is an id that was taken by a transaction that had not committed, or
// never will. No event of a job may be told before an earlier one, and the
// earlier one may be in a gap: so it is looked for in the same statement,
// until the transaction must have ended. It had its number before we saw the
// gap, and when we next take something out of the feed we get a later one:
// once all transactions up to that have ended, the gap is empty. At the start
// nothing is known of what runs, and everything is read from the head until
// that has ended too. A stranger's transaction is as good as one of ours by
// its number: where something stays open for long, it is looked who has
// written to the feed, and waited for those alone.
//
// None of this is needed for the feed to be whole: each headAgain it is read
// from its head.
type feedMark struct {
	mu      sync.Mutex
	mark    int64                // all rows up to here were read, but for those in again
	again   map[int64]*unsettled // rows up to mark to look at again
	started *unsettled           // what ran at the first read may still run; nil: it has ended
	base    int64                // the last row of the first read
	head    time.Time            // when the feed was last read from its head
	took    time.Duration        // by that
	writers writers
}

// unsettled is a row that may be there. xid is 0, or a transaction that began
// after we first looked for the row.
type unsettled struct {
	seen bool // it was there, and nobody was told of it yet
	xid  int64
	look int // who may have it is seen by this look at the writers
	at   time.Time
}

const (
	headAgain = 30 * time.Second
	mostAgain = 10_000 // rows to look at again: with more it begins anew
	fewRows   = 256    // that are read at first: mostly they have events enough, and each is gone through to count them
)

// Fresh reads events that the followers have not been told; see outbox.Feed.
func (s *Jobs) Fresh(ctx context.Context, limit int) ([]events.FeedRow, error) {
	s.fed.mu.Lock()
	defer s.fed.mu.Unlock()
	if err := s.tellWaiting(ctx); err != nil {
		return nil, err
	}
	rows, err := s.fed.read(ctx, s.q, limit)
	if err != nil {
		return nil, fmt.Errorf("read the feed: %w", err)
	}
	fresh := make([]events.FeedRow, 0, 2*len(rows))
	for i := range rows {
		fresh = appendFed(fresh, &rows[i])
	}
	return fresh, nil
}

// appendFed appends what a row tells: what it says of its jobs, and before that,
// of brief ones, that they began.
func appendFed(fresh []events.FeedRow, r *sqlc.FreshFeedRow) []events.FeedRow {
	row := events.FeedRow{
		Row: r.ID, Kind: events.Kind(r.JobType), Scope: events.Scope{Team: r.TeamID, Project: r.ProjectID},
		Event: events.Event{
			Type: events.Type(r.EventType), Status: events.Status(r.StatusAfter),
			Actor: r.Actor, Process: r.Process, Build: r.Build, Schema: int(r.Schema),
		},
		Jobs: make([]events.ID, 0, strings.Count(r.Ids, ",")+1),
	}
	for id := range strings.SplitSeq(r.Ids, ",") {
		row.Jobs = append(row.Jobs, events.ID(id))
	}
	e, n := &row.Event, len(row.Jobs)
	version, versions := common(r.Versions, n)
	attempt, attempts := common(r.Attempts, n)
	e.Version, e.Attempt, row.Versions, row.Attempts = int(version), int(attempt), versions, attempts
	e.At, row.Ats = common(times(r.Ats), n)
	e.NextAt, row.NextAts = common(times(r.NextAts), n)
	e.RequestID, row.RequestIDs = common(r.RequestIds, n)
	e.Reason, row.Reasons = common(r.Reasons, n)
	if r.BeganAts != nil {
		began := row
		began.Event.Type, began.Event.Status, began.Event.Version = events.Processing, events.StatusProcessing, e.Version-1
		if versions != nil {
			began.Versions = make([]int32, n)
			for i, v := range versions {
				began.Versions[i] = v - 1
			}
		}
		began.Event.At, began.Ats = common(times(r.BeganAts), n)
		fresh = append(fresh, began)
	}
	return append(fresh, row)
}

// common is what a list says of all of n jobs, if it has one element, or the
// list, if it has one for each. An empty one says nothing.
func common[T any](list []T, n int) (all T, each []T) {
	switch {
	case len(list) == 0:
	case len(list) == n && n > 1:
		each = list
	default:
		all = list[0]
	}
	return all, each
}

// times makes of a list of times what events have: in the feed the epoch is none.
func times(list []time.Time) []time.Time {
	for i, at := range list {
		if list[i] = at.UTC(); at.Unix() == 0 {
			list[i] = time.Time{}
		}
	}
	return list
}

// read gives the next rows, whole ones until they have limit events.
func (m *feedMark) read(ctx context.Context, q *sqlc.Queries, limit int) ([]sqlc.FreshFeedRow, error) {
	p := sqlc.FreshFeedParams{After: m.mark, MaxEvents: int32(limit), MaxRows: int32(min(limit, fewRows))}
	now := time.Now()
	if m.open(now) {
		m.writers.table = "job_feed"
		if err := m.writers.look(ctx, q); err != nil {
			return nil, err
		}
	}
	head := m.started != nil || now.Sub(m.head) >= max(headAgain, headShare*m.took)
	if head {
		p.After = 0
	} else {
		for id := range m.again {
			p.Again = append(p.Again, id)
		}
	}
	rows, err := q.FreshFeed(ctx, p)
	if err == nil && len(rows) >= fewRows && told(rows) < limit { // it was not for the events that there are no more
		p.MaxRows = p.MaxEvents
		rows, err = q.FreshFeed(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	if head {
		m.head, m.took = now, time.Since(now)
	}
	if len(rows) > 0 {
		m.learn(rows, limit)
	}
	return rows, nil
}

// told is how many events rows have.
func told(rows []sqlc.FreshFeedRow) (n int) {
	for i := range rows {
		n += int(rows[i].Tells)
	}
	return n
}

// open reports whether something is not known for longer than a look at the
// writers is worth.
func (m *feedMark) open(now time.Time) bool {
	if u := m.started; u != nil && now.Sub(u.at) >= m.writers.pause() {
		return true
	}
	for _, u := range m.again {
		if !u.seen && now.Sub(u.at) >= m.writers.pause() {
			return true
		}
	}
	return false
}

// unknown is what may be there, or come.
func (m *feedMark) unknown() *unsettled {
	return &unsettled{look: m.writers.next(), at: time.Now()}
}

// learn notes what a read has shown. When it was full, it has shown nothing
// of what comes behind its last row.
func (m *feedMark) learn(rows []sqlc.FreshFeedRow, limit int) {
	there := make(map[int64]bool, len(rows))
	for i := range rows {
		there[rows[i].ID] = true
	}
	last := rows[len(rows)-1].ID
	shown := max(last, m.mark)
	if told(rows) >= limit {
		shown = last
	}
	ended := func(u *unsettled) bool {
		return u.xid != 0 && rows[0].Running > u.xid || m.writers.ended >= u.look
	}
	for id, u := range m.again {
		if id <= shown && !there[id] && (u.seen || ended(u)) {
			delete(m.again, id) // told by another process, or empty for ever
		}
	}
	if m.started != nil && ended(m.started) && shown >= m.base {
		m.started = nil
	}
	if m.mark == 0 || last-m.mark > mostAgain || len(m.again) > mostAgain {
		m.again, m.started, m.base = map[int64]*unsettled{}, m.unknown(), last // the start, or as good as one
	} else {
		for id := m.mark + 1; id < last; id++ {
			if !there[id] {
				m.again[id] = m.unknown()
			}
		}
	}
	for id := range there {
		m.again[id] = &unsettled{seen: true}
	}
	m.mark = max(m.mark, last)
}

// Told takes rows out of the feed. The deletion need not be durable: one that
// a crash undoes only tells again.
func (s *Jobs) Told(ctx context.Context, rows []int64) error {
	if len(rows) == 0 {
		return nil
	}
	s.fed.mu.Lock()
	defer s.fed.mu.Unlock()
	xid, err := s.q.ForgetFeed(ctx, rows)
	if err != nil {
		return fmt.Errorf("take %d rows out of the feed: %w", len(rows), err)
	}
	for _, id := range rows {
		delete(s.fed.again, id)
	}
	for _, u := range s.fed.again {
		if u.xid == 0 {
			u.xid = xid
		}
	}
	if u := s.fed.started; u != nil && u.xid == 0 {
		u.xid = xid
	}
	return nil
}
