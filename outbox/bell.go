package outbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

// Bell tells relays that something was committed: those of this process by a
// channel, those of others by one core NATS message. It is a hint. A ring that
// is lost costs a poll's wait and nothing else.
type Bell struct {
	nc      *nats.Conn
	subject string
	id      string // of this bell: its own messages need not wake it a second time
	asks    chime
	told    chime
}

// chime is what a bell can say.
type chime struct {
	body    []byte
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
	b.asks.body, b.asks.gap, b.asks.here = []byte(b.id), bellGap, make(chan struct{}, 1)
	b.told.body, b.told.gap, b.told.here = []byte(b.id+onlyTold), toldGap, make(chan struct{}, 1)
	return b
}

// Ring says that jobs were queued. Call it after the commit. It never
// blocks, and rings within a millisecond of each other go out as one.
func (b *Bell) Ring() { b.ring(&b.asks) }

// Settled rings for steps that were stored, and says whether jobs were queued
// by them or only followers have to be told. It is for pipeline.Config.
func (b *Bell) Settled(steps []events.Step) {
	if slices.ContainsFunc(steps, func(st events.Step) bool { return st.Event.Type.Asks() && st.Delay <= 0 }) {
		b.ring(&b.asks)
		return
	}
	b.ring(&b.told)
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
	poke(c.here)
	if b.nc != nil {
		// An error here means that the broker is away, and then nobody listens.
		_ = b.nc.Publish(b.subject, c.body)
	}
}

// Listen gives two channels, for [Config.Wake] and [Config.WakeFeed], which
// hold a value when anybody's bell has rung since they were last read: because
// of jobs, or of events alone. It listens until ctx ends; the channels are
// never closed. A bell has one listener.
func (b *Bell) Listen(ctx context.Context) (asks, told <-chan struct{}, err error) {
	if b.nc == nil {
		return b.asks.here, b.told.here, nil
	}
	sub, err := b.nc.Subscribe(b.subject, func(m *nats.Msg) {
		id, ofEvents := strings.CutSuffix(string(m.Data), onlyTold)
		switch {
		case id == b.id:
		case ofEvents:
			poke(b.told.here)
		default:
			poke(b.asks.here)
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
