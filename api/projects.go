package api

import (
	"context"
	"net/http"

	"github.com/seed-245eaa15/obs/internal/observe"
)

type projectBody struct {
	ID           string `json:"id"`
	TeamID       string `json:"teamId"`
	Name         string `json:"name"`
	CreatedEpoch int64  `json:"createdAtEpoch"`
}

func asProject(p observe.Project) projectBody {
	return projectBody{p.ID, p.TeamID, p.Name, epoch(p.CreatedAt)}
}

type projectsBody struct {
	Projects []projectBody `json:"projects"`
}

func (s *server) listProjects(ctx context.Context, c observe.Caller, _ none) (projectsBody, error) {
	projects, err := s.cfg.Service.Projects(ctx, c)
	body := projectsBody{[]projectBody{}}
	for _, p := range projects {
		body.Projects = append(body.Projects, asProject(p))
	}
	return body, err
}

type oneProjectBody struct {
	Project projectBody `json:"project"`
}

func (s *server) getProject(ctx context.Context, c observe.Caller, r named) (oneProjectBody, error) {
	p, err := s.cfg.Service.Project(ctx, c, r.id)
	return oneProjectBody{asProject(p)}, err
}

// nameRequest asks for something of a name; observe has the rules for it.
type nameRequest struct{ name string }

func (r *nameRequest) read(in *input) { r.name = in.object().text("name", 400) }

type madeProjectBody struct{ oneProjectBody }

func (madeProjectBody) status() int { return http.StatusCreated }

func (s *server) createProject(ctx context.Context, c observe.Caller, r nameRequest) (madeProjectBody, error) {
	p, err := s.cfg.Service.AddProject(ctx, c, r.name)
	return madeProjectBody{oneProjectBody{asProject(p)}}, err
}

type teamBody struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	CreatedEpoch int64  `json:"createdAtEpoch"`
}

type teamsBody struct {
	Teams []teamBody `json:"teams"`
}

func (s *server) listTeams(ctx context.Context, c observe.Caller, _ none) (teamsBody, error) {
	t, err := s.cfg.Service.OwnTeam(ctx, c)
	return teamsBody{[]teamBody{{t.ID, t.Name, epoch(t.CreatedAt)}}}, err
}

type madeTeamBody struct {
	Team teamBody   `json:"team"`
	Key  newKeyBody `json:"key"`
}

func (madeTeamBody) status() int { return http.StatusCreated }

func (s *server) createTeam(ctx context.Context, c observe.Caller, r nameRequest) (madeTeamBody, error) {
	t, k, secret, err := s.cfg.Service.AddTeam(ctx, c, r.name)
	return madeTeamBody{teamBody{t.ID, t.Name, epoch(t.CreatedAt)}, asNewKey(k, secret)}, err
}
