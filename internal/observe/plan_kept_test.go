package observe_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// A statement whose kept plan looks dearer than one made for its very lists is
// planned anew each time it is run, which for those of the door took longer
// than to run it.
func TestThePlansOfTheDoorAreKept(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig(testenv.Postgres(t))
	require.NoError(t, err)
	pool, err := db.Open(t.Context(), db.Config{URL: cfg.ConnString(), MaxConns: 1}) // one session
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	w := newWorldOn(t, pool)
	_, secret, err := w.IssueKey(t.Context(), w.team, w.project, "tester", "", []string{observe.ScopeAll}, time.Time{})
	require.NoError(t, err)
	_, err = w.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	w.session(t, "s")
	const rounds = 12 // from the sixth on, a plan may be kept
	for i := range rounds {
		caller, ok := w.Presume(secret)
		require.True(t, ok)
		for _, n := range []int{1, 3} {
			evs := make([]observe.NewEvent, n)
			for k := range evs {
				evs[k] = w.inSession(1000*n+10*i+k, "")
				evs[k].ServerSessionID, evs[k].ContentSessionID = nil, new("s")
			}
			_, err := w.Record(t.Context(), caller, evs, observe.RecordOptions{Generate: true, Batch: n > 1})
			require.NoError(t, err)
		}
	}
	rows, err := pool.Query(t.Context(), `SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements WHERE custom_plans + generic_plans >= $1`, rounds)
	require.NoError(t, err)
	type prepared struct {
		Statement       string
		Custom, Generic int64
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[prepared])
	require.NoError(t, err)
	kept := map[string]bool{}
	for _, p := range all {
		query, _, _ := strings.Cut(strings.TrimPrefix(p.Statement, "-- name: "), " ")
		require.LessOrEqual(t, p.Custom, int64(5), fmt.Sprintf("%s: %d times planned anew, %d times kept", query, p.Custom, p.Generic))
		kept[query] = true
	}
	for _, query := range []string{"TryProjects", "InsertAgentEvents", "EnqueueJob", "EnqueueJobs", "InsertAudits"} {
		require.True(t, kept[query], query)
	}
}
