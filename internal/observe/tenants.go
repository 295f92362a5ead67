package observe

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// maxName bounds the names of teams and projects, in bytes: they are indexed.
const maxName = 400

func checkName(name string) error {
	var wrong issues
	switch {
	case strings.TrimSpace(name) == "":
		wrong.add(CodeTooSmall, "at least 1 character", "name")
	case len(name) > maxName:
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxName), "name")
	}
	return wrong.err()
}

// CreateTeam makes a team. It is for those who have the database: nobody's
// rights are asked for. Names of teams need not differ.
func (s *Service) CreateTeam(ctx context.Context, name string) (id string, err error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	id = newUUID()
	if err := s.q.InsertTeam(ctx, sqlc.InsertTeamParams{ID: id, Name: plain(name)}); err != nil {
		return "", fmt.Errorf("create team: %w", err)
	}
	return id, nil
}

// CreateProject makes a project of a team, for those who have the database.
// ErrNotFound when there is no such team, ErrConflict when it has a project
// of that name.
func (s *Service) CreateProject(ctx context.Context, team, name string) (id string, err error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		found, err := q.HasTeam(ctx, plain(team))
		switch {
		case err != nil:
			return fmt.Errorf("create project: %w", err)
		case !found:
			return notFound("Team")
		}
		made, err := q.InsertProject(ctx, sqlc.InsertProjectParams{ID: newUUID(), TeamID: team, Name: plain(name)})
		switch {
		case err != nil:
			return fmt.Errorf("create project: %w", err)
		case len(made) == 0:
			return conflict("the team has a project of that name")
		}
		id = made[0]
		return nil
	})
	return id, err
}

// EnsureLocal finds or makes the team and the project of that name that a
// machine has for itself. Processes that start together find the same ones:
// the ids follow from the name.
func (s *Service) EnsureLocal(ctx context.Context, name string) (team, project string, err error) {
	if err := checkName(name); err != nil {
		return "", "", err
	}
	name = plain(name)
	team = string(events.NewID("team", "local", name))
	err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		if err := q.InsertTeam(ctx, sqlc.InsertTeamParams{ID: team, Name: name}); err != nil {
			return err
		}
		_, err := q.InsertProject(ctx, sqlc.InsertProjectParams{
			ID: string(events.NewID("project", team, name)), TeamID: team, Name: name,
		})
		if err != nil {
			return err
		}
		project, err = q.ProjectByName(ctx, sqlc.ProjectByNameParams{TeamID: team, Name: name})
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("ensure the local team: %w", err)
	}
	return team, project, nil
}
