package db_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
)

// A worker that stands still in the transaction that settles brief jobs has
// their rows. Whoever claims them with others gets the others.
func TestBeginWaitsForNobodysTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	jobs := b.enqueue(t, "frozen", "free")
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `SELECT FROM observation_generation_jobs WHERE id = $1 FOR UPDATE`, string(jobs[0].ID))
	require.NoError(t, err)

	es := []events.Envelope{jobs[0].Envelope(), jobs[1].Envelope()}
	claims, err := b.jobs.Begin(t.Context(), events.Holder{ID: "w"}, es)
	require.NoError(t, err)
	require.ErrorIs(t, claims[0].Err, events.ErrHeld)
	require.NoError(t, claims[1].Err)
	require.Equal(t, jobs[0], b.get(t, jobs[0].ID))

	require.NoError(t, tx.Rollback(t.Context()))
	claims, err = b.jobs.Begin(t.Context(), events.Holder{ID: "w"}, es[:1])
	require.NoError(t, err)
	require.NoError(t, claims[0].Err)
}

// Brief steps are stored with others, and by one transaction whatever each
// needs: what a note has moved on, a failure, and one whose worker says more.
func TestSettleBriefWithOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	jobs := b.enqueue(t, "plain", "noted", "failed", "more", "claimed", "lost")
	w := events.Holder{ID: "w", Build: "v1"}
	held := b.begin(t, w, jobs[4])[0]
	es := make([]events.Envelope, len(jobs))
	for i, j := range jobs {
		es[i] = j.Envelope()
	}
	claims, err := b.jobs.Look(t.Context(), w, es)
	require.NoError(t, err)
	asks, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 10})
	require.NoError(t, err)
	for _, a := range asks {
		if a.Envelope.Job == jobs[1].ID {
			require.NoError(t, b.jobs.Enqueued(t.Context(), []int64{a.Row}))
		}
	}
	b.begin(t, events.Holder{ID: "other"}, jobs[5])

	var steps []events.Step
	for i, typ := range []events.Type{events.Completed, events.Completed, events.Failed, events.Completed, events.Completed, events.Completed} {
		steps = append(steps, events.Step{Job: claims[i].Job, Begins: true, Event: events.Event{Type: typ, Actor: "worker", Process: "w", Build: "v1"}})
	}
	steps[2].Event.Reason = "no"
	steps[3].Event.Details = events.Held()
	steps[4].Job, steps[4].Begins = held, false
	boom := errors.New("boom")
	commits := make([]func(context.Context, pgx.Tx) error, len(steps))
	commits[0] = func(context.Context, pgx.Tx) error { return boom }
	_, err = b.jobs.Settle(t.Context(), steps, commits)
	require.ErrorIs(t, err, boom)
	for _, i := range []int{0, 2, 3} {
		require.Equal(t, jobs[i], b.get(t, jobs[i].ID), "nothing is stored")
	}

	commits[0] = nil
	errs, err := b.jobs.Settle(t.Context(), steps, commits)
	require.NoError(t, err)
	require.NoError(t, errors.Join(errs[:5]...))
	require.ErrorIs(t, errs[5], events.ErrHeld)
	for i, want := range []int{3, 4, 3, 3, 3} {
		require.Equal(t, want, b.get(t, jobs[i].ID).Version)
	}
	require.Equal(t, events.StatusFailed, b.get(t, jobs[2].ID).Status)
	require.NoError(t, b.jobs.Seen(t.Context(), events.Holder{ID: "other"}))
	found, err := b.jobs.Check(t.Context(), db.CheckConfig{})
	require.NoError(t, err)
	require.Empty(t, found)

	var began, ended time.Time
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT min(at), max(at) FROM observation_generation_job_events WHERE job_id = $1 AND version > 1`,
		string(jobs[0].ID)).Scan(&began, &ended))
	require.Equal(t, claims[0].Job.LockedAt, began.UTC(), "it began when it was looked at")
	require.True(t, ended.After(began))
}
