package db

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-245eaa15/obs/sqlc"
)

// writers tells when those have ended who may have taken a row's number in a
// table and not committed it. A transaction that has written to a table holds
// a lock on it until it ends; how old others are does not matter, nor what a
// stranger has open in another table or database.
type writers struct {
	table string
	looks int             // looks that count: the last one's writers are in of
	ended int             // those whom the looks up to this one saw have ended
	of    map[string]bool // who wrote, and may still
	at    time.Time
	every time.Duration // for tests; 0: lookEvery
}

// lookEvery is between two looks: each reads the locks of the whole server.
const lookEvery = time.Second

func (w *writers) pause() time.Duration { return cmp.Or(w.every, lookEvery) }

// next is the look that will see whoever writes now. Once ended has come to
// it, a statement that begins after that sees all that they have committed.
func (w *writers) next() int { return w.looks + 1 }

func (w *writers) look(ctx context.Context, q *sqlc.Queries) error {
	if time.Since(w.at) < w.pause() {
		return nil
	}
	w.at = time.Now()
	names, err := q.WritersOf(ctx, w.table)
	if err != nil {
		return fmt.Errorf("look who writes to %s: %w", w.table, err)
	}
	now := make(map[string]bool, len(names))
	for _, name := range names {
		if w.of[name] {
			return nil
		}
		now[name] = true
	}
	w.ended = w.looks
	w.looks++
	if w.of = now; len(now) == 0 {
		w.ended = w.looks
	}
	return nil
}

// askFloor is a row of the outbox up to which none waits. The relay reads all
// asks again and again, for one that was committed late; while somebody holds
// a snapshot, those that are gone stay in the index, and from its head it
// would pass over all of them. As with feedMark, nothing rests on it: each
// headAgain, and after an error, the index is read from its head.
type askFloor struct {
	mu      sync.Mutex
	top     int64 // the last row that was ever read
	row     int64
	next    int64 // … when the writers of a look have ended
	look    int   // that one; 0: there is no next
	writers writers
	slow    bool          // the last read from here was worth a floor
	least   time.Duration // for tests, when it is; 0: slowRead
	head    time.Time
	took    time.Duration // by that one
}

// slowRead is what reading the outbox may take before it is worth a question
// to begin further on.
const slowRead = 5 * time.Millisecond

// read reads asks behind a row; behind none at all it begins at the floor.
func (f *askFloor) read(ctx context.Context, q *sqlc.Queries, p sqlc.AsksAfterParams) ([]sqlc.AsksAfterRow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rows, err := f.ask(ctx, q, p)
	if err != nil {
		f.row, f.look = 0, 0 // it may be another server than before
	} else if n := len(rows); n > 0 {
		f.top = max(f.top, rows[n-1].ID)
	}
	return rows, err
}

func (f *askFloor) ask(ctx context.Context, q *sqlc.Queries, p sqlc.AsksAfterParams) ([]sqlc.AsksAfterRow, error) {
	if p.After > 0 {
		return q.AsksAfter(ctx, p)
	}
	if f.slow {
		f.writers.table = "outbox"
		if err := f.writers.look(ctx, q); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if head := began.Sub(f.head) >= max(headAgain, headShare*f.took); !head {
		p.After = f.row
	}
	rows, err := q.AsksAfter(ctx, p)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	if p.After == 0 {
		f.head, f.took = began, took
	}
	f.slow = took >= cmp.Or(f.least, slowRead)
	low := f.top // nothing waits up to there, but for what is not committed
	if len(rows) > 0 {
		low = rows[0].ID - 1
	}
	switch {
	case f.look == 0:
		f.next, f.look = low, f.writers.next()
	case f.writers.ended >= f.look:
		f.row, f.look = min(f.next, low), 0
	}
	return rows, nil
}

// headShare makes a read from the head rarer where it takes long.
const headShare = 100
