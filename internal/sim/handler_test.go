package sim_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// handle does one attempt as the plan says, and keeps a log of it.
func (p *process) handle(ctx context.Context, job events.Job, _ struct{}) (pipeline.Commit, error) {
	p.w.inHand.Add(1)
	defer p.w.inHand.Done()
	run := &handlerRun{job: job, worker: p.name}
	e := p.w.begin(run)
	commit, err := p.attempt(ctx, job, e)
	cause := context.Cause(ctx)
	p.w.mu.Lock()
	run.stopped = err != nil && (errors.Is(cause, pipeline.ErrDraining) || errors.Is(cause, pipeline.ErrLeaseLost) || errors.Is(cause, pipeline.ErrSuperseded) || errors.Is(cause, pipeline.ErrTaken))
	p.w.mu.Unlock()
	if err := p.pass(); err != nil { // a paused process stops here, a killed one ends
		return nil, err
	}
	return commit, err
}

// tooMany runs of one job in one schedule are a loop.
const tooMany = 500

// begin notes a run and says how it is to end.
func (w *world) begin(run *handlerRun) ending {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := run.job.ID
	n := len(w.runs[id])
	if w.runs[id] = append(w.runs[id], run); n == tooMany {
		w.faults = append(w.faults, fmt.Sprintf("job %s was attempted %d times", id, n))
	}
	if n >= tooMany { // slow down what would otherwise go round without time going on
		return ending{how: endDeaf, d: time.Second}
	}
	for i := range w.ids {
		if w.ids[i] == id {
			ends := w.plan.jobs[i].ends
			e := ends[min(n, len(ends)-1)]
			run.end = e.how
			return e
		}
	}
	return ending{how: endOK}
}

func (p *process) attempt(ctx context.Context, job events.Job, e ending) (pipeline.Commit, error) {
	trouble := errors.New("sim")
	write := func(err error) pipeline.Commit {
		return func(ctx context.Context, _ pgx.Tx) error {
			tx, ok := ctx.Value(inTransaction{}).(*transaction)
			if !ok {
				return errors.New("a commit outside of a transaction")
			}
			tx.effects[job.ID] = effect{job.ID, job.Version, p.name}
			once := err
			if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "40P01" {
				err = nil
			}
			return once
		}
	}
	switch e.how {
	case endHang:
		<-ctx.Done()
		return nil, ctx.Err()
	case endDeaf:
		<-time.After(e.d)
		return write(nil), nil
	}
	if e.d > 0 && e.how != endRetryAfter && !pause(ctx, e.d) {
		return nil, ctx.Err()
	}
	switch e.how {
	case endErr:
		return nil, trouble
	case endPanic:
		panic("sim")
	case endRetryAfter:
		return nil, pipeline.RetryAfter(e.d, trouble)
	case endPermanent:
		return nil, pipeline.Permanent(trouble)
	case endRefused:
		return write(&pgconn.PgError{Code: "23505", Message: "duplicate key"}), nil
	case endTrouble:
		return write(&pgconn.PgError{Code: "40P01", Message: "deadlock detected"}), nil
	case endCommitDies:
		return func(context.Context, pgx.Tx) error { panic("sim") }, nil
	default:
		return write(nil), nil
	}
}

// commit stores what the commits of a transaction have written, for those
// steps that were stored.
func (w *world) commit(tx *transaction, steps []events.Step, errs []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range steps {
		e, wrote := tx.effects[s.Job.ID]
		if wrote && (w.plant == plantEffectsOutside || errs[i] == nil && s.Event.Type == events.Completed) {
			w.effects[e.job] = append(w.effects[e.job], e)
		}
	}
}
