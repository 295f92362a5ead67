package observe

import (
	"context"
	"sync"
	"time"
)

const (
	loads       = 2 // of one loader at once
	loadTimeout = 30 * time.Second
)

// loader answers questions that come at once with one query: those that come
// while it is asked wait for the next one. Handlers read their rows with it,
// for a query a job costs more than most of what a job does. It must have a
// load; it is not copied.
type loader[K comparable, V any] struct {
	load func(ctx context.Context, keys []K) (map[K]V, error) // no key twice; what is not in the answer is not there

	mu      sync.Mutex
	next    *loading[K, V]
	running int
}

type loading[K comparable, V any] struct {
	keys   []K
	asked  map[K]bool
	loaded chan struct{} // closed when found and err are set
	found  map[K]V
	err    error
}

// get waits for the answer to key. Whoever leaves ends nobody else's query.
func (l *loader[K, V]) get(ctx context.Context, key K) (v V, ok bool, err error) {
	l.mu.Lock()
	if l.next == nil {
		l.next = &loading[K, V]{asked: map[K]bool{}, loaded: make(chan struct{})}
	}
	mine := l.next
	if !mine.asked[key] {
		mine.asked[key] = true
		mine.keys = append(mine.keys, key)
	}
	if l.running < loads {
		l.running++
		go l.run(context.WithoutCancel(ctx))
	}
	l.mu.Unlock()
	select {
	case <-mine.loaded:
		v, ok = mine.found[key]
		return v, ok, mine.err
	case <-ctx.Done():
		return v, false, context.Cause(ctx)
	}
}

// run asks until nobody waits.
func (l *loader[K, V]) run(ctx context.Context) {
	for {
		l.mu.Lock()
		some := l.next
		l.next = nil
		if some == nil {
			l.running--
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		func() {
			ctx, cancel := context.WithTimeout(ctx, loadTimeout)
			defer cancel()
			some.found, some.err = l.load(ctx, some.keys)
		}()
		close(some.loaded)
	}
}
