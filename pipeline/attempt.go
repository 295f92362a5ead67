package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
)

// attempt is one claimed run of one job. It belongs to its handler's
// goroutine, then, once finished, to the lane's settlers.
type attempt struct {
	lane   *lane
	job    *events.Job   // as claimed, or looked at; under lane.mu until it is finished
	brief  bool          // likewise: the ledger does not know of the attempt yet
	asking bool          // likewise: and is being told
	timed  bool          // likewise: there is a limit to its time
	msg    jetstream.Msg // under lane.mu: the newest delivery
	began  time.Time
	cancel context.CancelCauseFunc

	ctx      context.Context
	limits   [2]*time.Timer // under lane.mu; the handler's time, where it was begun without
	finished bool           // likewise: decides between the handler and a drain that leaves it
	commit   Commit         // of a success
	why      Done           // likewise, where the handler said so
	err      error          // of a failure
	verdict  verdict        // of the lane's breaker
	end      events.Type    // what that means for the job, why, and when it is tried again
	reason   string
	details  json.RawMessage
	delay    time.Duration
	spoiled  error // what the commit returned when it was last run
	tries    int   // transactions that were to settle it and did not answer
}

func (a *attempt) message() (m jetstream.Msg, brief bool) {
	a.lane.mu.Lock()
	defer a.lane.mu.Unlock()
	return a.msg, a.brief
}

// attempt makes one of what the ledger gave for a message. Its context is of
// one that nothing ends, or each would have to be noted there and forgotten: a
// drain ends every one by itself, see Worker.drain and start.
func (l *lane) attempt(alone context.Context, m jetstream.Msg, c *events.Claim, brief bool) *attempt {
	a := &attempt{lane: l, job: &c.Job, msg: m, brief: brief, timed: !brief, began: time.Now()}
	if !brief { // it may take long, and is not to keep all that was claimed with it
		job := c.Job
		a.job = &job
	}
	a.ctx, a.cancel = context.WithCancelCause(alone)
	if c.Beside != nil {
		a.ctx = context.WithValue(a.ctx, besideKey{}, c.Beside)
	}
	return a
}

// start runs the attempts' handlers, but for those that run already, and says
// of how many it does. They have taken over their messages' slots.
func (l *lane) start(as []*attempt, brief bool) (begun int) {
	var lost []*attempt // or they would not have been asked for again
	l.mu.Lock()
	for _, a := range as {
		old := l.running[a.job.ID]
		if old != nil && old.job.Envelope() == a.job.Envelope() { // delivered twice while it was claimed
			old.msg = a.msg
			if !brief {
				old.claimed(a.job)
			}
			continue
		}
		if old != nil {
			lost = append(lost, old)
		}
		l.running[a.job.ID] = a
		as[begun] = a
		begun++
	}
	l.w.open.Add(int64(begun))
	l.handling.Add(int64(begun))
	l.mu.Unlock()
	l.free.give(len(as) - begun)
	for _, old := range lost {
		old.cancel(ErrSuperseded)
		old.finish(nil, ErrSuperseded)
	}
	as = as[:begun]
	if halt := l.w.halt.Load(); halt != nil {
		for _, a := range as {
			a.cancel(*halt)
		}
	}
	if brief {
		l.runners.add(as)
		return begun
	}
	for _, a := range as {
		go a.runLong(a.ctx)
	}
	return begun
}

type besideKey struct{}

// Beside is what the ledger read for this attempt of a job when it was claimed
// or looked at, see [events.Claim]; nil where it read nothing.
func Beside(ctx context.Context) any { return ctx.Value(besideKey{}) }

func (a *attempt) runLong(ctx context.Context) {
	ctx, stop := context.WithTimeoutCause(ctx, a.lane.cfg.Timeout, ErrTimeout)
	defer stop()
	deaf := time.AfterFunc(a.lane.cfg.Timeout+a.lane.w.hurry(), a.deaf)
	defer deaf.Stop()
	a.run(ctx)
}

// deaf ends the attempt of a handler that does not listen to its context: it
// keeps its goroutine, and neither its job nor its slot.
func (a *attempt) deaf() {
	cause := context.Cause(a.ctx) // after a pause it may be another than the time
	if cause == nil {
		cause = ErrTimeout
	}
	a.finish(nil, fmt.Errorf("the handler does not stop: %w", cause))
}

func (a *attempt) run(ctx context.Context) {
	defer a.cancel(nil)
	a.lane.mu.Lock()
	job := *a.job
	a.lane.mu.Unlock()
	commit, err := a.call(ctx, job)
	fault.At("worker.handled")
	_, done := errors.AsType[Done](err)
	if cause := context.Cause(ctx); err != nil && !done && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	a.finish(commit, err)
}

// call runs the handler and makes a panic an error.
func (a *attempt) call(ctx context.Context, job events.Job) (commit Commit, err error) {
	defer func() {
		if v := recover(); v != nil {
			a.lane.w.cfg.Log.ErrorContext(ctx, "a handler panicked", "job", job.ID, "kind", job.Kind,
				"attempt", job.Attempts, "panic", reason(fmt.Sprint(v)), "stack", string(debug.Stack()))
			commit, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	return a.lane.handle(ctx, job)
}

// finish hands the attempt to the settlers, once.
func (a *attempt) finish(commit Commit, err error) {
	a.lane.mu.Lock()
	done := a.finished
	a.finished = true
	limits := a.limits
	a.lane.mu.Unlock()
	if done {
		return
	}
	a.lane.handling.Add(-1)
	for _, t := range limits {
		if t != nil {
			t.Stop()
		}
	}
	if why, ok := errors.AsType[Done](err); ok {
		a.why, err = why, nil
	}
	a.commit, a.err = commit, err
	a.verdict = a.lane.judge(a, err)
	a.decide()
	if a.brief && !a.asking && a.end == events.Released && stopped(a.err) {
		a.lane.giveBack(a)
		return
	}
	a.lane.done.put(a)
}

// decide says what the attempt's end means for the job.
func (a *attempt) decide() {
	a.details, a.delay = nil, 0
	if a.err == nil {
		a.end, a.reason = events.Completed, reason(string(a.why))
		return
	}
	a.commit = nil
	a.reason = reason(a.err.Error())
	permanent, _ := errors.AsType[*permanentError](a.err)
	retry, _ := errors.AsType[*retryError](a.err)
	hold, _ := errors.AsType[*holdError](a.err)
	switch {
	// A handler that was told to stop gives its job back: what it says is
	// mostly our own doing.
	case stopped(a.err) && (permanent == nil || errors.Is(a.err, context.Canceled)):
		a.end = events.Released
	case hold != nil:
		a.end, a.details, a.delay = events.Released, events.Held(), hold.after
	case a.verdict.free:
		a.end = events.Released
		// There is no count to back off by, so the job's age has to do.
		age := min(a.job.UpdatedAt.Sub(a.job.CreatedAt)/4, a.lane.breaker.cfg.Longest)
		a.delay = a.verdict.wait + random(max(age, 0))
	case permanent != nil, a.job.Attempts >= a.job.MaxAttempts:
		a.end = events.Failed
	default:
		a.end, a.delay = events.RetryScheduled, max(a.lane.w.cfg.Backoff(a.job.Attempts), a.verdict.wait, 0)
		if retry != nil {
			a.delay = max(a.delay, retry.after)
		}
	}
}

// step is the attempt's end as it is to be stored.
func (a *attempt) step() events.Step {
	return events.Step{Job: *a.job, Begins: a.brief, Delay: a.delay, Event: events.Event{
		Type: a.end, Reason: a.reason, Details: a.details,
		Actor: "worker", Process: a.lane.w.holder.ID, Build: a.lane.w.holder.Build, RequestID: a.job.RequestID,
	}}
}

func stopped(err error) bool {
	return errors.Is(err, ErrDraining) || errors.Is(err, ErrLeaseLost) || errors.Is(err, ErrSuperseded) || errors.Is(err, ErrTaken)
}

// judge asks the breaker what the attempt's end means to the lane.
func (l *lane) judge(a *attempt, err error) verdict {
	v := l.breaker.judge(err)
	switch v.change {
	case rests:
		until, _, _ := l.breaker.resting()
		l.w.cfg.Log.Warn("the lane rests", "kind", l.kind, "until", until.UTC().Format(time.RFC3339), "job", a.job.ID, "err", reason(err.Error()))
	case works:
		l.w.cfg.Log.Info("the lane works again", "kind", l.kind)
	case same:
	}
	return v
}

// spoil is the end of an attempt whose commit cannot be stored.
func (a *attempt) spoil(err error) {
	a.verdict = verdict{}
	a.err = fmt.Errorf("commit: %w", err)
	a.decide()
}

// stored is when a commit's writing is in its transaction.
func stored() { fault.At("worker.stored") }

// write runs the commit, notes what it returned, and makes a panic an error.
func (a *attempt) write(ctx context.Context, tx pgx.Tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			a.lane.w.cfg.Log.ErrorContext(ctx, "a commit panicked", "job", a.job.ID, "kind", a.job.Kind,
				"attempt", a.job.Attempts, "panic", reason(fmt.Sprint(v)), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
		a.spoiled = err
	}()
	err = a.commit(ctx, tx)
	stored()
	return err
}
