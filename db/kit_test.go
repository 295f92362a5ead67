package db_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

var (
	scope = events.Scope{Team: "t", Project: "p"}
	other = events.Scope{Team: "t2", Project: "p2"}
)

// bundle is a fresh job table with two tenants.
type bundle struct {
	pool *pgxpool.Pool
	jobs *db.Jobs
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{pool: testenv.Pool(t)}
	b.jobs = db.NewJobs(b.pool, db.JobsConfig{Process: "test", Build: "v0"})
	for _, s := range []events.Scope{scope, other} {
		b.exec(t, `INSERT INTO teams (id, name) VALUES ($1, $1)`, s.Team)
		b.exec(t, `INSERT INTO projects (id, team_id, name) VALUES ($1, $2, $1)`, s.Project, s.Team)
	}
	return b
}

func (b bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := b.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func step(t *testing.T, name string) events.Step {
	t.Helper()
	st, err := events.New(events.Job{
		ID: events.NewID("event", name), Kind: "event", Scope: scope, SourceType: "thing", SourceID: name,
	}, events.Event{Actor: "test"})
	require.NoError(t, err)
	return st
}

// enqueue makes jobs and gives them as they are stored.
func (b bundle) enqueue(t *testing.T, names ...string) []events.Job {
	t.Helper()
	steps := make([]events.Step, len(names))
	for i, n := range names {
		steps[i] = step(t, n)
	}
	require.NoError(t, db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error {
		_, err := b.jobs.Enqueue(t.Context(), tx, steps...)
		return err
	}))
	jobs := make([]events.Job, len(names))
	for i, st := range steps {
		jobs[i] = b.get(t, st.Job.ID)
	}
	return jobs
}

func (b bundle) get(t *testing.T, id events.ID) events.Job {
	t.Helper()
	job, _, err := b.jobs.Get(t.Context(), scope, id)
	require.NoError(t, err)
	return job
}

func (b bundle) begin(t *testing.T, w events.Holder, jobs ...events.Job) []events.Job {
	t.Helper()
	es := make([]events.Envelope, len(jobs))
	for i, j := range jobs {
		es[i] = j.Envelope()
	}
	claims, err := b.jobs.Begin(t.Context(), w, es)
	require.NoError(t, err)
	held := make([]events.Job, len(jobs))
	for i, c := range claims {
		require.NoError(t, c.Err)
		held[i] = c.Job
	}
	return held
}

func (b bundle) settle(t *testing.T, e events.Event, commit func(context.Context, pgx.Tx) error, jobs ...events.Job) {
	t.Helper()
	for _, j := range jobs {
		errs, err := b.jobs.Settle(t.Context(), []events.Step{{Job: j, Event: e}}, []func(context.Context, pgx.Tx) error{commit})
		require.NoError(t, err)
		require.NoError(t, errs[0])
	}
}
