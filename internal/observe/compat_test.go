package observe_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/sqlc"
)

func toolUse(id string) observe.ToolUse {
	return observe.ToolUse{
		SessionID: "s", ToolUseID: &id,
		Payload: json.RawMessage(`{"tool_name":"Write","tool_input":{"file_path":"/src/a.go","content":"package a"},"tool_response":{"type":"create"}}`),
	}
}

func init() {
	attempts["RecordToolUse"] = attempt{scope: observe.ScopeWrite, lists: true, narrow: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		s, _, err := h.RecordToolUse(ctx, c, toolUse("toolu_1"))
		if s.ProjectID != h.project {
			return nil, err // a stranger's goes to the stranger's project
		}
		return s, err
	}}
	attempts["Summarize"] = attempt{scope: observe.ScopeWrite, lists: true, narrow: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		s, _, err := h.Summarize(ctx, c, "s", nil, "all done")
		if s.ProjectID != h.project {
			return nil, err
		}
		return s, err
	}}
	mutations["KeepLastMessage"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.KeepLastMessage(ctx, sqlc.KeepLastMessageParams{LastMessage: "taken", ID: x.session, TeamID: x.scope.Team, ProjectID: x.scope.Project})
	}}
}

// A tool use sent again is one event and one job, and the summary knows what
// the assistant said last, without what is private.
func TestOlderClientsKeepTheLastMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session, first, err := w.RecordToolUse(t.Context(), w.me, toolUse("toolu_1"))
	require.NoError(t, err)
	require.Equal(t, "claude-code-compat", first.Event.SourceAdapter)
	require.Equal(t, "tool_use", first.Event.EventType)
	require.Equal(t, session.ID, *first.Event.ServerSessionID)
	again, second, err := w.RecordToolUse(t.Context(), w.me, toolUse("toolu_1"))
	require.NoError(t, err)
	require.Equal(t, session.ID, again.ID)
	require.Equal(t, first.Event.ID, second.Event.ID)
	require.Equal(t, first.Job.ID, second.Job.ID)
	require.False(t, second.Created)

	ended, job, err := w.Summarize(t.Context(), w.me, "s", nil, "It <private>"+planted+"</private> works now.")
	require.NoError(t, err)
	require.Equal(t, session.ID, ended.ID)
	require.NotNil(t, ended.EndedAt)
	_, same, err := w.Summarize(t.Context(), w.me, "s", new("claude-code"), "")
	require.NoError(t, err)
	require.Equal(t, job.ID, same.ID)
	w.doAll(t)
	questions := w.provider.questions()
	var told strings.Builder
	for _, q := range questions {
		require.NotContains(t, string(marshal(t, q)), planted)
		told.WriteString(q.LastMessage)
	}
	require.Equal(t, "It  works now.", told.String())
	w.check(t)
}
