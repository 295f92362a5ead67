package observe

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// gatherer runs calls together: what comes while earlier ones are under way
// goes next, all of it at once and without waiting for more. When nothing is
// under way, a call goes alone and at once. So a transaction, or a question,
// costs the less for each call the more calls there are. Another run begins
// beside the one that is under way when a crowd waits.
//
// It has goroutines only while there are calls.
type gatherer[T any] struct {
	atOnce int       // runs under way
	crowd  int       // weight that has to wait for a run to begin beside another
	most   int       // weight that runs together; a single call may weigh more
	split  int       // weight of which one run takes half, and leaves the rest to the one beside it; 0: none
	run    runner[T] // sets the answers in calls

	mu      sync.Mutex
	waiting []*call[T]
	weight  int // of all that wait
	running int
	fresh   int       // of those that run, those that have not taken long
	began   time.Time // the last run
}

// patience is how long a crowd is waited for, beside a run: one that takes
// longer may take for ever.
const patience = 100 * time.Millisecond

// A runner does calls together. Its context ends when nobody waits for any of
// them any more. An error, or a panic, is the answer to all of them.
type runner[T any] = func(ctx context.Context, calls []T) error

// call is one who waits.
type call[T any] struct {
	what   T
	weight int
	done   chan struct{}
	err    error

	gone bool // who called waits no longer
	with *company
}

// company is those that run together.
type company struct {
	left   int // that still wait
	cancel context.CancelFunc
}

// do has the call run with others, and returns when it was run. When ctx ends
// first, what becomes of the call is not known: it may be run, or not.
func (g *gatherer[T]) do(ctx context.Context, what T, weight int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call[T]{what: what, weight: weight, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	g.weight += weight
	if g.running == 0 || g.running < g.atOnce && (g.weight >= g.crowd || time.Since(g.began) > patience) {
		g.running++
		go g.work() //nolint:contextcheck // the run is not this caller's alone
	}
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		g.leave(c)
		return ctx.Err()
	}
}

// leave takes back a call that has not begun. What is under way is broken off
// only when all who waited for it have left: it is the others' as well.
func (g *gatherer[T]) leave(c *call[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.gone = true
	if c.with != nil {
		if c.with.left--; c.with.left == 0 {
			c.with.cancel()
		}
	}
}

func (g *gatherer[T]) work() {
	for {
		g.await()
		ctx, cancel := context.WithCancel(context.Background())
		calls := g.take(cancel)
		if calls == nil {
			cancel()
			return
		}
		whats := make([]T, len(calls))
		for i, c := range calls {
			whats[i] = c.what
		}
		nudge := time.AfterFunc(patience, g.nudge)
		err := safely(ctx, g.run, whats)
		if nudge.Stop() {
			g.mu.Lock()
			g.fresh--
			g.mu.Unlock()
		}
		cancel()
		for _, c := range calls {
			c.err = err
			close(c.done)
		}
	}
}

// await lets those come along who are about to come.
func (g *gatherer[T]) await() {
	for before := -1; ; {
		runtime.Gosched()
		g.mu.Lock()
		now := g.weight
		g.mu.Unlock()
		if now == before || now >= g.most {
			return
		}
		before = now
	}
}

// nudge has those that wait behind a run that takes long go beside it.
func (g *gatherer[T]) nudge() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fresh--
	if len(g.waiting) > 0 && g.running < g.atOnce {
		g.running++
		go g.work()
	}
}

// take gives those that run next, nil when nobody waits, or no crowd that is
// worth a run beside one that will soon be over: then this goroutine ends.
func (g *gatherer[T]) take(cancel context.CancelFunc) []*call[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fresh > 0 && g.weight < g.crowd {
		g.running--
		return nil
	}
	with := &company{cancel: cancel}
	var calls []*call[T]
	n, weight, most := 0, 0, g.most
	if g.split > 0 && g.weight >= g.split {
		most = min(most, (g.weight+1)/2)
	}
	for _, c := range g.waiting {
		if len(calls) > 0 && weight+c.weight > most {
			break
		}
		n++
		g.weight -= c.weight
		if c.gone {
			continue
		}
		weight += c.weight
		c.with = with
		with.left++
		calls = append(calls, c)
	}
	rest := copy(g.waiting, g.waiting[n:])
	clear(g.waiting[rest:])
	g.waiting = g.waiting[:rest]
	g.began = time.Now()
	if calls == nil {
		g.running--
		return nil
	}
	g.fresh++
	if len(g.waiting) > 0 && g.weight >= g.crowd && g.running < g.atOnce {
		g.running++
		go g.work()
	}
	return calls
}

func safely[T any](ctx context.Context, run runner[T], calls []T) (err error) {
	defer func() {
		if r := recover(); r != nil { // as the door does it for what runs in the request's own goroutine
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return run(ctx, calls)
}
