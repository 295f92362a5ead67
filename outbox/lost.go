package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// check looks after the asks that the broker has confirmed, some at a time:
// those that are gone from the store were begun, or cancelled, and are
// forgotten. Of those that still wait it finds the ones whose message is
// lost, which is decided by the message and not by time, because a message
// may rightly lie on the stream for as long as the workers are away:
//
//   - the stream is another one than the message was put on: all are
//     published again under their ids, which a new stream does not know;
//   - the message's sequence is before the stream's first or behind its last
//     (purged, or the broker was set back);
//   - after a lease, and each lease from then on, the message is looked for at
//     its sequence, and is not there or is another one.
//
// In the last two cases the job is asked for again under a new message id,
// because the stream may remember the old one.
func (t *term) check(ctx context.Context) error {
	now := t.now()
	if len(t.checking) == 0 {
		t.checkAt = t.inASecond()
		capped := false
		for _, l := range t.lanes {
			capped = capped || l.capped
		}
		age := checkWait
		if capped {
			t.checkAt = now + cappedWait
			age = 0
		}
		t.sent = slices.DeleteFunc(t.sent, func(r *row) bool { return r.place != sent || t.rows[r.ask.Row] != r })
		for _, r := range t.sent {
			if now-r.sent >= age {
				t.checking = append(t.checking, r)
			}
		}
	}
	if len(t.checking) == 0 {
		return t.findLost(ctx, nil)
	}
	some := t.checking[:min(len(t.checking), checkRows)]
	t.checking = t.checking[len(some):]
	ids := make([]int64, len(some))
	for i, r := range some {
		ids[i] = r.ask.Row
	}
	there, err := t.waiting(ctx, ids)
	if err != nil {
		t.checking = nil
		return err
	}
	var unnoted []int64
	var still []*row
	for _, r := range some {
		switch {
		case r.place != sent: // the stream was lost meanwhile
		case !there[r.ask.Row]:
			t.release(r)
		case now-r.sent >= checkWait:
			r.read = now
			still = append(still, r)
			if !r.noted {
				unnoted = append(unnoted, r.ask.Row)
			}
		}
	}
	if len(unnoted) > 0 {
		if err := t.store.Enqueued(ctx, unnoted); err != nil {
			return wrap("note what the broker has", err)
		}
		for _, r := range still {
			r.noted = true
		}
	}
	return t.findLost(ctx, still)
}

// findLost asks again for those whose message is lost.
func (t *term) findLost(ctx context.Context, still []*row) error {
	if len(still) == 0 && !t.occupied() || t.stream == nil || !t.js.Conn().IsConnected() {
		return nil
	}
	if err := t.inspect(ctx); err != nil {
		if isGone(err) {
			t.ensured = false
			return nil
		}
		return err
	}
	state := t.info.State
	var lost []int64
	looked := 0
	for _, r := range still {
		switch {
		case r.place != sent:
		case r.seq < state.FirstSeq || r.seq > state.LastSeq:
			lost = append(lost, r.ask.Row)
		case t.now()-r.looked >= t.cfg.Lease && looked < lookups:
			looked++
			gone, err := t.vanished(ctx, r)
			if err != nil {
				return err
			}
			r.looked = t.now()
			if gone {
				lost = append(lost, r.ask.Row)
			}
		}
	}
	if len(lost) == 0 || t.now() < t.againAt {
		return nil
	}
	// Whatever eats the messages may eat the next ones too: ask less and less often.
	if t.now() > t.againAt+2*t.cfg.Lease {
		t.againWait = 0
	}
	t.againWait = min(max(2*t.againWait, time.Second), t.cfg.Lease)
	if len(t.checking) == 0 {
		t.againAt = t.now() + t.againWait
	}
	n, err := t.store.Again(ctx, lost)
	if err != nil {
		return wrap("ask again for lost messages", err)
	}
	t.lost(ctx, "message", n)
	for _, id := range lost {
		t.release(t.rows[id])
	}
	return nil
}

// inspect looks at the stream, and at the lanes whose messages wait: their
// consumers may be gone, and then nobody would take them.
func (t *term) inspect(ctx context.Context) error {
	if err := t.look(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, l := range t.lanes {
		if l.window.occupied == 0 || t.now() < l.inspected+checkWait {
			continue
		}
		l.inspected = t.now()
		c, err := t.js.Consumer(ctx, t.cfg.Streams.JobsStream(), t.cfg.Streams.Consumer(l.kind))
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound):
			t.ensured = false // the messages wait for the new one
			continue
		case err == nil:
			err = t.clear(ctx, l, c.CachedInfo().AckFloor.Stream)
		}
		if err != nil {
			return fmt.Errorf("look at the consumer of %s: %w", l.kind, err)
		}
	}
	return nil
}

// occupied reports whether there were messages on a lane when last looked.
func (t *term) occupied() bool {
	for _, l := range t.lanes {
		if l.window.occupied+l.window.added > 0 {
			return true
		}
	}
	return false
}

// clear takes messages off a lane up to floor, which its consumer was told to
// be done. They come back when a broker could write the one and not the other,
// as on a full disk, and are then delivered to nobody while they fill the
// window. The ask of one that was not done is found to have lost its message.
func (t *term) clear(ctx context.Context, l *lane, floor uint64) error {
	first, err := t.stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(l.subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && first.Sequence > floor {
		return nil
	}
	if err == nil {
		t.cfg.Log.WarnContext(ctx, "done messages are still on the stream, they are taken off", "kind", string(l.kind), "up_to", floor)
		err = t.stream.Purge(ctx, jetstream.WithPurgeSubject(l.subject), jetstream.WithPurgeSequence(floor+1))
	}
	return err
}

// vanished looks for a row's message on the stream.
func (t *term) vanished(ctx context.Context, r *row) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := t.stream.GetMsg(ctx, r.seq)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return true, nil
	case err != nil:
		return false, wrap("look for a message", err)
	}
	return m.Header.Get(jetstream.MsgIDHeader) != r.ask.Envelope.MsgID(), nil
}

// seen compares the stream's time of creation with the one we knew.
func (t *term) seen(ctx context.Context, created time.Time) {
	if !t.created.IsZero() && !t.created.Equal(created) {
		t.cfg.Log.WarnContext(ctx, "job stream was made anew", "created", created)
		t.forgetSent()
	}
	t.created = created
}

// forgetSent puts all that the stream had back into the queues, to be
// published again under the same ids.
func (t *term) forgetSent() {
	var back []*row
	for _, r := range t.sent {
		if r.place == sent && t.rows[r.ask.Row] == r {
			back = append(back, r)
		}
	}
	for _, r := range t.named {
		if r.place == sent {
			t.dropNamed(r)
		}
	}
	t.sent = nil
	t.epoch++
	t.putBack(back)
	for _, r := range back {
		r.read = t.now() - 2*staleAfter // much of it may have been begun: see before publishing
	}
	for _, l := range t.lanes {
		l.window.forget()
		l.window.fits()
	}
}
