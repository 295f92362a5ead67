package outbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
)

const (
	readRows    = 3000                   // asks in one read
	gapAge      = 2 * time.Second        // how long a missing row is asked for again and again
	gapRows     = 1024                   // of which at most so many
	gapPoll     = 100 * time.Millisecond // the longest wait while there is a young gap
	delayedWait = 500 * time.Millisecond // between two looks for asks that have come due; twice that when there were none
	feedWait    = 10 * time.Millisecond  // after something was queued or published, events are looked for
	idleSlack   = 250 * time.Millisecond // how much too early an idle relay does what it has to
	ringGap     = time.Millisecond       // after a read, however often it rings
	hushFor     = 3 * time.Millisecond   // after an ask was published as a ring named it; see hush
	ringGapMost = 5 * time.Millisecond   // … where much comes, see pace
	ringGapOf   = 1000                   // asks a second that make it longer by ringGap
	paceOver    = 50 * time.Millisecond  // the time that is measured over
	sweepShare  = 50                     // a sweep is repeated after so many times what it took
	checkWait   = time.Second            // between two checks of what was sent
	cappedWait  = 50 * time.Millisecond  // … while a tenant's cap holds something back
	checkRows   = 2000                   // rows in one check
	staleAfter  = 2 * time.Second        // an ask read so long ago is checked before it is published
	lookups     = 64                     // messages that are looked for in one check
	reportWait  = 200 * time.Millisecond // between two updates of State
	askTimeout  = 2 * time.Second        // for a question to the broker
	retryFirst  = 50 * time.Millisecond  // after an error
	retryMax    = 2 * time.Second        // … doubling up to this
	refills     = 16                     // tenants read on in one pass
	delayedMax  = 16 * readRows          // asks in one look for those that have come due, at most
	overview    = time.Second            // a new leader publishes when it has seen all that waits, or after this
)

// term is one leadership. Everything in it belongs to the goroutine that
// calls run; only send runs beside it, on messages of its own.
type term struct {
	relay *Relay
	store Store
	cfg   Config
	js    jetstream.JetStream
	pub   *publisher

	start   time.Time
	rows    map[int64]*row           // every ask that is known and was not seen to go
	named   map[events.Envelope]*row // those that a ring named and that were not read yet
	lanes   map[events.Kind]*lane
	inLanes int // asks in queues
	sent    []*row
	refused []*row

	mark      int64 // immediate asks up to here were read, but for the gaps
	caughtUp  bool  // once the first read came to the end
	gaps      []gap
	readAt    time.Duration
	readWait  time.Duration
	calm      time.Duration // until then the store is asked for nothing that can wait
	hasRead   time.Duration // when the last read ended
	readGap   time.Duration // from then on, before a ring has it read again
	came      int           // asks that were read since paceAt
	paceAt    time.Duration
	delayedAt time.Duration
	delayed   int // rows to read of those
	sweepAt   time.Duration
	sweeping  bool
	sweepFrom int64
	sweepTook time.Duration

	reclaimAt time.Duration
	checkAt   time.Duration
	checking  []*row
	againAt   time.Duration // jobs are not asked for again before
	againWait time.Duration

	slots     map[events.Kind]int
	slotsAt   time.Duration
	ensured   bool
	stream    jetstream.Stream      // set once it was ensured
	info      *jetstream.StreamInfo // of this pass; nil until needed
	created   time.Time             // of the stream
	epoch     int                   // counts the streams that were lost
	storeAt   time.Duration
	storeWait time.Duration
	pubAt     time.Duration
	pubWait   time.Duration
	reportAt  time.Duration

	spare    sync.Pool // *[]*nats.Msg that were published
	results  chan parcel
	inFlight int
	wg       sync.WaitGroup
	feedWake chan struct{}
	feedLook chan struct{}
	feedAt   time.Duration // when to wake the follower; 0: nothing is to be told
	fresh    int           // messages that were new to the broker
}

type gap struct {
	row  int64
	seen time.Duration
}

// parcel is rows that are published together.
type parcel struct {
	rows  []*row
	acks  []ack
	epoch int // the term's when it was sent
}

func newTerm(r *Relay, js jetstream.JetStream) *term {
	t := &term{
		relay: r, store: r.store, cfg: r.cfg, js: js,
		start:    time.Now(),
		rows:     map[int64]*row{},
		named:    map[events.Envelope]*row{},
		lanes:    map[events.Kind]*lane{},
		delayed:  readRows,
		readGap:  ringGap,
		results:  make(chan parcel, r.cfg.InFlight),
		feedWake: make(chan struct{}, 1),
		feedLook: make(chan struct{}, 1),
	}
	t.pub = t.newPublisher()
	return t
}

// newPublisher is for the jobs, or for the feed: each has its own.
func (t *term) newPublisher() *publisher {
	return newPublisher(t.js, t.cfg.Mode, t.cfg.Streams.Replicas, t.cfg.PublishTimeout)
}

func (t *term) now() time.Duration { return time.Since(t.start) }

// run publishes until ctx ends.
func (t *term) run(ctx context.Context) {
	defer t.wg.Wait()
	if t.cfg.Named != nil { // what was named before we led is read
		t.cfg.Named()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := t.pass(ctx)
		if now := t.now(); now >= t.reportAt {
			t.report()
			t.reportAt = now + reportWait
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case p := <-t.results:
			_ = t.settle(ctx, p) // its error is in State, and delays the next publish
		case <-t.cfg.Wake:
			t.feedSoon()
			if t.cfg.Named == nil || !t.ahead(ctx) {
				t.readAt = min(t.readAt, max(t.now(), t.hasRead+t.readGap))
				t.readWait, t.calm = 0, 0
			}
		case <-t.cfg.WakeFeed:
			t.feedNow()
		}
	}
}

// feedSoon has the follower look before long. What was queued or published is
// soon begun, and a short job soon done: its worker's ring tells of all that at
// once, and until then the processors are the job's.
func (t *term) feedSoon() {
	switch {
	case t.cfg.WakeFeed == nil:
		t.feedNow()
	case t.feedAt == 0:
		t.feedAt = t.now() + feedWait
	}
}

func (t *term) feedNow() {
	t.feedAt = 0
	poke(t.feedWake)
}

// hush leaves the processors to a job that is on its way to its worker: what is
// due with the store waits until it should be there, and is done before it
// waits for another one.
func (t *term) hush() {
	if now := t.now(); now > t.calm+hushFor {
		t.calm = now + hushFor
	}
}

// hushed reports whether the store is left alone.
func (t *term) hushed() bool { return t.now() < max(t.storeAt, t.calm) }

// once passes until nothing is left that could be done now.
func (t *term) once(ctx context.Context) (int, error) {
	t.fresh = 0
	now := t.now()
	t.readAt, t.delayedAt, t.sweepAt, t.storeAt, t.pubAt = 0, 0, now, 0, 0
	for _, l := range t.lanes {
		l.window.next = 0
	}
	var err error
	for ctx.Err() == nil {
		_, err = t.try(ctx)
		busy := err == nil && (t.sweeping || !t.caughtUp || t.readAt <= t.now() && t.readWait == 0)
		wait := !busy || t.inFlight >= t.cfg.InFlight // else there is something to read meanwhile
		for t.inFlight > 0 && (wait || err != nil) {
			p := <-t.results
			if e := t.settle(ctx, p); e != nil {
				err = e
			}
			busy, wait = true, false
		}
		if err != nil || !busy {
			break
		}
	}
	t.report()
	return t.fresh, errors.Join(err, ctx.Err())
}

// pass does what is due and says how long it can wait.
func (t *term) pass(ctx context.Context) time.Duration {
	for {
		select {
		case p := <-t.results:
			_ = t.settle(ctx, p) // its error is in State, and delays the next publish
			continue
		default:
		}
		break
	}
	wait, _ := t.try(ctx) // its error is in State
	return wait
}

// try does the due work with the store, then publishes.
func (t *term) try(ctx context.Context) (wait time.Duration, err error) {
	t.info = nil
	if t.feedAt > 0 && t.now() >= t.feedAt {
		t.feedNow()
	}
	if !t.hushed() {
		err = t.ask(ctx)
		t.retry(ctx, "store", err, &t.storeAt, &t.storeWait)
	}
	if t.now() >= t.pubAt {
		err = errors.Join(err, t.publish(ctx))
	}
	if !t.hushed() {
		if e := t.count(ctx); e != nil {
			t.retry(ctx, "store", e, &t.storeAt, &t.storeWait)
			err = errors.Join(err, e)
		}
	}
	next := max(t.nextAsk(), t.calm)
	if t.now() < t.storeAt {
		next = t.storeAt
	}
	if at, ok := t.nextPublish(); ok && t.now() >= t.storeAt {
		next = min(next, at)
	}
	if t.feedAt > 0 {
		next = min(next, t.feedAt)
	}
	return max(0, next-t.now()), err
}

// retry notes an error, and when to try again.
func (t *term) retry(ctx context.Context, area string, err error, at, wait *time.Duration) {
	if ctx.Err() != nil {
		return // what fails now fails because we stop
	}
	t.relay.trouble(ctx, area, err)
	if err == nil {
		*at, *wait = 0, 0
		return
	}
	*wait = min(max(2**wait, retryFirst), retryMax)
	*at = t.now() + jitter(*wait)
}

// nextAsk is when something is to be asked of the store. Whatever it names,
// ask must do then, or run would go round and round until something else is due.
func (t *term) nextAsk() time.Duration {
	if t.sweeping || len(t.checking) > 0 {
		return 0
	}
	next := min(t.readAt, t.delayedAt, t.reclaimAt, t.checkAt)
	if t.caughtUp { // no sweep before
		next = min(next, t.sweepAt)
	}
	return next
}

// nextPublish is when something can be published, if there is anything; as with
// nextAsk, publish must then do something.
func (t *term) nextPublish() (time.Duration, bool) {
	if t.engaged() {
		return 0, false
	}
	at, found := time.Duration(0), false
	for _, l := range t.lanes {
		if l.rows == 0 && len(l.hungry) == 0 || l.capped {
			continue
		}
		if !found || l.window.next < at {
			at, found = l.window.next, true
		}
	}
	at = max(at, t.pubAt)
	if !t.caughtUp {
		at = max(at, overview)
	}
	return at, found
}

// launch publishes rows beside us. What became of them comes over results.
func (t *term) launch(ctx context.Context, rows []*row) {
	t.inFlight++
	epoch := t.epoch
	t.wg.Go(func() {
		msgs := t.messages(rows)
		acks := t.pub.publish(ctx, msgs[:len(rows)])
		if !slices.ContainsFunc(acks, func(a ack) bool { return a.err != nil }) {
			t.spare.Put(&msgs) // nobody waits for an answer to one of them any more
		}
		fault.At("relay.published")
		t.results <- parcel{rows: rows, acks: acks, epoch: epoch}
	})
}

// messages are those of rows, and maybe more behind them. They are written into old ones: with its headers,
// which are a map, one is most of the garbage of publishing it.
func (t *term) messages(rows []*row) []*nats.Msg {
	var msgs []*nats.Msg
	if old, ok := t.spare.Get().(*[]*nats.Msg); ok {
		msgs = *old
	}
	for len(msgs) < len(rows) {
		msgs = append(msgs, &nats.Msg{Header: nats.Header{}})
	}
	stream := []string{t.cfg.Streams.JobsStream()} // shared: the batch sets only headers of its own
	for i, r := range rows {
		e, m := &r.ask.Envelope, msgs[i]
		clear(m.Header)
		m.Header[jetstream.MsgIDHeader], m.Header[jetstream.ExpectedStreamHeader] = []string{e.MsgID()}, stream
		m.Subject, m.Data = r.tenant.lane.subject, e.Marshal()
	}
	return msgs
}
