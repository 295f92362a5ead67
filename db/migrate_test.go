package db_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

func open(t *testing.T, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Config{URL: dsn, MaxConns: 3})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestMigrateOnceHoweverManyStart(t *testing.T) {
	t.Parallel()
	dsn := testenv.EmptyPostgres(t)
	g, ctx := errgroup.WithContext(t.Context())
	for range 4 {
		pool := open(t, dsn)
		g.Go(func() error { return db.Migrate(ctx, pool) })
	}
	require.NoError(t, g.Wait())
	pool := open(t, dsn)
	require.NoError(t, db.Migrate(t.Context(), pool), "again")

	var tables []string
	rows, err := pool.Query(t.Context(), `SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'`)
	require.NoError(t, err)
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(t, rows.Err())
	require.Subset(t, tables, []string{
		"teams", "projects", "team_members", "api_keys", "audit_log", "server_sessions", "agent_events",
		"observation_generation_jobs", "observation_generation_job_events", "outbox", "observations", "observation_sources",
	})
	var applied int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM goose_db_version WHERE version_id = 1`).Scan(&applied))
	require.Equal(t, 1, applied)
}

func TestMigrateRefusesANewerDatabase(t *testing.T) {
	t.Parallel()
	pool := testenv.Pool(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`)
	require.NoError(t, err)
	require.ErrorContains(t, db.Migrate(t.Context(), pool), "upgrade the program")
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := db.Open(context.Background(), db.Config{URL: "postgres://nobody@127.0.0.1:1/none"})
	require.ErrorContains(t, err, "connect to postgres")
	_, err = db.Open(context.Background(), db.Config{URL: "::"})
	require.ErrorContains(t, err, "database URL")
}

// Whatever a tenant owns is tied to a project of its own team. Jobs and agent
// events are by the transactions that make them.
func TestTenantTablesHaveTheCompositeKey(t *testing.T) {
	t.Parallel()
	pool := testenv.Pool(t)
	for _, table := range []string{
		"api_keys", "audit_log", "server_sessions", "observations", "observation_sources",
	} {
		var n int
		err := pool.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_constraint
			WHERE conrelid = $1::text::regclass AND contype = 'f' AND confrelid = 'projects'::regclass
			  AND pg_get_constraintdef(oid) LIKE 'FOREIGN KEY (project_id, team_id)%'`, table).Scan(&n)
		require.NoError(t, err)
		require.Equal(t, 1, n, table)
	}
}
