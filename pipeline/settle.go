package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
)

// settleLoop records finished attempts until ctx is done: as many as there
// are in one transaction.
func (l *lane) settleLoop(ctx context.Context) {
	s := &settler{lane: l}
	for {
		as := l.collect(ctx)
		if as == nil {
			return
		}
		s.settle(ctx, as)
		l.storing.Add(-1)
		select {
		case l.stored <- struct{}{}:
		default:
		}
	}
}

const (
	linger     = 2 * time.Millisecond  // how long those are waited for that are about to come
	lingerFast = 8 * time.Millisecond  // … where they come fast
	lingerBy   = 25 * time.Millisecond // … while there is a transaction under way, which they might wait for anyway
)

// collect takes what is finished. What is brief is worth waiting for, since a
// transaction for twice as many costs little more: for those that are not
// finished, if they are more, and beside another transaction until it ends or
// half of what the lane does is there; and where they come one by one and fast,
// until an eighth of that is there.
func (l *lane) collect(ctx context.Context) []*attempt {
	select {
	case l.collecting <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() {
		l.storing.Add(1)
		<-l.collecting
	}()
	if !l.done.first(ctx) {
		return nil
	}
	if !l.cfg.Brief {
		return l.done.take()
	}
	select {
	case <-l.stored: // of one that ended before
	default:
	}
	n := l.done.more(1, 0, nil)
	if l.storing.Load() > 0 {
		n = l.done.more(l.cfg.Slots/2, lingerBy, l.stored)
	}
	if l.pace.fast() {
		n = l.done.more(l.cfg.Slots/8, lingerFast, nil)
	}
	if h := int(l.handling.Load()); h > n {
		l.done.more(n+h, linger, nil)
	}
	as := l.done.take()
	l.pace.saw(len(as))
	return as
}

// settler is one of those who settle a lane's attempts.
type settler struct {
	*lane
	steps []events.Step // room for those of a transaction
}

// settle records the attempts together, or, when that fails, each by itself:
// so one whose commit is poison holds up no other. Those that were tried
// before go singly from the start.
func (l *settler) settle(ctx context.Context, as []*attempt) {
	together, alone := as[:0], []*attempt(nil)
	for _, a := range as {
		if len(as) == 1 || a.tries > patience {
			alone = append(alone, a)
		} else {
			together = append(together, a)
		}
	}
	if len(together) > 0 {
		errs, err := l.store(ctx, together)
		switch {
		case err == nil:
			l.settled(ctx, together, errs)
		case slices.ContainsFunc(together, func(a *attempt) bool { return a.commit != nil && ownFault(a.spoiled, err) }):
			alone = append(alone, together...)
		default:
			for _, a := range together {
				l.later(ctx, a, err)
			}
		}
	}
	for _, a := range alone {
		l.settleOne(ctx, a)
	}
}

// patience is how many transactions an attempt may have been in that did not
// answer, before it goes into one of its own: it may be what they waited for.
const patience = 2

func (l *settler) settleOne(ctx context.Context, a *attempt) {
	one := []*attempt{a}
	errs, err := l.store(ctx, one)
	if err != nil && a.commit != nil && ownFault(a.spoiled, err) {
		if a.spoiled != nil {
			err = a.spoiled
		}
		a.spoil(err)
		errs, err = l.store(ctx, one)
	}
	if err == nil {
		l.settled(ctx, one, errs)
		return
	}
	l.later(ctx, a, err)
}

// later tries again to settle an attempt, unless a drain has given it up.
func (l *lane) later(ctx context.Context, a *attempt, err error) {
	if ctx.Err() != nil {
		return
	}
	// The ledger is away, or may have stored it without our knowing. Nothing
	// but its answer ends an attempt: a job that we hold and have forgotten
	// would be held for as long as we live. If the lease ran out meanwhile,
	// the version refuses us.
	if a.tries == 0 {
		l.w.cfg.Log.WarnContext(ctx, "not settled yet", "job", a.job.ID, "kind", l.kind, "err", err)
	}
	l.broken(err)
	wait := trouble(a.tries, 5*time.Second)
	a.tries++
	time.AfterFunc(wait, func() { l.done.put(a) })
}

// store is one transaction. Of what it has stored it tells.
func (l *settler) store(ctx context.Context, as []*attempt) ([]error, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	steps := l.steps[:0]
	for _, a := range as {
		steps = append(steps, a.step())
	}
	l.steps = steps
	defer clear(steps)
	commits := make([]Commit, len(as))
	var last []Commit
	if len(as) > 1 && slices.ContainsFunc(as, func(a *attempt) bool { return a.commit != nil }) {
		all := &joined{}
		ctx = context.WithValue(ctx, joinedKey{}, all)
		last = []Commit{func(ctx context.Context, tx pgx.Tx) error { return l.writeJoined(ctx, tx, all, as) }}
	}
	for i, a := range as {
		a.spoiled = nil
		if a.commit != nil {
			commits[i] = a.write
		}
	}
	errs, err := l.w.ledger.Settle(ctx, steps, commits, last...)
	if err == nil && len(errs) != len(as) {
		err = fmt.Errorf("%d answers to %d steps", len(errs), len(as))
	}
	if err != nil {
		return nil, err
	}
	fault.At("worker.settled")
	if l.w.cfg.Settled != nil {
		told := steps[:0]
		for i := range steps {
			if errs[i] == nil {
				told = append(told, steps[i])
			}
		}
		if len(told) > 0 {
			l.w.cfg.Settled(told)
		}
	}
	return errs, nil
}

// writeJoined writes what the attempts' commits have joined, and makes a panic
// an error. Whose part is to blame for one is found out by settling them one
// by one.
func (l *lane) writeJoined(ctx context.Context, tx pgx.Tx, all *joined, as []*attempt) (err error) {
	defer func() {
		if v := recover(); v != nil {
			l.w.cfg.Log.ErrorContext(ctx, "a joined commit panicked", "kind", l.kind, "jobs", len(as),
				"panic", reason(fmt.Sprint(v)), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
		for _, a := range as {
			if err != nil && a.commit != nil {
				a.spoiled = err
			}
		}
	}()
	err = all.write(ctx, tx)
	stored()
	return err
}

// settled lets go of attempts that the ledger has answered for.
func (l *settler) settled(ctx context.Context, as []*attempt, errs []error) {
	var lost []*attempt
	ended, refused := as[:0], errs[:0]
	for i, a := range as {
		if errs[i] != nil && a.brief {
			lost = append(lost, a)
		} else {
			ended, refused = append(ended, a), append(refused, errs[i])
		}
	}
	l.release(ctx, ended, refused)
	if len(lost) > 0 {
		l.lostBriefly(ctx, lost)
	}
}

// release ends attempts: the ledger knows of them, so their messages and slots
// are free.
func (l *lane) release(ctx context.Context, as []*attempt, refused []error) {
	msgs := make([]jetstream.Msg, len(as))
	l.mu.Lock()
	for i, a := range as {
		msgs[i] = a.msg
		if l.running[a.job.ID] == a {
			delete(l.running, a.job.ID)
		}
		l.counts.settle(a, refused[i])
		if a.tries > 0 {
			l.counts.trouble = ""
		}
	}
	l.mu.Unlock()
	for i, a := range as {
		l.ack(ctx, msgs[i], a.job.ID)
		l.report(ctx, a, refused[i])
	}
	l.free.give(len(as))
	l.w.closed(len(as))
}

// report writes the one line that a job's attempt leaves in the log.
func (l *lane) report(ctx context.Context, a *attempt, refused error) {
	log := l.w.cfg.Log
	if !log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{
		slog.String("job", string(a.job.ID)), slog.String("kind", string(l.kind)), slog.Int("attempt", a.job.Attempts),
		slog.String("outcome", outcome(a, refused)),
		slog.String("team", a.job.Scope.Team), slog.String("project", a.job.Scope.Project),
		slog.String("request_id", a.job.RequestID), slog.Duration("took", time.Since(a.began)),
	}
	if a.err != nil {
		attrs = append(attrs, slog.String("err", a.reason))
	}
	if a.delay > 0 {
		attrs = append(attrs, slog.Duration("retry_in", a.delay))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "settled", attrs...)
}

// outcome is a word for what became of the attempt.
func outcome(a *attempt, refused error) string {
	switch {
	case refused == nil:
		return string(a.end)
	case a.tries > 0 && (errors.Is(refused, events.ErrHeld) || errors.Is(refused, events.ErrSettled)):
		return "unknown" // a transaction of ours whose answer got lost, or someone else
	default:
		return "lost"
	}
}
