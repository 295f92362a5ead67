package pipeline

import (
	"time"
	"unicode/utf8"

	"github.com/seed-245eaa15/obs/events"
)

// State is how a worker is, for health pages and metrics.
type State struct {
	ID, Name, Build string
	Held            bool          // the ledger knows that we live; no handler runs otherwise
	SeenAgo         time.Duration // since it was last told; zero before the first time
	Lanes           []LaneState   // in the order of Handle
}

// LaneState is how one lane is. The numbers count attempts since the start.
//
// RestUntil is when the lane's rest ends. When it is past, the lane tries with
// one job at a time, and may be without one. It is zero when the lane works:
// after a success, and when no job came to try with for longer than any that
// was refused may wait.
type LaneState struct {
	Kind      events.Kind
	Slots     int
	Active    int       // begun and not settled
	Completed int64     //
	Failed    int64     // for good
	Retried   int64     // failed, to be tried again
	Released  int64     // given back unfinished
	Lost      int64     // not ours any more when they were to be settled
	Refused   int64     // messages that were no job
	LastError string    // of an attempt; empty when there was none
	LastErrAt time.Time //
	Trouble   string    // what the lane waits for now: the broker or the ledger; empty when it works
	RestUntil time.Time // zero when it works
	RestsFor  string    // what was refused; empty when RestUntil is zero
	Rests     int64     // so many since the start
}

type counts struct {
	completed, failed, retried, released, lost, refused int64

	lastError string
	lastErrAt time.Time
	trouble   string
}

// settle counts an attempt that the ledger has answered for.
func (c *counts) settle(a *attempt, refused error) {
	if a.err != nil {
		c.lastError, c.lastErrAt = a.reason, time.Now()
	}
	if refused != nil {
		c.lost++
		return
	}
	switch a.end {
	case events.Completed:
		c.completed++
	case events.Failed:
		c.failed++
	case events.RetryScheduled:
		c.retried++
	default:
		c.released++
	}
}

func (l *lane) count(f func(*counts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.counts)
}

// broken notes what the lane waits for; nil that it waits no more.
func (l *lane) broken(err error) {
	l.count(func(c *counts) {
		c.trouble = ""
		if err != nil {
			c.trouble = reason(err.Error())
		}
	})
}

// State tells how the worker is now.
func (w *Worker) State() State {
	s := State{ID: w.holder.ID, Name: w.holder.Name, Build: w.holder.Build, Lanes: make([]LaneState, 0, len(w.lanes))}
	s.SeenAgo, s.Held = w.lease.age()
	for _, l := range w.lanes {
		until, total, why := l.breaker.resting()
		restsFor := ""
		if why != nil && !until.IsZero() {
			restsFor = reason(why.Error())
		}
		l.mu.Lock()
		c := l.counts
		s.Lanes = append(s.Lanes, LaneState{
			RestUntil: until, RestsFor: restsFor, Rests: total,
			Kind: l.kind, Slots: l.cfg.Slots, Active: len(l.running),
			Completed: c.completed, Failed: c.failed, Retried: c.retried, Released: c.released, Lost: c.lost,
			Refused: c.refused, LastError: c.lastError, LastErrAt: c.lastErrAt, Trouble: c.trouble,
		})
		l.mu.Unlock()
	}
	return s
}

// short makes a reason for the broker: it travels on one line of the protocol.
func short(s string) string {
	line := []byte(reason(s))
	for i, b := range line {
		if b == '\n' || b == '\t' {
			line[i] = ' '
		}
	}
	for len(line) > 200 {
		_, n := utf8.DecodeLastRune(line)
		line = line[:len(line)-n]
	}
	return string(line)
}
