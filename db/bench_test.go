package db_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// BenchmarkLedger takes jobs through enqueue, claim (brief: a look) and settle
// in batches, on a cluster without fsync: the cost in statements, not in commits. Read the
// three shares against each other. What is written is told as well: a busy
// machine does not change that.
func BenchmarkLedger(b *testing.B) {
	for _, batch := range []int{1, 20, 500} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) { benchLedger(b, batch, false) })
		b.Run(fmt.Sprint("brief/", batch), func(b *testing.B) { benchLedger(b, batch, true) })
	}
}

func benchLedger(b *testing.B, batch int, brief bool) {
	b.Helper()
	ctx := b.Context()
	pool := testenv.Pool(b)
	_, err := pool.Exec(ctx, `INSERT INTO teams VALUES ('t', 't'); INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p')`)
	require.NoError(b, err)
	jobs := db.NewJobs(pool, db.JobsConfig{})
	worker := events.Holder{ID: "w"}
	var spent [3]time.Duration
	var begun string
	require.NoError(b, pool.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&begun))
	n := 0
	server := postmaster(b, pool)
	ours, theirs := ourCPU(b), treeCPU(b, server)
	for b.Loop() {
		start := time.Now()
		steps := make([]events.Step, batch)
		for i := range steps {
			name := fmt.Sprint(n)
			n++
			st, err := events.New(events.Job{ID: events.NewID("event", name), Kind: "event", Scope: scope, SourceType: "thing", SourceID: name}, events.Event{})
			require.NoError(b, err)
			steps[i] = st
		}
		require.NoError(b, db.InTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := jobs.Enqueue(ctx, tx, steps...)
			return err
		}))
		spent[0] += time.Since(start)

		start = time.Now()
		es := make([]events.Envelope, batch)
		for i, st := range steps {
			next, _, err := st.Next()
			require.NoError(b, err)
			es[i] = next.Envelope()
		}
		claim := jobs.Begin
		if brief {
			claim = jobs.Look
		}
		claims, err := claim(ctx, worker, es)
		require.NoError(b, err)
		spent[1] += time.Since(start)

		start = time.Now()
		done := make([]events.Step, batch)
		for i, c := range claims {
			require.NoError(b, c.Err)
			done[i] = events.Step{Job: c.Job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: "w"}, Begins: brief}
		}
		errs, err := jobs.Settle(ctx, done, make([]func(context.Context, pgx.Tx) error, batch))
		require.NoError(b, err)
		require.NoError(b, errors.Join(errs...))
		spent[2] += time.Since(start)
	}
	for i, what := range []string{"enqueue", "claim", "settle"} {
		b.ReportMetric(float64(spent[i].Microseconds())/float64(n), what+"-µs/job")
	}
	b.ReportMetric(float64((ourCPU(b)-ours).Microseconds())/float64(n), "go-µs/job")
	b.ReportMetric(float64((treeCPU(b, server)-theirs).Microseconds())/float64(n), "postgres-µs/job")
	var wal int64
	require.NoError(b, pool.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::bigint", begun).Scan(&wal))
	b.ReportMetric(float64(wal)/float64(n), "wal-B/job")
}
