package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

func TestPolicyOfAProject(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	in := func(n int64) observe.NewEvent {
		session := o.session()
		return observe.NewEvent{ProjectID: o.project, SourceType: "hook", EventType: "tool_use", OccurredAtEpoch: n, ServerSessionID: &session}
	}
	kind := func(e observe.NewEvent) string {
		caller := observe.Caller{Actor: "test", Team: o.team, Scopes: []string{observe.ScopeAll}}
		got, err := o.service.Record(t.Context(), caller, []observe.NewEvent{e}, observe.RecordOptions{Generate: true})
		require.NoError(t, err)
		return string(got[0].Job.Kind)
	}
	require.Equal(t, "event", kind(in(1)))
	require.Equal(t, "project api: end-of-session\n", o.obs("projects", "set", o.project, "--policy", "end-of-session"))
	require.Equal(t, "batch", kind(in(2)))
	require.Contains(t, o.obs("projects", "set", o.project, "--policy", "debounce", "--debounce", "10s", "--json"), `"debounceMs": 10000`)
	require.Equal(t, "batch", kind(in(3)))
	o.obs("projects", "set", o.project, "--policy", "server")
	require.Equal(t, "event", kind(in(4)))
	require.Len(t, o.audit("--action", "project.policy"), 3)

	require.Contains(t, o.fails(1, "projects", "set", "nobody", "--policy", "server"), `there is no project "nobody"`)
	require.Contains(t, o.fails(2, "projects", "set", o.project, "--policy", "often"), "--policy")
	require.Contains(t, o.fails(2, "projects", "set", o.project, "--policy", "debounce", "--debounce", "2h"), "--debounce")
	require.Contains(t, o.fails(2, "projects", "set", o.project, "--policy", "per-event", "--debounce", "2s"), "--debounce goes with")
}

// session starts a session and gives its id.
func (o *office) session() string {
	o.t.Helper()
	caller := observe.Caller{Actor: "test", Team: o.team, Scopes: []string{observe.ScopeAll}}
	s, _, err := o.service.StartSession(o.t.Context(), caller, observe.NewSession{ProjectID: o.project})
	require.NoError(o.t, err)
	return s.ID
}
