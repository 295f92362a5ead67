package db_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// recorder keeps the last call of each query.
type recorder struct {
	mu    sync.Mutex
	calls map[string]pgx.TraceQueryStartData
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	if name, ok := strings.CutPrefix(d.SQL, "-- name: "); ok {
		name, _, _ = strings.Cut(name, " ")
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls[name] = d
	}
	return ctx
}

// asked reports whether the query was asked since the last time.
func (r *recorder) asked(query string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.calls[query]
	delete(r.calls, query)
	return ok
}

func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// recorded is a fresh job table whose queries are kept.
func recorded(t *testing.T) (bundle, *recorder) {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(testenv.Postgres(t))
	require.NoError(t, err)
	rec := &recorder{calls: make(map[string]pgx.TraceQueryStartData)}
	cfg.ConnConfig.Tracer = rec
	cfg.ConnConfig.RuntimeParams["enable_seqscan"] = "off" // as Open does
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	b := bundle{pool: pool, jobs: db.NewJobs(pool, db.JobsConfig{})}
	b.exec(t, `INSERT INTO teams (id, name) VALUES ('t', 't')`)
	b.exec(t, `INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p')`)
	return b, rec
}

// batchQueries lists the queries of the job table and of the relay that take
// many rows by their ids.
func batchQueries(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, file := range []string{"../sqlc/jobs.sql", "../sqlc/outbox.sql"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for q := range strings.SplitSeq(string(text), "-- name: ") {
			if name, _, ok := strings.Cut(q, " "); ok && strings.Contains(q, "[])") {
				names = append(names, name)
			}
		}
	}
	return names
}

// planNode is a node of EXPLAIN's JSON.
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Index    string     `json:"Index Name"`
	Role     string     `json:"Parent Relationship"`
	Rows     float64    `json:"Actual Rows"`
	Loops    float64    `json:"Actual Loops"`
	Hit      float64    `json:"Shared Hit Blocks"`
	Removed  float64    `json:"Rows Removed by Filter"`
	Joined   float64    `json:"Rows Removed by Join Filter"`
	Plans    []planNode `json:"Plans"`
}

var tenantIndex = regexp.MustCompile(`team_id_project_id_\w*idx|_by_time`)

// slow names the nodes that make a batch quadratic: a tenant's rows, or a
// whole table, read for each id. A key for each id is fine, and so is a whole
// table once.
func (n planNode) slow() (found []string) {
	if tenantIndex.MatchString(n.Index) {
		found = append(found, n.Type+" by "+n.Index)
	}
	for _, child := range n.Plans {
		if n.Type == "Nested Loop" && child.Role == "Inner" && child.Type == "Seq Scan" && child.Relation != "workers" {
			found = append(found, "Seq Scan of "+child.Relation+" in a loop")
		}
		found = append(found, child.slow()...)
	}
	return found
}

// most is the largest number of rows that one node looked at.
func (n planNode) most() (rows float64, where string) {
	rows, where = (n.Rows+n.Removed+n.Joined)*n.Loops, strings.TrimSpace(n.Type+" of "+n.Relation+" "+n.Index)
	for _, child := range n.Plans {
		if r, w := child.most(); r > rows {
			rows, where = r, w
		}
	}
	return rows, where
}

// through names the large tables of which each row was read.
func (n planNode) through() (found []string) {
	if n.Type == "Seq Scan" && n.Loops > 0 && slices.Contains(large, n.Relation) {
		found = append(found, n.Relation)
	}
	for _, child := range n.Plans {
		found = append(found, child.through()...)
	}
	return found
}

// A tenant with many jobs on tables that were never analyzed: the planner
// knows nothing and took the tenant's index for the claim, which made each
// batch read every job of the tenant for every id.
func TestBatchesFindRowsByTheirIDWithColdStatistics(t *testing.T) {
	t.Parallel()
	b, rec := recorded(t)
	for _, table := range []string{"observation_generation_jobs", "observation_generation_job_events", "outbox", "job_feed"} {
		b.exec(t, `ALTER TABLE `+table+` SET (autovacuum_enabled = off)`)
	}
	ctx, worker := t.Context(), events.Holder{ID: "w"}
	for n := range 5 {
		steps := make([]events.Step, 1000)
		for i := range steps {
			steps[i] = step(t, fmt.Sprint(n, "-", i))
		}
		require.NoError(t, db.InTx(ctx, b.pool, func(tx pgx.Tx) error {
			_, err := b.jobs.Enqueue(ctx, tx, steps...)
			return err
		}))
	}

	briefly(t, b, worker, "0", 1000)

	// Each batch query once, with what the relay and the workers ask of it.
	require.NoError(t, db.InTx(ctx, b.pool, func(tx pgx.Tx) error {
		_, err := b.jobs.Enqueue(ctx, tx, step(t, "0-0"))
		return err
	}))
	asks, err := b.jobs.Asks(ctx, events.AskQuery{Limit: 3000})
	require.NoError(t, err)
	rows, envelopes := make([]int64, len(asks)), make([]events.Envelope, len(asks))
	for i, a := range asks {
		rows[i], envelopes[i] = a.Row, a.Envelope
	}
	_, err = b.jobs.Asks(ctx, events.AskQuery{After: rows[len(rows)-1], Rows: rows[:1000], Limit: 3000})
	require.NoError(t, err)
	_, err = b.jobs.Waiting(ctx, rows[:2000])
	require.NoError(t, err)
	require.NoError(t, b.jobs.Enqueued(ctx, rows[:2000]))
	fed, err := b.jobs.Fresh(ctx, 1000)
	require.NoError(t, err)
	told := make([]int64, len(fed))
	for i, f := range fed {
		told[i] = f.Row
	}
	require.NoError(t, b.jobs.Told(ctx, told))
	require.NoError(t, b.jobs.Seen(ctx, worker))
	unknown := events.Envelope{Job: "event_unknown", Kind: "event", Asked: 1, Scope: scope}
	claims, err := b.jobs.Begin(ctx, worker, append(envelopes[:500], unknown))
	require.NoError(t, err)
	require.NoError(t, claims[0].Err)
	require.NoError(t, b.jobs.Gone(ctx, worker))
	lost, err := b.jobs.Reclaim(ctx, time.Hour)
	require.NoError(t, err)
	require.Equal(t, events.Lost{Reclaimed: 500}, lost)

	for _, query := range append(batchQueries(t), "FreshFeed", "JobsHeldByLost") {
		call, ok := rec.calls[query]
		require.True(t, ok, "%s was not asked", query)
		for _, size := range []int{1, 3, 10, 30, 100, 300, 1000} {
			var explained string
			require.NoError(t, b.pool.QueryRow(ctx, "EXPLAIN (FORMAT JSON) "+call.SQL, first(size, call.Args)...).Scan(&explained))
			var plans []struct{ Plan planNode }
			require.NoError(t, json.Unmarshal([]byte(explained), &plans))
			require.Empty(t, plans[0].Plan.slow(), "%s of %d", query, size) // the plan itself holds all the ids: too long to print
		}
	}
}

// first is a query's arguments with at most n elements of each list.
func first(n int, args []any) []any {
	fewer := slices.Clone(args)
	for i, a := range fewer {
		if v := reflect.ValueOf(a); v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 && v.Len() > n {
			fewer[i] = v.Slice(0, n).Interface()
		}
	}
	return fewer
}
