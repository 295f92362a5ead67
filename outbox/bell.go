package outbox

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// bellGap is the shortest time between two messages of one process's bell.
const bellGap = time.Millisecond

// Bell tells relays that something was committed: those of this process by a
// channel, those of others by one core NATS message. It is a hint. A ring that
// is lost costs a poll's wait and nothing else.
type Bell struct {
	nc      *nats.Conn
	subject string
	id      string // of this bell: its own messages need not wake it a second time
	pending atomic.Bool
	last    atomic.Int64 // when it last went out, Unix nanoseconds
	here    chan struct{}
}

// NewBell makes a bell on the subject of [Streams.WakeSubject]. A nil
// connection rings in this process only. The caller keeps the connection.
func NewBell(nc *nats.Conn, prefix string) *Bell {
	return &Bell{nc: nc, subject: Streams{Prefix: prefix}.WakeSubject(), id: nuid.Next(), here: make(chan struct{}, 1)}
}

// Ring says that something was committed. Call it after the commit. It never
// blocks, and rings within a millisecond of each other go out as one.
func (b *Bell) Ring() {
	if b.pending.Swap(true) {
		return // the one that goes out next tells of this commit too
	}
	since := time.Since(time.Unix(0, b.last.Load()))
	if since < 0 || since >= bellGap {
		go b.ring()
		return
	}
	time.AfterFunc(bellGap-since, b.ring)
}

func (b *Bell) ring() {
	b.last.Store(time.Now().UnixNano())
	b.pending.Store(false) // before the sending: a later commit rings again
	poke(b.here)
	if b.nc != nil {
		// An error here means that the broker is away, and then nobody listens.
		_ = b.nc.Publish(b.subject, []byte(b.id))
	}
}

// Listen gives a channel that holds a value when anybody's bell has rung
// since it was last read. Pass it as [Config.Wake]. It listens until ctx
// ends; the channel is never closed. A bell has one listener.
func (b *Bell) Listen(ctx context.Context) (<-chan struct{}, error) {
	if b.nc == nil {
		return b.here, nil
	}
	sub, err := b.nc.Subscribe(b.subject, func(m *nats.Msg) {
		if string(m.Data) != b.id {
			poke(b.here)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen for the bell: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() }) // it fails when the connection is closed: then it is gone too
	return b.here, nil
}

// poke puts a value into a channel of one place, if it is free.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
