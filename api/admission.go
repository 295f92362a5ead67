package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/semaphore"
)

// Load tells how busy a door is. Its zero value is ready; it may be read at any
// time.
type Load struct {
	running, queued, waiting atomic.Int64
	bytes                    atomic.Int64
	refused                  atomic.Int64
}

// Running is how many requests are being worked on.
func (l *Load) Running() int64 { return l.running.Load() }

// Queued is how many wait for their turn.
func (l *Load) Queued() int64 { return l.queued.Load() }

// Waiting is how many wait for a job, at the client's wish, or for somebody who
// holds their project.
func (l *Load) Waiting() int64 { return l.waiting.Load() }

// Bytes is what the bodies of requests in work may come to.
func (l *Load) Bytes() int64 { return l.bytes.Load() }

// Refused is how many were turned away since the start.
func (l *Load) Refused() int64 { return l.refused.Load() }

// Admission bounds what a door takes on at once. Who comes when it is full
// waits for a short while, and is then told to come back: to be told at once is
// better than to wait without end, and what nobody holds costs no memory.
type Admission struct {
	Requests int           // at once; zero means 64; of those that record one event four count as one
	Queue    int           // more of them that wait for their turn; zero means 4 × Requests
	Wait     time.Duration // for their turn; zero means 1 s
	Bytes    int64         // of the bodies of all of these; zero means 64 MiB
	Waiting  int           // requests that wait for a job, or for who holds their project, which are not counted in Requests; zero means 8 × Requests
	Load     *Load         // what to tell; nil: nobody asks
}

func (a Admission) withDefaults() Admission {
	if a.Requests <= 0 {
		a.Requests = 64
	}
	if a.Queue <= 0 {
		a.Queue = 4 * a.Requests
	}
	if a.Wait <= 0 {
		a.Wait = time.Second
	}
	if a.Bytes <= 0 {
		a.Bytes = 64 << 20
	}
	if a.Waiting <= 0 {
		a.Waiting = 8 * a.Requests
	}
	if a.Load == nil {
		a.Load = &Load{}
	}
	return a
}

// gate is the admission at work.
type gate struct {
	Admission
	slots, waits, bytes *semaphore.Weighted
}

func newGate(a Admission) *gate {
	a = a.withDefaults()
	return &gate{
		Admission: a, slots: semaphore.NewWeighted(placeWhole * int64(a.Requests)),
		waits: semaphore.NewWeighted(int64(a.Waiting)), bytes: semaphore.NewWeighted(a.Bytes),
	}
}

// What a request takes of the places. One event needs no connection of its own:
// it shares a transaction with whoever is there, and the more of them there are
// the less each costs (docs/adr/0039).
const (
	placeWhole = 4
	placePart  = 1
)

// admitted lets a request in when there is room for it, and for so much. It
// goes before the key is looked up, because that costs a connection as well.
func (s *server) admitted(takes int64) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			p, err := s.gate.enter(c, takes, s.cfg.BodyLimit)
			if err != nil {
				return err
			}
			defer p.leave()
			visitOf(c).place = p
			return next(c)
		}
	}
}

// place is what a request has of the gate.
type place struct {
	g     *gate
	slots *semaphore.Weighted
	takes int64 // of slots
	count *atomic.Int64
	size  int64
}

// wait makes the place free for others while its request waits for something
// that may take long, if there is room among those that wait.
func (p *place) wait() {
	if p.slots == p.g.waits || !p.g.waits.TryAcquire(1) {
		return
	}
	p.slots.Release(p.takes)
	p.count.Add(-1)
	p.slots, p.takes, p.count = p.g.waits, 1, &p.g.Load.waiting
	p.count.Add(1)
}

func (p *place) leave() {
	p.g.Load.bytes.Add(-p.size)
	p.count.Add(-1)
	p.g.bytes.Release(p.size)
	p.slots.Release(p.takes)
}

func (g *gate) enter(c echo.Context, takes, bodyLimit int64) (*place, error) {
	size := c.Request().ContentLength
	if size < 0 || size > bodyLimit {
		size = bodyLimit // it may be as much, and more is not read
	}
	size = min(size, g.Bytes)
	slots, count := g.slots, &g.Load.running
	if asksToWait(c) {
		slots, takes, count = g.waits, 1, &g.Load.waiting
	}
	if g.Load.queued.Add(1) > int64(g.Queue) {
		g.Load.queued.Add(-1)
		return nil, g.full(c)
	}
	defer g.Load.queued.Add(-1)
	until := time.Time{} // most wait for nothing
	acquire := func(of *semaphore.Weighted, n int64) bool {
		if of.TryAcquire(n) {
			return true
		}
		if until.IsZero() {
			until = time.Now().Add(g.Wait)
		}
		ctx, cancel := context.WithDeadline(c.Request().Context(), until)
		defer cancel()
		return of.Acquire(ctx, n) == nil
	}
	if !acquire(slots, takes) {
		return nil, g.full(c)
	}
	if !acquire(g.bytes, size) {
		slots.Release(takes)
		return nil, g.full(c)
	}
	count.Add(1)
	g.Load.bytes.Add(size)
	return &place{g, slots, takes, count, size}, nil
}

// full is the answer to who found no room. They are not all to come back in
// the same second.
func (g *gate) full(c echo.Context) error {
	if err := c.Request().Context().Err(); err != nil {
		return fmt.Errorf("wait for admission: %w", err) // the client left
	}
	g.Load.refused.Add(1)
	h := c.Response().Header()
	h.Set(echo.HeaderRetryAfter, strconv.Itoa(1+rand.IntN(3)))
	if c.Request().ContentLength != 0 {
		h.Set(echo.HeaderConnection, "close") // nobody reads the body
	}
	return called{"overloaded", &refusal{http.StatusServiceUnavailable, "The server has as much to do as it can take. Try again."}}
}
