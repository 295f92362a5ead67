package db

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// Settle stores steps with what they leave to be written, all in one
// transaction; see pipeline.Ledger. The jobs are moved first, so that no
// commit runs for an attempt that this worker has lost.
func (s *Jobs) Settle(ctx context.Context, steps []events.Step, commits []func(context.Context, pgx.Tx) error, last ...func(context.Context, pgx.Tx) error) ([]error, error) {
	if len(last) == 0 && !slices.ContainsFunc(commits, func(c func(context.Context, pgx.Tx) error) bool { return c != nil }) {
		return s.settleAlone(ctx, steps)
	}
	var errs []error
	// It begins with its first statement: a round trip less.
	err := inTx(ctx, s.pool, &soon{}, func(tx pgx.Tx, _ sqlc.DBTX) error {
		var err error
		if errs, err = s.settle(ctx, s.q.WithTx(tx), steps); err != nil {
			return err
		}
		stored := false
		for i := range steps {
			if errs[i] != nil {
				continue
			}
			stored = true
			if commits[i] == nil {
				continue
			}
			if err := commits[i](ctx, tx); err != nil {
				return fmt.Errorf("commit of job %s: %w", steps[i].Job.ID, err)
			}
		}
		for _, write := range last {
			if !stored {
				break
			}
			if err := write(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("settle %d jobs: %w", len(steps), err)
	}
	return errs, nil
}

// settleAlone stores steps that leave nothing to be written. Those of a kind
// are one statement, which needs no transaction around it.
func (s *Jobs) settleAlone(ctx context.Context, steps []events.Step) ([]error, error) {
	if !slices.ContainsFunc(steps, func(st events.Step) bool { return st.Begins }) {
		return s.Move(ctx, nil, steps)
	}
	errs := make([]error, len(steps))
	open, err := s.complete(ctx, s.q, steps, s.plain(steps))
	if err == nil && len(open) > 0 {
		err = InTx(ctx, s.pool, func(tx pgx.Tx) error { return s.beginAndMove(ctx, s.q.WithTx(tx), steps, open, errs) })
	}
	if err != nil {
		return nil, fmt.Errorf("settle %d jobs: %w", len(steps), err)
	}
	return errs, nil
}

// settle stores steps, in the transaction of q.
func (s *Jobs) settle(ctx context.Context, q *sqlc.Queries, steps []events.Step) ([]error, error) {
	errs := make([]error, len(steps))
	open, err := s.complete(ctx, q, steps, s.plain(steps))
	if err == nil && len(open) > 0 {
		err = s.beginAndMove(ctx, q, steps, open, errs)
	}
	return errs, err
}

// plain reports, for each step, whether CompleteJobs stores it: one that begins
// and completes a job and says no more, by the worker of the first such step.
func (s *Jobs) plain(steps []events.Step) []bool {
	is := make([]bool, len(steps))
	var by *events.Step
	for i := range steps {
		st := &steps[i]
		e, j := &st.Event, &st.Job
		if !st.Begins || e.Type != events.Completed || j.Status != events.StatusProcessing || j.LockedBy == "" ||
			e.Reason != "" || len(e.Details) > 0 || e.Version != 0 ||
			e.RequestID != "" && e.RequestID != j.RequestID || cmp.Or(e.Process, s.cfg.Process) != j.LockedBy {
			continue
		}
		if by == nil {
			by = st
		}
		is[i] = e.Actor == "worker" && j.LockedBy == by.Job.LockedBy && e.Build == by.Event.Build
	}
	return is
}

// complete stores the plain steps whose jobs are as they were looked at, and
// returns the others.
func (s *Jobs) complete(ctx context.Context, q *sqlc.Queries, steps []events.Step, plain []bool) (open []int, err error) {
	order := make([]int, 0, len(steps))
	for i := range steps {
		if plain[i] {
			order = append(order, i)
		} else {
			open = append(open, i)
		}
	}
	if len(order) == 0 {
		return open, nil
	}
	// One order for everybody who locks several rows: no deadlocks.
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(steps[a].Job.ID, steps[b].Job.ID) })
	if len(order) == 1 {
		done, err := s.completeOne(ctx, q, &steps[order[0]])
		if err == nil && !done {
			open = append(open, order[0])
		}
		return open, err
	}
	n, first := len(order), &steps[order[0]]
	p := sqlc.CompleteJobsParams{
		Ids: make([]string, 0, n), TeamIds: make([]string, 0, n), ProjectIds: make([]string, 0, n),
		Versions: make([]int32, 0, n), BeganAts: make([]time.Time, 0, n),
		Actor: first.Event.Actor, Worker: first.Job.LockedBy, Build: cmp.Or(first.Event.Build, s.cfg.Build), Schema: events.Schema,
		RequestID: first.Job.RequestID,
	}
	for k, i := range order {
		j := &steps[i].Job
		if k > 0 && steps[order[k-1]].Job.ID == j.ID { // one step a job
			open = append(open, i)
			continue
		}
		p.Ids = append(p.Ids, string(j.ID))
		p.TeamIds = append(p.TeamIds, j.Scope.Team)
		p.ProjectIds = append(p.ProjectIds, j.Scope.Project)
		p.Versions = append(p.Versions, int32(j.Version-1))
		p.BeganAts = append(p.BeganAts, j.LockedAt)
		p.Mixed = p.Mixed || j.Version != first.Job.Version || j.Attempts != first.Job.Attempts
		p.Requests = p.Requests || j.RequestID != first.Job.RequestID
	}
	groups, err := q.CompleteJobs(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("complete %d jobs: %w", len(p.Ids), err)
	}
	stored := 0
	for _, g := range groups {
		stored += int(g.Stored)
	}
	if stored == len(p.Ids) {
		return open, nil
	}
	moved := make(map[string]bool, stored)
	for _, g := range groups {
		for id := range strings.SplitSeq(g.Ids, ",") {
			moved[id] = true
		}
	}
	for k, i := range order {
		if id := steps[i].Job.ID; (k == 0 || steps[order[k-1]].Job.ID != id) && !moved[string(id)] {
			open = append(open, i)
		}
	}
	return open, nil
}

// completeOne is complete for one step, by a statement that is cheaper to begin.
func (s *Jobs) completeOne(ctx context.Context, q *sqlc.Queries, st *events.Step) (done bool, err error) {
	j := &st.Job
	moved, err := q.CompleteJob(ctx, sqlc.CompleteJobParams{
		ID: string(j.ID), TeamID: j.Scope.Team, ProjectID: j.Scope.Project, Version: int32(j.Version - 1), BeganAt: j.LockedAt,
		Actor: st.Event.Actor, Worker: j.LockedBy, Build: cmp.Or(st.Event.Build, s.cfg.Build), Schema: events.Schema,
	})
	if err != nil {
		return false, fmt.Errorf("complete job %s: %w", j.ID, err)
	}
	return len(moved) > 0, nil
}

// beginAndMove stores the other steps, in the transaction of q. Of those that
// begin their attempt it first claims what still waits for it: a note that the
// job waits does no harm.
func (s *Jobs) beginAndMove(ctx context.Context, q *sqlc.Queries, steps []events.Step, open []int, errs []error) error {
	type by struct {
		worker, build string
		at            time.Time
	}
	begun, taken := map[by][]int{}, map[events.ID]bool{}
	var moves []events.Step
	var at []int // :: of moves, in steps
	for _, i := range open {
		st := &steps[i]
		switch _, _, err := st.Next(); {
		case err != nil:
			errs[i] = err
		case taken[st.Job.ID]:
			errs[i] = events.ErrHeld
		case st.Begins:
			taken[st.Job.ID] = true
			key := by{st.Job.LockedBy, cmp.Or(st.Event.Build, s.cfg.Build), st.Job.LockedAt}
			begun[key] = append(begun[key], i)
		default:
			taken[st.Job.ID] = true
			moves, at = append(moves, *st), append(at, i)
		}
	}
	for key, some := range begun {
		es := make([]events.Envelope, len(some))
		for k, i := range some {
			es[k] = steps[i].Job.Envelope()
		}
		p, _ := claimParams(es)
		p.Worker, p.Build, p.BeganAt = key.worker, key.build, &key.at
		rows, err := q.ClaimJobs(ctx, p)
		if err != nil {
			return fmt.Errorf("begin %d jobs: %w", len(es), err)
		}
		claimed := make(map[string]*sqlc.ClaimJobsRow, len(rows))
		for k := range rows {
			claimed[rows[k].ID] = &rows[k]
		}
		for _, i := range some {
			row := claimed[string(steps[i].Job.ID)]
			if row == nil {
				errs[i] = events.ErrHeld
				continue
			}
			st := steps[i]
			if st.Job, err = claimedJob(row, key.worker); err != nil {
				return err
			}
			moves, at = append(moves, st), append(at, i)
		}
	}
	moved, refused, err := s.move(ctx, q, moves)
	if err != nil {
		return err
	}
	for k, i := range at {
		errs[i] = refused[k]
		switch {
		case moved[k] != nil:
		case steps[i].Begins: // it would be held by a worker that knows nothing of it
			return fmt.Errorf("job %s began and cannot end: %w", steps[i].Job.ID, cmp.Or(refused[k], events.ErrHeld))
		case refused[k] == nil:
			errs[i] = events.ErrHeld
		}
	}
	return nil
}
