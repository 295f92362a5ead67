package db_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
)

// table is a job table whose jobs are enqueued and moved in transactions of
// their own.
type table struct {
	*db.Jobs
	b bundle
}

func newTable(t *testing.T) eventstest.Table {
	t.Helper()
	b := setup(t)
	return table{db.TellAtOnce(db.NewJobs(b.pool, db.JobsConfig{})), b}
}

func (s table) Enqueue(ctx context.Context, steps ...events.Step) (added []bool, err error) {
	err = db.InTx(ctx, s.b.pool, func(tx pgx.Tx) error {
		added, err = s.Jobs.Enqueue(ctx, tx, steps...)
		return err
	})
	return added, err
}

func (s table) Move(ctx context.Context, steps []events.Step) ([]error, error) {
	return s.Jobs.Move(ctx, nil, steps)
}

func TestJobsPassTheSuite(t *testing.T) {
	t.Parallel()
	eventstest.Suite(t, newTable)
}

// What holds in memory holds in Postgres: the same random commands, equal
// answers and equal histories.
func TestJobsAgreeWithMemory(t *testing.T) {
	t.Parallel()
	eventstest.Model(t, newTable(t))
}
