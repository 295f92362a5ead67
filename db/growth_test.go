package db_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/load"
)

var (
	growthJobs   = flag.Int("growth.jobs", 20_000, "finished jobs in the full database, each with three rows of history")
	growthRound  = flag.Int("growth.round", 10_000, "jobs of one round on one database")
	growthRounds = flag.Int("growth.rounds", 3, "rounds on each database")
	growthWhere  = flag.Bool("growth.statements", false, "tell what each statement cost; needs pg_stat_statements")
	growthDir    = flag.String("growth.dir", "", "keep the server's data here and find it filled the next time")
)

// BenchmarkGrowth measures what a job costs, enqueued, relayed, claimed,
// settled and told, on tables full of finished jobs and on empty ones, in
// alternation on one server with stock durable settings. It counts processor
// time of Postgres' processes and of ours, which a busy machine hardly moves,
// and what is written. `task bench:growth` has ten million jobs.
func BenchmarkGrowth(b *testing.B) {
	dir := *growthDir
	if dir == "" {
		dir = openTempDir(b)
	}
	filled(b, dir, *growthJobs)
	s := startDurable(b, dir)
	full := s.database(b, "growth_full")

	_, err := full.pool.Exec(b.Context(), "DROP DATABASE IF EXISTS growth_empty")
	require.NoError(b, err)
	empty := s.database(b, "growth_empty")
	for b.Loop() {
		var rounds [2][]cost
		for range *growthRounds {
			for i, g := range []*grown{empty, full} {
				c := s.measure(b, g.pool, *growthRound, func() { g.work(b, *growthRound, 500, false) })
				b.Logf("%s: %s", g.name, c)
				rounds[i] = append(rounds[i], c)
			}
		}
		if *growthWhere {
			full.statements(b)
		}
		e, f := median(rounds[0]), median(rounds[1])
		b.Logf("median empty: %s", e)
		b.Logf("median full:  %s", f)
		b.ReportMetric(e.backend, "empty-backend-µs/job")
		b.ReportMetric(f.backend, "full-backend-µs/job")
		b.ReportMetric((f.server+f.client)/(e.server+e.client), "full/empty")
	}
}

// durable is a Postgres of our own with stock settings.
type durable struct {
	*embedded.Postgres
	postmaster int
}

func startDurable(b *testing.B, dir string) *durable {
	b.Helper()
	if dir == "" {
		dir = openTempDir(b)
	}
	settings := map[string]string{}
	if *growthWhere {
		settings["shared_preload_libraries"] = "pg_stat_statements"
	}
	pg, err := embedded.StartPostgres(b.Context(), embedded.PostgresConfig{Dir: dir, Settings: settings})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, pg.Stop(context.WithoutCancel(b.Context()))) })
	pool, err := pgxpool.New(b.Context(), pg.URL("postgres"))
	require.NoError(b, err)
	defer pool.Close()
	return &durable{pg, postmaster(b, pool)}
}

// openTempDir is one that the server can enter: as root it runs as another user.
func openTempDir(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		require.NoError(b, os.Chmod(d, 0o755))
	}
	return dir
}

// grown is a database and the jobs done on it.
type grown struct {
	bundle
	name string
	mark int64
}

func (s *durable) database(b *testing.B, name string) *grown {
	b.Helper()
	ctx := b.Context()
	require.NoError(b, s.CreateDatabase(ctx, name))
	pool, err := db.Open(ctx, db.Config{URL: s.URL(name), MaxConns: 4})
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	require.NoError(b, db.Migrate(ctx, pool))
	_, err = pool.Exec(ctx, `
		INSERT INTO teams (id, name) SELECT concat('t', nullif(i, 0)), 't' || i FROM generate_series(0, 9) i ON CONFLICT DO NOTHING;
		INSERT INTO projects (id, team_id, name) SELECT 'p' || substr(id, 2), id, 'p' FROM teams ON CONFLICT DO NOTHING`)
	require.NoError(b, err)
	return &grown{bundle: bundle{pool: pool, jobs: db.NewJobs(pool, db.JobsConfig{Process: "bench", Build: "v0"})}, name: name}
}

// statements tells the dearest statements of both databases, by the time that
// the server ran them.
func (g *grown) statements(b *testing.B) {
	b.Helper()
	rows, err := g.pool.Query(b.Context(), `
		CREATE EXTENSION IF NOT EXISTS pg_stat_statements`)
	require.NoError(b, err)
	rows.Close()
	rows, err = g.pool.Query(b.Context(), `
		SELECT datname, coalesce(substring(query FROM '-- name: (\w+)'), left(query, 60)), calls, total_exec_time::bigint, shared_blks_hit / calls, shared_blks_read / calls
		FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE datname LIKE 'growth_%' AND calls > 5 ORDER BY query, datname`)
	require.NoError(b, err)
	var name, query string
	var calls, ms, hit, read int64
	_, err = pgx.ForEachRow(rows, []any{&name, &query, &calls, &ms, &hit, &read}, func() error {
		b.Logf("%s %s: %d calls, %d ms, a call: %.2f ms, %d pages hit and %d read", name, query, calls, ms, float64(ms)/float64(calls), hit, read)
		return nil
	})
	require.NoError(b, err)
}

// work takes n jobs from their enqueueing to the feed, in batches, as the
// relay and a worker do; single says that each comes in a transaction of its
// own.
func (g *grown) work(tb testing.TB, n, batch int, single bool) {
	tb.Helper()
	ctx, worker := tb.Context(), events.Holder{ID: "w"}
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	for done := 0; done < n; done += batch {
		steps := make([]events.Step, batch)
		for i := range steps {
			name := fmt.Sprint(run, "-", done+i)
			st, err := events.New(events.Job{
				ID: events.NewIDAt("event", time.Now(), name), Kind: "event", Scope: scope, SourceType: "agent_event",
				SourceID: string(events.NewID("ae", name)), Args: growthArgs(name), RequestID: run,
			}, events.Event{Actor: "key_0000000000000000"})
			require.NoError(tb, err)
			steps[i] = st
		}
		size := batch
		if single {
			size = 1
		}
		for some := range slices.Chunk(steps, size) {
			require.NoError(tb, db.InTx(ctx, g.pool, func(tx pgx.Tx) error {
				_, err := g.jobs.Enqueue(ctx, tx, some...)
				return err
			}))
		}
		asks, err := g.jobs.Asks(ctx, events.AskQuery{After: g.mark, Limit: 3000})
		require.NoError(tb, err)
		require.Len(tb, asks, batch)
		es := make([]events.Envelope, batch)
		for i, a := range asks {
			es[i], g.mark = a.Envelope, a.Row
		}
		claims, err := g.jobs.Begin(ctx, worker, es)
		require.NoError(tb, err)
		ends := make([]events.Step, batch)
		for i, c := range claims {
			require.NoError(tb, c.Err)
			ends[i] = events.Step{Job: c.Job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: "w"}}
		}
		_, err = g.jobs.Settle(ctx, ends, make([]func(context.Context, pgx.Tx) error, batch))
		require.NoError(tb, err)
		fed, err := g.jobs.Fresh(ctx, 3*batch)
		require.NoError(tb, err)
		require.Len(tb, fed, 3*batch)
		var rows []int64
		for _, f := range fed {
			if len(rows) == 0 || rows[len(rows)-1] != f.Row {
				rows = append(rows, f.Row)
			}
		}
		require.NoError(tb, g.jobs.Told(ctx, rows))
	}
}

func growthArgs(name string) []byte {
	return fmt.Appendf(nil, `{"agent_event_id":"%s","source_adapter":"hook","actor_id":"actor","api_key_id":"key_0000000000000000"}`, events.NewID("ae", name))
}

// cost is what one unit of work took.
type cost struct {
	backend               float64 // µs of processor time of the sessions that did the work
	server, client        float64 // … of all of Postgres' processes, whatever they are at, and of this one
	wal, images, readback float64 // bytes written to the log, whole pages among them, pages not found in memory
	took                  time.Duration
}

func (c cost) String() string {
	return fmt.Sprintf("backend %.1f µs, all of postgres %.1f µs, ours %.1f µs, %.0f B of WAL, %.2f whole pages, %.2f pages read; %s, load %.2f",
		c.backend, c.server, c.client, c.wal, c.images, c.readback, c.took.Round(time.Millisecond), load.Average())
}

// median takes each figure's.
func median(cs []cost) cost {
	of := func(pick func(cost) float64) float64 {
		var all []float64
		for _, c := range cs {
			all = append(all, pick(c))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return cost{
		backend: of(func(c cost) float64 { return c.backend }),
		server:  of(func(c cost) float64 { return c.server }), client: of(func(c cost) float64 { return c.client }),
		wal: of(func(c cost) float64 { return c.wal }), images: of(func(c cost) float64 { return c.images }),
		readback: of(func(c cost) float64 { return c.readback }),
	}
}

// measure counts what n units of work cost.
func (s *durable) measure(tb testing.TB, pool *pgxpool.Pool, n int, work func()) cost {
	tb.Helper()
	before, start := s.spent(tb, pool), time.Now()
	work()
	after := s.spent(tb, pool)
	c := cost{took: time.Since(start)}
	for i, to := range []*float64{&c.server, &c.client, &c.wal, &c.images, &c.readback, &c.backend} {
		*to = (after[i] - before[i]) / float64(n)
	}
	return c
}

func (s *durable) spent(tb testing.TB, pool *pgxpool.Pool) (v [6]float64) {
	tb.Helper()
	v[0] = float64(treeCPU(tb, s.postmaster).Microseconds())
	v[1] = float64(ourCPU(tb).Microseconds())
	// A backend tells the statistics when it is idle, at most each second: ours is made to.
	_, err := pool.Exec(tb.Context(), "SELECT pg_stat_force_next_flush()")
	require.NoError(tb, err)
	require.NoError(tb, pool.QueryRow(tb.Context(), `
		SELECT w.wal_bytes::float8, w.wal_fpi::float8, (SELECT sum(blks_read)::float8 FROM pg_stat_database)
		FROM pg_stat_wal w`).Scan(&v[2], &v[3], &v[4]))
	rows, err := pool.Query(tb.Context(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'")
	require.NoError(tb, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(tb, err)
	for _, pid := range pids {
		v[5] += float64(load.Process{Name: "backend", PID: pid}.CPU().Microseconds())
	}
	return v
}
