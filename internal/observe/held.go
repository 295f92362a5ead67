package observe

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// letGo asks again, now, for the jobs of a team that are held.
func (s *Service) letGo(ctx context.Context, team, actor string) (n int, err error) {
	for {
		rows, err := s.q.HeldJobs(ctx, sqlc.HeldJobsParams{TeamID: team, MaxRows: letGoPage})
		if err != nil {
			return n, fmt.Errorf("read the held jobs of team %s: %w", team, err)
		}
		var moved int
		if moved, err = s.askAgain(ctx, rows, actor); err != nil {
			return n, err
		}
		n += moved
		if len(rows) < letGoPage || moved == 0 {
			s.ring(n > 0)
			return n, nil
		}
	}
}

func (s *Service) askAgain(ctx context.Context, rows []sqlc.Job, actor string) (n int, err error) {
	steps := make([]events.Step, len(rows))
	for i, r := range rows {
		steps[i] = events.Step{Job: db.JobOf(r), Event: events.Event{Type: events.Reclaimed, Actor: actor}}
	}
	if len(steps) == 0 {
		return 0, nil
	}
	errs, err := s.jobs.Move(ctx, nil, steps)
	if err != nil {
		return 0, fmt.Errorf("let %d jobs go: %w", len(steps), err)
	}
	for _, err := range errs {
		if err == nil { // another one was first with the others
			n++
		}
	}
	return n, nil
}

// LetGo lets the held jobs of all teams go that may use more, and says how many
// jobs that were, and how many teams are still held.
func (s *Service) LetGo(ctx context.Context) (jobs, held int, err error) {
	teams, err := s.q.Holds(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("read whose jobs are held: %w", err)
	}
	for _, t := range teams {
		s.budgets.drop(t.TeamID)
		over, _, err := s.overdrawn(ctx, t.TeamID)
		switch {
		case err != nil:
			return jobs, held, err
		case over != "":
			held++
			continue
		}
		n, err := s.letGo(ctx, t.TeamID, "worker")
		jobs += n
		if err == nil && n == 0 && t.Old {
			_, err = s.q.DropHold(ctx, t.TeamID)
		}
		if err != nil {
			return jobs, held, err
		}
	}
	return jobs, held, nil
}

// KeepBudgets lets held jobs go when they may, and adds up what was counted,
// until ctx ends. It is a part of a worker.
func (s *Service) KeepBudgets(ctx context.Context) error {
	tick := time.NewTicker(letGoEvery)
	defer tick.Stop()
	for {
		jobs, held, err := s.LetGo(ctx)
		if err == nil {
			s.heldTeams.Store(int64(held))
			err = s.foldCrowded(ctx)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.LogAttrs(ctx, slog.LevelWarn, "budgets not looked after", slog.Any("err", err))
		case jobs > 0:
			s.log.LogAttrs(ctx, slog.LevelInfo, "held jobs may go", slog.Int("jobs", jobs))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// HeldTeams is how many teams had jobs held when KeepBudgets last looked.
func (s *Service) HeldTeams() int64 { return s.heldTeams.Load() }

// foldCrowded adds up what was counted, where it has become much.
func (s *Service) foldCrowded(ctx context.Context) error {
	for range 100 {
		teams, err := s.q.CrowdedUsage(ctx, foldAt)
		if err != nil {
			return fmt.Errorf("look for what to add up: %w", err)
		}
		for _, team := range teams {
			if err := s.q.FoldUsage(ctx, sqlc.FoldUsageParams{TeamID: team, MaxRows: foldMost}); err != nil {
				return fmt.Errorf("add up the use of team %s: %w", team, err)
			}
		}
		if len(teams) == 0 {
			break
		}
	}
	return nil
}

// WhyHeld gives those of the caller's jobs that are held, with the reason.
// Each waits until its NextAt.
func (s *Service) WhyHeld(ctx context.Context, c Caller, jobs ...events.Job) (map[events.ID]string, error) {
	var found map[events.ID]string
	if !mayBeHeld(jobs) {
		return found, nil
	}
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		found, err = whyHeld(ctx, q, scope, jobs)
		return err
	})
	return found, err
}

func mayBeHeld(jobs []events.Job) bool {
	for _, j := range jobs {
		if j.Status == events.StatusQueued && !j.NextAt.IsZero() {
			return true
		}
	}
	return false
}

func whyHeld(ctx context.Context, q *sqlc.Queries, scope events.Scope, jobs []events.Job) (map[events.ID]string, error) {
	p := sqlc.WhyHeldParams{TeamID: scope.Team, ProjectID: scope.Project}
	for _, j := range jobs {
		if j.Status == events.StatusQueued && time.Now().Before(j.NextAt) {
			p.Ids, p.Asked = append(p.Ids, string(j.ID)), append(p.Asked, int32(j.Asked))
		}
	}
	if len(p.Ids) == 0 {
		return nil, nil
	}
	rows, err := q.WhyHeld(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("read which jobs are held: %w", err)
	}
	found := make(map[events.ID]string, len(rows))
	for _, r := range rows {
		found[events.ID(r.JobID)] = r.Reason
	}
	return found, nil
}
