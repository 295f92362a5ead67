package db

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	reclaimPage = 500
	// scanAgain is when Reclaim reads the job table though no worker was lost.
	scanAgain = 10 * time.Minute
	// scanPages are read at once, and scanFor is how long Reclaim goes on: the
	// relay waits for it.
	scanPages = 2048
	scanFor   = 100 * time.Millisecond
	// strayRows of the outbox are looked at in one statement.
	strayRows = 2000
)

// reclaims is how far the job table was read for jobs of lost workers.
type reclaims struct {
	mu   sync.Mutex
	part int64     // for tests: pages read at each call; 0: as many as there is time for
	next int64     // the page to go on with; 0: none is being read
	gone []string  // the workers that were lost when it began
	last time.Time // when the last whole reading began
	now  time.Time // when this one did
	held bool      // some job of theirs was in somebody's transaction

	stray   int64     // rows of the outbox up to this one were looked at for their jobs; 0: none is being looked at
	cleared time.Time // when all of them last were
}

func (r *reclaims) pages() int64 { return cmp.Or(r.part, scanPages) }

// Reclaim asks anew for the jobs of workers that were not seen for the lease;
// see outbox.Store. Nothing indexes who holds a job, so it reads the job table:
// when a worker was lost, at first, and every ten minutes in case a claim was
// stored just while its worker was being forgotten. A large table is read in
// parts, one at each call. Where nobody was lost it clears away, every ten
// minutes and in parts as well, what jobs that were deleted with their tenant
// have left: that costs a look at the job of each ask, and nobody waits for it.
func (s *Jobs) Reclaim(ctx context.Context, lease time.Duration) (events.Lost, error) {
	r := &s.reclaims
	r.mu.Lock()
	defer r.mu.Unlock()
	var lost events.Lost
	began := time.Now()
	if r.next == 0 {
		gone, err := s.q.LostWorkers(ctx, lease.Microseconds())
		if err != nil {
			return lost, fmt.Errorf("look for lost workers: %w", err)
		}
		if len(gone) == 0 && !r.last.IsZero() && began.Sub(r.last) < scanAgain {
			lost.More, err = s.forgetStrays(ctx, began)
			return lost, err
		}
		r.gone, r.now, r.held = gone, began, false
	}
	pages, err := s.q.JobPages(ctx)
	if err != nil {
		return lost, fmt.Errorf("measure the job table: %w", err)
	}
	for {
		err := s.reclaimFrom(ctx, lease, &lost)
		if err != nil {
			return lost, err
		}
		if r.next += r.pages(); r.next >= pages {
			break
		}
		if r.part > 0 || time.Since(began) >= scanFor {
			lost.More = true
			return lost, nil
		}
	}
	r.next = 0
	if r.held {
		return lost, nil // the next time again: their workers are not forgotten
	}
	if len(r.gone) > 0 {
		// They hold nothing any more. One that comes back registers anew.
		err = s.q.ForgetLostWorkers(ctx, sqlc.ForgetLostWorkersParams{Ids: r.gone, LeaseUs: lease.Microseconds()})
		if err != nil {
			return lost, fmt.Errorf("forget lost workers: %w", err)
		}
	}
	r.last = r.now
	return lost, nil
}

// forgetStrays does so for as long as a call may take, and tells whether there
// are more to look at.
func (s *Jobs) forgetStrays(ctx context.Context, began time.Time) (more bool, err error) {
	r := &s.reclaims
	for r.stray > 0 || began.Sub(r.cleared) >= scanAgain {
		part, err := s.q.ForgetStrayAsks(ctx, sqlc.ForgetStrayAsksParams{After: r.stray, MaxRows: strayRows})
		if err != nil {
			return false, fmt.Errorf("forget deleted jobs: %w", err)
		}
		if r.stray = part.Last; part.Rows < strayRows {
			r.stray, r.cleared = 0, began
		} else if time.Since(began) >= scanFor {
			return true, nil
		}
	}
	return false, nil
}

// reclaimFrom does so for one part of the table.
func (s *Jobs) reclaimFrom(ctx context.Context, lease time.Duration, lost *events.Lost) error {
	place := func(page int64) string { return fmt.Sprintf("(%d,0)", page) }
	rows, err := s.q.JobsHeldByLost(ctx, sqlc.JobsHeldByLostParams{
		FromPlace: place(s.reclaims.next), ToPlace: place(s.reclaims.next + s.reclaims.pages()), LeaseUs: lease.Microseconds(),
	})
	if err != nil {
		return fmt.Errorf("look for jobs of lost workers: %w", err)
	}
	for part := range slices.Chunk(rows, reclaimPage) {
		var again, spent []events.Step
		for _, r := range part {
			job := JobOf(r)
			why := "its worker " + job.LockedBy + " was lost"
			if job.Attempts >= job.MaxAttempts {
				spent = append(spent, events.Step{Job: job, Event: events.Event{Type: events.Failed, Actor: "relay", Reason: why + "; all attempts are spent"}})
				continue
			}
			again = append(again, events.Step{Job: job, Event: events.Event{Type: events.Reclaimed, Actor: "relay", Reason: why}})
		}
		n, held, err := s.moveAll(ctx, again)
		if err != nil {
			return err
		}
		lost.Reclaimed += n
		s.reclaims.held = s.reclaims.held || held
		if n, held, err = s.moveAll(ctx, spent); err != nil {
			return err
		}
		lost.Failed += n
		s.reclaims.held = s.reclaims.held || held
	}
	return nil
}
