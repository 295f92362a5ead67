package db_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

var troubleSingle = flag.Bool("trouble.single", true, "each job of BenchmarkTrouble comes in a transaction of its own; or ten at a time")

var troubleJobs = flag.Int("trouble.jobs", 2000, "jobs of one round of BenchmarkTrouble, and a tenth of those that wait in BenchmarkDeadConsumer")

// BenchmarkTrouble measures what a job costs while a report holds a snapshot
// and while a stranger of another database writes and does not commit, in
// alternation with quiet rounds. Each job comes in a transaction of its own,
// and ten are claimed at a time: so most rows come and go.
func BenchmarkTrouble(b *testing.B) {
	s := startDurable(b, "")
	other := s.database(b, "stranger")
	for _, trouble := range []string{"snapshot", "stranger"} {
		b.Run(trouble, func(b *testing.B) {
			g := s.database(b, "trouble_"+trouble)
			g.work(b, *troubleJobs/4, 10, *troubleSingle) // caches are warm, and the feed knows what runs
			for b.Loop() {
				var rounds [2][]cost
				for range *growthRounds {
					rounds[0] = append(rounds[0], s.measure(b, g.pool, *troubleJobs, func() { g.work(b, *troubleJobs, 10, *troubleSingle) }))
					on, sql := g, "SELECT count(*) FROM job_feed"
					if trouble == "stranger" {
						on, sql = other, "INSERT INTO teams (id, name) VALUES (gen_random_uuid(), '')"
					}
					tx, err := on.pool.BeginTx(b.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
					require.NoError(b, err)
					_, err = tx.Exec(b.Context(), "SET LOCAL idle_in_transaction_session_timeout = 0")
					require.NoError(b, err)
					_, err = tx.Exec(b.Context(), sql)
					require.NoError(b, err)
					rounds[1] = append(rounds[1], s.measure(b, g.pool, *troubleJobs, func() { g.work(b, *troubleJobs, 10, *troubleSingle) }))
					require.NoError(b, tx.Rollback(context.WithoutCancel(b.Context())))
				}
				quiet, held := median(rounds[0]), median(rounds[1])
				b.Logf("quiet: %s", quiet)
				b.Logf("%s: %s", trouble, held)
				b.ReportMetric(quiet.server, "quiet-pg-µs/job")
				b.ReportMetric(held.server, "held-pg-µs/job")
				b.ReportMetric((held.server+held.client)/(quiet.server+quiet.client), "held/quiet")
			}
		})
	}
}

// BenchmarkDeadConsumer lets jobs wait while the relay runs and nobody takes
// them, and then has a worker do them: what the first tenth of them costs, and
// what the last does.
func BenchmarkDeadConsumer(b *testing.B) {
	f := newFlow(b, 1000, "")
	server := postmaster(b, f.pool)
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- f.relay.Run(ctx) }()
		n, made := *troubleJobs*10, int(f.done.Load())
		var enqueued []float64
		for i := range 10 {
			before := treeCPU(b, server)
			for at := 0; at < n/10; at += 500 {
				f.fill(b, made+i*n/10+at, min(500, n/10-at))
			}
			enqueued = append(enqueued, float64((treeCPU(b, server)-before).Microseconds())/float64(n/10))
		}
		b.Logf("postgres, µs a job, of each tenth of %d: enqueued, and relayed as far as the stream holds them: %.0f", n, enqueued)
		idle := treeCPU(b, server) + ourCPU(b)
		require.Never(b, func() bool { return false }, 10*time.Second, 5*time.Second)
		b.Logf("while they wait: %.1f %% of a core", float64(treeCPU(b, server)+ourCPU(b)-idle)/float64(10*time.Second)*100)

		go func() { done <- f.worker.Run(ctx) }()
		var drained []float64
		for i := range 10 {
			before := treeCPU(b, server) + ourCPU(b)
			require.Eventually(b, func() bool { return int(f.done.Load()) >= made+(i+1)*n/10 }, time.Hour, time.Millisecond)
			drained = append(drained, float64((treeCPU(b, server)+ourCPU(b)-before).Microseconds())/float64(n/10))
		}
		b.Logf("all processes, µs a job, of each tenth that was done: %.0f", drained)
		b.ReportMetric(drained[0], "first-µs/job")
		b.ReportMetric(drained[9], "last-µs/job")
		cancel()
		require.NoError(b, <-done)
		require.NoError(b, <-done)
		require.Equal(b, n+made, f.completed(b))
	}
}
