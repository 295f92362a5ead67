package db_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/sqlc"
)

// A job that was asked for by itself is told to be queued by whatever step it
// makes first, before that step, with what its history says.
func TestWhatAJobWasQueuedForIsToldWithItsFirstStep(t *testing.T) {
	t.Parallel()
	w := events.Holder{ID: "w"}
	move := func(e events.Event) func(*testing.T, bundle, events.Job) {
		return func(t *testing.T, b bundle, j events.Job) {
			errs, err := b.jobs.Move(t.Context(), nil, []events.Step{{Job: j, Event: e}})
			require.NoError(t, err)
			require.NoError(t, errs[0])
		}
	}
	row := func(do func(context.Context, []int64) error) func(*testing.T, bundle, events.Job) {
		return func(t *testing.T, b bundle, _ events.Job) {
			asks, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 10})
			require.NoError(t, err)
			require.NoError(t, do(t.Context(), []int64{asks[0].Row}))
		}
	}
	for name, does := range map[string]func(t *testing.T, b bundle, j events.Job){
		"claimed": func(t *testing.T, b bundle, j events.Job) { b.begin(t, w, j) },
		"brief": func(t *testing.T, b bundle, j events.Job) {
			claims, err := b.jobs.Look(t.Context(), w, []events.Envelope{j.Envelope()})
			require.NoError(t, err)
			errs, err := b.jobs.Settle(t.Context(), []events.Step{{Job: claims[0].Job, Event: events.Event{Type: events.Completed, Actor: "worker"}, Begins: true}}, make([]func(context.Context, pgx.Tx) error, 1))
			require.NoError(t, err)
			require.NoError(t, errs[0])
		},
		"brief and failed": func(t *testing.T, b bundle, j events.Job) {
			claims, err := b.jobs.Look(t.Context(), w, []events.Envelope{j.Envelope()})
			require.NoError(t, err)
			errs, err := b.jobs.Settle(t.Context(), []events.Step{{Job: claims[0].Job, Event: events.Event{Type: events.Failed, Actor: "worker", Reason: "no"}, Begins: true}}, make([]func(context.Context, pgx.Tx) error, 1))
			require.NoError(t, err)
			require.NoError(t, errs[0])
		},
		"cancelled": move(events.Event{Type: events.Cancelled, Actor: "key_1"}),
		"begun":     move(events.Event{Type: events.Processing, Actor: "worker", Process: "w"}),
		"noted": func(t *testing.T, b bundle, j events.Job) {
			row(func(ctx context.Context, rows []int64) error { return b.jobs.Enqueued(ctx, rows) })(t, b, j)
		},
		"asked for again": func(t *testing.T, b bundle, j events.Job) {
			row(func(ctx context.Context, rows []int64) error { _, err := b.jobs.Again(ctx, rows); return err })(t, b, j)
		},
		"told before": func(t *testing.T, b bundle, j events.Job) {
			_, err := db.TellAtOnce(b.jobs).Fresh(t.Context(), 10)
			require.NoError(t, err)
			b.begin(t, w, j)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			st := step(t, "a")
			st.Job.RequestID, st.Event.Actor, st.Event.RequestID = "req", "key_1", "req"
			_, err := b.jobs.Enqueue(t.Context(), nil, st)
			require.NoError(t, err)
			fresh, err := b.jobs.Fresh(t.Context(), 10)
			require.NoError(t, err)
			require.Empty(t, fresh, "nobody is told yet")
			does(t, b, b.get(t, st.Job.ID))
			fresh, err = b.jobs.Fresh(t.Context(), 10)
			require.NoError(t, err)
			_, history, err := b.jobs.Get(t.Context(), scope, st.Job.ID)
			require.NoError(t, err)
			require.Greater(t, len(history), 1)
			require.Len(t, eventstest.Events(fresh), len(history))
			for i, f := range eventstest.Events(fresh) {
				require.Equal(t, scope, f.Scope)
				require.Equal(t, events.Kind("event"), f.Kind)
				require.Equal(t, history[i], f.Event)
			}
			rows := b.counts(t)
			require.LessOrEqual(t, rows[2], 1)
		})
	}
}

// One that waits is told to be queued all the same, once the relay has seen its
// row for a while; and not again when it begins.
func TestWhoWaitsIsToldToBeQueued(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.enqueue(t, "a")[0]
	_, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 10})
	require.NoError(t, err)
	got := map[events.ID][]int{}
	require.Eventually(t, func() bool { told(t, b.jobs, 10, got); return len(got) > 0 }, time.Minute, 5*time.Millisecond)
	require.Equal(t, []int{1}, got[job.ID])
	b.begin(t, events.Holder{ID: "w"}, job)
	told(t, b.jobs, 10, got)
	require.Equal(t, []int{1, 2}, got[job.ID])
}

// Whoever is first, the one that tells of jobs that wait or the one that moves
// them: each event is told once, in order.
func TestTellingAndMovingAtTheSameTimeKeepTheOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	teller := db.TellAtOnce(db.NewJobs(b.pool, db.JobsConfig{}))
	const movers, each = 4, 50
	g, ctx := errgroup.WithContext(t.Context())
	for m := range movers {
		g.Go(func() error {
			for n := range each {
				st := step(t, fmt.Sprint(m, "-", n))
				if _, err := b.jobs.Enqueue(ctx, nil, st); err != nil {
					return err
				}
				job := b.get(t, st.Job.ID)
				if n%2 == 0 {
					b.begin(t, events.Holder{ID: "w"}, job)
					continue
				}
				errs, err := b.jobs.Move(ctx, nil, []events.Step{{Job: job, Event: events.Event{Type: events.Cancelled, Actor: "key_1"}}})
				if err != nil || errs[0] != nil {
					return fmt.Errorf("cancel: %w, %w", err, errs[0])
				}
			}
			return nil
		})
	}
	moved := make(chan error, 1)
	go func() { moved <- g.Wait() }()
	got := map[events.ID][]int{}
	for running := true; running; {
		select {
		case err := <-moved:
			require.NoError(t, err)
			running = false
		default:
		}
		told(t, teller, 20, got)
	}
	require.Len(t, got, movers*each)
	for id, versions := range got {
		require.Equal(t, []int{1, 2}, versions, id)
	}
}

// Whoever takes a row away waits for one that tells of it, and tells nothing
// of it again.
func TestWhoTakesARowAwayWaitsForWhoTellsOfIt(t *testing.T) {
	t.Parallel()
	w := events.Holder{ID: "w"}
	for name, takes := range map[string]func(b bundle, j events.Job) error{
		"claim": func(b bundle, j events.Job) error {
			claims, err := b.jobs.Begin(t.Context(), w, []events.Envelope{j.Envelope()})
			return errors.Join(err, claims[0].Err)
		},
		"settle": func(b bundle, j events.Job) error {
			claims, err := b.jobs.Look(t.Context(), w, []events.Envelope{j.Envelope()})
			if err != nil {
				return err
			}
			errs, err := b.jobs.Settle(t.Context(), []events.Step{{Job: claims[0].Job, Event: events.Event{Type: events.Completed, Actor: "worker"}, Begins: true}}, make([]func(context.Context, pgx.Tx) error, 1))
			return errors.Join(append(errs, err)...)
		},
		"move": func(b bundle, j events.Job) error {
			errs, err := b.jobs.Move(t.Context(), nil, []events.Step{{Job: j, Event: events.Event{Type: events.Cancelled, Actor: "key_1"}}})
			return errors.Join(append(errs, err)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := b.enqueue(t, "a")[0]
			tx, err := b.pool.Begin(t.Context())
			require.NoError(t, err)
			told, err := sqlc.New(tx).TellWaiting(t.Context(), sqlc.TellWaitingParams{Last: 1 << 40, MaxRows: 10})
			require.NoError(t, err)
			require.EqualValues(t, 1, told.Rows)
			pid := tx.Conn().PgConn().PID()
			done := make(chan error, 1)
			go func() { done <- takes(b, job) }()
			require.Eventually(t, func() bool {
				var waits bool
				err := b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1::int = ANY (pg_blocking_pids(pid)))`, pid).Scan(&waits)
				return err == nil && waits
			}, time.Minute, time.Millisecond)
			require.NoError(t, tx.Commit(t.Context()))
			require.NoError(t, <-done)
			_, history, err := b.jobs.Get(t.Context(), scope, job.ID)
			require.NoError(t, err)
			fresh, err := b.jobs.Fresh(t.Context(), 10)
			require.NoError(t, err)
			require.Len(t, eventstest.Events(fresh), len(history))
			for i, f := range eventstest.Events(fresh) {
				require.Equal(t, history[i], f.Event)
			}
			require.Zero(t, b.counts(t)[2], "rows of the outbox")
		})
	}
}
