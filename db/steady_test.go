package db_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/outbox"
)

// BenchmarkSteady produces and works at once: two producers, a hundred jobs a
// transaction, through relay and JetStream, with what the feed tells. What it
// is for is the CPU a job, of this process (relay, worker, producers and the
// broker) and of Postgres: a busy machine hardly moves it.
func BenchmarkSteady(b *testing.B) {
	for _, mode := range []outbox.Mode{outbox.Atomic, outbox.Auto} {
		b.Run(string(mode), func(b *testing.B) { benchSteady(b, mode) })
	}
}

func benchSteady(b *testing.B, mode outbox.Mode) {
	b.Helper()
	const producers, chunk, ahead = 2, 100, 5000
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
			wg.Go(func() { f.fill(b, made+p*chunk, chunk) })
		}
		wg.Wait()
		made += producers * chunk
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
	var pid int
	require.NoError(tb, pool.QueryRow(context.Background(), "SELECT pg_backend_pid()").Scan(&pid))
	return int(stat(tb, pid)[1])
}

// treeCPU is what a process and its children have used, those that ended
// included.
func treeCPU(tb testing.TB, root int) time.Duration {
	tb.Helper()
	const tick = time.Second / 100 // USER_HZ, see proc(5)
	s := stat(tb, root)
	sum := s[11] + s[12] + s[13] + s[14]
	entries, err := os.ReadDir("/proc")
	require.NoError(tb, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s := stat(tb, pid); s != nil && int(s[1]) == root {
			sum += s[11] + s[12]
		}
	}
	return time.Duration(sum) * tick
}

// stat reads the numbers of /proc/<pid>/stat from the state on, nil for a
// process that has gone.
func stat(tb testing.TB, pid int) []int64 {
	tb.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, rest, _ := bytes.Cut(raw, []byte(") "))
	fields := strings.Fields(string(rest))
	ns := make([]int64, len(fields))
	for i, f := range fields {
		ns[i], _ = strconv.ParseInt(f, 10, 64) // the state is a letter
	}
	return ns
}
