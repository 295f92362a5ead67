package observe_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// home is a world with one of everything in it, for callers to be kept from.
type home struct {
	*world
	session, event, observation, key string
	job, done, cancelled             events.ID
	held                             events.Job
	second                           string // another project of the team
}

func newHome(t *testing.T) *home {
	w := newWorld(t)
	h := &home{world: w}
	h.session = w.session(t, "s").ID
	done := w.record(t, w.inSession(1, h.session))[0]
	w.do(t, done.Job.ID)
	found, err := w.EventObservations(t.Context(), w.me, done.Event.ID)
	require.NoError(t, err)
	h.event, h.observation, h.done = done.Event.ID, found[0].ID, done.Job.ID
	h.job = w.record(t, w.event(2))[0].Job.ID
	held := w.claim(t, w.read(t, w.record(t, w.event(4))[0].Job.ID))
	errs, err := w.jobs.Move(t.Context(), nil, []events.Step{heldBack(held, "for the test")})
	require.NoError(t, err)
	require.NoError(t, errs[0])
	h.held = w.read(t, held.ID)
	_, err = w.pool.Exec(t.Context(), "INSERT INTO team_budgets (team_id, tokens) VALUES ($1, 1000000)", w.team)
	require.NoError(t, err)
	h.cancelled = w.record(t, w.event(3))[0].Job.ID
	_, _, err = w.CancelJob(t.Context(), w.me, h.cancelled)
	require.NoError(t, err)
	key, _, err := w.IssueKey(t.Context(), w.team, w.project, "a", "", nil, time.Time{})
	require.NoError(t, err)
	h.key = key.ID
	_, err = w.pool.Exec(t.Context(), "INSERT INTO usage_events (team_id, project_id, kind, quantity) VALUES ($1, $2, 'tokens', 7)", w.team, w.project)
	require.NoError(t, err)
	require.NoError(t, w.SetPolicy(t.Context(), w.me, w.project, observe.Policy{Name: observe.PolicyPerEvent}))
	h.second, err = w.CreateProject(t.Context(), w.team, "second")
	require.NoError(t, err)
	return h
}

// attempt is one method called for what is at home. answer is what it gave
// of value: a stranger must see none of it.
type attempt struct {
	scope  string // what it needs
	call   func(ctx context.Context, c observe.Caller, h *home) (answer any, err error)
	lists  bool // it names nothing, so a stranger gets an empty answer instead of an error
	wide   bool // a key for one project may not do it at all
	narrow bool // only a key for one project may do it
}

// attempts has every method that takes a Caller.
var attempts = map[string]attempt{
	"Record": {scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Record(ctx, c, []observe.NewEvent{h.world.event(9)}, observe.RecordOptions{Generate: true})
	}},
	"Event": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Event(ctx, c, h.event)
	}},
	"EventObservations": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.EventObservations(ctx, c, h.event)
	}},
	"ListJobs": {scope: observe.ScopeRead, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		jobs, _, err := h.ListJobs(ctx, c, observe.JobFilter{})
		return jobs, err
	}},
	"Job": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		job, _, err := h.Job(ctx, c, h.job)
		return job, err
	}},
	"RetryJob": {scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		job, _, err := h.RetryJob(ctx, c, h.cancelled)
		return job, err
	}},
	"CancelJob": {scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		job, _, err := h.CancelJob(ctx, c, h.job)
		return job, err
	}},
	"WaitJobs": {scope: observe.ScopeRead, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		jobs, _, err := h.WaitJobs(ctx, c, []events.ID{h.job}, time.Millisecond)
		return jobs, err
	}},
	"StartSession": {scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		s, _, err := h.StartSession(ctx, c, observe.NewSession{ProjectID: h.project, ExternalSessionID: new("s")})
		return s, err
	}},
	"Session": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Session(ctx, c, h.session)
	}},
	"EndSession": {scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		s, _, err := h.EndSession(ctx, c, h.session)
		return s, err
	}},
	"Search": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Search(ctx, c, observe.Query{ProjectID: h.project, Query: "batch"})
	}},
	"Context": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		found, err := h.Context(ctx, c, observe.ContextQuery{Query: observe.Query{ProjectID: h.project, Query: "batch"}})
		return found, err
	}},
	"Recent": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Recent(ctx, c, h.project, 5)
	}},
	"Reindex": {scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Reindex(ctx, c, h.project, h.observation)
	}},
	"CreateKey": {scope: observe.ScopeWrite, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		key, _, err := h.CreateKey(ctx, c, observe.NewKey{Scopes: []string{observe.ScopeWrite}})
		if key.TeamID != h.team || key.ProjectID != "" && key.ProjectID != h.project {
			return nil, err // a stranger gets a key to what is the stranger's
		}
		return key, err
	}},
	"ListKeys": {scope: observe.ScopeAdmin, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		keys, err := h.ListKeys(ctx, c)
		var mine []observe.Key
		for _, k := range keys {
			if k.TeamID == h.team && (k.ProjectID == h.project || k.ProjectID == "") {
				mine = append(mine, k)
			}
		}
		return mine, err
	}},
	"RevokeKey": {scope: observe.ScopeAdmin, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.RevokeKey(ctx, c, h.key)
	}},
	"RotateKey": {scope: observe.ScopeAdmin, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		key, _, err := h.RotateKey(ctx, c, h.key)
		return key, err
	}},
	"Follow": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		scope, err := h.Follow(ctx, c, h.project)
		if err != nil {
			return nil, err
		}
		return h.ObservationsOfJob(ctx, scope, h.done, "")
	}},
	"ProjectPolicy": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.ProjectPolicy(ctx, c, h.project)
	}},
	"SetPolicy": {scope: observe.ScopeAdmin, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		if err := h.SetPolicy(ctx, c, h.project, observe.Policy{Name: observe.PolicyEndOfSession}); err != nil {
			return nil, err
		}
		return "set", nil
	}},
	"Prunable": {scope: observe.ScopeAdmin, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		n, err := h.Prunable(ctx, c, h.project, observe.PruneConfig{Before: time.Now().Add(time.Hour)})
		if err != nil {
			return nil, err
		}
		return n, nil
	}},
	"Prune": {scope: observe.ScopeAdmin, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		pruned, err := h.Service.Prune(ctx, c, h.project, observe.PruneConfig{Before: time.Now().Add(time.Hour)})
		if err != nil {
			return nil, err
		}
		return pruned, nil
	}},
	"ProjectSettings": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		if _, err := h.ProjectSettings(ctx, c, h.project); err != nil {
			return nil, err
		}
		return "read", nil
	}},
	"SetSettings": {scope: observe.ScopeAdmin, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		if err := h.SetSettings(ctx, c, h.project, observe.SettingsChange{Storage: new(observe.StorageStripped)}); err != nil {
			return nil, err
		}
		return "set", nil
	}},
	"JobPrompts": {scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		p, err := h.JobPrompts(ctx, c, h.job, true)
		return p.Job, err
	}},
}

// A method that is added has to be added here.
func TestEveryMethodIsAttempted(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[*observe.Service]()
	for m := range typ.Methods() {
		if m.Name == "Admit" {
			continue // it asks for no row: it counts the caller
		}
		if m.Type.NumIn() > 2 && m.Type.In(2) == reflect.TypeFor[observe.Caller]() {
			require.Contains(t, attempts, m.Name)
		}
	}
}

// impossible is a caller that no key makes: a foreign key is in the way.
const impossible = "a team with a foreign project"

// Who has another team's key, another project's key, a key without the scope,
// or no rights at all, sees nothing and changes nothing but at home.
func TestStrangersSeeAndChangeNothing(t *testing.T) {
	t.Parallel()
	for name, a := range attempts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			team, project := h.tenant(t, "strangers")
			for who, c := range map[string]observe.Caller{
				"another team":                h.caller(t, team, "", observe.ScopeAll),
				"another team's project":      h.caller(t, team, project, observe.ScopeAll),
				"another project of the team": h.caller(t, h.team, h.second, observe.ScopeAll),
				impossible:                    {KeyID: "k", Actor: "a", Team: team, Project: h.project, Scopes: []string{observe.ScopeAll}},
			} {
				before := h.ours(t)
				answer, err := a.call(t.Context(), c, h)
				if who != impossible && !(a.lists && err == nil) {
					require.True(t, errors.Is(err, observe.ErrForbidden) || errors.Is(err, observe.ErrNotFound), "%s: %v", who, err)
				}
				require.Empty(t, answer, who)
				require.Equal(t, before, h.ours(t), who)
			}
			var others []string
			for _, s := range []string{observe.ScopeRead, observe.ScopeWrite, observe.ScopeAdmin} {
				if s != a.scope && name != "WaitJobs" {
					others = append(others, s)
				}
			}
			others = append(others, "memories", "memories:readx", "")
			unscoped := h.me
			unscoped.Scopes = others
			h.same(t, func() {
				_, err := a.call(t.Context(), unscoped, h)
				require.ErrorIs(t, err, observe.ErrNoScope)
				_, err = a.call(t.Context(), observe.Caller{}, h)
				require.ErrorIs(t, err, observe.ErrNoScope)
				_, err = a.call(t.Context(), observe.Caller{Scopes: []string{observe.ScopeAll}}, h)
				require.ErrorIs(t, err, observe.ErrForbidden)
			})
			for who, c := range map[string]observe.Caller{
				"the project's key": h.caller(t, h.team, h.project, observe.ScopeAll),
				"the team's key":    h.caller(t, h.team, "", observe.ScopeAll),
				"the scope alone":   h.caller(t, h.team, h.project, a.scope, observe.ScopeRead),
			} {
				h = newHomeFor(t, h, name)
				answer, err := a.call(t.Context(), c, h)
				if a.wide && c.Project != "" || a.narrow && c.Project == "" {
					require.ErrorIs(t, err, observe.ErrForbidden, who)
					continue
				}
				require.NoError(t, err, who)
				require.NotEmpty(t, answer, who)
			}
		})
	}
}

// newHomeFor puts back what the call before has used up.
func newHomeFor(t *testing.T, h *home, method string) *home {
	switch method {
	case "RetryJob":
		_, _, err := h.CancelJob(t.Context(), h.me, h.cancelled)
		require.NoError(t, err)
	case "DeleteMemory":
		m, err := h.AddMemory(t.Context(), h.me, observe.NewMemory{ProjectID: h.project, Content: "again"})
		require.NoError(t, err)
		h.observation = m.ID
	case "Purge":
		h.record(t, h.world.event(4))
	case "Prune", "Prunable":
		h.do(t, h.record(t, h.world.event(h.count(t, "agent_events")+10))[0].Job.ID)
	case "RevokeKey", "RotateKey":
		key, _, err := h.IssueKey(t.Context(), h.team, h.project, "a", "", nil, time.Time{})
		require.NoError(t, err)
		h.key = key.ID
	}
	return h
}

// ours is all rows that are the home team's project's, but for what its
// strangers may do in a project of the same team.
func (h *home) ours(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, table := range tables {
		filter := "project_id = '" + h.project + "' AND team_id = '" + h.team + "'"
		switch table {
		case "teams":
			filter = "id = '" + h.team + "'"
		case "projects":
			filter = "id = '" + h.project + "'"
		case "team_members":
			filter = "team_id = '" + h.team + "'"
		}
		var rows string
		require.NoError(t, h.pool.QueryRow(t.Context(),
			"SELECT coalesce(string_agg(x, E'\\n' ORDER BY x), '') FROM (SELECT t::text AS x FROM "+table+" t WHERE "+filter+") y").Scan(&rows))
		all.WriteString(table + "\n" + rows + "\n")
	}
	return all.String()
}
