package db

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// beginTries bounds how often a claim is computed anew because the row moved
// between reading and claiming, as it does when the relay notes that the job
// waits. More than that is a queue of operators, or a transaction that stands
// still. The job is asked for again if nobody has begun it a lease later.
const beginTries = 4

// lockTimeout is how long a claim waits for those who have its rows in a
// transaction: a worker that was frozen while it settled holds them until it
// wakes, or Postgres ends its session. beginAgain is the wait before one of
// them is tried again.
const (
	lockTimeout = "1s"
	beginAgain  = 50 * time.Millisecond
)

// Begin claims for the worker the jobs that the envelopes name; see
// pipeline.Ledger. What the envelopes say is compared with the rows, never
// believed.
func (s *Jobs) Begin(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error) {
	claims := make([]events.Claim, len(es))
	open, err := s.claim(ctx, worker, es, claims)
	if err != nil {
		return nil, fmt.Errorf("begin %d jobs: %w", len(es), err)
	}
	for range beginTries {
		if len(open) == 0 {
			return claims, nil
		}
		if open, err = s.begin(ctx, worker, es, open, claims); err != nil {
			return nil, fmt.Errorf("begin %d jobs: %w", len(es), err)
		}
		if len(open) > 0 {
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("begin %d jobs: %w", len(es), context.Cause(ctx))
			case <-time.After(beginAgain):
			}
		}
	}
	for _, i := range open {
		claims[i].Err = events.ErrHeld
	}
	return claims, nil
}

// claim begins the jobs that wait for just these attempts, as nearly all do,
// and returns the others.
func (s *Jobs) claim(ctx context.Context, worker events.Holder, es []events.Envelope, claims []events.Claim) (open []int, err error) {
	p, order := claimParams(es)
	if worker.ID == "" {
		return order, nil // the state machine refuses that
	}
	p.Worker, p.Build, p.LockTimeout = worker.ID, cmp.Or(worker.Build, s.cfg.Build), lockTimeout
	rows, err := s.q.ClaimJobs(ctx, p)
	if pg, ok := errors.AsType[*pgconn.PgError](err); transient(err) || ok && pg.Code == "55P03" { // a lock that was waited for
		return order, nil
	}
	if err != nil {
		return nil, err
	}
	claimed := make(map[string]*sqlc.ClaimJobsRow, len(rows))
	for k := range rows {
		claimed[rows[k].ID] = &rows[k]
	}
	for k, i := range order {
		row := claimed[string(es[i].Job)]
		switch {
		case row == nil:
			open = append(open, i)
		case k > 0 && es[order[k-1]] == es[i]:
			claims[i].Err = events.ErrHeld // the same message twice in one batch
		case k > 0 && es[order[k-1]].Job == es[i].Job: // it says something else of that job
			open = append(open, i)
		default:
			if claims[i].Job, err = claimedJob(row, worker.ID); err != nil {
				return nil, err
			}
		}
	}
	return open, nil
}

// claimParams names the jobs of the envelopes, each once, in the order that is
// given as well.
func claimParams(es []events.Envelope) (p sqlc.ClaimJobsParams, order []int) {
	n := len(es)
	p = sqlc.ClaimJobsParams{
		Ids: make([]string, 0, n), TeamIds: make([]string, 0, n), ProjectIds: make([]string, 0, n), JobTypes: make([]string, 0, n),
		Asked: make([]int32, 0, n), Actor: "worker", Schema: events.Schema, LockTimeout: "0",
	}
	order = make([]int, n)
	for i := range es {
		order[i] = i
	}
	// One order for everybody who locks several rows: no deadlocks.
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(es[a].Job, es[b].Job) })
	for k, i := range order {
		if k > 0 && es[order[k-1]].Job == es[i].Job {
			continue
		}
		p.Ids = append(p.Ids, string(es[i].Job))
		p.TeamIds = append(p.TeamIds, es[i].Scope.Team)
		p.ProjectIds = append(p.ProjectIds, es[i].Scope.Project)
		p.JobTypes = append(p.JobTypes, string(es[i].Kind))
		p.Asked = append(p.Asked, int32(es[i].Asked))
	}
	return p, order
}

// Look gives the jobs that wait for just these attempts, for brief ones; see
// pipeline.Ledger.
func (s *Jobs) Look(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error) {
	var rows []sqlc.LookAtJobsRow
	var beside func(events.Job) any
	var err error
	if look := lookAt(es, &rows); s.cfg.Beside == nil {
		err = look(ctx, s.q)
	} else {
		var ask func(context.Context, *sqlc.Queries) error
		ask, beside = s.cfg.Beside(es)
		err = together(ctx, s.pool, look, ask)
	}
	if err != nil {
		return nil, fmt.Errorf("look at %d jobs: %w", len(es), err)
	}
	claims := make([]events.Claim, len(es))
	for i := range claims {
		claims[i].Err = events.ErrHeld
	}
	for k := range rows {
		row := &rows[k]
		c := &claims[row.Number]
		job := waitingJob(es[row.Number], row)
		c.Job, c.Err = job.Apply(events.Event{Type: events.Processing, At: row.BeganAt.UTC(), Process: worker.ID})
		if beside != nil && c.Err == nil {
			c.Beside = beside(job)
		}
	}
	return claims, nil
}

// lookAt reads the rows, of one job by a statement that is cheaper to begin.
func lookAt(es []events.Envelope, rows *[]sqlc.LookAtJobsRow) func(ctx context.Context, q *sqlc.Queries) error {
	if len(es) == 1 {
		e := &es[0]
		p := sqlc.LookAtJobParams{ID: string(e.Job), TeamID: e.Scope.Team, ProjectID: e.Scope.Project, JobType: string(e.Kind), Asked: int32(e.Asked)}
		return func(ctx context.Context, q *sqlc.Queries) error {
			one, err := q.LookAtJob(ctx, p)
			for i := range one {
				*rows = append(*rows, sqlc.LookAtJobsRow(one[i]))
			}
			return err
		}
	}
	n := len(es)
	p := sqlc.LookAtJobsParams{
		Numbers: make([]int32, n), Ids: make([]string, n), TeamIds: make([]string, n), ProjectIds: make([]string, n),
		JobTypes: make([]string, n), Asked: make([]int32, n),
	}
	for i := range es {
		e := &es[i]
		p.Numbers[i], p.Ids[i], p.TeamIds[i], p.ProjectIds[i], p.JobTypes[i], p.Asked[i] = int32(i), string(e.Job), e.Scope.Team, e.Scope.Project, string(e.Kind), int32(e.Asked)
	}
	return func(ctx context.Context, q *sqlc.Queries) (err error) {
		*rows, err = q.LookAtJobsOnce(ctx, p)
		return err
	}
}

// claimedJob is the job of a row that ClaimJobs has changed, by the state
// machine: the row must be what it makes of the job before.
func claimedJob(r *sqlc.ClaimJobsRow, worker string) (events.Job, error) {
	e := events.Envelope{Job: events.ID(r.ID), Kind: events.Kind(r.JobType), Scope: events.Scope{Team: r.TeamID, Project: r.ProjectID}, Asked: int(r.Asked)}
	j := waitingJob(e, &sqlc.LookAtJobsRow{
		SourceType: r.SourceType, SourceID: r.SourceID, Payload: r.Payload, RequestID: r.RequestID, Priority: r.Priority, MaxAttempts: r.MaxAttempts,
		Version: r.Version - 1, Attempts: r.Attempts - 1, LastError: r.LastError, CreatedAt: r.CreatedAt,
	})
	next, err := j.Apply(events.Event{Type: events.Processing, Version: int(r.Version), At: r.UpdatedAt.UTC(), Process: worker})
	if err == nil && next.Attempts != int(r.Attempts) {
		err = fmt.Errorf("attempt %d, and the row says %d", next.Attempts, r.Attempts)
	}
	if err != nil {
		return events.Job{}, fmt.Errorf("claim job %s: %w", r.ID, err)
	}
	return next, nil
}

// waitingJob is a queued job as far as it matters to one that begins it. What
// its message says of it was compared with its row.
func waitingJob(e events.Envelope, r *sqlc.LookAtJobsRow) events.Job {
	j := events.Job{
		ID: e.Job, Kind: e.Kind, Scope: e.Scope,
		SourceType: r.SourceType, SourceID: r.SourceID, Args: r.Payload, Priority: int(r.Priority),
		MaxAttempts: int(r.MaxAttempts), RequestID: r.RequestID, CreatedAt: r.CreatedAt.UTC(),
		Status: events.StatusQueued, Version: int(r.Version), Asked: e.Asked, Attempts: int(r.Attempts),
	}
	if r.LastError != nil {
		j.LastError = *r.LastError
	}
	return j
}

// begin decides the claims in open and returns those whose row moved.
func (s *Jobs) begin(ctx context.Context, worker events.Holder, es []events.Envelope, open []int, claims []events.Claim) ([]int, error) {
	jobs, err := s.named(ctx, es, open)
	if err != nil {
		return nil, err
	}
	var steps []events.Step
	var asked []int
	var unknown []int
	for _, i := range open {
		e := es[i]
		job, ok := jobs[e.Job]
		switch {
		case !ok:
			unknown = append(unknown, i)
		case job.Kind != e.Kind || job.Scope != e.Scope: // another envelope of the batch may name the right tenant
			claims[i].Err = events.ErrScope
		case e.Asked > job.Version:
			claims[i].Err = events.ErrUnknownJob // from a future that this database has not seen, as after a restore
		case job.Status.Settled() || job.Asked != e.Asked:
			claims[i].Err = events.ErrSettled
		case job.Status == events.StatusProcessing && job.LockedBy == worker.ID:
			claims[i] = events.Claim{Job: job} // ours already: the answer to an earlier claim was lost
		case job.Status == events.StatusProcessing:
			claims[i].Err = events.ErrHeld
		case slices.ContainsFunc(asked, func(k int) bool { return es[k].Job == e.Job }):
			claims[i].Err = events.ErrHeld // the same message twice in one batch
		default:
			steps = append(steps, events.Step{Job: job, Event: events.Event{
				Type: events.Processing, Actor: "worker", Process: worker.ID, Build: worker.Build,
			}})
			asked = append(asked, i)
		}
	}
	if err := s.tellUnknown(ctx, es, unknown, claims); err != nil {
		return nil, err
	}
	free, held, err := s.free(ctx, steps)
	if err != nil {
		return nil, err
	}
	var again []int
	if held { // nobody else's claim waits for whoever has them
		is := func(i int) bool {
			return slices.ContainsFunc(free, func(st events.Step) bool { return st.Job.ID == es[i].Job })
		}
		for _, i := range asked {
			if !is(i) {
				again = append(again, i)
			}
		}
		steps, asked = free, slices.DeleteFunc(asked, func(i int) bool { return !is(i) })
	}
	moved, errs, err := s.move(ctx, s.q, steps)
	if transient(err) {
		return append(again, asked...), nil
	}
	if err != nil {
		return nil, err
	}
	for k, i := range asked {
		switch {
		case errs[k] != nil: // attempts spent: the reconciliation fails the job
			claims[i].Err = errs[k]
		case moved[k] == nil:
			again = append(again, i)
		default:
			claims[i] = events.Claim{Job: *moved[k]}
		}
	}
	return again, nil
}

func (s *Jobs) named(ctx context.Context, es []events.Envelope, open []int) (map[events.ID]events.Job, error) {
	var p sqlc.GetJobsParams
	for _, i := range open {
		p.Ids = append(p.Ids, string(es[i].Job))
		p.TeamIds = append(p.TeamIds, es[i].Scope.Team)
		p.ProjectIds = append(p.ProjectIds, es[i].Scope.Project)
	}
	rows, err := s.q.GetJobs(ctx, p)
	if err != nil {
		return nil, err
	}
	jobs := make(map[events.ID]events.Job, len(rows))
	for _, r := range rows {
		jobs[events.ID(r.ID)] = JobOf(r)
	}
	return jobs, nil
}

// tellUnknown tells jobs that do not exist from those of another tenant.
func (s *Jobs) tellUnknown(ctx context.Context, es []events.Envelope, unknown []int, claims []events.Claim) error {
	if len(unknown) == 0 {
		return nil
	}
	ids := make([]string, len(unknown))
	for k, i := range unknown {
		ids[k] = string(es[i].Job)
	}
	known, err := s.q.KnownJobs(ctx, ids)
	if err != nil {
		return err
	}
	for _, i := range unknown {
		claims[i].Err = events.ErrUnknownJob
		for _, k := range known {
			if k.ID == string(es[i].Job) {
				claims[i].Err = events.ErrScope
			}
		}
	}
	return nil
}

// Seen says that the worker lives, by this database's clock.
func (s *Jobs) Seen(ctx context.Context, worker events.Holder) error {
	slots, err := json.Marshal(worker.Slots)
	if err == nil {
		err = s.q.SeeWorker(ctx, sqlc.SeeWorkerParams{ID: worker.ID, Name: worker.Name, Build: worker.Build, Slots: slots})
	}
	if err != nil {
		return fmt.Errorf("worker %s: %w", worker.ID, err)
	}
	return nil
}

// Gone says that the worker ends. What it still holds is reclaimed at once by
// the next reconciliation.
func (s *Jobs) Gone(ctx context.Context, worker events.Holder) error {
	if err := s.q.LoseWorker(ctx, worker.ID); err != nil {
		return fmt.Errorf("worker %s: %w", worker.ID, err)
	}
	return nil
}
