package outbox

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	fewForBatch = 64                    // Auto makes no batch of fewer: one costs the server 2 ms
	fewToJudge  = 32                    // … and no judgement by fewer
	slowMessage = 50 * time.Microsecond // a message that takes longer, among many, was synced: without it is 10
	slowInARow  = 3                     // on a machine that is only busy one of them would have been fast
	vainInARow  = 3                     // the same of batches
	trustSynced = time.Minute
	trustBusy   = 10 * time.Second
)

// judge finds out whether the server syncs each message to the disk, by the
// time that messages take. The server tells nobody.
type judge struct {
	probing sync.Mutex // held by the one publish that finds out; the others wait for what it finds

	mu    sync.Mutex
	tries int           // what was judged by, up to slowInARow
	slow  int           // of those, in a row, that took as long as if each message were synced
	alone time.Duration // what one message took then
	vain  int           // batches in a row that were not worth it
	way   time.Duration // to the server and back, as last measured
	until time.Time     // it is taken for one that syncs
	calm  time.Time     // nothing is found out before: it was busy, and no batch was faster
	ended time.Time     // when the last of those that were judged by had its answer
}

// probe publishes the first few of many messages by themselves while it is not
// known, or not any more, whether the server syncs: few tell as much, and with
// syncing many would take long.
func (p *publisher) probe(ctx context.Context, msgs []*nats.Msg) (acks []ack) {
	j := &p.judge
	if len(msgs) < 2*fewToJudge || !j.open() {
		return nil
	}
	j.probing.Lock()
	defer j.probing.Unlock()
	if !j.open() {
		return nil
	}
	var ways []time.Duration
	for range slowInARow { // on a busy machine one of them takes longer than the messages
		if began := time.Now(); p.js.Conn().FlushWithContext(ctx) == nil {
			ways = append(ways, time.Since(began))
		}
	}
	if len(ways) > 0 {
		j.far(slices.Min(ways))
	}
	for range slowInARow {
		rest := msgs[len(acks):]
		if len(rest) < 2*fewToJudge || !j.open() {
			break
		}
		acks = append(acks, p.singly(ctx, rest[:fewToJudge])...)
	}
	return acks
}

// open reports whether there is something to find out.
func (j *judge) open() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	return now.After(j.calm) && (j.tries < slowInARow || j.slow >= slowInARow-1 && now.After(j.until))
}

// synced reports whether the server is taken for one that syncs each message.
func (j *judge) synced() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Now().Before(j.until)
}

// far tells how long the way to the server and back takes at least.
func (j *judge) far(way time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.way = way
}

// took is what one of n messages took that were begun then and are over now,
// without the way. The server does one thing after the other, so what was before
// is no part of it.
func (j *judge) took(n int, began time.Time) (each time.Duration, now time.Time) {
	now = time.Now()
	took := now.Sub(began) - j.way
	if j.ended.After(began) {
		took = now.Sub(j.ended)
	}
	j.ended = now
	return max(0, took) / time.Duration(n), now
}

// singly judges by n messages that were published one by one.
func (j *judge) singly(n int, began time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	each, now := j.took(n, began)
	if n < fewToJudge || now.Before(j.calm) {
		return
	}
	j.tries = min(j.tries+1, slowInARow)
	if each < slowMessage {
		j.slow = 0
		return
	}
	j.slow++
	if j.slow >= slowInARow {
		j.slow = slowInARow - 1 // the next time one is enough
		j.alone, j.until = each, now.Add(trustSynced)
	}
}

// batch judges by a batch of n messages.
func (j *judge) batch(n int, began time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	each, now := j.took(n, began)
	switch {
	case n < fewForBatch || !now.Before(j.until):
	case each <= j.alone*3/4:
		j.vain = 0
	default: // where a disk is shared, one says nothing
		j.vain++
	}
	if j.vain >= vainInARow { // it was something else
		j.vain, j.slow, j.until, j.calm = 0, 0, time.Time{}, now.Add(trustBusy)
	}
}
