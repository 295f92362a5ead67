package db_test

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/outbox"
)

// BenchmarkSteady produces and works at once: two producers, a hundred jobs a
// transaction, or sixteen with one job in each, through relay and JetStream,
// with what the feed tells. What it is for is the CPU a job, of this process
// (relay, worker, producers and the broker) and of Postgres: a busy machine
// hardly moves it.
func BenchmarkSteady(b *testing.B) {
	for _, mode := range []outbox.Mode{outbox.Atomic, outbox.Auto} {
		b.Run(string(mode), func(b *testing.B) { benchSteady(b, mode, 2, 1, 100) })
	}
	b.Run("singles", func(b *testing.B) { benchSteady(b, outbox.Auto, 16, 20, 1) })
}

func benchSteady(b *testing.B, mode outbox.Mode, producers, times, chunk int) {
	b.Helper()
	const ahead = 5000
	f := newFlow(b, 1000, mode)
	stop := f.start(b)
	defer stop()
	server := postmaster(b, f.pool)
	made := 0
	ours, theirs := ourCPU(b), treeCPU(b, server)
	var begun string
	require.NoError(b, f.pool.QueryRow(b.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&begun))
	for b.Loop() {
		var wg sync.WaitGroup
		for p := range producers {
			wg.Go(func() {
				for n := range times {
					f.fill(b, made+(p*times+n)*chunk, chunk)
				}
			})
		}
		wg.Wait()
		made += producers * times * chunk
		require.Eventually(b, func() bool { return made-int(f.done.Load()) <= ahead }, time.Minute, time.Millisecond)
	}
	require.Eventually(b, func() bool { return f.completed(b) == made }, time.Minute, 5*time.Millisecond)
	require.Eventually(b, func() bool {
		var n int
		require.NoError(b, f.pool.QueryRow(b.Context(), `SELECT count(*) FROM job_feed`).Scan(&n))
		return n == 0
	}, time.Minute, 5*time.Millisecond)
	perJob := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(made) }
	b.ReportMetric(float64(made)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(perJob(ourCPU(b)-ours), "go-µs/job")
	b.ReportMetric(perJob(treeCPU(b, server)-theirs), "postgres-µs/job")
	var wal int64
	require.NoError(b, f.pool.QueryRow(b.Context(), "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::bigint", begun).Scan(&wal))
	b.ReportMetric(float64(wal)/float64(made), "wal-B/job")
	var rows int64
	require.NoError(b, f.pool.QueryRow(b.Context(), "SELECT last_value FROM job_feed_id_seq").Scan(&rows))
	b.ReportMetric(float64(rows)/float64(made), "feed-rows/job")
}

func ourCPU(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// postmaster is the process that all of the pool's backends are children of.
func postmaster(tb testing.TB, pool *pgxpool.Pool) int {
	tb.Helper()
	var backend int
	require.NoError(tb, pool.QueryRow(context.Background(), "SELECT pg_backend_pid()").Scan(&backend))
	server := load.Postmaster(backend)
	require.NotZero(tb, server)
	return server
}

// treeCPU is what a process and its children have used, those that ended
// included.
func treeCPU(tb testing.TB, root int) time.Duration {
	tb.Helper()
	return load.Process{Name: "tree", PID: root, Tree: true}.CPU()
}
