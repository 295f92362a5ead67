package pipeline

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// Breaker says when a lane rests: while what its handlers depend on is away or
// refuses work, nothing is fetched, so no job is begun in vain.
type Breaker struct {
	Refusals int           // in a row, of those that Unavailable and Trouble mark, before the lane rests; zero means 5, less than zero that it never does
	Pause    time.Duration // the first rest, the half of it at random; each further one is twice as long; zero means 5 s
	Longest  time.Duration // of a rest, where nobody asked for a longer one; zero means 5 min
}

func (b Breaker) withDefaults() Breaker {
	if b.Refusals == 0 {
		b.Refusals = 5
	}
	if b.Pause <= 0 {
		b.Pause = 5 * time.Second
	}
	if b.Longest <= 0 {
		b.Longest = 5 * time.Minute
	}
	return b
}

// breaker is a lane's. It works until there were too many refusals in a row;
// then it rests; then it tries with one job, whose success ends the rest. While
// it rests or tries, a refusal costs no attempt.
type breaker struct {
	cfg Breaker

	mu       sync.Mutex
	refusals int       // in a row
	rests    int       // since it last worked
	until    time.Time // the end of the rest; zero while it works
	why      error     // what was refused last
	trying   bool      // with one job, after a rest
	total    int64     // rests since the start
	changed  chan struct{}
}

func newBreaker(cfg Breaker) *breaker {
	return &breaker{cfg: cfg.withDefaults(), changed: make(chan struct{})}
}

// tell wakes who waits for a change. The caller holds mu.
func (b *breaker) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// admit waits until jobs may be begun, and says how many of n: one, while it is
// being tried whether work is taken again. rest ends when they may not any
// more. It returns 0 when ctx ended.
func (b *breaker) admit(ctx context.Context, n int) (admitted int, rest <-chan struct{}) {
	for {
		b.mu.Lock()
		left, changed := time.Until(b.until), b.changed
		switch {
		case b.until.IsZero():
			b.mu.Unlock()
			return n, changed
		case left <= 0 && !b.trying:
			b.trying = true
			b.mu.Unlock()
			return 1, nil
		}
		wait := left
		if b.trying {
			wait = time.Hour // for the change
		}
		b.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-changed:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return 0, nil
		}
	}
}

// untried says that what was admitted to try with came to nothing; none, that
// there was no job. When by then all jobs that were refused would have come
// back, there is nothing that the lane holds up: it works, but the next refusal
// makes it rest at once, and as long as if it had never stopped. It reports so.
func (b *breaker) untried(none bool) (over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.trying {
		return false
	}
	b.trying = false
	if over = none && time.Since(b.until) > b.cfg.Longest+b.cfg.Pause; over {
		b.refusals, b.until, b.why = b.cfg.Refusals-1, time.Time{}, nil
	}
	b.tell()
	return over
}

// A verdict is what an attempt's end means to the lane.
type verdict struct {
	free   bool          // the attempt does not count
	wait   time.Duration // at least, before the job's next one
	change change
}

type change int

const (
	same change = iota
	rests
	works
)

// judge takes note of how an attempt ended.
func (b *breaker) judge(err error) verdict {
	away, refused := errors.AsType[*awayError](err)
	_, held := errors.AsType[*holdError](err)
	b.mu.Lock()
	defer b.mu.Unlock()
	resting := !b.until.IsZero()
	switch {
	case held: // what the lane depends on was not asked
		if b.trying {
			b.trying = false
			b.tell()
		}
		return verdict{}
	case !refused && !resting:
		if err == nil {
			b.rests = 0
		}
		b.refusals = 0
		return verdict{}
	case !refused && err != nil, !refused && time.Now().Before(b.until):
		// It says nothing about what the lane waits for, or it was begun before.
		if b.trying {
			b.trying = false
			b.tell()
		}
		return verdict{}
	case !refused:
		b.refusals, b.rests, b.until, b.why, b.trying = 0, 0, time.Time{}, nil, false
		b.tell()
		return verdict{change: works}
	}

	b.why = away.err
	b.refusals++
	v := verdict{free: away.free, wait: away.after}
	switch now := time.Now(); {
	case resting && now.Before(b.until): // one that was in hand when the rest began
		b.until = later(b.until, now.Add(away.after))
	case resting, b.cfg.Refusals > 0 && b.refusals >= b.cfg.Refusals:
		if !resting {
			v.change = rests
		}
		b.until = now.Add(b.rest(away.after))
		b.rests++
		b.total++
		b.trying, resting = false, true
		b.tell()
	}
	if resting {
		v.free = true
		v.wait = max(v.wait, time.Until(b.until))
	}
	v.wait += random(b.cfg.Pause) // those that were refused together come back one after the other
	return v
}

// rest is how long the next rest is: the longer the more there were, partly at
// random so that workers do not try together, and at least what was asked for.
func (b *breaker) rest(after time.Duration) time.Duration {
	d := min(b.cfg.Pause<<min(b.rests, 20), b.cfg.Longest)
	d = d/2 + random(d/2)
	if after > 0 {
		d = max(d, after+random(min(after/8, b.cfg.Longest)))
	}
	return d
}

// resting says until when the lane rests, how often it did, and why. The time
// is past while the lane tries with one job, and zero when it works.
func (b *breaker) resting() (until time.Time, total int64, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until, b.total, b.why
}

func random(d time.Duration) time.Duration { return time.Duration(mathrand.Float64() * float64(d)) }

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
