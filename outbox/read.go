package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// firstReadWait is the first wait of an idle relay. It doubles up to PollMax.
const firstReadWait = 20 * time.Millisecond

// ask does what is due with the store. One task's error does not hold up the
// others, and each has its next time before it is tried.
func (t *term) ask(ctx context.Context) error {
	var errs []error
	if t.now() >= t.reclaimAt {
		t.reclaimAt = t.now() + t.cfg.Lease/3
		errs = append(errs, t.reclaim(ctx))
	}
	readDue := t.now() >= t.readAt
	idle := t.readWait >= t.cfg.PollMax/2
	// A sweep that is nearly due saves an idle relay's read.
	if t.sweeping || t.caughtUp && t.now() >= t.sweepAt-t.readWait/4 {
		if idle {
			poke(t.feedLook)
		}
		again := t.sweeping
		errs = append(errs, t.sweep(ctx))
		readDue = readDue && (again || t.sweeping) // a whole sweep has read everything
	}
	if readDue {
		errs = append(errs, t.read(ctx))
	}
	var slack time.Duration
	if idle { // what is nearly due is done at the same waking
		slack = idleSlack
	}
	if t.now() >= t.delayedAt-slack {
		t.delayedAt = t.now() + delayedWait
		errs = append(errs, t.readDelayed(ctx))
	}
	for _, l := range t.lanes {
		errs = append(errs, t.refill(ctx, l))
	}
	if len(t.checking) > 0 || t.now() >= t.checkAt-slack {
		errs = append(errs, t.check(ctx))
	}
	if t.slots == nil {
		errs = append(errs, t.count(ctx))
	}
	return errors.Join(errs...)
}

// count asks for the slots of those who work, once a second while something
// is published: behind the publishing, which has waited longer. For what goes
// out by its ring alone the window need not be known any better.
func (t *term) count(ctx context.Context) error {
	if t.inLanes+t.inFlight == 0 || t.now() < t.slotsAt {
		return nil
	}
	t.slotsAt = t.now() + time.Second
	slots, err := t.store.Slots(ctx, t.cfg.Lease)
	if err == nil {
		t.slots = slots
	}
	return wrap("slots", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// reclaim asks again for what lost workers held. It is also the time to see
// that the streams are there, and to try what the broker refused.
func (t *term) reclaim(ctx context.Context) error {
	t.ensured = false
	for _, r := range t.refused {
		r.tenant.lane.push(r, false)
		t.inLanes++
	}
	t.refused = nil
	began := t.now()
	lost, err := t.store.Reclaim(ctx, t.cfg.Lease)
	if lost.More { // between its parts there is time for others
		t.reclaimAt = t.now() + 2*(t.now()-began)
	}
	t.lost(ctx, "worker", lost)
	return wrap("reclaim", err)
}

func (t *term) lost(ctx context.Context, what string, lost events.Lost) {
	if lost.Reclaimed == 0 && lost.Failed == 0 {
		return
	}
	t.relay.count(func(s *State) {
		s.Reclaimed += uint64(lost.Reclaimed)
		s.Failed += uint64(lost.Failed)
	})
	t.cfg.Log.WarnContext(ctx, "asked again for lost jobs", "lost", what, "reclaimed", lost.Reclaimed, "failed", lost.Failed)
	t.readAt, t.readWait = 0, 0
}

// read takes the immediate asks behind the mark, and the young gaps before
// it: an id is taken at insert and seen at commit, so a late one can turn up
// below the mark.
func (t *term) read(ctx context.Context) error {
	q := events.AskQuery{After: t.mark}
	now := t.now()
	t.gaps = slices.DeleteFunc(t.gaps, func(g gap) bool { return now-g.seen > gapAge || t.rows[g.row] != nil })
	for _, g := range t.gaps {
		q.Rows = append(q.Rows, g.row)
	}
	q.Limit = readRows + len(q.Rows)
	t.paced(0, false)
	asks, err := t.store.Asks(ctx, q)
	t.hasRead = t.now()
	if err != nil {
		return wrap("read asks", err)
	}
	n := t.takeAll(asks)
	t.pace(n)
	full := len(asks) >= q.Limit
	if !full {
		t.forgetNamed(now)
	}
	if !t.caughtUp && !full { // all was read from the start, as by a sweep
		t.caughtUp, t.sweepAt = true, t.now()+time.Second
	}
	t.paced(n, full)
	return nil
}

// pace says how long it waits after a read although it rings. Read as fast as
// that, a few thousand jobs a second come in handfuls, and each of those has a
// publish, a look and a settlement of its own.
func (t *term) pace(found int) {
	t.came += found
	if over := t.now() - t.paceAt; over >= paceOver {
		rate := float64(t.came) / over.Seconds()
		t.readGap = min(max(ringGap, time.Duration(rate/ringGapOf*float64(ringGap))), ringGapMost)
		t.came, t.paceAt = 0, t.now()
	}
}

// paced says when to read again.
func (t *term) paced(found int, full bool) {
	again := t.cfg.PollMin
	if t.cfg.Wake != nil { // what comes next rings
		again = max(again, firstReadWait)
	}
	switch {
	case full:
		t.readWait = 0
	case found > 0:
		t.readWait = min(again, t.cfg.PollMax)
	default:
		t.readWait = min(max(2*t.readWait, firstReadWait), t.cfg.PollMax)
	}
	wait := t.readWait
	if len(t.gaps) > 0 {
		wait = min(wait, gapPoll)
	}
	if wait > 0 {
		wait = jitter(wait)
	}
	t.readAt = t.now() + wait
}

// sweep takes one more chunk of all immediate asks, to find those that read
// missed: committed later than a gap is remembered.
func (t *term) sweep(ctx context.Context) error {
	began := t.now()
	if !t.sweeping {
		t.sweeping, t.sweepFrom, t.sweepTook = true, 0, 0
	}
	q := events.AskQuery{After: t.sweepFrom, Limit: readRows}
	asks, err := t.store.Asks(ctx, q)
	t.sweepTook += t.now() - began
	if err != nil {
		t.sweeping = false
		t.sweepAt = t.now() + checkWait
		return wrap("sweep asks", err)
	}
	n := t.takeAll(asks)
	if len(asks) >= q.Limit {
		t.sweepFrom = asks[len(asks)-1].Row
		return nil
	}
	t.sweeping = false
	t.sweepAt = t.now() + jitter(max(time.Second, sweepShare*t.sweepTook))
	t.paced(n, false)
	if t.readWait >= time.Second {
		t.sweepAt = t.inASecond()
		t.readAt = max(t.readAt, t.sweepAt)
	}
	return nil
}

// inASecond is in a second at most. What an idle relay does then it does together,
// and with the ping of the leader's session, which began when the term did:
// waking costs more than looking.
func (t *term) inASecond() time.Duration {
	if t.readWait < time.Second {
		return t.now() + time.Second
	}
	return t.now().Truncate(time.Second) + time.Second
}

// readDelayed takes asks that have come due. Those that are on the stream
// already come first, for they are the longest due; when there is nothing
// else, more are read the next time.
func (t *term) readDelayed(ctx context.Context) error {
	asks, err := t.store.Asks(ctx, events.AskQuery{Delayed: true, Limit: t.delayed})
	if err != nil {
		return wrap("read delayed asks", err)
	}
	n := 0
	for _, a := range asks {
		if t.take(a) {
			n++
		}
	}
	if len(asks) == 0 {
		t.delayedAt = t.inASecond() // nobody tries again these days
	}
	switch {
	case len(asks) < t.delayed || n > 0:
		t.delayed = readRows
	default:
		t.delayed = min(2*t.delayed, delayedMax)
	}
	return nil
}

// takeAll takes asks in order of rows and moves the mark.
func (t *term) takeAll(asks []events.Ask) (n int) {
	now := t.now()
	for _, a := range asks {
		if a.Row > t.mark {
			if t.caughtUp {
				for missing := max(t.mark+1, a.Row-gapRows); missing < a.Row; missing++ {
					t.gaps = append(t.gaps, gap{row: missing, seen: now})
				}
			}
			t.mark = a.Row
		}
		if t.take(a) {
			n++
		}
	}
	if d := len(t.gaps) - gapRows; d > 0 {
		t.gaps = slices.Delete(t.gaps, 0, d)
	}
	return n
}

// take remembers an ask, or that it was left in the store.
func (t *term) take(a events.Ask) bool {
	if t.knows(a) {
		return false
	}
	l := t.lane(a.Envelope.Kind)
	tenant := l.tenant(a.Envelope.Scope)
	q := tenant.queue(a.Priority)
	immediate := a.DueAt.IsZero()
	behind := immediate && tenant.from > 0 && a.Row >= tenant.from && q.full
	if behind || q.rows.len() >= t.bound() {
		if immediate { // a delayed one is read again by itself
			q.full = true
			if tenant.from == 0 || a.Row < tenant.from {
				tenant.from = a.Row
			}
			l.feed(tenant)
		}
		l.forget(tenant)
		return false
	}
	t.keep(a, tenant)
	return true
}

// knows reports whether an ask that was read is known, and notes that it is there.
func (t *term) knows(a events.Ask) bool {
	if r := t.rows[a.Row]; r != nil {
		r.read = t.now()
		return true
	}
	if r := t.named[a.Envelope]; r != nil {
		t.adopt(r, a)
		return true
	}
	return false
}

func (t *term) bound() int {
	switch {
	case t.inLanes >= memoryRows:
		return crowdedRows
	case t.inLanes >= someRows:
		return tenantRows
	default:
		return roomyRows
	}
}

func (t *term) keep(a events.Ask, tenant *tenant) {
	now := t.now()
	a.Envelope.Kind, a.Envelope.Scope = tenant.lane.kind, tenant.scope // one copy for all
	r := &row{ask: a, tenant: tenant, since: now, read: now}
	t.rows[a.Row] = r
	tenant.lane.push(r, false)
	t.inLanes++
}

func (t *term) lane(kind events.Kind) *lane {
	l := t.lanes[kind]
	if l == nil {
		l = newLane(kind, t.cfg.Streams.JobSubject(kind))
		t.lanes[kind] = l
		t.ensured = t.ensured && slices.Contains(t.cfg.Streams.Kinds, kind)
	}
	return l
}

// refill reads on for tenants that have few asks in memory and more in the
// store.
func (t *term) refill(ctx context.Context, l *lane) error {
	for range min(len(l.hungry), refills) {
		tenant := l.hungry[0]
		limit := min(t.bound(), readRows)
		asks, err := t.store.Asks(ctx, events.AskQuery{
			Tenant: &tenant.scope, Kind: l.kind, After: tenant.from - 1, Limit: limit,
		})
		if err != nil {
			return wrap("read a tenant's asks", err)
		}
		l.hungry = slices.Delete(l.hungry, 0, 1)
		tenant.hungry, tenant.from = false, 0
		for _, q := range tenant.queues {
			q.full = false
		}
		more := len(asks) >= limit
		if more {
			tenant.from = asks[len(asks)-1].Row + 1
		}
		for _, a := range asks {
			if !t.knows(a) {
				t.keep(a, tenant)
			}
			tenant.queue(a.Priority).full = more
		}
		l.feed(tenant)
		l.forget(tenant)
	}
	return nil
}
