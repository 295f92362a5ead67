package db

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/seed-245eaa15/obs/sqlc"
)

// untold is where in the outbox jobs may wait of which nobody was told that
// they are queued: what asks for one job alone leaves that to the statement
// that takes its row away, which mostly comes within milliseconds and tells it
// with the rest. Of those that wait longer the relay tells it, of the rows that
// it has read. Nothing rests on that: what it passes over is told in the end.
type untold struct {
	mu         sync.Mutex
	young, old span      // the rows of this turn and of the one before
	turned     time.Time // when this turn began
	all        bool      // for tests: each time, and whatever was read
}

// span is the rows from the first to the last one; none where last is 0.
type span struct{ first, last int64 }

// A job waits for one to two turns before it is told that it is queued.
const (
	tellTurn = 250 * time.Millisecond
	tellRows = 5000 // looked at in one statement
)

func (s *span) add(o span) {
	switch {
	case o.last == 0:
	case s.last == 0:
		*s = o
	default:
		s.first, s.last = min(s.first, o.first), max(s.last, o.last)
	}
}

// saw notes where rows that were read have something to tell.
func (u *untold) saw(s span) {
	if s.last == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.young.last == 0 && u.old.last == 0 {
		u.turned = time.Now()
	}
	u.young.add(s)
}

// due gives the rows to look at, once they had time.
func (u *untold) due() span {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all {
		return span{0, math.MaxInt64}
	}
	if u.young.last == 0 && u.old.last == 0 || time.Since(u.turned) < tellTurn {
		return span{}
	}
	ripe := u.old
	u.old, u.young, u.turned = u.young, span{}, time.Now()
	return ripe
}

// tellWaiting puts into the feed what rows that wait have to tell.
func (s *Jobs) tellWaiting(ctx context.Context) error {
	ripe := s.untold.due()
	if ripe.last == 0 {
		return nil
	}
	looked, err := s.q.TellWaiting(ctx, sqlc.TellWaitingParams{First: ripe.first, Last: ripe.last, MaxRows: tellRows})
	if err == nil && looked.Rows < tellRows {
		return nil
	}
	if err == nil {
		ripe.first = looked.Last + 1
	}
	s.untold.mu.Lock()
	s.untold.old.add(ripe)
	s.untold.mu.Unlock()
	if err != nil {
		return fmt.Errorf("tell of jobs that wait: %w", err)
	}
	return nil
}
