package db_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// What asking for jobs may cost: round trips, whatever their number, and
// allocations: of a transaction with one, and a job in a large one.
const (
	enqueueTrips     = 3 // begin, the statement, commit
	enqueueAlone     = 1 // the statement is its own transaction
	enqueueAllocs    = 50
	enqueueAllocsJob = 6
)

// BenchmarkEnqueue asks for jobs of 512 bytes in a transaction, on one
// connection of a cluster without fsync, and puts a plain row beside it. It
// fails beyond its budgets, which a busy machine does not change. The least is
// the rows of a job in one statement: three tables with nothing but their
// primary keys, no look at what is there, and no project.
func BenchmarkEnqueue(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		benchEnqueue(b, 0, false, `INSERT INTO plain (name, payload) VALUES ($1, $2)`)
	})
	b.Run("least", func(b *testing.B) {
		benchEnqueue(b, 0, false, `WITH job AS (
			INSERT INTO least_jobs VALUES ($1, 't', 'p', 'event', 'thing', $1, $2::text::jsonb, 'queued', statement_timestamp())
		), event AS (
			INSERT INTO least_events VALUES ($1, 1, 't', 'p', 'queued', statement_timestamp(), 'bench', 'bench')
		) INSERT INTO least_outbox (job_id, team_id, project_id, job_type, at) VALUES ($1, 't', 'p', 'event', statement_timestamp())`)
	})
	for _, size := range []int{1, 3, 100} {
		for _, alone := range []bool{false, true} {
			b.Run(fmt.Sprintf("jobs=%d/alone=%v", size, alone), func(b *testing.B) { benchEnqueue(b, size, alone, "") })
		}
	}
}

func benchEnqueue(b *testing.B, size int, alone bool, bare string) {
	b.Helper()
	ctx := b.Context()
	cfg, err := pgxpool.ParseConfig(testenv.Postgres(b))
	require.NoError(b, err)
	var trips counter
	cfg.ConnConfig.Tracer, cfg.MaxConns, cfg.AfterConnect = &trips, 1, db.FastArrays // as db.Open does
	cfg.ConnConfig.RuntimeParams["enable_seqscan"] = "off"                           // as db.Open does
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	_, err = pool.Exec(ctx, `INSERT INTO teams VALUES ('t', 't'); INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p');
		CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, payload text NOT NULL, at timestamptz NOT NULL DEFAULT now());
		CREATE TABLE least_jobs (id text COLLATE "C" PRIMARY KEY, team_id text, project_id text, job_type text, source_type text, source_id text, payload jsonb, status text, at timestamptz);
		CREATE TABLE least_events (job_id text COLLATE "C", version int, team_id text, project_id text, type text, at timestamptz, actor text, process text, PRIMARY KEY (job_id, version));
		CREATE TABLE least_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id text, team_id text, project_id text, job_type text, at timestamptz)`)
	require.NoError(b, err)
	jobs := db.NewJobs(pool, db.JobsConfig{Process: "bench", Build: "bench"})
	pad := load.Pad(512)
	args, n, began := json.RawMessage(`{"pad":"`+pad+`"}`), 0, time.Now()
	named := func() string { n++; return string(events.NewIDAt("event", began, fmt.Sprint(n))) }
	next := func() []events.Step {
		steps := make([]events.Step, size)
		for i := range steps {
			n++
			name := fmt.Sprint(n)
			st, err := events.New(events.Job{
				ID: events.NewIDAt("event", began, name), Kind: "event", Scope: scope, SourceType: "thing", SourceID: name, Args: args,
			}, events.Event{Actor: "bench"})
			require.NoError(b, err)
			steps[i] = st
		}
		return steps
	}
	budget := enqueueTrips
	if alone {
		budget = enqueueAlone
	}
	ask := func(steps []events.Step) {
		if alone {
			added, err := jobs.Enqueue(ctx, nil, steps...)
			require.NoError(b, err)
			require.NotContains(b, added, false)
			return
		}
		require.NoError(b, db.InTx(ctx, pool, func(tx pgx.Tx) error {
			if bare != "" {
				_, err := tx.Exec(ctx, bare, named(), string(args))
				return err
			}
			added, err := jobs.Enqueue(ctx, tx, steps...)
			require.NotContains(b, added, false)
			return err
		}))
	}
	ask(next()) // statements are prepared once
	waiting := [][]events.Step{next(), next(), next(), next()}
	before := trips.Load()
	allocs := testing.AllocsPerRun(len(waiting)-1, func() { ask(waiting[0]); waiting = waiting[1:] })
	require.EqualValues(b, 4*budget, trips.Load()-before, "round trips of four transactions")
	if size <= 1 {
		require.LessOrEqual(b, allocs, float64(enqueueAllocs), "allocations")
	} else if size >= 100 {
		require.LessOrEqual(b, allocs/float64(size), float64(enqueueAllocsJob), "allocations a job")
	}
	b.ReportAllocs()
	server := postmaster(b, pool)
	from, ours, theirs := n, ourCPU(b), treeCPU(b, server)
	for b.Loop() {
		ask(next())
	}
	units := float64(n - from)
	b.ReportMetric(float64((ourCPU(b)-ours).Microseconds())/units, "go-µs/job")
	b.ReportMetric(float64((treeCPU(b, server)-theirs).Microseconds())/units, "postgres-µs/job")
}
