package observe_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func (w *world) latest(t *testing.T, q observe.ContextQuery) observe.ContextResult {
	t.Helper()
	q.ProjectID = w.project
	r, err := w.Context(t.Context(), w.me, q)
	require.NoError(t, err)
	require.LessOrEqual(t, r.Tokens, max(q.MaxTokens, 2000))
	return r
}

func TestContextOfTheLatestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Empty(t, w.latest(t, observe.ContextQuery{}).Text)

	first, second := w.session(t, "first"), w.session(t, "second")
	w.note(t, w.inSession(1, first.ID), llm.Observation{Type: "change", Title: "Old change", Narrative: "What it was about.", FilesModified: []string{"a.go"}})
	_, err := w.pool.Exec(t.Context(), `INSERT INTO observations (id, team_id, project_id, server_session_id, kind, content, metadata)
		VALUES ('sum', $1, $2, $3, 'summary', 'Request: faster', '{"request": "make it faster", "completed": "it is faster", "next_steps": "measure it"}')`, w.team, w.project, first.ID)
	require.NoError(t, err)
	w.note(t, w.inSession(2, second.ID), llm.Observation{Type: "change", Title: "A change of the relay", Narrative: "One line."})
	w.note(t, w.inSession(3, second.ID), llm.Observation{Type: "decision", Title: "One clock decides", Narrative: "Two clocks drift apart.", FilesRead: []string{"x.go", "y.go", "z.go", "q.go"}})
	for i := range 3 {
		w.note(t, w.inSession(10+i, second.ID), llm.Observation{Type: "discovery", Title: fmt.Sprintf("go test ./outbox fails: TestLead timed out waiting for the leader, run %d", i)})
	}
	r := w.latest(t, observe.ContextQuery{})
	day := second.StartedAt.UTC().Format("2006-01-02 15:04")
	require.Equal(t, "## Session of "+day+" UTC ("+second.ID+`)
- **decision** One clock decides (x.go, y.go, z.go and 1 more)
  Two clocks drift apart.
- **discovery** go test ./outbox fails: TestLead timed out waiting for the leader, run 2 [3 times]
- **change** A change of the relay
  One line.

## Session of `+first.StartedAt.UTC().Format("2006-01-02 15:04")+" UTC ("+first.ID+`)
**Asked:** make it faster
**Done:** it is faster
**Next:** measure it
- **change** Old change (a.go)`, r.Text)
	require.Len(t, r.Observations, 5)
	require.Equal(t, 2, r.Folded)
	require.Zero(t, r.Left)

	small := w.latest(t, observe.ContextQuery{MaxTokens: 60})
	require.LessOrEqual(t, small.Tokens, 60)
	require.Contains(t, small.Text, "One clock decides", "what says most is kept")
	require.NotZero(t, small.Left)
	require.Len(t, w.latest(t, observe.ContextQuery{Query: observe.Query{Limit: 2}}).Observations, 2)
}

// Whatever notes have in them, the text stays within its bounds, and each
// note is one line or two.
func TestContextIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 30 {
		w.note(t, w.event(i), llm.Observation{
			Type: "change", Title: fmt.Sprintf("# %d\n\n- x ", i) + strings.Repeat("ü", 300), Narrative: strings.Repeat(fmt.Sprint("a\n", i, " "), 500),
			FilesRead: []string{strings.Repeat("d/", 200)},
		})
	}
	for _, most := range []int{1, 10, 100, 500, 5000, 32_000} {
		r := w.latest(t, observe.ContextQuery{MaxTokens: most})
		require.LessOrEqual(t, r.Tokens, most)
		require.Equal(t, (len(r.Text)+3)/4, r.Tokens)
		require.NotContains(t, r.Text, "\n#\n")
	}
	for _, bad := range []observe.ContextQuery{{MaxTokens: -1}, {MaxTokens: 32_001}, {Query: observe.Query{Limit: 51}}} {
		bad.ProjectID = w.project
		_, err := w.Context(t.Context(), w.me, bad)
		require.ErrorIs(t, err, observe.ErrInvalid)
	}
	_, err := w.Context(t.Context(), w.me, observe.ContextQuery{})
	require.ErrorIs(t, err, observe.ErrInvalid, "no project")
}
