package db_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// keptNode is what matters of a plan's node: how it finds rows of a table.
type keptNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Cond     string     `json:"Index Cond"`
	Recheck  string     `json:"Recheck Cond"`
	Plans    []keptNode `json:"Plans"`
}

// whole lists the tables that the plan reads from one end to the other.
func (n keptNode) whole() (found []string) {
	scans := strings.HasSuffix(n.Type, "Scan") && n.Relation != "" && n.Relation != "workers"
	if scans && n.Cond == "" && n.Recheck == "" {
		found = append(found, n.Type+" of "+n.Relation)
	}
	for _, child := range n.Plans {
		found = append(found, child.whole()...)
	}
	return found
}

// A session keeps the plans that it made while the tables were empty, and a
// table that is small is cheapest to read whole: for a minute after the first
// start, until the tables were analyzed, each claim read all jobs.
func TestPlansThatAreKeptFromEmptyTablesReadNoWholeTable(t *testing.T) {
	t.Parallel()
	t.Run("never analyzed", func(t *testing.T) { t.Parallel(); keptPlans(t, false) })
	// While somebody held a snapshot, each settling of a claimed job read all
	// asks that had died: 400 µs a job after 120,000 of them.
	t.Run("analyzed while all in them was dead", func(t *testing.T) { t.Parallel(); keptPlans(t, true) })
}

func keptPlans(t *testing.T, dead bool) {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(testenv.Postgres(t))
	require.NoError(t, err)
	pool, err := db.Open(t.Context(), db.Config{URL: cfg.ConnString(), MaxConns: 1}) // one session
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	b := bundle{pool: pool, jobs: db.NewJobs(pool, db.JobsConfig{})}
	b.exec(t, `INSERT INTO teams (id, name) VALUES ('t', 't')`)
	b.exec(t, `INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p')`)
	if dead {
		report, err := pgx.ConnectConfig(t.Context(), cfg.ConnConfig.Copy())
		require.NoError(t, err)
		defer report.Close(context.WithoutCancel(t.Context()))
		_, err = report.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox")
		require.NoError(t, err)
	}
	for i := range 14 { // from the sixth time on, a plan may be kept
		if dead && i == 3 {
			b.exec(t, `ANALYZE`)
		}
		briefly(t, b, events.Holder{ID: "w"}, fmt.Sprint(i), 1)
		briefly(t, b, events.Holder{ID: "w"}, fmt.Sprint(i, "-pair"), 2)
		job := b.enqueue(t, fmt.Sprint(i))[0]
		b.enqueue(t, fmt.Sprint(i), fmt.Sprint(max(i-1, 0))) // they are there
		asks, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 10})
		require.NoError(t, err)
		db.TellSoon(b.jobs)
		_, err = b.jobs.Fresh(t.Context(), 10)
		require.NoError(t, err)
		require.NoError(t, b.jobs.Enqueued(t.Context(), []int64{asks[0].Row}))
		b.begin(t, events.Holder{ID: "w"}, b.get(t, job.ID))
		_, err = b.jobs.Begin(t.Context(), events.Holder{ID: "w"}, []events.Envelope{job.Envelope()}) // reads it
		require.NoError(t, err)
		errs, err := b.jobs.Settle(t.Context(), []events.Step{{Job: b.get(t, job.ID), Event: events.Event{Type: events.Completed}}}, make([]func(context.Context, pgx.Tx) error, 1))
		require.NoError(t, err)
		require.NoError(t, errs[0])
	}
	rows, err := pool.Query(t.Context(), `SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements`)
	require.NoError(t, err)
	type prepared struct {
		Name, Statement string
		Params          int
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[prepared])
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, p := range all {
		after, ok := strings.CutPrefix(p.Statement, "-- name: ")
		query, _, _ := strings.Cut(after, " ")
		if !ok || query == "ListJobs" {
			continue
		}
		seen[query] = true
		args := strings.TrimSuffix(strings.Repeat("NULL, ", p.Params), ", ")
		if args != "" {
			args = "(" + args + ")"
		}
		var explained string
		require.NoError(t, pool.QueryRow(t.Context(), `EXPLAIN (FORMAT JSON) EXECUTE `+pgx.Identifier{p.Name}.Sanitize()+args, pgx.QueryExecModeSimpleProtocol).Scan(&explained), query)
		var plans []struct{ Plan keptNode }
		require.NoError(t, json.Unmarshal([]byte(explained), &plans))
		require.Empty(t, plans[0].Plan.whole(), "%s: %s", query, explained)
	}
	for _, query := range []string{
		"EnqueueJob", "EnqueueJobs", "ClaimJobs", "LookAtJob", "LookAtJobs", "CompleteJob", "CompleteJobs", "MoveJobs", "TellQueued", "TellWaiting", "GetJobs", "JobsOfAsks", "FreeJobs",
	} {
		require.True(t, seen[query], query)
	}
}
