package observe

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/sqlc"
)

// Recent gives a project's newest observations, the newest first. A limit of
// 0 means 20; more than 100 is refused.
func (s *Service) Recent(ctx context.Context, c Caller, project string, limit int) ([]Observation, error) {
	if err := c.granted(toRead); err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = 20
	}
	var wrong issues
	if project == "" {
		wrong.add(CodeTooSmall, "at least 1 character", "projectId")
	}
	if limit < 1 {
		wrong.add(CodeTooSmall, "at least 1", "limit")
	}
	if limit > 100 {
		wrong.add(CodeTooBig, "at most 100", "limit")
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	var found []Observation
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead, project)
		if err != nil {
			return err
		}
		rows, err := q.RecentObservations(ctx, sqlc.RecentObservationsParams{
			TeamID: scope.Team, ProjectID: scope.Project, MaxRows: int32(limit),
		})
		if err != nil {
			return fmt.Errorf("read the newest observations: %w", err)
		}
		found = make([]Observation, len(rows))
		for i, r := range rows {
			found[i] = Observation(r)
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actRead, resource: resObservation, details: map[string]any{"mode": "recent", "found": len(found)},
		})
	})
	return found, err
}
