package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
)

// Config says how a relay works. The zero value is right for most: each
// field's comment names its default.
type Config struct {
	Streams        Streams         // what Ensure makes, and the relay makes again when it vanishes
	Lease          time.Duration   // a worker not seen for so long has lost its jobs; default 30 s
	PollMax        time.Duration   // how long an idle relay waits before it looks; default 1 s
	PollMin        time.Duration   // … and a busy one that nobody wakes; default 5 ms
	Batch          int             // messages in one batch, at most and by default 1000
	InFlight       int             // batches published at once, in Atomic one behind the other; default 3
	TenantCap      int             // messages of one tenant on the stream, per kind; default no limit
	WindowMin      int             // messages of one kind on the stream while nobody works; default 64
	WindowMax      int             // … and however fast the workers are; default 50,000, or WindowMin if that is more
	PublishTimeout time.Duration   // how long the broker may take to confirm; default 5 s
	Mode           Mode            // default Auto
	Wake           <-chan struct{} // holds a value when jobs were queued; see Bell. Nil: only polling
	WakeFeed       <-chan struct{} // … when there are only events to be told
	// Named says what Wake was rung for since it was last asked, and whether that
	// is all: few jobs that are named are published without being read first. Nil:
	// each ring has the store read.
	Named func() (asks []events.Envelope, all bool)
	Log   *slog.Logger // nil discards
}

func (c Config) withDefaults() Config {
	orTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	orInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	c.Streams = c.Streams.withDefaults()
	orTime(&c.Lease, 30*time.Second)
	orTime(&c.PollMax, time.Second)
	orTime(&c.PollMin, 5*time.Millisecond)
	orTime(&c.PublishTimeout, 5*time.Second)
	orInt(&c.Batch, maxAtomicBatch)
	c.Batch = min(c.Batch, maxAtomicBatch)
	orInt(&c.InFlight, 3)
	orInt(&c.WindowMin, 64)
	orInt(&c.WindowMax, max(50_000, c.WindowMin))
	if c.Mode == "" {
		c.Mode = Auto
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// standbyMax is how long a stand-by waits at most before it tries to lead.
const standbyMax = 2 * time.Second

// Relay publishes what a store's queued jobs ask for. Make it with [New].
type Relay struct {
	store Store
	feed  Feed
	js    jetstream.JetStream
	cfg   Config

	mu     sync.Mutex
	state  State
	errors map[string]string // :: what has a problem → its error
	once   *term             // what Once remembers
}

// New makes a relay that publishes on js what waits in store, and tells
// followers what is in feed (nil: nobody is told). The caller keeps all three;
// the connection behind js should have no reconnect buffer, so that a publish
// that was given up cannot appear later.
func New(store Store, feed Feed, js jetstream.JetStream, cfg Config) *Relay {
	return &Relay{store: store, feed: feed, js: js, cfg: cfg.withDefaults(), errors: map[string]string{}}
}

// Run leads when no other relay does and stands by otherwise, until ctx ends;
// then it returns nil. What the broker or the store refuse is tried again.
func (r *Relay) Run(ctx context.Context) error {
	js, err := newJS(r.js, r.cfg.PublishTimeout)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	defer js.CleanupPublisher()
	for ctx.Err() == nil {
		led, release, err := r.store.Lead(ctx)
		switch {
		case err == nil:
			r.trouble(ctx, "leadership", nil)
			r.cfg.Log.InfoContext(ctx, "relay leads")
			r.lead(led, js)
			release()
			r.cfg.Log.InfoContext(ctx, "relay leads no more")
		case errors.Is(err, ErrNotLeader):
			r.trouble(ctx, "leadership", nil)
		default:
			r.trouble(ctx, "leadership", err)
		}
		_ = pause(ctx, jitter(min(r.cfg.Lease/10, standbyMax))) // it ends early only with ctx
	}
	return nil
}

// lead publishes until led ends.
func (r *Relay) lead(led context.Context, js jetstream.JetStream) {
	t := newTerm(r, js)
	r.setLeader(true)
	defer r.setLeader(false)
	var wg sync.WaitGroup
	if r.feed != nil {
		f := newFollower(r, t.newPublisher(), t.feedWake, t.feedLook)
		wg.Go(func() { f.run(led) })
	}
	t.run(led)
	wg.Wait()
}

// Once publishes all that may be published now and returns the number of
// messages that were new to the broker. What it has learned is kept for the
// next call. ErrNotLeader when another relay leads. It is for tests and for
// programs that are run from time to time; do not mix it with Run.
func (r *Relay) Once(ctx context.Context) (int, error) {
	led, release, err := r.store.Lead(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	r.setLeader(true)
	defer r.setLeader(false)
	if r.once == nil {
		js, err := newJS(r.js, r.cfg.PublishTimeout)
		if err != nil {
			return 0, fmt.Errorf("relay: %w", err)
		}
		r.once = newTerm(r, js)
	}
	n, err := r.once.once(led)
	if err != nil || r.feed == nil {
		return n, err
	}
	f := newFollower(r, r.once.newPublisher(), nil, nil)
	for {
		told, more, err := f.pass(led)
		if err != nil || !more {
			return n, err
		}
		if told == 0 {
			return n, errors.New("the events stream confirmed nothing")
		}
	}
}

// jitter is d give or take a tenth, so that processes do not march in step.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(max(d/5, 1))
}
