package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Mode says how several messages are published at once.
type Mode string

// The modes. In all of them a single message is one plain publish.
const (
	// Auto is Async, but for a server that syncs each message to the disk: that
	// is Atomic. It finds out by the time that messages take, see judge.
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
	copies  int // of the stream
	timeout time.Duration
	single  atomic.Int64 // Unix nanoseconds; until then this server gets no batches

	mu    sync.Mutex // held while a chain is written
	after time.Time  // no chain before

	line   chan struct{}   // holds a value while a batch is written
	before <-chan struct{} // closed when the batch before is answered; belongs to whoever is in line

	judge judge // used by Auto
}

func newPublisher(js jetstream.JetStream, mode Mode, copies int, timeout time.Duration) *publisher {
	return &publisher{js: js, mode: mode, copies: copies, timeout: timeout, line: make(chan struct{}, 1)}
}

// replicated reports whether the stream may have copies on other servers.
func (p *publisher) replicated() bool {
	return p.copies > 1 || p.js.Conn().ConnectedClusterName() != ""
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
	if p.mode == Auto {
		acks = p.probe(ctx, msgs)
		msgs = msgs[len(acks):]
	}
	if p.batches(len(msgs)) {
		if batch, err := p.batch(ctx, msgs); err == nil {
			return append(acks, batch...)
		}
	}
	return append(acks, p.singly(ctx, msgs)...)
}

// batches reports whether to try a batch of n.
func (p *publisher) batches(n int) bool {
	return n >= 2 && p.batching() && (p.mode == Atomic || n >= fewForBatch)
}

// ordered is batches where the messages have to keep their order: without a
// chain the next one waits for the answer to the one before it.
func (p *publisher) ordered(n int) bool {
	return p.batches(n) || n >= 2 && p.mode == Auto && p.knowsBatches() && p.replicated()
}

// batching reports whether many messages go in batches, which is dear for few.
func (p *publisher) batching() bool {
	return p.knowsBatches() && (p.mode == Atomic || p.mode == Auto && p.judge.synced())
}

func (p *publisher) knowsBatches() bool { return time.Now().UnixNano() >= p.single.Load() }

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
//
// Never where the stream has copies: there nats-server compares the expected
// message only when all have agreed to store it, and takes one that does not
// fit for a disk that is broken. Then each copy is closed for good.
func (p *publisher) chain(ctx context.Context, msgs []*nats.Msg) []ack {
	if len(msgs) < 2 || p.replicated() {
		return nil
	}
	began := time.Now()
	first, last := p.link(msgs)
	if first == nil {
		return nil
	}
	a := answer(ctx, first) // also of a broken one: until then the client may send it anew, and whoever made it must not
	if last == nil {
		return nil
	}
	if z, n := answer(ctx, last), uint64(len(msgs)-1); a.err == nil && z.err == nil && !a.duplicate && !z.duplicate && a.seq+n == z.seq {
		p.judge.singly(len(msgs), began)
		acks := make([]ack, len(msgs))
		for i := range acks {
			acks[i].seq = a.seq + uint64(i)
		}
		return acks
	}
	unlink(msgs) // each of them is asked about again
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = time.Now().Add(mistrust)
	return nil
}

// link writes the messages as a chain. No last: not all of it was written, and
// no first: nothing.
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
				return first, nil
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
			delete(m.Header, jetstream.ExpectedStreamHeader) // on another one there is none of those before it
			err = p.js.Conn().PublishMsg(m)
		}
		if err != nil {
			unlink(msgs)
			return first, nil
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
	nameStream(msgs)
}

// nameStream has each message say again which stream it is for, as the first one
// does: in a chain or a batch it speaks for all.
func nameStream(msgs []*nats.Msg) {
	if stream := msgs[0].Header[jetstream.ExpectedStreamHeader]; stream != nil {
		for _, m := range msgs[1:] {
			m.Header[jetstream.ExpectedStreamHeader] = stream
		}
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
	last, err := p.commit(ctx, msgs)
	if err == nil {
		p.judge.batch(len(msgs), began)
		first := last - uint64(len(msgs)) + 1
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
	nameStream(msgs)
	return nil, err
}

// commit writes a batch and waits until it is stored as a whole, which is one
// sync where the server syncs. It returns the sequence of the last message.
//
// The server answers when it has done all that had come by the time it began. So
// a batch is written while the one before it is stored, but ends only when that
// one is answered: else several would be answered together, and the server have
// nothing to do while we make the next ones.
func (p *publisher) commit(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	select {
	case p.line <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("no turn: %w", context.Cause(ctx))
	}
	before, done := p.before, make(chan struct{})
	p.before = done
	defer close(done)
	id, end := nuid.Next(), len(msgs)-1
	err := p.stage(msgs, id)
	if err == nil && before != nil {
		select {
		case <-before:
		case <-ctx.Done():
			err = fmt.Errorf("no answer to the batch before: %w", context.Cause(ctx))
		}
	}
	<-p.line
	if err != nil {
		return 0, err
	}
	reply, err := p.js.Conn().RequestMsgWithContext(ctx, msgs[end])
	if err != nil {
		return 0, err
	}
	var a struct {
		Error *jetstream.APIError `json:"error"`
		jetstreamext.BatchAck
	}
	switch err := json.Unmarshal(reply.Data, &a); {
	case err != nil:
		return 0, jetstream.ErrInvalidJSAck
	case a.Error != nil:
		return 0, a.Error
	case a.BatchID != id || a.BatchSize != uint64(len(msgs)): // a server that knows no batches
		return 0, jetstreamext.ErrInvalidBatchAck
	}
	return a.Sequence, nil
}

// stage writes a batch but for its last message, and makes that ready.
func (p *publisher) stage(msgs []*nats.Msg, id string) error {
	batch := []string{id}
	for i, m := range msgs {
		m.Header[jetstreamext.BatchIDHeader] = batch
		m.Header[jetstreamext.BatchSeqHeader] = []string{strconv.Itoa(i + 1)}
		if i > 0 { // another stream has no batch of this name; and the server looks through the headers many times
			delete(m.Header, jetstream.ExpectedStreamHeader)
		}
		if i == len(msgs)-1 {
			m.Header[jetstreamext.BatchCommitHeader] = []string{"1"}
			break
		}
		if err := p.js.Conn().PublishMsg(m); err != nil {
			return err
		}
	}
	return nil
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
