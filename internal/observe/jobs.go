package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// ListJobs gives a page of jobs, newest first, and how many there are in all.
func (s *Service) ListJobs(ctx context.Context, c Caller, f JobFilter) (jobs []events.Job, total int, err error) {
	if f.Limit == 0 {
		f.Limit = 50
	}
	f.Limit, f.Offset = min(max(f.Limit, 1), 200), min(max(f.Offset, 0), 1<<30)
	if f.Status != StatusHeld && !slices.Contains(events.Statuses(), events.Status(f.Status)) {
		f.Status = ""
	}
	if !slices.Contains([]string{SourceEvent, SourceBatch, SourceSummary, SourceReindex}, f.SourceType) {
		f.SourceType = ""
	}
	err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		var named []string
		if f.Project != "" {
			named = []string{f.Project}
		}
		scope, err := s.allow(ctx, q, c, toRead, named...)
		if err != nil {
			return err
		}
		if f.Payload && !c.Has(ScopeAdmin) && !slices.Contains(c.Scopes, "admin") {
			return forbidden("`include=payload` requires admin scope")
		}
		if jobs, total, err = listJobs(ctx, q, scope, f); err != nil {
			return fmt.Errorf("list jobs: %w", err)
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actRead, resource: resJob, details: map[string]any{"mode": cmp.Or(f.Mode, "jobs_list"), "payload": f.Payload},
		})
	})
	return jobs, total, err
}

func listJobs(ctx context.Context, q *sqlc.Queries, scope events.Scope, f JobFilter) ([]events.Job, int, error) {
	p := sqlc.ListJobsParams{
		TeamID: scope.Team, ProjectID: scope.Project, Status: f.Status, SourceType: f.SourceType,
		MaxRows: int32(f.Limit), SkipRows: int32(f.Offset),
	}
	if !f.Since.IsZero() {
		p.Since = &f.Since
	}
	rows, err := q.ListJobs(ctx, p)
	if err != nil {
		return nil, 0, err
	}
	total, err := q.CountJobs(ctx, sqlc.CountJobsParams{
		TeamID: p.TeamID, ProjectID: p.ProjectID, Status: p.Status, SourceType: p.SourceType, Since: p.Since,
	})
	if err != nil {
		return nil, 0, err
	}
	jobs := make([]events.Job, len(rows))
	for i, r := range rows {
		jobs[i] = db.JobOf(r)
		if !f.Payload {
			jobs[i].Args = nil
		}
	}
	return jobs, int(total), nil
}

// Job gives one job with its history. A job that the caller may not see is
// not found.
func (s *Service) Job(ctx context.Context, c Caller, id events.ID) (events.Job, []events.Event, error) {
	var job events.Job
	var history []events.Event
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		job, err = findJob(ctx, q, scope, id)
		return err
	})
	if err != nil {
		return events.Job{}, nil, err
	}
	job, history, err = s.jobs.Get(ctx, job.Scope, id) // one snapshot of both
	if errors.Is(err, events.ErrUnknownJob) {
		return events.Job{}, nil, notFound("Generation job")
	}
	return job, history, err
}

func findJob(ctx context.Context, q *sqlc.Queries, scope events.Scope, id events.ID) (events.Job, error) {
	row, err := q.FindJob(ctx, sqlc.FindJobParams{ID: plain(string(id)), TeamID: scope.Team, ProjectID: scope.Project})
	if errors.Is(err, pgx.ErrNoRows) {
		return events.Job{}, notFound("Generation job")
	}
	if err != nil {
		return events.Job{}, fmt.Errorf("read job %s: %w", id, err)
	}
	return db.JobOf(row), nil
}

// RetryJob asks again for a job that failed or was cancelled, with all its
// attempts. already is true when it was queued anyway; one that is held goes
// now, whatever its team has used. ErrConflict when it is being done or is done.
func (s *Service) RetryJob(ctx context.Context, c Caller, id events.ID) (job events.Job, already bool, err error) {
	job, already, err = s.operate(ctx, c, id, order{
		event: events.Queued, reason: "operator_retry", action: actRetried, done: events.StatusQueued,
		from: []events.Status{events.StatusFailed, events.StatusCancelled}, word: "retried",
	})
	s.ring(err == nil && !already)
	return job, already, err
}

// CancelJob stops a job that waits or is being done; what its worker comes up
// with is thrown away. already is true when it was cancelled before.
// ErrConflict when it is completed, or failed: there is nothing to stop.
func (s *Service) CancelJob(ctx context.Context, c Caller, id events.ID) (job events.Job, already bool, err error) {
	return s.operate(ctx, c, id, order{
		event: events.Cancelled, reason: "operator_cancel", action: actCancelled, done: events.StatusCancelled,
		from: []events.Status{events.StatusQueued, events.StatusProcessing}, word: "cancelled",
	})
}

// order is what an operator wants of a job.
type order struct {
	event          events.Type
	reason, action string
	done           events.Status   // nothing is to be done in this one
	from           []events.Status // where the order makes sense
	word           string
}

// despiteBudget are the details of an event by which somebody lets a held job
// go; see withinBudget.
var despiteBudget = json.RawMessage(`{"despite_budget": true}`)

// operateTries bounds how often an order is thought over because the job
// moved meanwhile.
const operateTries = 5

// operate moves the job and writes the audit row in one transaction. The move
// is guarded by the version that was read: when the job went on meanwhile, it
// is read again and decided about anew.
func (s *Service) operate(ctx context.Context, c Caller, id events.ID, o order) (job events.Job, already bool, err error) {
	for range operateTries {
		err = s.inTx(ctx, func(tx pgx.Tx, q *sqlc.Queries) error {
			already = false
			scope, err := s.allow(ctx, q, c, toWrite)
			if err != nil {
				return err
			}
			if job, err = findJob(ctx, q, scope, id); err != nil {
				return err
			}
			e := events.Event{Type: o.event, Actor: cmp.Or(c.KeyID, c.Actor), RequestID: plain(c.RequestID), Reason: o.reason}
			switch held, err := whyHeld(ctx, q, scope, []events.Job{job}); {
			case err != nil:
				return err
			case job.Status == o.done && held[job.ID] != "":
				e.Type, e.Reason, e.Details = events.Reclaimed, "", despiteBudget
			case job.Status == o.done:
				already = true
				return nil
			case !slices.Contains(o.from, job.Status):
				return conflict("a %s job cannot be %s", job.Status, o.word)
			}
			errs, err := s.jobs.Move(ctx, tx, []events.Step{{Job: job, Event: e}})
			if err == nil {
				err = errs[0]
			}
			if err != nil {
				return err
			}
			err = c.audit(ctx, q, entry{
				scope: job.Scope, action: o.action, resource: resJob, id: string(job.ID), job: string(job.ID),
				details: map[string]any{"from": job.Status, "version": job.Version + 1},
			})
			if err != nil {
				return err
			}
			job, err = findJob(ctx, q, scope, id)
			return err
		})
		if err == nil {
			return job, already, nil
		}
		if !errors.Is(err, events.ErrHeld) && !errors.Is(err, events.ErrSettled) {
			return events.Job{}, false, err
		}
	}
	return events.Job{}, false, conflict("the job is changing, try again")
}
