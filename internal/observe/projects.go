package observe

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	actProjectCreate = "project.create"
	actTeamCreate    = "team.create"
	resTeam          = "team"
)

// toFound is for making teams: no smaller scope is about other teams.
var toFound = []string{ScopeAll}

// Projects lists the projects that the caller may see, oldest first.
func (s *Service) Projects(ctx context.Context, c Caller) ([]Project, error) {
	var projects []Project
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		projects, err = projectsOf(ctx, q, scope)
		return err
	})
	return projects, err
}

// Project gives one of them.
func (s *Service) Project(ctx context.Context, c Caller, id string) (Project, error) {
	var project Project
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		if id == "" || scope.Project != "" && scope.Project != id {
			return notFound("Project")
		}
		scope.Project = plain(id)
		found, err := projectsOf(ctx, q, scope)
		if err == nil && len(found) == 0 {
			return notFound("Project")
		}
		project = first(found)
		return err
	})
	return project, err
}

func projectsOf(ctx context.Context, q *sqlc.Queries, scope events.Scope) ([]Project, error) {
	rows, err := q.ProjectsOfTeam(ctx, sqlc.ProjectsOfTeamParams{TeamID: scope.Team, ProjectID: scope.Project, MaxRows: maxTenants})
	if err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	projects := make([]Project, len(rows))
	for i, r := range rows {
		projects[i] = Project(r)
	}
	return projects, nil
}

// AddProject makes a project of the caller's team. A key for one project may
// not. ErrConflict when the team has a project of that name.
func (s *Service) AddProject(ctx context.Context, c Caller, name string) (Project, error) {
	if err := c.granted(toAdmin); err != nil {
		return Project{}, err
	}
	if err := checkName(name); err != nil {
		return Project{}, err
	}
	var project Project
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toAdmin)
		if err != nil {
			return err
		}
		if scope.Project != "" {
			return forbidden("API key is scoped to a project")
		}
		made, err := q.InsertProject(ctx, sqlc.InsertProjectParams{ID: newUUID(), TeamID: scope.Team, Name: plain(name)})
		switch {
		case err != nil:
			return fmt.Errorf("create project: %w", err)
		case len(made) == 0:
			return conflict("the team has a project of that name")
		}
		scope.Project = made[0]
		found, err := projectsOf(ctx, q, scope)
		if err != nil {
			return err
		}
		project = first(found)
		return c.audit(ctx, q, entry{scope: scope, action: actProjectCreate, resource: resProject, id: project.ID})
	})
	return project, err
}

// OwnTeam gives the caller's team, the only one it may see.
func (s *Service) OwnTeam(ctx context.Context, c Caller) (Team, error) {
	var team Team
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		row, err := q.TeamByID(ctx, scope.Team)
		if err != nil {
			return fmt.Errorf("read team: %w", err)
		}
		team = Team(row)
		return nil
	})
	return team, err
}

// AddTeam makes a team, and a first key to it that may do everything there:
// the caller's own key is for its own team only. It takes a key that may do
// everything in all of its team. Names of teams need not differ.
func (s *Service) AddTeam(ctx context.Context, c Caller, name string) (Team, Key, string, error) {
	if err := c.granted(toFound); err != nil {
		return Team{}, Key{}, "", err
	}
	if err := checkName(name); err != nil {
		return Team{}, Key{}, "", err
	}
	var team Team
	var key Key
	var secret string
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toFound)
		if err != nil {
			return err
		}
		if scope.Project != "" {
			return forbidden("API key is scoped to a project")
		}
		made := events.Scope{Team: newUUID()}
		if err := q.InsertTeam(ctx, sqlc.InsertTeamParams{ID: made.Team, Name: plain(name)}); err != nil {
			return fmt.Errorf("create team: %w", err)
		}
		row, err := q.TeamByID(ctx, made.Team)
		if err != nil {
			return fmt.Errorf("read team: %w", err)
		}
		team = Team(row)
		if key, secret, err = s.insertKey(ctx, q, made, c.Actor, "first key", []string{ScopeAll}, (*time.Time)(nil)); err != nil {
			return err
		}
		founder := Caller{Actor: c.Actor, RequestID: c.RequestID} // its key is no row of the new team's
		err = founder.audit(ctx, q, entry{
			scope: made, action: actKeyCreate, resource: resKey, id: key.ID,
			details: map[string]any{"scopes": key.Scopes, "expires_at": key.ExpiresAt},
		})
		if err != nil {
			return err
		}
		return c.audit(ctx, q, entry{scope: scope, action: actTeamCreate, resource: resTeam, id: team.ID})
	})
	return team, key, secret, err
}
