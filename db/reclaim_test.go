package db_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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

// A tenant that is deleted takes its jobs with it, by foreign keys, but not
// what they have left for the relay: enough of it would stop the feed.
func TestWhatDeletedJobsHaveLeftIsClearedAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.enqueue(t, "a", "b", "c")
	b.exec(t, `DELETE FROM observation_generation_jobs WHERE source_id <> 'c'`)
	fresh, err := b.jobs.Fresh(t.Context(), 2)
	require.NoError(t, err)
	require.Empty(t, fresh, "those that can't be told stand before the one that can")

	_, err = b.jobs.Reclaim(t.Context(), time.Hour)
	require.NoError(t, err)
	fresh, err = b.jobs.Fresh(t.Context(), 2)
	require.NoError(t, err)
	require.Len(t, fresh, 1)
	asks, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, asks, 1)
	require.Equal(t, fresh[0].Event.Job, asks[0].Envelope.Job)
}
