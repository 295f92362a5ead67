package db_test

import (
	"context"
	"flag"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/sqlc"
)

var (
	troubleJobs = flag.Int("trouble.jobs", 2000, "jobs of one round of BenchmarkTrouble, and a tenth of those that wait in BenchmarkDeadConsumer")
	troublePile = flag.Int("trouble.pile", 10_000, "jobs done while the trouble lasts, before BenchmarkTrouble's first round")
)

// BenchmarkTrouble measures what a job costs while a report holds a snapshot,
// and while a stranger in another database has written and does not commit,
// beside a quiet server, in alternation: three servers of the same age, which
// have all done as many jobs since the trouble began. Nothing that was deleted
// since then can be taken away by Postgres, nor any old version of a row. In
// the end the relay starts anew amidst it.
func BenchmarkTrouble(b *testing.B) {
	var all []*grown
	for name, sql := range map[string]string{
		"quiet": "", "snapshot": "SELECT count(*) FROM job_feed", "stranger": "INSERT INTO teams (id, name) VALUES (gen_random_uuid(), '')",
	} {
		s := startDurable(b, openTempDir(b))
		g := s.grown(b, name)
		all = append(all, g)
		if name == "quiet" {
			all[0], all[len(all)-1] = all[len(all)-1], all[0]
		}
		g.work(b, 200, manner{batch: 10}) // the feed knows what runs
		on := name
		if name == "stranger" {
			s.database(b, "other")
			on = "other"
		}
		if sql != "" {
			hold(b, s.URL(on), sql)
		}
	}
	for _, g := range all {
		few := *troublePile / 20 / 100 * 100
		g.work(b, few, manner{batch: 10}) // most rows of the feed
		g.work(b, *troublePile-few, manner{batch: 100, brief: true})
	}
	for _, m := range []manner{{batch: 20}, {batch: 500, brief: true}, {batch: 20, brief: true, single: true}} {
		b.Run(m.String(), func(b *testing.B) { inTurn(b, all, *troubleJobs, m) })
	}
	for _, g := range all {
		g.open(b, "relay")
		g.open(b, "feed")
	}
	b.Run("a-new-relay", func(b *testing.B) { inTurn(b, all, *troubleJobs, manner{batch: 20, brief: true}) })
}

// looks tells how long what people and monitors ask takes while n jobs wait.
func (f *flow) looks(b *testing.B, n int) {
	b.Helper()
	for what, ask := range map[string]func(ctx context.Context, q *sqlc.Queries) error{
		"what /metrics and /api/health count of the outbox": func(ctx context.Context, q *sqlc.Queries) error { _, err := q.LaneAsks(ctx); return err },
		"what they count of the jobs":                       func(ctx context.Context, q *sqlc.Queries) error { _, err := q.LaneJobs(ctx); return err },
		"a page of obs jobs": func(ctx context.Context, q *sqlc.Queries) error {
			_, err := q.ListJobs(ctx, sqlc.ListJobsParams{TeamID: scope.Team, ProjectID: scope.Project, MaxRows: 50})
			return err
		},
		"a page of obs jobs --status queued": func(ctx context.Context, q *sqlc.Queries) error {
			_, err := q.ListJobs(ctx, sqlc.ListJobsParams{TeamID: scope.Team, ProjectID: scope.Project, Status: "queued", MaxRows: 50})
			return err
		},
		"a page of those that failed, of which there are none": func(ctx context.Context, q *sqlc.Queries) error {
			_, err := q.ListJobs(ctx, sqlc.ListJobsParams{TeamID: scope.Team, ProjectID: scope.Project, Status: "failed", MaxRows: 50})
			return err
		},
		"how many are queued": func(ctx context.Context, q *sqlc.Queries) error {
			_, err := q.CountJobs(ctx, sqlc.CountJobsParams{TeamID: scope.Team, ProjectID: scope.Project, Status: "queued"})
			return err
		},
	} {
		before, began := treeCPU(b, postmaster(b, f.pool)), time.Now()
		in := db.InTx
		if strings.Contains(what, "count of") {
			in = db.ReadAll
		}
		require.NoError(b, in(b.Context(), f.pool, func(tx pgx.Tx) error { return ask(b.Context(), sqlc.New(tx)) }))
		b.Logf("%d wait, %s: %s, %s of processors", n, what, time.Since(began).Round(time.Millisecond), treeCPU(b, postmaster(b, f.pool))-before)
	}
}

// hold opens a transaction that stays open until the end.
func hold(b *testing.B, url, sql string) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), url)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, conn.Close(context.WithoutCancel(b.Context()))) })
	_, err = conn.Exec(b.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ")
	require.NoError(b, err)
	_, err = conn.Exec(b.Context(), sql)
	require.NoError(b, err)
}

// BenchmarkDeadConsumer lets jobs wait while the relay runs and nobody takes
// them, and then has a worker do them: what the first tenth of them costs, and
// what the last does.
func BenchmarkDeadConsumer(b *testing.B) {
	pg := startDurable(b, openTempDir(b))
	pg.database(b, "dead")
	pool, err := db.Open(b.Context(), db.Config{URL: pg.URL("dead"), MaxConns: 10})
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	f := newFlowOn(b, pool, 1000, "")
	server := pg.postmaster
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- f.relay.Run(ctx) }()
		n, made := *troubleJobs*10, int(f.done.Load())
		var enqueued []float64
		for i := range 10 {
			before := treeCPU(b, server)
			for at := 0; at < n/10; at += 500 {
				f.at = time.Now()
				f.fill(b, made+i*n/10+at, min(500, n/10-at))
			}
			enqueued = append(enqueued, float64((treeCPU(b, server)-before).Microseconds())/float64(n/10))
			b.Logf("%d wait, load %.0f", (i+1)*n/10, load.Average())
		}
		b.Logf("postgres, µs a job, of each tenth of %d: enqueued, and relayed as far as the stream holds them: %.0f", n, enqueued)
		idle := treeCPU(b, server) + ourCPU(b)
		require.Never(b, func() bool { return false }, 10*time.Second, 5*time.Second)
		var mem runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&mem)
		state := f.relay.State()
		for _, l := range state.Lanes {
			b.Logf("the relay: %d asks in memory, %d messages on the stream, window %d, %d tenants with more in the outbox; %d MB of this process' heap live, the broker's too",
				l.Waiting, l.OnStream, l.Window, l.Spilled, mem.HeapAlloc>>20)
		}
		f.looks(b, n)
		b.Logf("while they wait: %.1f %% of a core", float64(treeCPU(b, server)+ourCPU(b)-idle)/float64(10*time.Second)*100)

		go func() { done <- f.worker.Run(ctx) }()
		var drained, rates, busy []float64
		for i := range 10 {
			before, began := treeCPU(b, server)+ourCPU(b), time.Now()
			require.Eventually(b, func() bool { return int(f.done.Load()) >= made+(i+1)*n/10 }, time.Hour, time.Millisecond)
			drained = append(drained, float64((treeCPU(b, server)+ourCPU(b)-before).Microseconds())/float64(n/10))
			rates = append(rates, float64(n/10)/time.Since(began).Seconds())
			busy = append(busy, load.Average())
			b.Logf("tenth %d: %.0f µs a job of all processes, %.0f jobs/s, load %.0f", i+1, drained[i], rates[i], busy[i])
		}
		b.Logf("all processes, µs a job, of each tenth that was done: %.0f; jobs/s %.0f; load %.0f", drained, rates, busy)
		b.ReportMetric(drained[0], "first-µs/job")
		b.ReportMetric(drained[9], "last-µs/job")
		cancel()
		require.NoError(b, <-done)
		require.NoError(b, <-done)
		require.Equal(b, n+made, f.completed(b))
	}
}
