package observe

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// ObservationPage is how many observations [Service.ObservationsOfJob] gives
// at once.
const ObservationPage = 50

// Follow says what the caller may follow: its project, its team, or the one
// project of its team that is named. It is noted in the audit log once, for
// all that the caller is going to see.
func (s *Service) Follow(ctx context.Context, c Caller, project string) (events.Scope, error) {
	var scope events.Scope
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		var named []string
		if project != "" {
			named = []string{project}
		}
		var err error
		if scope, err = s.allow(ctx, q, c, toRead, named...); err != nil {
			return err
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actRead, resource: resObservation, details: map[string]any{"mode": "stream"},
		})
	})
	return scope, err
}

// ObservationsOfJob gives a page of what a job has made, in the order of ids,
// behind the id given. Scope has both, the team and the project, and comes
// from [Service.Follow]: here nobody is asked who they are. A page that is not
// full is the last one.
func (s *Service) ObservationsOfJob(ctx context.Context, scope events.Scope, job events.ID, after string) ([]Observation, error) {
	rows, err := s.q.ObservationsOfJob(ctx, sqlc.ObservationsOfJobParams{
		JobID: plain(string(job)), TeamID: scope.Team, ProjectID: scope.Project, After: plain(after), MaxRows: ObservationPage,
	})
	if err != nil {
		return nil, fmt.Errorf("read the observations of job %s: %w", job, err)
	}
	found := make([]Observation, len(rows))
	for i, r := range rows {
		found[i] = Observation(r)
	}
	return found, nil
}
