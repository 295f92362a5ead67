package main

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type auditCommand struct {
	Team    string `placeholder:"ID" help:"Only this team's."`
	Project string `placeholder:"ID" help:"Only this project's."`
	Action  string `placeholder:"NAME" help:"Only this action, such as api_key.create."`
	Since   string `placeholder:"TIME" help:"Since then: 2h, 30m, or 2026-01-31T08:00:00Z."`
	Limit   int    `default:"50" placeholder:"N" help:"At most so many, up to 10000."`
	JSON    bool   `help:"Print JSON."`
	operatorFlags
}

func (auditCommand) Help() string {
	return `Who did what, and what jobs did for whom, the newest first. Reading it leaves no trace in it.

Examples:

  obs audit
  obs audit --since 24h --action api_key.create
  obs audit --action generation_job.failed
  obs audit --project 0197… --limit 1000 --json`
}

// auditBody has the names that the API has.
type auditBody struct {
	ID           string          `json:"id"`
	TeamID       string          `json:"teamId"`
	ProjectID    *string         `json:"projectId"`
	ActorID      string          `json:"actorId"`
	KeyID        *string         `json:"apiKeyId"`
	Action       string          `json:"action"`
	ResourceType string          `json:"resourceType"`
	ResourceID   string          `json:"resourceId"`
	RequestID    *string         `json:"requestId"`
	JobID        *string         `json:"jobId"`
	Details      json.RawMessage `json:"details"`
	CreatedEpoch int64           `json:"createdAtEpoch"`
}

func (c auditCommand) Run(ctx context.Context, std boot.Std) error {
	since, err := sinceOf(c.Since)
	_, cfgErr := boot.Load(c.DatabaseFlags)
	if err := boot.Join(err, limited(c.Limit, 10_000), cfgErr); err != nil {
		return err
	}
	var entries []observe.AuditEntry
	err = c.eachTeam(ctx, std, c.Team, func(op *operator, team observe.Caller) error {
		team.Project = c.Project
		more, err := op.audit(ctx, team, observe.AuditFilter{Action: c.Action, Since: since}, c.Limit)
		entries = append(entries, more...)
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b observe.AuditEntry) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.Cursor, a.Cursor))
	})
	entries = entries[:min(len(entries), c.Limit)]
	bodies, rows := []auditBody{}, [][]string{{"TIME (UTC)", "ACTION", "BY", "ON"}}
	for _, e := range entries {
		bodies = append(bodies, auditBody{
			e.ID, e.TeamID, e.ProjectID, e.ActorID, e.KeyID, e.Action, e.ResourceType, e.ResourceID,
			e.RequestID, e.JobID, e.Details, e.CreatedAt.UnixMilli(),
		})
		rows = append(rows, []string{
			e.CreatedAt.UTC().Format(time.DateTime)[5:], e.Action, cut(e.ActorID, 14), cmp.Or(e.ResourceID, e.ResourceType),
		})
	}
	return listed(std, c.JSON, bodies, rows)
}

// audit reads one scope's log, page by page, until it has limit rows.
func (o *operator) audit(ctx context.Context, c observe.Caller, f observe.AuditFilter, limit int) ([]observe.AuditEntry, error) {
	var all []observe.AuditEntry
	for {
		f.Limit = min(limit-len(all), 500)
		page, err := o.service.Audit(ctx, c, f)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < f.Limit || len(all) == limit {
			return all, nil
		}
		f.Before = page[len(page)-1].Cursor
	}
}
