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
func (l *fetcher) beginBriefly(work context.Context, ds []delivery) (rest []delivery, begun int) {
	first, es := ds[:0], l.envelopes[:0]
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
	l.envelopes = es
	claims, err := l.try(work, es, l.w.ledger.Look)
	if err != nil {
		return append(rest, first...), 0 // to claim them waits until the ledger answers
	}
	fault.At("worker.looked")
	as, alone := make([]*attempt, 0, len(first)), context.WithoutCancel(work)
	for i := range claims {
		if c := &claims[i]; c.Err != nil {
			rest = append(rest, first[i])
		} else {
			as = append(as, l.attempt(alone, first[i].msg, c, true))
		}
	}
	begun = l.start(as, true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.watched && begun > 0 {
		l.watched = true
		time.AfterFunc(briefly, func() { l.overdue(work) })
	}
	return rest, begun
}

// overdue claims those of the lane's attempts that are still not finished, as
// all of another lane are before they start: now they have a limit, operators see
// them, and they are lost with the lease. It comes back for the others.
func (l *lane) overdue(work context.Context) {
	var ds []delivery
	var slow []*attempt
	next := time.Duration(-1) // till another one is overdue
	l.mu.Lock()
	for _, a := range l.running {
		if a.finished || a.timed {
			continue
		}
		took := time.Since(a.began)
		if young := briefly - took; young > 0 {
			if next < 0 || young < next {
				next = young
			}
			continue
		}
		a.timed = true
		left := l.cfg.Timeout - took
		a.limits = [2]*time.Timer{
			time.AfterFunc(left, func() { a.cancel(ErrTimeout) }),
			time.AfterFunc(left+l.w.hurry(), a.deaf),
		}
		if a.brief {
			a.asking = true
			slow, ds = append(slow, a), append(ds, delivery{a.msg, a.job.Envelope()})
		}
	}
	if l.watched = next >= 0; l.watched {
		time.AfterFunc(max(next, briefly/10), func() { l.overdue(work) })
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
		slow[i].claimed(&c.Job)
		l.mu.Unlock()
	}
}

// claimed notes that the ledger knows of the attempt. One that is finished has
// decided already, and finds out when it is to be settled. The caller holds
// lane.mu.
func (a *attempt) claimed(job *events.Job) {
	if !a.finished {
		a.job, a.brief = job, false
	}
}

// lostBriefly ends attempts that the ledger would not store as begun and ended.
// Nearly always someone else was first. But they may have been claimed by
// ourselves meanwhile, and what we hold has to be settled.
func (l *settler) lostBriefly(ctx context.Context, as []*attempt) {
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
			l.release(ctx, []*attempt{a}, []error{err})
			continue
		}
		l.mu.Lock()
		a.job, a.brief = &claims[i].Job, false
		l.mu.Unlock()
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
	l.w.closed(1)
}
