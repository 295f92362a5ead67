package observe_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

func init() {
	attempts["Projects"] = attempt{scope: observe.ScopeRead, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		all, err := h.Projects(ctx, c)
		var mine []observe.Project
		for _, p := range all {
			if p.ID == h.project {
				mine = append(mine, p)
			}
		}
		return mine, err
	}}
	attempts["Project"] = attempt{scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Project(ctx, c, h.project)
	}}
	attempts["AddProject"] = attempt{scope: observe.ScopeAdmin, lists: true, wide: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		p, err := h.AddProject(ctx, c, uuid.NewString())
		if p.TeamID != h.team {
			return nil, err // a stranger makes one of the stranger's team
		}
		return p, err
	}}
	attempts["OwnTeam"] = attempt{scope: observe.ScopeRead, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		team, err := h.OwnTeam(ctx, c)
		if team.ID != h.team || c.Project == h.second {
			return nil, err // it is the team of all its projects' keys
		}
		return team, err
	}}
	attempts["AddTeam"] = attempt{scope: observe.ScopeAll, lists: true, wide: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		team, key, _, err := h.AddTeam(ctx, c, "new")
		if c.Team != h.team {
			return nil, err // a stranger's team is not ours
		}
		if err == nil && (key.TeamID != team.ID || team.ID == h.team) {
			return nil, nil
		}
		return team, err
	}}
	attempts["Audit"] = attempt{scope: observe.ScopeAdmin, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		all, err := h.Audit(ctx, c, observe.AuditFilter{Limit: 500})
		var mine []observe.AuditEntry
		for _, e := range all {
			if e.TeamID == h.team && (e.ProjectID == nil || *e.ProjectID == h.project) {
				mine = append(mine, e)
			}
		}
		return mine, err
	}}
	forAllTenants["ProjectsOfTeam"] = "the projects themselves, by their team"
	forAllTenants["TeamByID"] = "the team itself"
}

// The key that comes with a new team opens that team, and the old key does not.
func TestANewTeamHasAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	founder := w.caller(t, w.team, "", observe.ScopeAll)
	team, key, secret, err := w.AddTeam(t.Context(), founder, "new")
	require.NoError(t, err)
	require.Equal(t, []string{observe.ScopeAll}, key.Scopes)
	theirs, err := w.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, team.ID, theirs.Team)
	project, err := w.AddProject(t.Context(), theirs, "p")
	require.NoError(t, err)
	_, err = w.Project(t.Context(), founder, project.ID)
	require.ErrorIs(t, err, observe.ErrNotFound)
	_, err = w.AddProject(t.Context(), theirs, "p")
	require.ErrorIs(t, err, observe.ErrConflict)

	log, err := w.Audit(t.Context(), theirs, observe.AuditFilter{})
	require.NoError(t, err)
	require.Len(t, log, 2)
	require.Equal(t, "project.create", log[0].Action)
	require.Equal(t, "api_key.create", log[1].Action)
	require.Nil(t, log[1].KeyID)
}
