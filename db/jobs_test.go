package db_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

func TestSmoke(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := testenv.Pool(t)
	_, err := pool.Exec(ctx, "insert into teams(id,name) values('t','t'); insert into projects(id,team_id,name) values('p','t','p')")
	require.NoError(t, err)
	jobs := db.NewJobs(pool, db.JobsConfig{})
	st, err := events.New(events.Job{ID: events.NewID("event", "a"), Kind: "event", Scope: events.Scope{Team: "t", Project: "p"}, SourceType: "x", SourceID: "y"}, events.Event{})
	require.NoError(t, err)
	require.NoError(t, db.InTx(ctx, pool, func(tx pgx.Tx) error {
		added, err := jobs.Enqueue(ctx, tx, st, st)
		require.Equal(t, []bool{true, false}, added)
		return err
	}))
	asks, err := jobs.Asks(ctx, events.AskQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, asks, 1)
	w := events.Holder{ID: "w1"}
	require.NoError(t, jobs.Enqueued(ctx, []int64{asks[0].Row}))
	claims, err := jobs.Begin(ctx, w, []events.Envelope{asks[0].Envelope})
	require.NoError(t, err)
	require.NoError(t, claims[0].Err)
	errs, err := jobs.Settle(ctx, []events.Step{{Job: claims[0].Job, Event: events.Event{Type: events.Completed}}}, []func(context.Context, pgx.Tx) error{nil})
	require.NoError(t, err)
	require.NoError(t, errs[0])
	job, hist, err := jobs.Get(ctx, st.Job.Scope, st.Job.ID)
	require.NoError(t, err)
	require.Len(t, hist, 4)
	require.Equal(t, events.StatusCompleted, job.Status)
	fresh, err := jobs.Fresh(ctx, 10)
	require.NoError(t, err)
	require.Len(t, fresh, 4)
	require.NoError(t, jobs.Told(ctx, []int64{fresh[0].Row}))
	led, rel, err := jobs.Lead(ctx)
	require.NoError(t, err)
	_, _, err = jobs.Lead(ctx)
	require.ErrorIs(t, err, events.ErrNotLeader)
	rel()
	require.Error(t, led.Err())
	_, err = jobs.Reclaim(ctx, 1e9)
	require.NoError(t, err)
}
