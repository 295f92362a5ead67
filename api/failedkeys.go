package api

import (
	"crypto/sha256"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	maxAddresses = 10_000 // that a guard remembers
	maxGoodKeys  = 10_000
)

// guard bounds how often one address may show keys that let nobody in. A key
// that was good here not long ago goes on working from everywhere: one agent
// with an old key shuts out nobody behind the same address, and there is
// nothing to find out by such keys.
type guard struct {
	limit float64 // wrong keys in a minute, and at once

	mu    sync.Mutex
	tries map[netip.Prefix]tries
	good  map[[sha256.Size]byte]struct{}
	swept time.Time
}

// tries is a bucket of wrong keys that an address may still show.
type tries struct {
	left float64
	at   time.Time // when it was so
}

func newGuard(perMinute int) *guard {
	return &guard{limit: float64(perMinute), tries: map[netip.Prefix]tries{}, good: map[[sha256.Size]byte]struct{}{}}
}

// now is the bucket as it has filled since it was last seen.
func (g *guard) now(t tries, now time.Time) tries {
	t.left = min(g.limit, t.left+now.Sub(t.at).Minutes()*g.limit)
	t.at = now
	return t
}

// wait is how long the address has to wait before it may show this key; 0
// means that it may.
func (g *guard) wait(from netip.Prefix, key string) time.Duration {
	if g.limit <= 0 {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	t, seen := g.tries[from]
	if !seen {
		return 0
	}
	if t = g.now(t, time.Now()); t.left >= 1 {
		return 0
	}
	if _, ok := g.good[sha256.Sum256([]byte(key))]; ok {
		return 0
	}
	return time.Duration((1 - t.left) / g.limit * float64(time.Minute))
}

// note keeps whether the key was good. What does not fit any more pushes out
// anything: at worst somebody may try again, or has to wait.
func (g *guard) note(from netip.Prefix, key string, good bool) {
	if g.limit <= 0 {
		return
	}
	sum := sha256.Sum256([]byte(key)) // every request comes by here: not while others wait
	g.mu.Lock()
	defer g.mu.Unlock()
	if good {
		if _, known := g.good[sum]; !known {
			if len(g.good) >= maxGoodKeys {
				drop(g.good)
			}
			g.good[sum] = struct{}{}
		}
		return
	}
	delete(g.good, sum)
	now := time.Now()
	t, seen := g.tries[from]
	if !seen {
		if len(g.tries) >= maxAddresses && now.Sub(g.swept) > 10*time.Second { // not for every one: it takes a while
			g.swept = now
			for a, old := range g.tries {
				if g.now(old, now).left >= g.limit {
					delete(g.tries, a)
				}
			}
		}
		if len(g.tries) >= maxAddresses {
			drop(g.tries)
		}
		t = tries{g.limit, now}
	}
	t = g.now(t, now)
	t.left = max(t.left-1, 0)
	g.tries[from] = t
}

func drop[K comparable, V any](m map[K]V) {
	for k := range m {
		delete(m, k)
		return
	}
}

// from is whoever the request comes from: an address, or the network of 64
// bits that one customer has in IPv6.
func from(c echo.Context) netip.Prefix {
	a, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the bits fit the address
	return p
}

// tooManyWrongKeys is the answer to who has to wait.
func tooManyWrongKeys(c echo.Context, wait time.Duration) error {
	c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	return called{"rate_limited", &refusal{http.StatusTooManyRequests, "Too many invalid API keys from this address"}}
}
