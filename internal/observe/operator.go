package observe

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-245eaa15/obs/sqlc"
)

// maxTenants bounds what is listed to an operator.
const maxTenants = 10_000

// Team is a team.
type Team struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// Project is a project of a team.
type Project struct {
	ID        string
	TeamID    string
	Name      string
	CreatedAt time.Time
}

// ListTeams lists all teams, oldest first, for those who have the database:
// nobody's rights are asked for.
func (s *Service) ListTeams(ctx context.Context) ([]Team, error) {
	rows, err := s.q.ListTeams(ctx, maxTenants)
	if err != nil {
		return nil, fmt.Errorf("list teams: %w", err)
	}
	teams := make([]Team, len(rows))
	for i, r := range rows {
		teams[i] = Team(r)
	}
	return teams, nil
}

// ListProjects lists the projects of a team, or of all where team is "",
// oldest first, for those who have the database.
func (s *Service) ListProjects(ctx context.Context, team string) ([]Project, error) {
	rows, err := s.q.ListProjects(ctx, sqlc.ListProjectsParams{TeamID: plain(team), MaxRows: maxTenants})
	if err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	projects := make([]Project, len(rows))
	for i, r := range rows {
		projects[i] = Project(r)
	}
	return projects, nil
}
