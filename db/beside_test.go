package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// What a look reads beside the jobs is in the claims of those that it gives,
// whether it looks at one or at several.
func TestLookReadsBeside(t *testing.T) {
	t.Parallel()
	b := setup(t)
	jobs := b.enqueue(t, "a", "b", "c")
	worker := events.Holder{ID: "w"}
	b.begin(t, worker, jobs[2])
	fails := false
	broken := errors.New("no answer")
	looker := db.NewJobs(b.pool, db.JobsConfig{Beside: func(es []events.Envelope) (func(context.Context, *sqlc.Queries) error, func(events.Job) any) {
		var p sqlc.GetJobsParams
		for _, e := range es {
			p.Ids, p.TeamIds, p.ProjectIds = append(p.Ids, string(e.Job)), append(p.TeamIds, e.Scope.Team), append(p.ProjectIds, e.Scope.Project)
		}
		var rows []sqlc.Job
		ask := func(ctx context.Context, q *sqlc.Queries) (err error) {
			rows, err = q.GetJobs(ctx, p)
			if fails && len(rows) > 0 { // once it has an answer
				err = broken
			}
			return err
		}
		return ask, func(j events.Job) any {
			for _, r := range rows {
				if r.ID == string(j.ID) && r.SourceID == j.SourceID {
					return r.ID
				}
			}
			return nil
		}
	}})
	for n := 1; n <= len(jobs); n++ {
		es := make([]events.Envelope, n)
		for i := range es {
			es[i] = jobs[i].Envelope()
		}
		claims, err := looker.Look(t.Context(), worker, es)
		require.NoError(t, err)
		for i, c := range claims {
			if i == 2 { // somebody has it
				require.ErrorIs(t, c.Err, events.ErrHeld)
				require.Nil(t, c.Beside)
				continue
			}
			require.NoError(t, c.Err)
			require.Equal(t, string(jobs[i].ID), c.Beside)
		}
	}
	fails = true
	_, err := looker.Look(t.Context(), worker, []events.Envelope{jobs[0].Envelope()})
	require.ErrorIs(t, err, broken)
	fails = false // and the pool has its connection back, with nothing left to read
	for range 2 * b.pool.Config().MaxConns {
		claims, err := looker.Look(t.Context(), worker, []events.Envelope{jobs[1].Envelope()})
		require.NoError(t, err)
		require.NotNil(t, claims[0].Beside)
	}
}
