package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Mode says how several messages are published at once.
type Mode string

// The modes. In all of them a single message is one plain publish.
const (
	// Auto is Async, but for a server that syncs each message to the disk: that
	// is Atomic. It finds out by the time that messages take.
	Auto Mode = "auto"
	// Atomic publishes batches that are stored whole: where the server syncs
	// what it stores, this is one sync a batch instead of one a message. It
	// costs the server much for each batch, and so a small one is dear.
	Atomic Mode = "atomic"
	// Async publishes message by message and does not wait between.
	Async Mode = "async"
)

// What the server says for which there is no value in the client.
const (
	codeStreamFull     jetstream.ErrorCode = 10077
	codeNoResources    jetstream.ErrorCode = 10023
	codeNoStorage      jetstream.ErrorCode = 10047
	codeOtherStream    jetstream.ErrorCode = 10060
	maxAtomicBatch                         = 1000      // the server's limit
	asyncPending                           = 16 * 1000 // more than relay and feed ever have in flight
	afterUnknownAnswer                     = time.Minute
)

// ack is what became of one message.
type ack struct {
	seq       uint64
	duplicate bool
	err       error
}

// publisher puts messages on one stream.
type publisher struct {
	js      jetstream.JetStream
	mode    Mode
	timeout time.Duration
	single  atomic.Int64 // Unix nanoseconds; until then this server gets no batches

	mu    sync.Mutex // held while a chain is written
	after time.Time  // no chain before

	judged atomic.Int32 // publishes that were judged by
	slow   atomic.Int32 // publishes in a row of which each message took as long as if it were synced
	synced atomic.Int64 // Unix nanoseconds; until then Auto takes the server for one that syncs each message
	alone  atomic.Int64 // nanoseconds that one took then
}

func newPublisher(js jetstream.JetStream, mode Mode, timeout time.Duration) *publisher {
	return &publisher{js: js, mode: mode, timeout: timeout}
}

// newJS is the caller's JetStream with the limits that publishing needs: by
// default an asynchronous publish whose answer is lost is waited for for ever.
func newJS(js jetstream.JetStream, timeout time.Duration) (jetstream.JetStream, error) {
	o := js.Options()
	opts := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncTimeout(timeout),
		jetstream.WithPublishAsyncMaxPending(asyncPending),
		jetstream.WithDefaultTimeout(timeout),
	}
	switch {
	case o.Domain != "":
		return jetstream.NewWithDomain(js.Conn(), o.Domain, opts...)
	case o.APIPrefix != "":
		return jetstream.NewWithAPIPrefix(js.Conn(), o.APIPrefix, opts...)
	default:
		return jetstream.New(js.Conn(), opts...)
	}
}

// publish sends at most maxAtomicBatch messages and says what became of each.
// A message that failed may be on the stream all the same.
func (p *publisher) publish(ctx context.Context, msgs []*nats.Msg) []ack {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var acks []ack
	for p.mode == Auto && p.judged.Load() < slowInARow && len(msgs) >= 2*fewForBatch { // few tell as much
		acks = append(acks, p.singly(ctx, msgs[:fewForBatch])...)
		msgs = msgs[fewForBatch:]
	}
	if p.batches(len(msgs)) {
		if batch, err := p.batch(ctx, msgs); err == nil {
			return append(acks, batch...)
		}
	}
	return append(acks, p.singly(ctx, msgs)...)
}

const (
	fewForBatch = 64                     // Auto makes no batch of fewer, and no judgement by fewer
	slowMessage = 150 * time.Microsecond // a message that takes longer, among many, was synced
	slowInARow  = 3
	trustSynced = time.Minute
)

// batches reports whether to try a batch of n.
func (p *publisher) batches(n int) bool {
	now := time.Now().UnixNano()
	if n < 2 || now < p.single.Load() {
		return false
	}
	return p.mode == Atomic || p.mode == Auto && n >= fewForBatch && now < p.synced.Load()
}

// timed tells Auto how long n messages took, one by one or in a batch.
func (p *publisher) timed(n int, took time.Duration, batch bool) {
	if p.mode != Auto || n < fewForBatch {
		return
	}
	each := int64(took) / int64(n)
	p.judged.Add(1)
	switch {
	case !batch && each < int64(slowMessage):
		p.slow.Store(0)
	case !batch && p.slow.Add(1) >= slowInARow: // one of them would have been fast on a machine that is only busy
		p.slow.Store(slowInARow - 1) // the next time one is enough
		p.alone.Store(each)
		p.synced.Store(time.Now().Add(trustSynced).UnixNano())
	case batch && each > p.alone.Load()/2: // it was something else
		p.synced.Store(0)
	}
}

// singly publishes message by message.
func (p *publisher) singly(ctx context.Context, msgs []*nats.Msg) []ack {
	if acks := p.chain(ctx, msgs); acks != nil {
		return acks
	}
	return p.async(ctx, msgs) // what the stream has of them already, it drops by their ids
}

// mistrust is how long messages are confirmed one by one after a chain broke.
const mistrust = time.Second

// chain asks for an answer to the first and the last message only: an answer
// to each costs the server and us about as much as the message does. Every
// message demands that the stream's last one is the one before it, so the
// answer to the last one speaks for all, and for their sequences, if the first
// one is new as well and lies as far before it as it should. Otherwise one that
// the stream knew as its very last would be dropped as known, and let those
// behind it through, whatever became of those before it. Nil: the chain broke,
// since somebody else published in between, or the stream knew one of them or
// did not take it.
func (p *publisher) chain(ctx context.Context, msgs []*nats.Msg) []ack {
	if len(msgs) < 2 {
		return nil
	}
	began := time.Now()
	first, last := p.link(msgs)
	if last == nil {
		return nil
	}
	if z := answer(ctx, last); z.err == nil && !z.duplicate {
		a, n := answer(ctx, first), uint64(len(msgs)-1)
		if a.err == nil && !a.duplicate && a.seq+n == z.seq {
			p.timed(len(msgs), time.Since(began), false)
			acks := make([]ack, len(msgs))
			for i := range acks {
				acks[i].seq = a.seq + uint64(i)
			}
			return acks
		}
	}
	unlink(msgs) // each of them is asked about again
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = time.Now().Add(mistrust)
	return nil
}

// link writes the messages as a chain. Nil: not all of it was written.
func (p *publisher) link(msgs []*nats.Msg) (first, last jetstream.PubAckFuture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.after) {
		return nil, nil
	}
	var before []string
	for i, m := range msgs {
		id := m.Header[jetstream.MsgIDHeader]
		if i > 0 {
			m.Header[jetstream.ExpectedLastMsgIDHeader] = before
			if id[0] == before[0] { // it would be dropped, and the chain go on
				unlink(msgs)
				return nil, nil
			}
		}
		before = id
		var err error
		switch i {
		case 0:
			first, err = p.js.PublishMsgAsync(m)
		case len(msgs) - 1:
			last, err = p.js.PublishMsgAsync(m)
		default:
			err = p.js.Conn().PublishMsg(m)
		}
		if err != nil {
			unlink(msgs)
			return nil, nil
		}
	}
	return first, last
}

// unlink leaves the first one alone: it had no such header, and its answer may
// still be waited for.
func unlink(msgs []*nats.Msg) {
	for _, m := range msgs[1:] {
		m.Header.Del(jetstream.ExpectedLastMsgIDHeader)
	}
}

// answer waits for what became of a message.
func answer(ctx context.Context, f jetstream.PubAckFuture) ack {
	select {
	case a := <-f.Ok():
		return ack{seq: a.Sequence, duplicate: a.Duplicate}
	case err := <-f.Err():
		return ack{err: err}
	case <-ctx.Done():
		return ack{err: fmt.Errorf("no answer: %w", context.Cause(ctx))}
	}
}

// batch publishes all or nothing. Its error means that the messages have to
// be published one by one.
func (p *publisher) batch(ctx context.Context, msgs []*nats.Msg) ([]ack, error) {
	began := time.Now()
	acks := make([]ack, len(msgs))
	a, err := jetstreamext.PublishMsgBatch(ctx, p.js, msgs, jetstreamext.BatchFlowControl{AckFirst: false})
	if err == nil {
		p.timed(len(msgs), time.Since(began), true)
		first := a.Sequence - uint64(len(msgs)) + 1
		for i := range acks {
			acks[i].seq = first + uint64(i)
		}
		return acks, nil
	}
	if !isolates(err) {
		for i := range acks {
			acks[i].err = err
		}
		return acks, nil
	}
	switch c := code(err); {
	case isRefused(err), isFull(err), c == jetstreamext.JSErrCodeBatchPublishDuplicateMsgID,
		c == jetstreamext.JSErrCodeBatchPublishIncomplete: // what a message that is too large makes of its batch
	default: // an old server, or one with other limits; it may be a new one soon
		p.single.Store(time.Now().Add(afterUnknownAnswer).UnixNano())
	}
	for _, m := range msgs {
		m.Header.Del(jetstreamext.BatchIDHeader)
		m.Header.Del(jetstreamext.BatchSeqHeader)
		m.Header.Del(jetstreamext.BatchCommitHeader)
	}
	return nil, err
}

// isolates reports whether a batch failed by what is in it, by its size, or
// because it is a batch, so that its messages may fare better alone.
func isolates(err error) bool {
	switch code(err) {
	case 0:
		return isRefused(err) || errors.Is(err, jetstreamext.ErrInvalidBatchAck)
	case codeNoResources, codeNoStorage, codeOtherStream, jetstream.JSErrCodeStreamNotFound,
		jetstreamext.JSErrCodeAtomicPublishTooManyInflight, jetstreamext.JSErrCodeBatchPublishTooManyInflight:
		return false
	default:
		return true
	}
}

// async publishes one by one without waiting between.
func (p *publisher) async(ctx context.Context, msgs []*nats.Msg) []ack {
	acks := make([]ack, len(msgs))
	if ctx.Err() != nil {
		for i := range acks {
			acks[i].err = fmt.Errorf("no answer: %w", context.Cause(ctx))
		}
		return acks
	}
	futures := make([]jetstream.PubAckFuture, len(msgs))
	for i, m := range msgs {
		futures[i], acks[i].err = p.js.PublishMsgAsync(m)
	}
	for i, f := range futures {
		if acks[i].err == nil {
			acks[i] = answer(ctx, f)
		}
	}
	return acks
}

// code is the server's number for an error, 0 where it has none.
func code(err error) jetstream.ErrorCode {
	if e, ok := errors.AsType[jetstream.JetStreamError](err); ok && e.APIError() != nil {
		return e.APIError().ErrorCode
	}
	return 0
}

// isFull: the stream takes no more for now.
func isFull(err error) bool { return code(err) == codeStreamFull }

// isGone: there is no such stream, or nobody who would know it.
func isGone(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		code(err) == jetstream.JSErrCodeStreamNotFound || code(err) == jetstream.JSErrCodeConsumerNotFound
}

// isRefused: this message will never be taken as it is.
func isRefused(err error) bool {
	return code(err) == jetstream.JSErrCodeStreamMessageExceedsMaximum ||
		errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject)
}
