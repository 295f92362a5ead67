package db_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

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

func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

var tenantIndex = regexp.MustCompile(`team_id_project_id_\w*idx`)

// A tenant with many jobs on a table that was never analyzed: the planner
// knows nothing and took the tenant's index for the claim, which made each
// batch read every job of the tenant for every id.
func TestBatchesFindJobsByTheirIDWithColdStatistics(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig(testenv.Postgres(t))
	require.NoError(t, err)
	rec := &recorder{calls: make(map[string]pgx.TraceQueryStartData)}
	cfg.ConnConfig.Tracer = rec
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	b := bundle{pool: pool, jobs: db.NewJobs(pool, db.JobsConfig{})}
	b.exec(t, `INSERT INTO teams (id, name) VALUES ('t', 't')`)
	b.exec(t, `INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p')`)
	b.exec(t, `ALTER TABLE observation_generation_jobs SET (autovacuum_enabled = off)`)
	names := make([]string, 300)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	held := b.begin(t, events.Holder{ID: "w"}, b.enqueue(t, names...)...)
	b.settle(t, events.Event{Type: events.Completed}, nil, held...)

	for _, query := range []string{"GetJobs", "MoveJobs"} {
		call, ok := rec.calls[query]
		require.True(t, ok, query)
		var plan string
		require.NoError(t, pool.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+call.SQL, call.Args...).Scan(&plan))
		// By the key for each id, or the whole table once; never the tenant's
		// rows for each id. The plan itself holds all the ids: too long to print.
		require.False(t, tenantIndex.MatchString(plan), "%s walks the rows of the tenant", query)
	}
}
