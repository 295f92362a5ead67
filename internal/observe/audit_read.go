package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/sqlc"
)

// AuditFilter says which rows of the audit log to read. Empty fields filter
// nothing.
type AuditFilter struct {
	Action string    // as api_key.create
	Since  time.Time // written at this time or later
	Limit  int       // 0 means 50; held within 1 and 500
	Before int64     // only older ones: the ID of the last one of the page before; 0 means the newest
}

// AuditEntry is a row of the audit log: ids and counts, never text of a
// tenant's.
type AuditEntry struct {
	ID           int64
	TeamID       string
	ProjectID    *string // nil when it is about all of the team's
	ActorID      string
	KeyID        *string
	Action       string
	ResourceType string
	ResourceID   string
	RequestID    *string
	JobID        *string
	Details      json.RawMessage
	CreatedAt    time.Time
}

// Audit reads the audit log of the caller's team, or of its key's project,
// newest first.
func (s *Service) Audit(ctx context.Context, c Caller, f AuditFilter) ([]AuditEntry, error) {
	if f.Limit == 0 {
		f.Limit = 50
	}
	if f.Before <= 0 {
		f.Before = math.MaxInt64
	}
	var entries []AuditEntry
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toAdmin)
		if err != nil {
			return err
		}
		p := sqlc.ListAuditParams{
			TeamID: scope.Team, ProjectID: scope.Project, Action: plain(f.Action), Before: f.Before,
			MaxRows: int32(min(max(f.Limit, 1), 500)),
		}
		if !f.Since.IsZero() {
			p.Since = &f.Since
		}
		rows, err := q.ListAudit(ctx, p)
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		entries = make([]AuditEntry, len(rows))
		for i, r := range rows {
			entries[i] = AuditEntry{
				ID: r.ID, TeamID: r.TeamID, ProjectID: r.ProjectID, ActorID: r.ActorID, KeyID: r.ApiKeyID, Action: r.Action,
				ResourceType: r.ResourceType, ResourceID: r.ResourceID, RequestID: r.RequestID, JobID: r.JobID,
				Details: r.Details, CreatedAt: r.CreatedAt,
			}
		}
		return nil
	})
	return entries, err
}
