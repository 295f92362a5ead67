package observe

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// maxQuery bounds what is worth parsing, in bytes.
const maxQuery = 10_000

// dashes are not the - that excludes a word: they begin a flag, as --data-dir,
// or rule a line. Postgres would negate once for each, and gives up at 32.
var dashes = regexp.MustCompile(`-(?:[^-\pL\pN"]*-)+`)

// words makes a query that Postgres can parse.
func words(query string) string { return dashes.ReplaceAllString(plain(query), " ") }

// Search finds the observations of a project that hold all the words of the
// query, the best match first, then the newest.
func (s *Service) Search(ctx context.Context, c Caller, query Query) ([]Observation, error) {
	return s.search(ctx, c, query, "search", 20, 100)
}

// Context is a search for an agent: it also gives the contents as one text.
func (s *Service) Context(ctx context.Context, c Caller, query Query) ([]Observation, string, error) {
	found, err := s.search(ctx, c, query, "context", 10, 50)
	if err != nil {
		return nil, "", err
	}
	contents := make([]string, len(found))
	for i, o := range found {
		contents[i] = o.Content
	}
	return found, strings.Join(contents, "\n\n"), nil
}

func (s *Service) search(ctx context.Context, c Caller, query Query, mode string, usual, most int) ([]Observation, error) {
	if err := c.granted(toRead); err != nil {
		return nil, err
	}
	if query.Limit == 0 {
		query.Limit = usual
	}
	if err := query.check(most); err != nil {
		return nil, err
	}
	var found []Observation
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead, query.ProjectID)
		if err != nil {
			return err
		}
		rows, err := q.SearchObservations(ctx, sqlc.SearchObservationsParams{
			Query: words(query.Query), TeamID: scope.Team, ProjectID: scope.Project,
			Platform: plain(deref(platformOf(query.PlatformSource))), MaxRows: int32(query.Limit),
		})
		if err != nil {
			return fmt.Errorf("search: %w", err)
		}
		found = make([]Observation, len(rows))
		for i, r := range rows {
			found[i] = Observation(r)
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actRead, resource: resObservation, details: map[string]any{"mode": mode, "found": len(found)},
		})
	})
	return found, err
}

func (query Query) check(most int) error {
	var wrong issues
	if query.ProjectID == "" {
		wrong.add(CodeTooSmall, "at least 1 character", "projectId")
	}
	if query.Query == "" {
		wrong.add(CodeTooSmall, "at least 1 character", "query")
	}
	if len(query.Query) > maxQuery {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxQuery), "query")
	}
	if query.Limit < 1 {
		wrong.add(CodeTooSmall, "at least 1", "limit")
	}
	if query.Limit > most {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d", most), "limit")
	}
	return wrong.err()
}

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
