package llm

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Pace says how long a provider rests that refuses or is away, while others
// are asked in its place. The zero value works.
type Pace struct {
	Pause   time.Duration // the first rest; each further one is twice as long; default 5 s
	Longest time.Duration // of a rest, where nobody asked for a longer one; default 60 times Pause
	// Told hears when a provider comes to rest, and that it works again, when
	// until is zero; nil: nobody. It must not block.
	Told func(provider string, until time.Time, why error)
}

const (
	brokenEnough = 3                // in a row, before a provider rests: one may be the question's doing
	exhausted    = 15 * time.Minute // the least rest of a provider whose quota is used up
)

// Failover asks the first of its providers that is not away. One that refuses
// or breaks rests, and the next is asked in its place, also with the question
// in hand; when its rest is over it is tried with one question, and an answer
// brings it back. A question that one rejects is put to the next as well.
type Failover struct {
	name  string
	pace  Pace
	hosts []*host
}

// host is a provider and how it fares.
type host struct {
	Provider

	mu     sync.Mutex
	broken int       // in a row
	rests  int       // since it last worked
	until  time.Time // the end of its rest; zero while it works
	trying bool      // with one question, after a rest
	why    *Error
}

// NewFailover asks providers in this order. There is at least one.
func NewFailover(pace Pace, providers ...Provider) *Failover {
	if pace.Pause <= 0 {
		pace.Pause = 5 * time.Second
	}
	if pace.Longest <= 0 {
		pace.Longest = 60 * pace.Pause
	}
	if pace.Told == nil {
		pace.Told = func(string, time.Time, error) {}
	}
	f := &Failover{pace: pace}
	var names []string
	for _, p := range providers {
		f.hosts = append(f.hosts, &host{Provider: p})
		names = append(names, p.Name())
	}
	f.name = strings.Join(names, ",")
	return f
}

// OpenAll opens the providers that the configurations name, and asks them in
// that order. Of one it is that one.
func OpenAll(pace Pace, cfgs ...Config) (Provider, error) {
	var all []Provider
	for i, cfg := range cfgs {
		p, err := Open(cfg)
		switch {
		case err != nil:
			return nil, err
		case slices.ContainsFunc(all, func(other Provider) bool { return other.Name() == p.Name() }):
			return nil, fmt.Errorf("provider %s is named twice", p.Name())
		case p.Name() == NameOffline && i < len(cfgs)-1:
			return nil, errors.New("provider offline always answers: it has to be the last")
		}
		all = append(all, p)
	}
	switch len(all) {
	case 0:
		return NewOffline(), nil
	case 1:
		return all[0], nil
	}
	return NewFailover(pace, all...), nil
}

// Name implements [Provider]. Who answered stands in the answer.
func (f *Failover) Name() string { return f.name }

// Resting is a provider that is not asked for now.
type Resting struct {
	Provider string
	Until    time.Time // past while it is tried with one question
	Why      string
}

// Resting lists the providers that rest.
func (f *Failover) Resting() []Resting {
	var all []Resting
	for _, h := range f.hosts {
		h.mu.Lock()
		if !h.until.IsZero() {
			all = append(all, Resting{h.Name(), h.until, h.why.Error()})
		}
		h.mu.Unlock()
	}
	return all
}

// Answer implements [Provider].
func (f *Failover) Answer(ctx context.Context, q Question) (Answer, error) {
	var failed []*Error
	var used []Use
	for _, h := range f.hosts {
		if !h.admit() {
			continue
		}
		a, err := h.Answer(ctx, q)
		a.Also = append(used, a.Also...)
		fault, refused := errors.AsType[*Error](err)
		f.judge(h, fault, err)
		if !refused || fault.Fault == FaultAnswer {
			return a, err
		}
		failed = append(failed, fault)
		if a.TokensIn+a.TokensOut > 0 {
			used = append(used, Use{h.Name(), a.Model, a.TokensIn, a.TokensOut})
		}
	}
	return Answer{Also: used}, f.nobody(failed)
}

// nobody is the error of a question that none of them answered.
func (f *Failover) nobody(failed []*Error) error {
	wait, fault := maxAfter, FaultDenied
	var why []string
	rejected, broken := 0, false
	for _, e := range failed {
		switch e.Fault {
		case FaultRefused:
			rejected++
		case FaultBroken:
			broken = true
		case FaultBusy, FaultExhausted, FaultDenied, FaultAnswer:
		}
	}
	for _, h := range f.hosts {
		h.mu.Lock()
		until, last := h.until, h.why
		h.mu.Unlock()
		if last != nil {
			why = append(why, strings.TrimPrefix(last.Error(), "provider "))
			switch {
			case last.Fault == FaultBusy, last.Fault == FaultBroken, fault == FaultBusy:
				fault = FaultBusy
			case last.Fault == FaultExhausted:
				fault = FaultExhausted
			}
		}
		left := f.pace.Pause // it works, or somebody tries it just now
		if !until.IsZero() {
			left = max(time.Until(until), f.pace.Pause)
		}
		wait = min(wait, left)
	}
	e := &Error{Provider: f.name, Fault: fault, After: wait, Err: errors.New("none of them answers: " + strings.Join(why, "; "))}
	switch {
	case rejected == len(f.hosts):
		return failed[0]
	case rejected > 0: // and another one may take it
		e.Fault, e.Err = FaultAnswer, fmt.Errorf("rejected by some, and others are away: %w", failed[0])
	case broken: // by this question, may be
		e.Fault = FaultBroken
	}
	return e
}

// admit says whether the provider is to be asked: it works, or its rest is
// over and nobody tries it yet.
func (h *host) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.until.IsZero():
		return true
	case h.trying, time.Now().Before(h.until):
		return false
	}
	h.trying = true
	return true
}

// judge takes note of how a question ended.
func (f *Failover) judge(h *host, fault *Error, err error) {
	h.mu.Lock()
	until, told := f.judged(h, fault, err)
	h.mu.Unlock()
	if told {
		f.pace.Told(h.Name(), until, err)
	}
}

// judged is judge for who holds the host. told says that it came to rest, or
// works again.
func (f *Failover) judged(h *host, fault *Error, err error) (until time.Time, told bool) {
	now := time.Now()
	resting := !h.until.IsZero()
	switch {
	case err != nil && fault == nil: // the caller left: nothing is known
		h.trying = false
		return h.until, false
	case fault == nil, fault.Fault == FaultRefused, fault.Fault == FaultAnswer:
		if resting && now.Before(h.until) { // it was asked before the rest
			return h.until, false
		}
		h.broken, h.rests, h.until, h.trying, h.why = 0, 0, time.Time{}, false, nil
		return h.until, resting
	case resting && now.Before(h.until): // one that was in hand when the rest began
		if asked := now.Add(fault.After); asked.After(h.until) {
			h.until = asked
		}
		return h.until, false
	case fault.Fault == FaultBroken && !resting:
		h.why = fault
		if h.broken++; h.broken < brokenEnough {
			return h.until, false
		}
	}
	rest := min(f.pace.Pause<<min(h.rests, 20), f.pace.Longest)
	rest = rest/2 + time.Duration(mathrand.Int64N(int64(rest/2)+1))
	if fault.Fault == FaultExhausted {
		rest = max(rest, exhausted)
	}
	h.rests++
	h.until, h.trying, h.why = now.Add(max(rest, fault.After)), false, fault
	return h.until, !resting
}
