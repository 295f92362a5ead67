package outbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/seed-245eaa15/obs/events"
)

// The shortest time between two messages of one process's bell: for jobs, and
// for events, which a relay tells no more often.
const (
	bellGap = time.Millisecond
	toldGap = feedGap
)

// How many jobs a ring names at most, and how many are kept for a relay that
// has not yet heard of them: more are read faster than they are told.
const (
	mostNamed = 8
	mostHeard = 64
)

// Bell tells relays that something was committed: those of this process by a
// channel, those of others by one core NATS message. It is a hint. A ring that
// is lost costs a poll's wait and nothing else.
type Bell struct {
	nc      *nats.Conn
	subject string
	id      string // of this bell: its own messages need not wake it a second time
	asks    chime
	told    chime

	mu    sync.Mutex
	said  names // to go out with the next ring for jobs
	heard names // that came with those that Wake tells of
}

// names are the attempts that rings were for.
type names struct {
	asks  []events.Envelope
	other bool // and for some that they do not name
}

func (n *names) add(most int, asks []events.Envelope, other bool) {
	switch {
	case n.other: // all is read anyway
	case other || len(n.asks)+len(asks) > most:
		n.asks, n.other = nil, true
	default:
		n.asks = append(n.asks, asks...)
	}
}

// take gives the names and forgets them.
func (b *Bell) take(n *names) names {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := *n
	*n = names{}
	return taken
}

// chime is what a bell can say.
type chime struct {
	gap     time.Duration
	pending atomic.Bool
	last    atomic.Int64 // when it last went out, Unix nanoseconds
	here    chan struct{}
}

// onlyTold stands behind the id of a bell that rang because of events alone.
// To a relay that does not know it, it is a ring as any other.
const onlyTold = " told"

// NewBell makes a bell on the subject of [Streams.WakeSubject]. A nil
// connection rings in this process only. The caller keeps the connection.
func NewBell(nc *nats.Conn, prefix string) *Bell {
	b := &Bell{nc: nc, subject: Streams{Prefix: prefix}.WakeSubject(), id: nuid.Next()}
	b.asks.gap, b.asks.here = bellGap, make(chan struct{}, 1)
	b.told.gap, b.told.here = toldGap, make(chan struct{}, 1)
	return b
}

// Ring says that jobs were queued. Call it after the commit. It never
// blocks, and rings within a millisecond of each other go out as one.
//
// Who queued few may name the attempts that were asked for, all of them: then a
// relay with Config.Named publishes them without reading the outbox first. Only
// those may be named that are committed and due: for any other the worker finds
// no job, or begins it before its time.
func (b *Bell) Ring(queued ...events.Envelope) {
	b.mu.Lock()
	b.said.add(mostNamed, queued, len(queued) == 0)
	b.mu.Unlock()
	b.ring(&b.asks)
}

// Settled rings for steps that were stored, and says whether jobs were queued
// by them or only followers have to be told. It is for pipeline.Config.
func (b *Bell) Settled(steps []events.Step) {
	if slices.ContainsFunc(steps, func(st events.Step) bool { return st.Event.Type.Asks() && st.Delay <= 0 }) {
		b.Ring()
		return
	}
	b.ring(&b.told)
}

// Named gives what the rings that were heard since the last call were for, and
// whether they named all of it; it is for [Config.Named].
func (b *Bell) Named() (asks []events.Envelope, all bool) {
	heard := b.take(&b.heard)
	return heard.asks, !heard.other
}

func (b *Bell) ring(c *chime) {
	if c.pending.Swap(true) {
		return // the one that goes out next tells of this commit too
	}
	since := time.Since(time.Unix(0, c.last.Load()))
	if since < 0 || since >= c.gap {
		go b.out(c)
		return
	}
	time.AfterFunc(c.gap-since, func() { b.out(c) })
}

func (b *Bell) out(c *chime) {
	c.last.Store(time.Now().UnixNano())
	c.pending.Store(false) // before the sending: a later commit rings again
	body := []byte(b.id)
	if c == &b.told {
		body = append(body, onlyTold...)
		poke(c.here)
	} else {
		said := b.take(&b.said)
		if len(said.asks) == 0 && !said.other {
			return // the ring before has told of it
		}
		for _, e := range said.asks {
			body = append(append(body, '\n'), e.Marshal()...)
		}
		b.hear(said)
	}
	if b.nc != nil {
		// An error here means that the broker is away, and then nobody listens.
		_ = b.nc.Publish(b.subject, body)
	}
}

// hear keeps what a ring was for, and wakes the relay.
func (b *Bell) hear(n names) {
	b.mu.Lock()
	b.heard.add(mostHeard, n.asks, n.other)
	b.mu.Unlock()
	poke(b.asks.here)
}

// namesIn reads what a ring names. What cannot be read is as if it named nothing.
func namesIn(lines string) names {
	var n names
	for line := range strings.SplitSeq(lines, "\n") {
		e, err := events.ParseEnvelope([]byte(line))
		if err != nil || len(n.asks) == mostNamed {
			return names{other: true}
		}
		n.asks = append(n.asks, e)
	}
	return n
}

// Listen gives two channels, for [Config.Wake] and [Config.WakeFeed], which
// hold a value when anybody's bell has rung since they were last read: because
// of jobs, or of events alone; of what jobs, [Bell.Named] says. It
// listens until ctx ends; the channels are never closed. A bell has one listener.
func (b *Bell) Listen(ctx context.Context) (asks, told <-chan struct{}, err error) {
	if b.nc == nil {
		return b.asks.here, b.told.here, nil
	}
	sub, err := b.nc.Subscribe(b.subject, func(m *nats.Msg) {
		first, lines, named := strings.Cut(string(m.Data), "\n")
		id, ofEvents := strings.CutSuffix(first, onlyTold)
		switch {
		case id == b.id:
		case ofEvents:
			poke(b.told.here)
		case named:
			b.hear(namesIn(lines))
		default:
			b.hear(names{other: true})
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listen for the bell: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() }) // it fails when the connection is closed: then it is gone too
	return b.asks.here, b.told.here, nil
}

// poke puts a value into a channel of one place, if it is free.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
