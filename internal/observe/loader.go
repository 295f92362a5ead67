package observe

import (
	"context"
	"time"
)

const (
	loadTimeout = 30 * time.Second
	loadMost    = 500 // calls that one query answers
	loadCrowd   = 32  // calls that wait, for a second query to be asked beside the first
)

// loader answers questions that come at once with one query. Handlers read
// their rows with it, for a query a job costs more than most of what a job
// does. Make it with [newLoader].
type loader[K comparable, V any] struct{ calls gatherer[*loading[K, V]] }

// loading is a question and, once it was asked, its answer.
type loading[K comparable, V any] struct {
	key   K
	found V
	ok    bool
}

// newLoader gives a loader. load is asked for no key twice, and leaves out of
// its answer what is not there; its error is everybody's.
func newLoader[K comparable, V any](load func(ctx context.Context, keys []K) (map[K]V, error)) *loader[K, V] {
	return &loader[K, V]{gatherer[*loading[K, V]]{
		atOnce: 2, crowd: loadCrowd, most: loadMost,
		run: func(ctx context.Context, calls []*loading[K, V]) error {
			ctx, cancel := context.WithTimeout(ctx, loadTimeout)
			defer cancel()
			keys, asked := make([]K, 0, len(calls)), make(map[K]bool, len(calls))
			for _, c := range calls {
				if !asked[c.key] {
					asked[c.key] = true
					keys = append(keys, c.key)
				}
			}
			found, err := load(ctx, keys)
			for _, c := range calls {
				c.found, c.ok = found[c.key]
			}
			return err
		},
	}}
}

// get waits for the answer to key: of a query that began after it was asked.
func (l *loader[K, V]) get(ctx context.Context, key K) (v V, ok bool, err error) {
	c := &loading[K, V]{key: key}
	if err := l.calls.do(ctx, c, 1); err != nil {
		return v, false, err
	}
	return c.found, c.ok, nil
}
