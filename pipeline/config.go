package pipeline

import (
	"context"
	"crypto/rand"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// Config says how a Worker works. Its zero value is ready to use.
type Config struct {
	ID    string // names one run of this process in the ledger; empty means a random one
	Name  string // for people: a host and a process id; empty means the ID
	Build string // the program's version, for the history; may be empty

	Stream   string                          // the stream of jobs; empty means "JOBS"
	Consumer func(kind events.Kind) string   // the durable consumer of a kind; nil means "workers-" and the kind, as outbox names it
	Lanes    map[events.Kind]Lane            // the operator's word on lanes; it goes before that of Handle
	Lease    time.Duration                   // a worker not seen for so long holds nothing; zero means 30 s
	Grace    time.Duration                   // for handlers to finish once Run's context is done; zero means 20 s
	Breaker  Breaker                         // when a lane rests
	Backoff  func(attempt int) time.Duration // the wait after attempt 1, 2, …; nil means Exponential(1 s, 4, 10 min)

	// Heartbeat is how often the broker says, on a pull that waits, that it
	// is there. Silence for twice as long is trouble. Zero means 2 s.
	Heartbeat time.Duration

	// Settled is told, after each transaction that settled attempts, the steps
	// that it stored. It is the place to ring a relay's doorbell. The slice is
	// only good during the call, which must be short. Nil means nothing.
	Settled func(steps []events.Step)
	// Refused is told of each message that is not the job that it claims to
	// be, before it is terminated: the envelope as far as it could be read,
	// the message's body, and why. Nil means nothing.
	Refused func(ctx context.Context, e events.Envelope, body []byte, why error)

	Log *slog.Logger // nil means none
}

// Lane is how the jobs of one kind are done by one worker.
type Lane struct {
	Slots   int           // attempts at once; zero means 1, less than zero that this worker leaves the kind alone
	Timeout time.Duration // for a handler to return; zero means 5 min
	Brief   bool          // its jobs take milliseconds and may run twice at once; see [Brief]
}

// An Option says how a kind wants to be handled. Config.Lanes goes before it.
type Option func(*Lane)

// Slots sets the number of attempts at once.
func Slots(n int) Option { return func(l *Lane) { l.Slots = n } }

// Timeout sets how long a handler may take. Its context ends then, with
// [ErrTimeout] as the cause.
func Timeout(d time.Duration) Option { return func(l *Lane) { l.Timeout = d } }

// Brief says that the handler takes milliseconds, and that it does no harm when
// it runs twice at the same time, in two workers. Its jobs are then not claimed
// before they run: the first attempt of a job is stored as begun and as ended
// by the one transaction that settles it, which is half of what a short job
// costs. The results of one run are stored, whatever happens; those of a run
// that came second are dropped with its Commit. Until then the job is queued
// for everybody who looks, so nothing may rest on a job not being queued any
// more while its handler reads. A handler that has not returned after a quarter
// of a second is claimed like any other. Those that return at about the same
// time are settled together, and wait some milliseconds for each other.
func Brief() Option { return func(l *Lane) { l.Brief = true } }

func (c Config) withDefaults() Config {
	if c.ID == "" {
		c.ID = rand.Text()
	}
	if c.Name == "" {
		c.Name = c.ID
	}
	if c.Stream == "" {
		c.Stream = "JOBS"
	}
	if c.Consumer == nil {
		c.Consumer = func(kind events.Kind) string { return "workers-" + events.Token(string(kind)) }
	}
	if c.Lease <= 0 {
		c.Lease = 30 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 20 * time.Second
	}
	if c.Backoff == nil {
		c.Backoff = Exponential(time.Second, 4, 10*time.Minute)
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 2 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// lane puts the operator's word over the handler's, and that over the usual.
func (c Config) lane(kind events.Kind, opts []Option) Lane {
	l := Lane{Slots: 1, Timeout: 5 * time.Minute}
	for _, opt := range opts {
		opt(&l)
	}
	if word := c.Lanes[kind]; word.Slots != 0 {
		l.Slots = word.Slots
	}
	if word := c.Lanes[kind]; word.Timeout > 0 {
		l.Timeout = word.Timeout
	}
	l.Brief = l.Brief || c.Lanes[kind].Brief
	return l
}

// Exponential is a back-off: after attempt n it waits a random time of up to
// base × factor^(n-1), and of up to longest. That it is random from zero on
// spreads those who failed together.
func Exponential(base time.Duration, factor float64, longest time.Duration) func(attempt int) time.Duration {
	return func(attempt int) time.Duration {
		most := min(float64(base)*math.Pow(factor, float64(max(attempt, 1)-1)), float64(longest))
		return time.Duration(mathrand.Float64() * most)
	}
}
