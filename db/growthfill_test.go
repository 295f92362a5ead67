package db_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

// fastFill is what a server is started with to be filled: nothing is logged
// that can be made again, and nothing waits for the disk.
var fastFill = map[string]string{
	"wal_level": "minimal", "max_wal_senders": "0", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
	"max_wal_size": "8GB", "checkpoint_timeout": "1h", "autovacuum": "off", "maintenance_work_mem": "1GB", "shared_buffers": "512MB",
}

// filled brings a server's job tables to n finished jobs with three events
// each, on settings of its own, and stops it. What is there is kept: with
// -growth.dir the next run finds it.
func filled(b *testing.B, dir string, n int) {
	b.Helper()
	ctx := b.Context()
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Settings: fastFill})
	require.NoError(b, err)
	defer func() { require.NoError(b, pg.Stop(context.WithoutCancel(ctx))) }()
	(&durable{Postgres: pg}).database(b, "growth_full")
	pool, err := pgxpool.New(ctx, pg.URL("growth_full"))
	require.NoError(b, err)
	defer pool.Close()
	var have int
	require.NoError(b, pool.QueryRow(ctx, "SELECT reltuples::bigint FROM pg_class WHERE relname = 'observation_generation_jobs'").Scan(&have))
	if have >= n-n/10 { // an earlier run may have pruned some, or made more
		b.Logf("about %d jobs are there", have)
		return
	}
	began := time.Now()
	var both errgroup.Group
	for _, table := range []string{"observation_generation_jobs", "observation_generation_job_events"} {
		both.Go(func() error { return fillTable(ctx, pool, table, n) })
	}
	require.NoError(b, both.Wait())
	b.Logf("filled with %d jobs in %s", n, time.Since(began).Round(time.Second))
}

// fillTable fills one of the two in one transaction that has emptied it, so
// that it is not logged, and makes its indexes afterwards.
func fillTable(ctx context.Context, pool *pgxpool.Pool, table string, n int) error {
	insert := `INSERT INTO observation_generation_jobs (
			id, team_id, project_id, job_type, source_type, source_id, payload, request_id, status, version, asked, attempts, completed_at, created_at, updated_at, ask)
		SELECT id, team, project, 'event', 'agent_event', 'ae_' || hash,
		       ('{"agent_event_id": "ae_' || hash || '", "source_adapter": "hook", "actor_id": "actor", "api_key_id": "key_0000000000000000"}')::jsonb,
		       'fill', 'completed', 3, 1, 1, at, at, at, 0 FROM work`
	if table == "observation_generation_job_events" {
		insert = `INSERT INTO observation_generation_job_events (
				job_id, version, team_id, project_id, event_type, status_after, attempt, at, actor, process, build, request_id, schema)
			SELECT w.id, v.version, w.team, w.project, v.status, v.status, v.attempt, w.at, v.actor, 'host-1-worker', 'v0', 'fill', 1
			FROM work w CROSS JOIN (VALUES (1, 'queued', 0, 'key_0000000000000000'), (2, 'processing', 1, 'worker'), (3, 'completed', 1, 'worker')) v(version, status, attempt, actor)`
	}
	var name strings.Builder
	for i := range 7 { // as events.NewIDAt has them
		name.WriteString(fmt.Sprintf("substr('0123456789abcdefghijklmnopqrstuv', 1 + (sec >> %d & 31), 1) || ", 5*(6-i))) // seconds fit an int until 2038
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for _, sql := range []string{
		"BEGIN",
		"TRUNCATE " + table + " CASCADE", // and vectors' jobs, of which there are none
		fmt.Sprintf("UPDATE pg_index SET indisready = false, indisvalid = false WHERE indrelid = '%s'::regclass", table),
		fmt.Sprintf(`WITH work AS NOT MATERIALIZED (
			SELECT i, 'event_' || %s substr(hash, 8) AS id, concat('t', nullif(i %% 10, 0)) AS team, concat('p', nullif(i %% 10, 0)) AS project, at, hash
			FROM (
				SELECT i, md5(i::text) AS hash, at, extract(epoch FROM at)::int AS sec
				FROM (SELECT i, now() - interval '90 days' + i * interval '90 days' / %d AS at FROM generate_series(0, %[2]d - 1) i OFFSET 0) x OFFSET 0
			) y OFFSET 0
		) %[3]s`, name.String(), n, insert),
		"REINDEX TABLE " + table,
		"COMMIT",
		"VACUUM (ANALYZE, FREEZE) " + table,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.200s: %w", sql, err)
		}
	}
	return nil
}
