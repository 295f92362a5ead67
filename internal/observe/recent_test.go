package observe_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func TestRecent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, title := range []string{"first", "second", "third"} {
		w.note(t, w.event(i), llm.Observation{Type: "change", Title: title})
	}
	second, err := w.CreateProject(t.Context(), w.team, "second")
	require.NoError(t, err)
	contents := func(c observe.Caller, project string, limit int) []string {
		found, err := w.Recent(t.Context(), c, project, limit)
		require.NoError(t, err)
		list := []string{}
		for _, o := range found {
			require.Equal(t, project, o.ProjectID)
			list = append(list, o.Content)
		}
		return list
	}
	require.Equal(t, []string{"third", "second", "first"}, contents(w.me, w.project, 0))
	require.Equal(t, []string{"third", "second"}, contents(w.me, w.project, 2))
	require.Empty(t, contents(w.caller(t, w.team, "", observe.ScopeRead), second, 100), "another project's stay there")

	_, err = w.pool.Exec(t.Context(), `UPDATE observations SET created_at = $1 WHERE content = 'second'`, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, []string{"second", "third", "first"}, contents(w.me, w.project, 0))
	require.Equal(t, 4, w.audited(t, "observation.read"))
}

func TestRecentIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct {
		project, field string
		limit          int
	}{{"", "projectId", 1}, {w.project, "limit", -1}, {w.project, "limit", 101}} {
		_, err := w.Recent(t.Context(), w.me, test.project, test.limit)
		require.Equal(t, []any{test.field}, as[*observe.Invalid](t, err).Issues[0].Path)
	}
	_, err := w.Recent(t.Context(), w.caller(t, w.team, "", observe.ScopeAll), "a\x00b", 1)
	require.ErrorIs(t, err, observe.ErrForbidden, "no project has a NUL in its id")
}
