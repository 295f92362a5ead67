package observe

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// lookAgain is how often one who waits looks by himself, in case the notice
// was lost with the connection to the broker.
const lookAgain = 5 * time.Second

// waiters are those who wait for jobs to settle. The zero value is ready.
type waiters struct {
	mu   sync.Mutex
	jobs map[events.ID]map[chan struct{}]bool
}

func (w *waiters) add(ids []events.ID) (told chan struct{}, remove func()) {
	told = make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.jobs == nil {
		w.jobs = map[events.ID]map[chan struct{}]bool{}
	}
	for _, id := range ids {
		if w.jobs[id] == nil {
			w.jobs[id] = map[chan struct{}]bool{}
		}
		w.jobs[id][told] = true
	}
	return told, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, id := range ids {
			if delete(w.jobs[id], told); len(w.jobs[id]) == 0 {
				delete(w.jobs, id)
			}
		}
	}
}

func (w *waiters) tell(id events.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for told := range w.jobs[id] {
		select {
		case told <- struct{}{}:
		default: // it has not yet looked since it was told before
		}
	}
}

// Notice says that a job has come to this status. The process's follower of
// the stream of events calls it; it never blocks.
func (s *Service) Notice(id events.ID, status events.Status) {
	if status.Settled() {
		s.waiters.tell(id)
	}
}

// WaitJobs waits until all these jobs are settled, or the limit has passed;
// timedOut is then true. It gives the jobs as they are; those that are not
// there, or not the caller's to see, are left out and not waited for. It is
// told of a change by [Service.Notice], and reads a row only then.
func (s *Service) WaitJobs(ctx context.Context, c Caller, ids []events.ID, limit time.Duration) (jobs map[events.ID]events.Job, timedOut bool, err error) {
	// Register first, then read: what settles in between is noticed.
	told, remove := s.waiters.add(ids)
	defer remove()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for last := false; ; {
		if jobs, err = s.look(ctx, c, ids); err != nil {
			return nil, false, err
		}
		if settled(jobs) {
			return jobs, false, nil
		}
		if last {
			return jobs, true, nil
		}
		select {
		case <-told:
		case <-again.C:
		case <-deadline.C:
			last = true
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

func (s *Service) look(ctx context.Context, c Caller, ids []events.ID) (jobs map[events.ID]events.Job, err error) {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = plain(string(id))
	}
	err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWait)
		if err != nil {
			return err
		}
		jobs, err = findJobs(ctx, q, scope, names)
		return err
	})
	return jobs, err
}

func settled(jobs map[events.ID]events.Job) bool {
	for _, j := range jobs {
		if !j.Status.Settled() {
			return false
		}
	}
	return true
}
