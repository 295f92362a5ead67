package pipeline

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
)

// briefly is how long a brief attempt may be unknown to the ledger.
const briefly = 250 * time.Millisecond

// beginBriefly starts the handlers of those jobs that simply wait, without
// claiming them, and returns the others. Only the first delivery of a job's
// first ask goes this way: one that came before may have killed its worker, and
// the attempt that it costs has to be stored before it does so again.
func (l *lane) beginBriefly(work context.Context, ds []delivery) (rest []delivery, begun int) {
	first, es := make([]delivery, 0, len(ds)), make([]events.Envelope, 0, len(ds))
	for _, d := range ds {
		if meta, err := d.msg.Metadata(); err == nil && meta.NumDelivered == 1 && d.envelope.Asked == 1 {
			first, es = append(first, d), append(es, d.envelope)
		} else {
			rest = append(rest, d)
		}
	}
	if len(first) == 0 {
		return rest, 0
	}
	claims, err := l.try(work, es, l.w.ledger.Look)
	if err != nil {
		return ds, 0 // to claim them waits until the ledger answers
	}
	fault.At("worker.looked")
	as := make([]*attempt, 0, len(first))
	for i, c := range claims {
		if c.Err != nil {
			rest = append(rest, first[i])
		} else if a := l.start(work, first[i].msg, c, true); a != nil {
			as = append(as, a)
		}
	}
	time.AfterFunc(briefly, func() { l.overdue(work, as) })
	return rest, len(as)
}

// overdue claims those of the attempts that are still not finished, as all of
// another lane are before they start: now they have a limit, operators see
// them, and they are lost with the lease.
func (l *lane) overdue(work context.Context, as []*attempt) {
	var ds []delivery
	var slow []*attempt
	l.mu.Lock()
	for _, a := range as {
		if a.finished {
			continue
		}
		left := l.cfg.Timeout - time.Since(a.began)
		a.limits = [2]*time.Timer{
			time.AfterFunc(left, func() { a.cancel(ErrTimeout) }),
			time.AfterFunc(left+l.w.hurry(), a.deaf),
		}
		if a.brief {
			a.asking = true
			slow, ds = append(slow, a), append(ds, delivery{a.msg, a.job.Envelope()})
		}
	}
	l.mu.Unlock()
	if len(ds) == 0 {
		return
	}
	claims, ok := l.claim(work, work, ds)
	if !ok {
		return // the worker ends
	}
	for i, c := range claims {
		if c.Err != nil {
			slow[i].cancel(ErrTaken)
			continue
		}
		l.mu.Lock()
		slow[i].claimed(c.Job)
		l.mu.Unlock()
	}
}

// claimed notes that the ledger knows of the attempt. One that is finished has
// decided already, and finds out when it is to be settled. The caller holds
// lane.mu.
func (a *attempt) claimed(job events.Job) {
	if !a.finished {
		a.job, a.brief = job, false
	}
}

// lostBriefly ends attempts that the ledger would not store as begun and ended.
// Nearly always someone else was first. But they may have been claimed by
// ourselves meanwhile, and what we hold has to be settled.
func (l *lane) lostBriefly(ctx context.Context, as []*attempt) {
	ds := make([]delivery, len(as))
	for i, a := range as {
		m, _ := a.message()
		ds[i] = delivery{m, a.job.Envelope()}
	}
	claims, ok := l.claim(ctx, ctx, ds)
	if !ok {
		return // the worker ends
	}
	for i, a := range as {
		if err := claims[i].Err; err != nil {
			l.release(ctx, a, err)
			l.free.give(1)
			continue
		}
		l.mu.Lock()
		a.job, a.brief = claims[i].Job, false
		l.mu.Unlock()
		a.step.Job, a.step.Begins = a.job, false
		l.settleOne(ctx, a)
	}
}

// giveBack lets go of an attempt of which the ledger knows nothing.
func (l *lane) giveBack(a *attempt) {
	l.mu.Lock()
	msg := a.msg
	if l.running[a.job.ID] == a {
		delete(l.running, a.job.ID)
	}
	l.counts.settle(a, nil)
	l.mu.Unlock()
	l.report(a.ctx, a, nil)
	l.putBack(a.ctx, []jetstream.Msg{msg})
	l.w.closed()
}
