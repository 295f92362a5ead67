package observe

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// Event gives one agent event as it was sent.
func (s *Service) Event(ctx context.Context, c Caller, id string) (AgentEvent, error) {
	var event AgentEvent
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		event, err = findEvent(ctx, q, scope, id)
		return err
	})
	return event, err
}

func findEvent(ctx context.Context, q *sqlc.Queries, scope events.Scope, id string) (AgentEvent, error) {
	row, err := q.GetAgentEvent(ctx, sqlc.GetAgentEventParams{ID: plain(id), TeamID: scope.Team, ProjectID: scope.Project})
	if errors.Is(err, pgx.ErrNoRows) {
		return AgentEvent{}, notFound("Event")
	}
	if err != nil {
		return AgentEvent{}, fmt.Errorf("read agent event: %w", err)
	}
	return agentEventOf(row), nil
}

// EventObservations gives the observations that rest on an event, oldest
// first.
func (s *Service) EventObservations(ctx context.Context, c Caller, id string) ([]SourcedObservation, error) {
	var found []SourcedObservation
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		event, err := findEvent(ctx, q, scope, id)
		if err != nil {
			return err
		}
		scope.Project = event.ProjectID
		rows, err := q.ObservationsOfEvent(ctx, sqlc.ObservationsOfEventParams{TeamID: scope.Team, ProjectID: scope.Project, EventID: event.ID})
		if err != nil {
			return fmt.Errorf("read observations: %w", err)
		}
		found = make([]SourcedObservation, len(rows))
		for i, r := range rows {
			found[i] = sourcedOf(r)
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actRead, resource: resObservation, id: event.ID,
			details: map[string]any{"mode": "event_observations", "found": len(found)},
		})
	})
	return found, err
}

func sourcedOf(r sqlc.ObservationsOfEventRow) SourcedObservation {
	return SourcedObservation{
		Observation: Observation{
			ID: r.ID, ProjectID: r.ProjectID, TeamID: r.TeamID, ServerSessionID: r.ServerSessionID, Kind: r.Kind,
			Content: r.Content, Metadata: r.Metadata, GenerationKey: r.GenerationKey, CreatedByJobID: r.CreatedByJobID,
			CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		},
		Source: Source{
			ID: r.SourceRowID, SourceType: r.SourceType, SourceID: r.SourceID,
			GenerationJobID: r.GenerationJobID, CreatedAt: r.SourceCreatedAt,
		},
	}
}
