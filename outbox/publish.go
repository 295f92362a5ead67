package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Mode says how several messages are published at once.
type Mode string

// The modes. In both a single message is one plain publish.
const (
	// Atomic publishes batches that are stored whole: on one server this is
	// one sync to disk a batch instead of one a message.
	Atomic Mode = "atomic"
	// Async publishes message by message and waits for all answers: as fast
	// on a cluster, whose log batches by itself.
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
	if len(msgs) == 1 {
		a, err := p.js.PublishMsg(ctx, msgs[0])
		if err != nil {
			return []ack{{err: err}}
		}
		return []ack{{seq: a.Sequence, duplicate: a.Duplicate}}
	}
	if !p.batches() {
		return p.async(ctx, msgs)
	}
	acks, err := p.batch(ctx, msgs)
	if err != nil {
		return p.async(ctx, msgs)
	}
	return acks
}

// batches reports whether to try a batch.
func (p *publisher) batches() bool {
	return p.mode != Async && time.Now().UnixNano() >= p.single.Load()
}

// batch publishes all or nothing. Its error means that the messages have to
// be published one by one.
func (p *publisher) batch(ctx context.Context, msgs []*nats.Msg) ([]ack, error) {
	acks := make([]ack, len(msgs))
	a, err := jetstreamext.PublishMsgBatch(ctx, p.js, msgs, jetstreamext.BatchFlowControl{AckFirst: false})
	if err == nil {
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
	futures := make([]jetstream.PubAckFuture, len(msgs))
	for i, m := range msgs {
		futures[i], acks[i].err = p.js.PublishMsgAsync(m)
	}
	for i, f := range futures {
		if acks[i].err != nil {
			continue
		}
		select {
		case a := <-f.Ok():
			acks[i] = ack{seq: a.Sequence, duplicate: a.Duplicate}
		case err := <-f.Err():
			acks[i].err = err
		case <-ctx.Done():
			acks[i].err = fmt.Errorf("no answer: %w", context.Cause(ctx))
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
