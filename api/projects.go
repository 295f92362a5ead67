package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

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

// serverPolicy stands for a project that has no policy of its own, as in
// `obs projects set`.
const serverPolicy = "server"

// policyBody is when a project's sessions are asked about. DebounceMS is null
// where events do not wait for others, or the server says how long.
type policyBody struct {
	Policy     string `json:"policy"`
	DebounceMS *int64 `json:"debounceMs"`
}

func asPolicy(p observe.Policy) policyBody {
	b := policyBody{Policy: cmp.Or(p.Name, serverPolicy)}
	if p.Debounce > 0 && p.Name != "" && p.Name != observe.PolicyPerEvent {
		b.DebounceMS = new(p.Debounce.Milliseconds())
	}
	return b
}

// settingsBody is what a project has of its own besides.
type settingsBody struct {
	Storage string        `json:"storage"`
	Mode    string        `json:"mode"`
	Prompts observe.Texts `json:"prompts"` // of its own; what is the mode's is not there
}

type ruledProjectBody struct {
	Project struct {
		projectBody
		policyBody
		settingsBody
	} `json:"project"`
}

func (s *server) getProject(ctx context.Context, c observe.Caller, r named) (body ruledProjectBody, err error) {
	p, err := s.cfg.Service.Project(ctx, c, r.id)
	if err != nil {
		return body, err
	}
	policy, err := s.cfg.Service.ProjectPolicy(ctx, c, p.ID)
	if err != nil {
		return body, err
	}
	set, err := s.cfg.Service.ProjectSettings(ctx, c, p.ID)
	body.Project.projectBody, body.Project.policyBody = asProject(p), asPolicy(policy)
	body.Project.settingsBody = settingsBody{cmp.Or(set.Storage, observe.StorageRaw), cmp.Or(set.Mode, observe.DefaultMode), set.Texts}
	return body, err
}

// settingsRequest changes what is named.
type settingsRequest struct {
	named
	change observe.SettingsChange
}

func (r *settingsRequest) read(in *input) {
	r.named.read(in)
	o := in.object()
	if o.given("storage") {
		r.change.Storage = new(o.oneOf("storage", observe.Storages()...))
	}
	if o.given("mode") {
		r.change.Mode = new(o.text("mode", 64))
	}
	if o.given("prompts") {
		p := o.inner("prompts")
		text := func(name string) string {
			if t := p.optionalText(name, 16<<10); t != nil {
				return *t
			}
			return ""
		}
		r.change.Texts = &observe.Texts{System: text("system"), Observe: text("observe"), Summary: text("summary")}
	}
	if other := r.change.Storage != nil || r.change.Mode != nil || r.change.Texts != nil; other && !o.given("policy") {
		return
	}
	policy := &observe.Policy{Name: o.oneOf("policy", append(observe.Policies(), serverPolicy)...)}
	policy.Debounce = time.Duration(o.optionalInteger("debounceMs", 0, 0, time.Hour.Milliseconds())) * time.Millisecond
	switch policy.Name {
	case observe.PolicyDebounce, observe.PolicyEndOfSession:
		policy.Debounce = cmp.Or(policy.Debounce, observe.DefaultDebounce)
	case serverPolicy:
		*policy = observe.Policy{}
	default:
		policy.Debounce = 0 // it means nothing there
	}
	r.change.Policy = policy
}

type changedProjectBody struct {
	Project struct {
		ID string `json:"id"`
		*policyBody
		Storage *string        `json:"storage,omitempty"`
		Mode    *string        `json:"mode,omitempty"`
		Prompts *observe.Texts `json:"prompts,omitempty"`
	} `json:"project"`
}

// setProject answers with what was named and counts from now on. A project
// that the caller may not see is as if it did not exist.
func (s *server) setProject(ctx context.Context, c observe.Caller, r settingsRequest) (body changedProjectBody, err error) {
	err = s.cfg.Service.SetSettings(ctx, c, r.id, r.change)
	if errors.Is(err, observe.ErrForbidden) {
		err = &observe.Problem{Kind: observe.ErrNotFound, Message: "Project not found"}
	}
	p := &body.Project
	p.ID, p.Storage, p.Mode, p.Prompts = r.id, r.change.Storage, r.change.Mode, r.change.Texts
	if r.change.Policy != nil {
		p.policyBody = new(asPolicy(*r.change.Policy))
	}
	return body, err
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
