package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
)

var (
	errAway = errors.New("the broker is not connected")
	errGone = errors.New("the job stream was deleted")
)

// goneGrace is how long a stream that vanished is left alone before it is made
// anew: made while the server (2.15.2) still deletes the old one's files, it
// would answer no publish, for ever.
const goneGrace = 500 * time.Millisecond

// publish deals what fits into the windows and sends it on its way.
func (t *term) publish(ctx context.Context) error {
	if t.engaged() || t.ensured && t.inLanes == 0 {
		return nil
	}
	if !t.caughtUp && t.now() < overview {
		return nil // or the first tenant in the store would have the whole window
	}
	if !t.ensured {
		if err := t.ensure(ctx); err != nil {
			return t.away(ctx, err)
		}
	}
	budget := (t.cfg.InFlight - t.inFlight) * t.cfg.Batch
	var picks []*row
	for _, l := range t.lanes { // in Go's random order: none is always first
		if budget == 0 {
			break
		}
		n, err := t.admit(ctx, l, budget)
		if err != nil {
			t.putBack(picks)
			return t.away(ctx, err)
		}
		before := len(picks)
		l.low = t.bound() / refillAt
		picks = l.deal(n, t.cfg.TenantCap, picks)
		t.inLanes -= len(picks) - before
		budget -= len(picks) - before
	}
	picks, err := t.verify(ctx, picks)
	if err != nil {
		t.putBack(picks)
		return t.away(ctx, err)
	}
	for chunk := range slices.Chunk(picks, t.cfg.Batch) {
		t.launch(ctx, chunk)
	}
	return nil
}

// engaged reports whether a result has to come first: so much is in flight, or
// something is and what waits would be a small batch. The server does one
// batch after the other, so nothing is lost by waiting for more.
func (t *term) engaged() bool {
	return t.inFlight >= t.cfg.InFlight || t.inFlight > 0 && t.inLanes < t.cfg.Batch/2 && t.pub.batching()
}

// away notes what stops all publishing for a while.
func (t *term) away(ctx context.Context, err error) error {
	if isGone(err) {
		t.ensured = false
	}
	t.retry(ctx, "publish", err, &t.pubAt, &t.pubWait)
	if errors.Is(err, errGone) {
		t.pubAt = t.now() + goneGrace
	}
	if isFull(err) { // nothing is wrong but the limits, and workers make room all the time
		t.pubAt = min(t.pubAt, t.now()+longestLook)
	}
	return err
}

// admit says how many of a lane's asks may be published now.
func (t *term) admit(ctx context.Context, l *lane, budget int) (int, error) {
	if l.rows == 0 || l.capped || t.now() < l.window.next {
		return 0, nil
	}
	w := &l.window
	want := min(l.rows, budget)
	w.resize(t.slots[l.kind], t.cfg.WindowMin, t.cfg.WindowMax)
	// Without a look the stream can only be emptier than we think.
	if !w.known || w.room(l.flight) < want {
		if err := t.look(ctx); err != nil {
			return 0, err
		}
	}
	n := min(w.room(l.flight), want)
	if lacks := w.lacks(n); n < want && lacks > 0 {
		w.full(t.now(), lacks)
		return 0, nil
	}
	w.fits()
	return n, nil
}

// countsOff is how far the stream's counts by subject may be off its count of
// messages before they are not believed.
const countsOff = 16

// look asks the broker how much of each lane is on the stream, once a pass.
// It asks the stream, for what the consumers say lags behind what was
// confirmed. But a stream that was deleted and at once made again can keep the
// old one's counts by subject (seen with nats-server 2.15.2, an empty stream
// with 200 messages on a subject), and then it asks the consumers.
func (t *term) look(ctx context.Context) error {
	if t.info != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info, err := t.stream.Info(ctx, jetstream.WithSubjectFilter(t.cfg.Streams.subject("jobs.>")))
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", t.cfg.Streams.JobsStream(), err)
	}
	t.seen(ctx, info.Created)
	msgs, sum := info.State.Msgs, uint64(0)
	for _, n := range info.State.Subjects {
		sum += n
	}
	now := t.now()
	for _, l := range t.lanes {
		n := min(info.State.Subjects[l.subject], msgs)
		if sum > msgs+countsOff {
			c, err := t.js.Consumer(ctx, t.cfg.Streams.JobsStream(), t.cfg.Streams.Consumer(l.kind))
			if err != nil {
				return fmt.Errorf("look at lane %s: %w", l.kind, err)
			}
			n = c.CachedInfo().NumPending + uint64(c.CachedInfo().NumAckPending)
		}
		l.window.looked(now, int(n), info.State.LastSeq)
		l.window.resize(t.slots[l.kind], t.cfg.WindowMin, t.cfg.WindowMax)
	}
	t.info = info
	return nil
}

// verify leaves out what went while it was in memory: cancelled, or done by
// a message of an earlier leader.
func (t *term) verify(ctx context.Context, picks []*row) ([]*row, error) {
	now := t.now()
	var old []int64
	for _, r := range picks {
		if now-r.read > staleAfter {
			old = append(old, r.ask.Row)
		}
	}
	if len(old) == 0 {
		return picks, nil
	}
	there, err := t.waiting(ctx, old)
	if err != nil {
		return picks, err
	}
	return slices.DeleteFunc(picks, func(r *row) bool {
		if now-r.read <= staleAfter {
			return false
		}
		if there[r.ask.Row] {
			r.read = now
			return false
		}
		r.tenant.lane.flight--
		t.release(r)
		return true
	}), nil
}

// waiting asks the store which rows are still there.
func (t *term) waiting(ctx context.Context, rows []int64) (map[int64]bool, error) {
	there, err := t.store.Waiting(ctx, rows)
	if err != nil {
		return nil, wrap("see what still waits", err)
	}
	set := make(map[int64]bool, len(there))
	for _, id := range there {
		set[id] = true
	}
	return set, nil
}

// release forgets a row that is gone from the store and is in no queue.
func (t *term) release(r *row) {
	if r.unread {
		delete(t.named, r.ask.Envelope)
	} else {
		delete(t.rows, r.ask.Row)
	}
	if r.place == flying || r.place == sent {
		r.tenant.out--
		r.tenant.lane.capped = false
	}
	r.tenant.lane.forget(r.tenant)
}

// putBack returns dealt rows to the heads of their queues, in their order.
func (t *term) putBack(rows []*row) {
	for _, r := range slices.Backward(rows) {
		if r.place == flying {
			r.tenant.lane.flight--
		}
		r.tenant.out--
		r.tenant.lane.push(r, true)
		t.inLanes++
	}
}

// settle takes in what became of a parcel.
func (t *term) settle(ctx context.Context, p parcel) error {
	t.inFlight--
	var back []*row
	var failure error
	var fresh, duplicates, refusals uint64
	now := t.now()
	for i, a := range p.acks {
		r := p.rows[i]
		l := r.tenant.lane
		switch {
		case r.unread && (a.err != nil || p.epoch != t.epoch): // to be read, if it is there
			t.dropNamed(r)
			if a.err != nil && !isRefused(a.err) && (failure == nil || isGone(a.err)) {
				failure = a.err
			}
		case a.err == nil && p.epoch != t.epoch:
			back = append(back, r) // it may lie on a stream that is gone
		case a.err == nil:
			l.flight--
			r.place, r.seq = sent, a.seq
			r.sent, r.looked = now, now
			if !r.unread {
				t.sent = append(t.sent, r)
			}
			if a.duplicate {
				duplicates++
			} else {
				fresh++
				l.window.confirmed(a.seq)
			}
		case isRefused(a.err):
			l.flight--
			refusals++
			r.place = refused
			r.tenant.out--
			t.refused = append(t.refused, r)
			t.cfg.Log.ErrorContext(ctx, "broker refuses a job's message",
				"job", string(r.ask.Envelope.Job), "row", r.ask.Row, "error", a.err.Error())
		default:
			back = append(back, r)
			if failure == nil {
				failure = a.err
			}
			if isGone(a.err) {
				failure = a.err
			}
		}
	}
	t.putBack(back)
	t.fresh += int(fresh)
	t.relay.count(func(s *State) {
		s.Published += fresh
		s.Duplicates += duplicates
		s.Refused += refusals
	})
	if failure == nil {
		t.retry(ctx, "publish", nil, &t.pubAt, &t.pubWait)
		t.feedSoon()
		return nil
	}
	return t.away(ctx, fmt.Errorf("publish %d messages: %w", len(p.rows), failure))
}

// ensure makes what is missing on the broker, and notices when the stream is
// another one than before.
func (t *term) ensure(ctx context.Context) error {
	if !t.js.Conn().IsConnected() {
		return errAway
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.PublishTimeout)
	defer cancel()
	if t.stream != nil {
		if _, err := t.stream.Info(ctx); isGone(err) {
			t.stream = nil
			t.forgetSent()
			t.cfg.Log.WarnContext(ctx, "job stream is gone, it will be made anew")
			return errGone
		}
	}
	s := t.cfg.Streams
	kinds := map[events.Kind]bool{}
	for _, k := range s.Kinds {
		kinds[k] = true
	}
	for k := range t.lanes {
		kinds[k] = true
	}
	s.Kinds = slices.Sorted(maps.Keys(kinds))
	if err := Ensure(ctx, t.js, s); err != nil {
		return err
	}
	stream, err := t.js.Stream(ctx, s.JobsStream())
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", s.JobsStream(), err)
	}
	t.seen(ctx, stream.CachedInfo().Created)
	t.stream, t.ensured = stream, true
	t.retry(ctx, "publish", nil, &t.pubAt, &t.pubWait)
	return nil
}
