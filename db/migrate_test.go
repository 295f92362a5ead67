package db_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
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

// What waited before jobs knew their rows in the outbox goes on, and a program
// that does not know of that makes no job.
func TestMigrateTellsJobsTheirRows(t *testing.T) {
	t.Parallel()
	pool := before(t, "few_rows")
	b := bundle{pool: pool, jobs: db.NewJobs(pool, db.JobsConfig{})}
	const job = `INSERT INTO observation_generation_jobs (id, team_id, project_id, job_type, source_type, source_id, status, version, asked, created_at, updated_at)
		VALUES ($1, 't', 'p', 'event', 'thing', $1, 'queued', 1, 1, now(), now())`
	b.exec(t, `INSERT INTO teams (id, name) VALUES ('t', 't')`)
	b.exec(t, `INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p')`)
	b.exec(t, `INSERT INTO outbox (job_id, team_id, project_id, job_type, asked) VALUES ('a', 't', 'p', 'event', 1), ('b', 't', 'p', 'event', 1)`)
	for _, id := range []string{"a", "b"} {
		b.exec(t, job, id)
		b.exec(t, `INSERT INTO observation_generation_job_events (job_id, version, team_id, project_id, event_type, status_after, attempt, at, schema)
			SELECT id, 1, team_id, project_id, 'queued', 'queued', 0, created_at, 1 FROM observation_generation_jobs WHERE id = $1`, id)
	}
	require.NoError(t, db.Migrate(t.Context(), pool))

	_, err := pool.Exec(t.Context(), job, "c")
	require.ErrorContains(t, err, "23502")
	w := events.Holder{ID: "w"}
	require.NoError(t, b.jobs.Seen(t.Context(), w))
	b.begin(t, w, b.get(t, "a"))
	found, err := b.jobs.Check(t.Context(), db.CheckConfig{})
	require.NoError(t, err)
	require.Empty(t, found)
	asks, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, asks, 1)
	require.Equal(t, events.ID("b"), asks[0].Envelope.Job)
}

// Until when events have names without a time stands where some have: an event
// with an id of its source's says nothing of that.
func TestMigrateNotesTheNamesOfEvents(t *testing.T) {
	t.Parallel()
	noted := func(pool *pgxpool.Pool) (until []string) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT array_agg(to_char(occurred_until AT TIME ZONE 'UTC', 'YYYY-MM-DD')) FROM hashed_events`).Scan(&until))
		return until
	}
	require.Empty(t, noted(testenv.Pool(t)), "a new database has none")
	for want, insert := range map[string]string{
		"2026-03-02": `('a', 't', 'p', 'hook', NULL, 'a', 'x', '2026-03-02Z'), ('b', 't', 'p', 'hook', NULL, 'b', 'x', '2026-03-01Z'), ('c', 't', 'p', 'hook', 'toolu_1', 'c', 'x', '2026-03-04Z')`,
		"1970-01-01": `('c', 't', 'p', 'hook', 'toolu_1', 'c', 'x', '2026-03-04Z')`,
	} {
		pool := before(t, "event_names")
		_, err := pool.Exec(t.Context(), `INSERT INTO agent_events (id, team_id, project_id, source_adapter, source_event_id, idempotency_key, event_type, occurred_at) VALUES `+insert)
		require.NoError(t, err)
		require.NoError(t, db.Migrate(t.Context(), pool))
		require.Equal(t, []string{want}, noted(pool))
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := db.Open(context.Background(), db.Config{URL: "postgres://nobody@127.0.0.1:1/none"})
	require.ErrorContains(t, err, "connect to postgres")
	_, err = db.Open(context.Background(), db.Config{URL: "::"})
	require.ErrorContains(t, err, "database URL")
}

// Whatever a tenant owns is tied to a project of its own team. What every job
// and every event write is so by the statement that writes it, and by obs check.
func TestTenantTablesHaveTheCompositeKey(t *testing.T) {
	t.Parallel()
	pool := testenv.Pool(t)
	for _, table := range []string{"api_keys", "server_sessions"} {
		var n int
		err := pool.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_constraint
			WHERE conrelid = $1::text::regclass AND contype = 'f' AND confrelid = 'projects'::regclass
			  AND pg_get_constraintdef(oid) LIKE 'FOREIGN KEY (project_id, team_id)%'`, table).Scan(&n)
		require.NoError(t, err)
		require.Equal(t, 1, n, table)
	}
}
