package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"
)

// lease is what the worker may believe about its own life, by its own
// monotonic clock: the ledger counts the whole lease from when it wrote seen_at, we
// count two thirds from before we asked it to. So handlers are stopped before
// anyone else may take their jobs.
type lease struct {
	mu     sync.Mutex
	held   bool
	seenAt time.Time     // before the last Seen that was answered
	back   chan struct{} // closed while held
	expiry *time.Timer
	silent bool // the ledger did not answer the last time
}

// greet makes the worker known before it claims anything: what a worker that
// was never seen holds is taken for lost. It reports false when ctx ended.
func (w *Worker) greet(ctx, work context.Context) bool {
	w.lease.back = make(chan struct{})
	for tries := 0; !w.seen(work); tries++ {
		if !pause(ctx, trouble(tries, w.cfg.Lease/6)) {
			return false
		}
	}
	return ctx.Err() == nil
}

// renew keeps the lease until ctx is done.
func (w *Worker) renew(ctx context.Context) {
	wait := w.cfg.Lease / 3
	for pause(ctx, wait) {
		if w.seen(ctx) {
			wait = w.cfg.Lease / 3
		} else {
			wait = w.cfg.Lease / 20
		}
	}
}

func (w *Worker) seen(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Lease/6)
	defer cancel()
	asked := time.Now()
	if err := w.ledger.Seen(ctx, w.holder); err != nil {
		w.lease.mu.Lock()
		defer w.lease.mu.Unlock()
		if !w.lease.silent && !errors.Is(context.Cause(ctx), ErrDraining) {
			w.cfg.Log.WarnContext(ctx, "the lease was not renewed", "err", err)
		}
		w.lease.silent = true
		return false
	}
	trust := w.cfg.Lease*2/3 - time.Since(asked)
	l := &w.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seenAt, l.silent = asked, false
	if l.expiry == nil {
		l.expiry = time.AfterFunc(trust, w.lost)
	} else {
		l.expiry.Reset(trust)
	}
	if !l.held {
		l.held = true
		close(l.back)
		if w.halt.CompareAndSwap(&ErrLeaseLost, nil) {
			w.cfg.Log.InfoContext(ctx, "the lease is back")
		}
	}
	return true
}

// lost runs when the last answer is too old to be trusted.
func (w *Worker) lost() {
	l := &w.lease
	l.mu.Lock()
	if time.Since(l.seenAt) < w.cfg.Lease*2/3 || !l.held { // renewed just now
		l.mu.Unlock()
		return
	}
	l.held = false
	l.back = make(chan struct{})
	w.halt.CompareAndSwap(nil, &ErrLeaseLost) // a drain goes on being a drain
	l.mu.Unlock()
	w.cfg.Log.Error("the lease is lost", "active", w.open.Load())
	w.cancelAll(ErrLeaseLost)
}

func (l *lease) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expiry != nil {
		l.expiry.Stop()
	}
}

// wait blocks until the lease is held, and reports false when ctx ended first.
func (l *lease) wait(ctx context.Context) bool {
	l.mu.Lock()
	back := l.back
	l.mu.Unlock()
	select {
	case <-back:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// age is the time since the ledger last heard of us.
func (l *lease) age() (since time.Duration, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seenAt.IsZero() {
		return 0, false
	}
	return time.Since(l.seenAt), l.held
}
