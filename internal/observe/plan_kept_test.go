package observe_test

import (
	"encoding/json"
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
	s := w.session(t, "s")
	const rounds = 12 // from the sixth on, a plan may be kept
	for i := range 2 * rounds {
		if i == rounds { // from here on, events wait for others of their session
			w.policy(t, observe.PolicyDebounce, time.Hour)
		}
		caller, ok := w.Presume(secret)
		require.True(t, ok)
		for _, n := range []int{1, 3} {
			evs := make([]observe.NewEvent, n)
			for k := range evs {
				evs[k] = w.event(1000*n + 10*i + k)
				evs[k].SourceEventID, evs[k].ContentSessionID = new(fmt.Sprint(i, n, k)), new("s")
			}
			record := func(created bool) {
				got, err := w.Record(t.Context(), caller, evs, observe.RecordOptions{Generate: true, Batch: n > 1})
				require.NoError(t, err)
				require.Equal(t, created, got[0].Created)
			}
			record(true)
			for k := range evs { // known, of a session that is named by our id, and with something new
				evs[k].ContentSessionID, evs[k].ServerSessionID = nil, new(s.ID)
				evs[k].Metadata = json.RawMessage(`{"again":true}`)
			}
			record(false)
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
	var anew []string
	for _, p := range all {
		query, _, _ := strings.Cut(strings.TrimPrefix(p.Statement, "-- name: "), " ")
		if p.Custom > 5 {
			anew = append(anew, fmt.Sprintf("%s: %d times, kept %d", query, p.Custom, p.Generic))
		}
		kept[query] = true
	}
	require.Empty(t, anew)
	for _, query := range []string{
		"TryProjects", "KnownSessions", "InsertAgentEvents", "MergeAgentEvents", "GetAgentEvents", "EnqueueJob", "EnqueueJobs",
		"KnownProjects", "FindJobs", "LockSessions", "LockOpenBatches", "JoinBatch", "InsertAudits",
	} {
		require.True(t, kept[query], query)
	}
}
