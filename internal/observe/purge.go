package observe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-245eaa15/obs/sqlc"
)

// Purged counts what went with a project's memory.
type Purged struct {
	Observations int64
	AgentEvents  int64
	Sessions     int64
	Jobs         int64
}

// Purge empties a project in one transaction: observations, events, sessions,
// and jobs with their histories, also those that wait or run. What a worker
// still comes up with finds no job and is thrown away. The project, its keys
// and its audit log, which holds no text, stay. A project that is not the
// caller's is not found.
func (s *Service) Purge(ctx context.Context, c Caller, project string) (Purged, error) {
	for {
		p, err := s.tryPurge(ctx, c, project)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != lockNotAvailable {
			return p, err
		}
		select {
		case <-ctx.Done():
			return Purged{}, ctx.Err()
		case <-time.After(time.Duration(5+rand.IntN(20)) * time.Millisecond):
		}
	}
}

const lockNotAvailable = "55P03"

// tryPurge fails when somebody who holds rows of the project waits for its
// lock: a session that ends, or a worker that stores what it made. They then
// finish, and the purge is tried again.
func (s *Service) tryPurge(ctx context.Context, c Caller, project string) (Purged, error) {
	var p Purged
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite, project)
		if errors.Is(err, ErrForbidden) && c.Team != "" {
			return notFound("Project")
		}
		if err != nil {
			return err
		}
		scope.Project = project
		_, err = q.LockProject(ctx, sqlc.LockProjectParams{ProjectID: scope.Project, TeamID: scope.Team})
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound("Project")
		}
		if err != nil {
			return fmt.Errorf("purge project: %w", err)
		}
		if p, err = purge(ctx, q, scope.Team, scope.Project); err != nil {
			return fmt.Errorf("purge project: %w", err)
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actPurge, resource: resProject, id: scope.Project,
			details: map[string]any{"observations": p.Observations, "agent_events": p.AgentEvents, "sessions": p.Sessions, "jobs": p.Jobs},
		})
	})
	return p, err
}

// purge takes the jobs first: their rows are what workers and the relay
// lock, and once they are gone nothing can put a row into the outbox again.
func purge(ctx context.Context, q *sqlc.Queries, team, project string) (p Purged, err error) {
	if err = q.WaitLittle(ctx); err != nil {
		return p, err
	}
	if err = q.LockProjectSessions(ctx, sqlc.LockProjectSessionsParams{TeamID: team, ProjectID: project}); err != nil {
		return p, err
	}
	if p.Jobs, err = q.PurgeJobs(ctx, sqlc.PurgeJobsParams{TeamID: team, ProjectID: project}); err != nil {
		return p, err
	}
	if err = q.PurgeOutbox(ctx, sqlc.PurgeOutboxParams{TeamID: team, ProjectID: project}); err != nil {
		return p, err
	}
	if err = q.PurgeFeed(ctx, sqlc.PurgeFeedParams{TeamID: team, ProjectID: project}); err != nil {
		return p, err
	}
	if p.Observations, err = q.PurgeObservations(ctx, sqlc.PurgeObservationsParams{TeamID: team, ProjectID: project}); err != nil {
		return p, err
	}
	if err = q.PurgeWords(ctx, sqlc.PurgeWordsParams{TeamID: team, ProjectID: project}); err != nil {
		return p, err
	}
	if p.AgentEvents, err = q.PurgeAgentEvents(ctx, sqlc.PurgeAgentEventsParams{TeamID: team, ProjectID: project}); err != nil {
		return p, err
	}
	p.Sessions, err = q.PurgeSessions(ctx, sqlc.PurgeSessionsParams{TeamID: team, ProjectID: project})
	return p, err
}
