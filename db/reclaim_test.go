package db_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
)

// The job table is as long as the history of the house, and the relay
// reconciles every ten seconds.
func TestReclaimReadsTheJobTableOnlyWhenAWorkerWasLost(t *testing.T) {
	t.Parallel()
	b, rec := recorded(t)
	w1, w2 := events.Holder{ID: "w1"}, events.Holder{ID: "w2"}
	reclaim := func() (events.Lost, bool) {
		lost, err := b.jobs.Reclaim(t.Context(), time.Hour)
		require.NoError(t, err)
		return lost, rec.asked("JobsHeldByLost")
	}
	names := []string{"a", "b", "c"}
	jobs := b.enqueue(t, names...)
	require.NoError(t, b.jobs.Seen(t.Context(), w1))
	b.begin(t, w1, jobs[0])

	lost, read := reclaim()
	require.True(t, read, "the first one knows nothing")
	require.Zero(t, lost)
	lost, read = reclaim()
	require.False(t, read, "nobody was lost")
	require.Zero(t, lost)

	require.NoError(t, b.jobs.Gone(t.Context(), w1))
	b.begin(t, w1, jobs[1]) // the server ran it late, the worker has long left
	lost, read = reclaim()
	require.True(t, read)
	require.Equal(t, events.Lost{Reclaimed: 2}, lost)

	b.begin(t, w2, jobs[2]) // it has not said yet that it lives
	lost, read = reclaim()
	require.True(t, read)
	require.Equal(t, events.Lost{Reclaimed: 1}, lost)

	lost, read = reclaim()
	require.False(t, read)
	require.Zero(t, lost)
	var workers int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM workers`).Scan(&workers))
	require.Zero(t, workers, "those who hold nothing are forgotten")
}

// A worker that was frozen in the middle of a transaction holds the rows of
// its jobs. Nobody waits for it: what it does not hold is reclaimed at once,
// the rest when its transaction has ended.
func TestReclaimWaitsForNobody(t *testing.T) {
	t.Parallel()
	b, _ := recorded(t)
	jobs := b.enqueue(t, "held", "free")
	b.begin(t, events.Holder{ID: "frozen"}, jobs[0])
	b.begin(t, events.Holder{ID: "frozen"}, jobs[1])
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE observation_generation_jobs SET updated_at = updated_at WHERE id = $1`, string(jobs[0].ID))
	require.NoError(t, err)

	for _, want := range []int{1, 0} {
		lost, err := b.jobs.Reclaim(t.Context(), time.Hour)
		require.NoError(t, err)
		require.Equal(t, events.Lost{Reclaimed: want}, lost)
	}
	require.NoError(t, tx.Rollback(t.Context()))
	lost, err := b.jobs.Reclaim(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Equal(t, events.Lost{Reclaimed: 1}, lost)
}

// A job that is deleted with its tenant leaves its ask, which would never go.
func TestWhatDeletedJobsHaveLeftIsClearedAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	jobs := b.enqueue(t, "a", "b", "c")
	b.exec(t, `DELETE FROM observation_generation_jobs WHERE source_id <> 'c'`)
	b.exec(t, `INSERT INTO outbox (job_id, team_id, project_id, job_type, asked)
		SELECT 'event_' || i, 't', 'p', 'event', 1 FROM generate_series(1, 4500) i`) // more than are looked at at once
	b.enqueue(t, "b") // it is made anew, and has two rows
	_, err := b.jobs.Reclaim(t.Context(), time.Hour)
	require.NoError(t, err)
	for more := true; more; {
		lost, err := b.jobs.Reclaim(t.Context(), time.Hour)
		require.NoError(t, err)
		more = lost.More
	}
	asks, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, asks, 2)
	require.Equal(t, jobs[2].ID, asks[0].Envelope.Job)
	require.Equal(t, jobs[1].ID, asks[1].Envelope.Job)
	b.begin(t, events.Holder{ID: "w"}, b.get(t, jobs[1].ID))
	asks, err = b.jobs.Asks(t.Context(), events.AskQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, asks, 1, "the row that is left was the job's own")
}

// No foreign key ties a job to its project and a history to its job: what
// they did, the statements do.
func TestJobsLiveAndDieWithTheirProject(t *testing.T) {
	t.Parallel()
	b := setup(t)
	kept := b.enqueue(t, "kept")[0]
	add := func(scope events.Scope) error {
		st, err := events.New(events.Job{ID: "x", Kind: "event", Scope: scope, SourceType: "thing", SourceID: "x"}, events.Event{})
		require.NoError(t, err)
		return db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error {
			_, err := b.jobs.Enqueue(t.Context(), tx, step(t, "kept"), st)
			return err
		})
	}
	for _, wrong := range []events.Scope{{Team: "t2", Project: "p"}, {Team: "t", Project: "p2"}, {Team: "t", Project: "none"}} {
		require.ErrorIs(t, add(wrong), db.ErrNoProject)
	}
	require.NoError(t, add(other))

	// Whoever adds a job keeps the project from being deleted meanwhile.
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = b.jobs.Enqueue(t.Context(), tx, step(t, "another"))
	require.NoError(t, err)
	_, err = b.pool.Exec(t.Context(), `BEGIN; SET LOCAL lock_timeout = '20ms'; DELETE FROM projects WHERE id = 'p'; COMMIT`)
	require.ErrorContains(t, err, "lock timeout")
	require.NoError(t, tx.Rollback(t.Context()))

	b.exec(t, `DELETE FROM teams WHERE id = 't2'`)
	_, _, err = b.jobs.Get(t.Context(), other, "x")
	require.ErrorIs(t, err, events.ErrUnknownJob)
	rows, err := b.pool.Query(t.Context(), `SELECT DISTINCT job_id FROM observation_generation_job_events`)
	require.NoError(t, err)
	histories, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{string(kept.ID)}, histories)
}

// Nor does one tie an event to its project and its session.
func TestEventsDieWithTheirProjectAndSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO server_sessions (id, team_id, project_id) VALUES ('s1', 't', 'p'), ('s2', 't', 'p');
		INSERT INTO agent_events (id, team_id, project_id, server_session_id, source_adapter, idempotency_key, event_type, occurred_at)
		SELECT id, team, project, session, 'hook', id, 'x', now() FROM (VALUES ('ae1', 't', 'p', 's1'), ('ae2', 't', 'p', 's2'), ('ae3', 't', 'p', NULL),
			('ae4', 't2', 'p2', NULL)) v (id, team, project, session)`)
	left := func() []string {
		rows, err := b.pool.Query(t.Context(), `SELECT id FROM agent_events ORDER BY id`)
		require.NoError(t, err)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return ids
	}
	b.exec(t, `DELETE FROM server_sessions WHERE id = 's1'`)
	require.Equal(t, []string{"ae2", "ae3", "ae4"}, left())
	b.exec(t, `DELETE FROM teams WHERE id = 't'`)
	require.Equal(t, []string{"ae4"}, left())
	b.exec(t, `DELETE FROM projects WHERE id = 'p2'`)
	require.Empty(t, left())
}

// A long table is read in parts, between which the relay does other things,
// and a lost worker is not forgotten before all of it was read.
func TestReclaimReadsALongTableInParts(t *testing.T) {
	t.Parallel()
	b, rec := recorded(t)
	gone := events.Holder{ID: "gone"}
	require.NoError(t, b.jobs.Seen(t.Context(), gone))
	var names []string
	for n := range 400 {
		names = append(names, fmt.Sprint(n))
	}
	jobs := b.enqueue(t, names...)
	b.begin(t, gone, jobs[0], jobs[200], jobs[399])
	require.NoError(t, b.jobs.Gone(t.Context(), gone))
	db.ReclaimInParts(b.jobs, 3)
	var sum events.Lost
	parts := 0
	for more := true; more; parts++ {
		lost, err := b.jobs.Reclaim(t.Context(), time.Hour)
		require.NoError(t, err)
		sum.Reclaimed, more = sum.Reclaimed+lost.Reclaimed, lost.More
		plan := b.run(t, rec.calls["JobsHeldByLost"], 1)
		rows, where := plan.most()
		require.Less(t, rows, float64(200), where)
	}
	require.Equal(t, 3, sum.Reclaimed)
	require.Greater(t, parts, 3)
	var workers int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM workers`).Scan(&workers))
	require.Zero(t, workers)
}
