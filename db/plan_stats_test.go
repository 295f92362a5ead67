package db_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
)

// large are the tables that grow with the work, and job_feed and outbox,
// which do while nobody is there to do it.
var large = []string{"observation_generation_jobs", "observation_generation_job_events", "outbox", "job_feed"}

const largeRows = 20_000 // finished jobs, and as many that wait

// statistics are what the planner may believe of large tables.
var statistics = map[string]func(t *testing.T, b bundle){
	"never gathered": func(t *testing.T, b bundle) { t.Helper(); fillPlans(t, b, true, true) },
	"of empty tables": func(t *testing.T, b bundle) {
		t.Helper()
		b.exec(t, `ANALYZE`)
		fillPlans(t, b, true, true)
	},
	"of finished jobs only": func(t *testing.T, b bundle) {
		t.Helper()
		fillPlans(t, b, true, false)
		b.exec(t, `ANALYZE`)
		fillPlans(t, b, false, true)
	},
	"of waiting jobs only": func(t *testing.T, b bundle) {
		t.Helper()
		fillPlans(t, b, false, true)
		b.exec(t, `ANALYZE`)
		fillPlans(t, b, true, false)
	},
	"of an hour with a hundred jobs": func(t *testing.T, b bundle) {
		t.Helper()
		day(t, b, 100)
		b.exec(t, `ANALYZE`)
		fillPlans(t, b, true, true)
	},
	"that are true": func(t *testing.T, b bundle) {
		t.Helper()
		fillPlans(t, b, true, true)
		b.exec(t, `ANALYZE`)
	},
}

// fillPlans makes finished jobs, and jobs that wait and were not told of, all
// of one tenant.
func fillPlans(t *testing.T, b bundle, finished, waiting bool) {
	t.Helper()
	const jobs = `INSERT INTO observation_generation_jobs (id, team_id, project_id, job_type, source_type, source_id, status, version, asked, attempts, completed_at, created_at, updated_at, ask)
		SELECT 'event_' || md5($1 || i), 't', 'p', 'event', 'thing', $1 || i, $1::text, $2, 1, $2 / 3, CASE $2 WHEN 3 THEN now() END, now(), now(), nextval('outbox_id_seq') FROM generate_series(1, $3::int) i`
	const history = `INSERT INTO observation_generation_job_events (job_id, version, team_id, project_id, event_type, status_after, attempt, at, schema)
		SELECT 'event_' || md5($1 || i), v, 't', 'p', (ARRAY['queued', 'processing', 'completed'])[v], (ARRAY['queued', 'processing', 'completed'])[v], least(v - 1, 1), now(), 1
		FROM generate_series(1, $3::int) i, generate_series(1, $2::int) v`
	if finished {
		b.exec(t, jobs, "completed", 3, largeRows)
		b.exec(t, history, "completed", 3, largeRows)
	}
	if waiting {
		b.exec(t, jobs, "queued", 1, largeRows)
		b.exec(t, history, "queued", 1, largeRows)
		b.exec(t, `INSERT INTO outbox (id, job_id, team_id, project_id, job_type, asked, due_at) OVERRIDING SYSTEM VALUE
			SELECT ask, id, team_id, project_id, job_type, 1, CASE WHEN hashtext(id) % 2 = 0 THEN now() + interval '1 hour' END FROM observation_generation_jobs WHERE status = 'queued'
			ON CONFLICT DO NOTHING`)
		b.exec(t, `INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema, job_ids, versions, attempts, ats, next_ats, request_ids, reasons)
			SELECT team_id, project_id, job_type, 'queued', 'queued', '', '', '', 1, ARRAY[id], ARRAY[1], ARRAY[0], ARRAY[now()], ARRAY['epoch'::timestamptz], ARRAY[''], ARRAY['']
			FROM observation_generation_jobs WHERE status = 'queued'`)
	}
}

// day asks everything that the relay, the workers and the API ask of the job
// table while all goes well, and most of what they ask when it does not, with
// batches of n.
func day(t *testing.T, b bundle, n int) {
	t.Helper()
	ctx, worker := t.Context(), events.Holder{ID: "w", Name: "w"}
	var mark int64
	run := fmt.Sprint(time.Now().UnixNano())
	steps := make([]events.Step, n)
	for i := range steps {
		steps[i] = step(t, fmt.Sprint(run, "-", i))
	}
	briefly(t, b, worker, run, n)
	briefly(t, b, worker, run+"-alone", 1)
	require.NoError(t, b.pool.QueryRow(ctx, `SELECT last_value FROM outbox_id_seq`).Scan(&mark))
	for _, some := range [][]events.Step{steps[:1], steps[:1], steps, steps} { // the second time they are known
		require.NoError(t, db.InTx(ctx, b.pool, func(tx pgx.Tx) error {
			_, err := b.jobs.Enqueue(ctx, tx, some...)
			return err
		}))
	}
	asks, err := b.jobs.Asks(ctx, events.AskQuery{After: mark, Limit: n})
	require.NoError(t, err)
	require.Len(t, asks, n)
	rows, envelopes := make([]int64, n), make([]events.Envelope, n)
	for i, a := range asks {
		rows[i], envelopes[i] = a.Row, a.Envelope
	}
	for _, q := range []events.AskQuery{
		{After: rows[n-1], Rows: rows, Limit: n}, {Delayed: true, Limit: n}, {Tenant: &scope, Kind: "event", After: mark, Limit: n},
	} {
		_, err = b.jobs.Asks(ctx, q)
		require.NoError(t, err)
	}
	_, err = b.jobs.Waiting(ctx, rows)
	require.NoError(t, err)
	require.NoError(t, b.jobs.Enqueued(ctx, rows))
	db.TellSoon(b.jobs)
	fed, err := b.jobs.Fresh(ctx, n)
	require.NoError(t, err)
	require.NoError(t, b.jobs.Told(ctx, []int64{fed[0].Row}))
	require.NoError(t, b.jobs.Seen(ctx, worker))
	_, err = b.jobs.Slots(ctx, time.Hour)
	require.NoError(t, err)
	claims, err := b.jobs.Begin(ctx, worker, append(envelopes, events.Envelope{Job: "event_unknown", Kind: "event", Asked: 1, Scope: scope}))
	require.NoError(t, err)
	ends := make([]events.Step, n)
	for i := range ends {
		require.NoError(t, claims[i].Err)
		ends[i] = events.Step{Job: claims[i].Job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: "w"}}
	}
	ends[0] = events.Step{Job: claims[0].Job, Event: events.Event{Type: events.RetryScheduled, Actor: "worker", Process: "w", Reason: "no"}, Delay: time.Hour}
	ends[1].Event.Type = events.Failed
	errs, err := b.jobs.Settle(ctx, ends, make([]func(context.Context, pgx.Tx) error, n))
	require.NoError(t, err)
	require.Equal(t, make([]error, n), errs)
	failed, _, err := b.jobs.Get(ctx, scope, claims[1].Job.ID)
	require.NoError(t, err)
	for _, typ := range []events.Type{events.Queued, events.Cancelled} {
		_, err = b.jobs.Move(ctx, nil, []events.Step{{Job: failed, Event: events.Event{Type: typ, Actor: "op"}}})
		require.NoError(t, err)
		failed, _, err = b.jobs.Get(ctx, scope, failed.ID)
		require.NoError(t, err)
	}
	_, err = b.jobs.Find(ctx, failed.ID)
	require.NoError(t, err)
}

// briefly does n jobs without claiming them.
func briefly(t *testing.T, b bundle, worker events.Holder, run string, n int) {
	t.Helper()
	steps, es := make([]events.Step, n), make([]events.Envelope, n)
	for i := range steps {
		steps[i] = step(t, fmt.Sprint(run, "-brief-", i))
		j, _, err := steps[i].Next()
		require.NoError(t, err)
		es[i] = j.Envelope()
	}
	require.NoError(t, db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error {
		_, err := b.jobs.Enqueue(t.Context(), tx, steps...)
		return err
	}))
	claims, err := b.jobs.Look(t.Context(), worker, es)
	require.NoError(t, err)
	for i, c := range claims {
		require.NoError(t, c.Err)
		steps[i] = events.Step{Job: c.Job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: worker.ID}, Begins: true}
	}
	errs, err := b.jobs.Settle(t.Context(), steps, make([]func(context.Context, pgx.Tx) error, n))
	require.NoError(t, err)
	require.NoError(t, errors.Join(errs...))
}

// notHot are the queries of the job table and of the relay that a day does
// not ask, and why they may read more.
var notHot = map[string]string{
	"ListJobs":          "a tenant's list, see internal/observe",
	"CountJobs":         "as ListJobs",
	"JobsHeldByLost":    "reads the job table in parts, when a worker was lost and every ten minutes",
	"JobPages":          "reads no row",
	"ForgetStrayAsks":   "clears away what deleted tenants left, every ten minutes",
	"LoseWorker":        "workers are few",
	"LostWorkers":       "workers are few",
	"ForgetLostWorkers": "workers are few",
	"TryLead":           "no table",
	"WritersOf":         "the locks of the server, while something is long open",
}

// hotQueries lists all queries of the job table and of the relay but those.
func hotQueries(t *testing.T) map[string]bool {
	t.Helper()
	hot := map[string]bool{}
	for _, file := range []string{"../sqlc/jobs.sql", "../sqlc/outbox.sql"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, q := range strings.Split(string(text), "-- name: ")[1:] {
			if name, _, _ := strings.Cut(q, " "); notHot[name] == "" {
				hot[name] = true
			}
		}
	}
	return hot
}

// Whatever the planner believes of large tables, no hot query reads more rows
// than it was asked for, a few times over, and neither do the foreign keys:
// over the whole day no large table is read through. The queries are those
// that were sent, so they are always today's.
func TestHotQueriesReadLittleWhateverTheStatisticsSay(t *testing.T) {
	t.Parallel()
	for name, gather := range statistics {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, rec := recorded(t)
			for _, table := range large {
				b.exec(t, `ALTER TABLE `+table+` SET (autovacuum_enabled = off)`)
			}
			gather(t, b)
			before := b.scanned(t)
			clear(rec.calls)
			day(t, b, 20)
			after := b.scanned(t)

			for query := range hotQueries(t) {
				_, asked := rec.calls[query]
				require.True(t, asked, "%s is a hot query that the day does not ask: does it read little?", query)
			}
			for query, call := range maps.Clone(rec.calls) {
				for _, size := range []int{1, 5, 20} {
					plan := b.run(t, call, size)
					rows, where := plan.most()
					require.LessOrEqual(t, rows, float64(200), "%s of %d: %s", query, size, where)
					require.Empty(t, plan.through(), "%s of %d", query, size)
				}
			}
			require.Equal(t, before, after, "a large table was read through")
		})
	}
}

// The planner took reading and sorting all that waits for cheaper than reading
// it in order, where a read is of much of what it believes to be there.
func TestAReadOfABacklogReadsNoMoreThanItWasAskedFor(t *testing.T) {
	t.Parallel()
	b, rec := recorded(t)
	b.exec(t, `ALTER TABLE outbox SET (autovacuum_enabled = off)`)
	b.exec(t, `INSERT INTO outbox (job_id, team_id, project_id, job_type, asked)
		SELECT 'event_' || i, 't', 'p', 'event', 1 FROM generate_series(1, 10000) i`)
	for _, q := range []events.AskQuery{{Limit: 3000}, {Limit: 3000, Tenant: &scope, Kind: "event"}} {
		asks, err := b.jobs.Asks(t.Context(), q)
		require.NoError(t, err)
		require.Len(t, asks, 3000)
	}
	for _, query := range []string{"AsksAfter", "AsksOfTenant"} {
		rows, where := b.run(t, rec.calls[query], 1).most()
		require.LessOrEqual(t, rows, 3000.0, "%s: %s", query, where)
	}
}

// run runs a call again, with lists of at most size elements, undoes it, and
// gives its plan with what each node read.
func (b bundle) run(t *testing.T, call pgx.TraceQueryStartData, size int) (plan planNode) {
	t.Helper()
	undo := errors.New("undo")
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		var explained []byte
		if err := tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+call.SQL, first(size, call.Args)...).Scan(&explained); err != nil {
			return err
		}
		var plans []struct{ Plan planNode }
		require.NoError(t, json.Unmarshal(explained, &plans))
		plan = plans[0].Plan
		return undo
	})
	require.ErrorIs(t, err, undo)
	return plan
}

// scanned counts how often each large table was read through. A session tells
// when it ends, at the latest.
func (b bundle) scanned(t *testing.T) map[string]int64 {
	t.Helper()
	b.pool.Reset()
	conn, err := pgx.ConnectConfig(t.Context(), b.pool.Config().ConnConfig.Copy())
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	var others int
	require.Eventually(t, func() bool {
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&others)
		return err == nil && others == 0
	}, time.Minute, 5*time.Millisecond)
	found := map[string]int64{}
	for _, table := range large {
		var n int64
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT coalesce(seq_scan, 0) FROM pg_stat_user_tables WHERE relname = $1`, table).Scan(&n))
		found[table] = n
	}
	return found
}
