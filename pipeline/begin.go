package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
)

// A delivery is a message that has a slot and is on its way to be an attempt.
type delivery struct {
	msg      jetstream.Msg
	envelope events.Envelope
}

// begin claims the messages' jobs and starts their handlers. Each message has
// a slot, which is given back here unless an attempt took it over. It says how
// many did.
func (l *fetcher) begin(ctx, work context.Context, msgs []jetstream.Msg) (begun int) {
	ds, seen := l.deliveries[:0], l.seen // where in ds
	defer func() {
		clear(l.deliveries)
		clear(seen)
	}()
	for _, m := range msgs {
		e, err := events.ParseEnvelope(m.Data())
		before, twice := seen[e.Job]
		switch {
		case err != nil:
			l.refuse(work, m, e, err)
		case e.Kind != l.kind:
			l.refuse(work, m, e, fmt.Errorf("%.80q on the lane of %s: %w", e.Kind, l.kind, errWrongLane))
		case l.again(work, m, e), twice && ds[before].envelope == e:
			l.free.give(1)
		default:
			seen[e.Job] = len(ds)
			ds = append(ds, delivery{m, e})
		}
	}
	l.deliveries = ds
	var claims []events.Claim
	ok := ctx.Err() == nil // what came in while we stopped is for someone else
	if ok && l.cfg.Brief {
		ds, begun = l.beginBriefly(work, ds)
	}
	if len(ds) == 0 {
		return begun
	}
	if ok {
		claims, ok = l.claim(ctx, work, ds)
	}
	if !ok {
		back := make([]jetstream.Msg, len(ds))
		for i, d := range ds {
			back[i] = d.msg
		}
		l.putBack(work, back)
		return begun
	}
	fault.At("worker.begun")
	var as []*attempt
	alone := context.WithoutCancel(work)
	for i := range claims {
		if c := &claims[i]; c.Err == nil {
			as = append(as, l.attempt(alone, ds[i].msg, c, false))
		} else {
			l.notBegun(work, ds[i], c.Err)
		}
	}
	return begun + l.start(as, false)
}

// again reports whether the message is of an attempt that is in hand. It then
// stands for it from now on. One that was asked for anew, or that only claims
// to be of that job, is for the ledger to judge.
func (l *lane) again(ctx context.Context, m jetstream.Msg, e events.Envelope) bool {
	l.mu.Lock()
	a := l.running[e.Job]
	if a == nil || a.job.Envelope() != e {
		l.mu.Unlock()
		return false
	}
	a.msg = m
	l.mu.Unlock()
	l.inProgress(ctx, m)
	return true
}

// claim asks the ledger until it answers, because an answer that got lost may
// have been a yes: then the jobs are ours, and the ledger says so when it is
// asked again. It reports false when ctx ended before.
func (l *lane) claim(ctx, work context.Context, ds []delivery) ([]events.Claim, bool) {
	es := make([]events.Envelope, len(ds))
	for i, d := range ds {
		es[i] = d.envelope
	}
	for tries := 0; ; tries++ {
		claims, err := l.try(work, es, l.w.ledger.Begin)
		switch {
		case err == nil:
			if tries > 0 {
				l.broken(nil)
				l.w.cfg.Log.InfoContext(work, "the ledger answers again", "kind", l.kind)
			}
			return claims, true
		case unreadable(err) && len(ds) > 1:
			return l.claimEach(ctx, work, ds)
		case unreadable(err): // what is asked for can be asked of no database
			return []events.Claim{{Err: err}}, true
		}
		l.broken(err)
		if tries == 0 {
			l.w.cfg.Log.WarnContext(work, "the ledger does not answer", "kind", l.kind, "err", err)
		}
		if !pause(ctx, trouble(tries, min(5*time.Second, time.Duration(l.ackWait.Load())/3))) {
			return nil, false
		}
		// Without a lease the messages are left to go to others once their
		// AckWait is over. We go on asking: what the ledger gave us before, it
		// may go on taking for ours.
		if l.w.halt.Load() == &ErrLeaseLost {
			continue
		}
		for _, d := range ds {
			l.inProgress(work, d.msg)
		}
	}
}

// try is one call of the ledger, which takes no longer than the messages keep.
func (l *lane) try(work context.Context, es []events.Envelope, call func(context.Context, events.Holder, []events.Envelope) ([]events.Claim, error)) ([]events.Claim, error) {
	if halt := l.w.halt.Load(); halt != nil {
		return nil, *halt
	}
	ctx, cancel := context.WithTimeout(work, max(time.Duration(l.ackWait.Load())/3, 2*time.Second))
	defer cancel()
	claims, err := call(ctx, l.w.holder, es)
	if err == nil && len(claims) != len(es) {
		err = fmt.Errorf("%d claims of %d envelopes", len(claims), len(es))
	}
	return claims, err
}

// claimEach claims one by one, so that one envelope that Postgres will not
// even read holds up no other.
func (l *lane) claimEach(ctx, work context.Context, ds []delivery) ([]events.Claim, bool) {
	all := make([]events.Claim, 0, len(ds))
	for i := range ds {
		one, ok := l.claim(ctx, work, ds[i:i+1])
		if !ok {
			return nil, false // what was claimed is given up by leaving: the worker ends
		}
		all = append(all, one[0])
	}
	return all, true
}

// notBegun does what the ledger's refusal asks for.
func (l *lane) notBegun(work context.Context, d delivery, why error) {
	switch {
	case errors.Is(why, events.ErrSettled), errors.Is(why, events.ErrHeld):
		// Nothing to do, or someone else does it. If he is lost, the ledger
		// will ask anew: the message has no more to say.
		l.ack(work, d.msg, d.envelope.Job)
		l.free.give(1)
	default:
		l.refuse(work, d.msg, d.envelope, why)
	}
}

// refuse ends a message that can never become an attempt.
func (l *lane) refuse(ctx context.Context, m jetstream.Msg, e events.Envelope, why error) {
	defer l.free.give(1)
	l.count(func(c *counts) { c.refused++ })
	l.w.cfg.Log.WarnContext(ctx, "refused", "kind", l.kind, "job", e.Job, "bytes", len(m.Data()), "err", reason(why.Error()))
	if l.w.cfg.Refused != nil {
		l.w.cfg.Refused(ctx, e, m.Data(), why)
	}
	if err := m.TermWithReason(short(why.Error())); err != nil {
		l.w.cfg.Log.WarnContext(ctx, "a refused message may come again", "kind", l.kind, "err", err)
	}
}

// putBack hands messages to other workers.
func (l *lane) putBack(ctx context.Context, msgs []jetstream.Msg) {
	for _, m := range msgs {
		if err := m.Nak(); err != nil {
			l.w.cfg.Log.DebugContext(ctx, "a message comes back only after its AckWait", "kind", l.kind, "err", err)
		}
	}
	l.free.give(len(msgs))
}

// ack takes a message off the stream. That the broker confirms it is not
// waited for: Postgres already knows, a lost ack costs one idle redelivery,
// and a confirmed one can be forgotten all the same.
func (l *lane) ack(ctx context.Context, m jetstream.Msg, job events.ID) {
	if err := m.Ack(); err != nil {
		l.w.cfg.Log.WarnContext(ctx, "a settled job's message will come again", "job", job, "err", err)
	}
}
