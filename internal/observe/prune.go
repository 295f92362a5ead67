package observe

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// PruneConfig says which finished jobs are taken away. Only Before has no
// default.
type PruneConfig struct {
	Before   time.Time       // jobs that ended before
	Statuses []events.Status // of these; nil: completed, failed and cancelled
	Payloads bool            // empty the payloads and metadata of their agent events, too
	Batch    int             // jobs looked at in one transaction; 0: 500
	Rate     int             // jobs looked at in a second, at most; 0: any number
	Each     func(Pruned)    // told after each transaction what was taken in all; nil: nobody
}

// Pruned counts what was taken away.
type Pruned struct {
	Jobs        int64 `json:"jobs"`
	Events      int64 `json:"events"`      // of their histories
	AgentEvents int64 `json:"agentEvents"` // marked as done, and emptied where that was asked for
}

func (p *Pruned) add(o Pruned) {
	p.Jobs, p.Events, p.AgentEvents = p.Jobs+o.Jobs, p.Events+o.Events, p.AgentEvents+o.AgentEvents
}

// Prune takes a project's finished jobs away with their histories, in small
// transactions, oldest first, while everything works. It goes on where an
// earlier one was stopped. Observations and their sources stay, and so do
// sessions, the audit log and the agent events, which remember that their job
// was done: one that is sent again asks for nothing. A job stays while
// something else names it: the last summary of a session, or one whose
// observation rests on no agent event.
//
// The error says why it ended early; what is gone until then is in the answer.
func (s *Service) Prune(ctx context.Context, c Caller, project string, cfg PruneConfig) (Pruned, error) {
	var sum Pruned
	p := cfg.params(c.Team, project)
	begun := false
	for {
		start := time.Now()
		var row sqlc.PruneJobsRow
		err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
			scope, err := s.allow(ctx, q, c, toAdmin, project)
			if err != nil {
				return err
			}
			if row, err = q.PruneJobs(ctx, p); err != nil {
				return fmt.Errorf("prune a page of jobs: %w", err)
			}
			if begun || row.Jobs == 0 {
				return nil
			}
			return c.audit(ctx, q, entry{scope: scope, action: actPruning, resource: resProject, id: project, details: cfg.details(nil)})
		})
		if err != nil {
			return sum, s.endPrune(ctx, c, project, cfg, begun, sum, err)
		}
		begun = begun || row.Jobs > 0
		sum.add(Pruned{Jobs: row.Jobs, Events: row.Events, AgentEvents: row.AgentEvents})
		if cfg.Each != nil {
			cfg.Each(sum)
		}
		if row.Seen < p.MaxRows {
			return sum, s.endPrune(ctx, c, project, cfg, begun, sum, nil)
		}
		p.AfterAt, p.AfterID = row.LastAt, row.LastID
		select {
		case <-ctx.Done():
			return sum, s.endPrune(ctx, c, project, cfg, begun, sum, ctx.Err())
		case <-time.After(cfg.pause() - time.Since(start)):
		}
	}
}

// endPrune writes down what came of it, also when it was stopped.
func (s *Service) endPrune(ctx context.Context, c Caller, project string, cfg PruneConfig, begun bool, sum Pruned, why error) error {
	if !begun {
		return why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	details := cfg.details(&sum)
	details["whole"] = why == nil
	e := entry{scope: events.Scope{Team: c.Team, Project: project}, action: actPruned, resource: resProject, id: project, details: details}
	if err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error { return c.audit(ctx, q, e) }); err != nil {
		return cmp.Or(why, err)
	}
	return why
}

// Prunable counts what Prune would take.
func (s *Service) Prunable(ctx context.Context, c Caller, project string, cfg PruneConfig) (n int64, err error) {
	err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		if _, err := s.allow(ctx, q, c, toAdmin, project); err != nil {
			return err
		}
		p := cfg.params(c.Team, project)
		n, err = q.CountPrunable(ctx, sqlc.CountPrunableParams{TeamID: p.TeamID, ProjectID: p.ProjectID, Before: p.Before, Statuses: p.Statuses})
		return err
	})
	return n, err
}

func (cfg PruneConfig) params(team, project string) sqlc.PruneJobsParams {
	statuses := cfg.Statuses
	if statuses == nil {
		statuses = []events.Status{events.StatusCompleted, events.StatusFailed, events.StatusCancelled}
	}
	p := sqlc.PruneJobsParams{TeamID: team, ProjectID: project, Before: cfg.Before, MaxRows: int32(cmp.Or(cfg.Batch, 500)), Payloads: cfg.Payloads}
	for _, st := range statuses {
		if st.Settled() { // nobody may take away what is not
			p.Statuses = append(p.Statuses, string(st))
		}
	}
	return p
}

// pause is how long one transaction and the rest after it take.
func (cfg PruneConfig) pause() time.Duration {
	if cfg.Rate <= 0 {
		return 0
	}
	return time.Second * time.Duration(cmp.Or(cfg.Batch, 500)) / time.Duration(cfg.Rate)
}

func (cfg PruneConfig) details(sum *Pruned) map[string]any {
	d := map[string]any{"before": cfg.Before.UTC().Format(time.RFC3339Nano), "statuses": cfg.params("", "").Statuses, "payloads": cfg.Payloads}
	if sum != nil {
		d["jobs"], d["events"], d["agent_events"] = sum.Jobs, sum.Events, sum.AgentEvents
	}
	return d
}
