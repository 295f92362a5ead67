package pipeline

import (
	"context"
	"slices"
	"sync"
	"time"
)

// ended are the attempts that are finished and not taken to be settled. Whoever
// waits for some of them, one at a time, is woken once, when all of those are
// there: to be woken for each costs more than to settle it.
type ended struct {
	mu   sync.Mutex
	all  []*attempt
	want int           // for so many somebody is to be woken; 0: nobody waits
	wake chan struct{} // has room for one
}

func newEnded() *ended { return &ended{wake: make(chan struct{}, 1)} }

func (e *ended) put(a *attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, a)
	if e.want > 0 && len(e.all) >= e.want {
		e.want = 0
		e.wake <- struct{}{}
	}
}

// first waits for the first one, and reports false when ctx ended.
func (e *ended) first(ctx context.Context) bool {
	e.wait(1, nil, ctx.Done())
	return ctx.Err() == nil
}

// more waits until there are most, or enough is told, and not for longer than
// that. It says how many there are.
func (e *ended) more(most int, long time.Duration, enough <-chan struct{}) int {
	late := time.NewTimer(long)
	defer late.Stop()
	return e.wait(min(most, maxBatch), late.C, enough)
}

func (e *ended) wait(most int, late <-chan time.Time, enough <-chan struct{}) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.all) >= most {
		return len(e.all)
	}
	e.want = most
	e.mu.Unlock()
	select {
	case <-e.wake:
	case <-late:
	case <-enough:
	}
	e.mu.Lock()
	if e.want = 0; len(e.all) >= most {
		select {
		case <-e.wake: // just now
		default:
		}
	}
	return len(e.all)
}

// take takes a batch of those that are there.
func (e *ended) take() []*attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(len(e.all), maxBatch)
	as := slices.Clone(e.all[:n])
	e.all = slices.Delete(e.all, 0, n)
	return as
}
