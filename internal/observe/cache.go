package observe

import (
	"sync"
	"time"
)

const maxCached = 1000 // kept at once

// cache keeps what may be a little old. The zero value is empty.
type cache[K comparable, V any] struct {
	mu   sync.Mutex
	kept map[K]cached[V]
}

type cached[V any] struct {
	value V
	until time.Time
}

func (c *cache[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.kept[key]
	return kept.value, time.Now().Before(kept.until)
}

func (c *cache[K, V]) put(key K, value V, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil || len(c.kept) >= maxCached {
		c.kept = map[K]cached[V]{}
	}
	c.kept[key] = cached[V]{value, time.Now().Add(d)}
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.kept, key)
}
