package db_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
)

// told reads all that is there to tell, takes it out, and gives each job's
// versions in the order in which they were told.
func told(t *testing.T, jobs *db.Jobs, limit int, into map[events.ID][]int) {
	t.Helper()
	for {
		fed, err := jobs.Fresh(t.Context(), limit)
		require.NoError(t, err)
		if len(fed) == 0 {
			return
		}
		var rows []int64
		for _, f := range eventstest.Events(fed) {
			into[f.Event.Job] = append(into[f.Event.Job], f.Event.Version)
			rows = append(rows, f.Row)
		}
		require.NoError(t, jobs.Told(t.Context(), rows))
	}
}

// What a transaction wrote that commits late has rows before those that were
// told meanwhile. It is told with the next read, before what came after it,
// however long the transaction took, and whatever else was rolled back.
func TestFeedTellsWhatIsCommittedLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	db.TellAtOnce(b.jobs)
	got := map[events.ID][]int{}
	b.enqueue(t, "first")
	told(t, b.jobs, 10, got)
	begin := func(name string) (pgx.Tx, events.Step) {
		tx, err := b.pool.Begin(t.Context())
		require.NoError(t, err)
		st := step(t, name)
		_, err = b.jobs.Enqueue(t.Context(), tx, st)
		require.NoError(t, err)
		return tx, st
	}
	var open []pgx.Tx
	var late []events.Step
	for n := range 3 {
		tx, st := begin(fmt.Sprint("late", n))
		open, late = append(open, tx), append(late, st)
	}
	for n := range 20 {
		b.enqueue(t, fmt.Sprint("soon", n))
		told(t, b.jobs, 10, got)
	}
	require.Len(t, got, 21)
	require.NoError(t, open[0].Rollback(t.Context()))
	for n := 1; n < 3; n++ {
		require.NoError(t, open[n].Commit(t.Context()))
		job := b.get(t, late[n].Job.ID)
		b.settle(t, events.Event{Type: events.Completed, Actor: "worker"}, nil, b.begin(t, events.Holder{ID: "w"}, job)...)
		told(t, b.jobs, 10, got)
		require.Equal(t, []int{1, 2, 3}, got[job.ID])
		b.enqueue(t, fmt.Sprint("after", n))
		told(t, b.jobs, 10, got)
	}
	require.Len(t, got, 25)
}

// late are transactions that have each asked for a job, and are open.
type late []struct {
	tx  pgx.Tx
	job events.ID
}

func (l *late) open(t *testing.T, b bundle, name string) {
	t.Helper()
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	st := step(t, name)
	_, err = b.jobs.Enqueue(t.Context(), tx, st)
	require.NoError(t, err)
	*l = append(*l, struct {
		tx  pgx.Tx
		job events.ID
	}{tx, st.Job.ID})
}

// end commits one of them, or now and then rolls it back.
func (l *late) end(t *testing.T, r *rand.Rand) (job events.ID, committed bool) {
	t.Helper()
	i := r.IntN(len(*l))
	one := (*l)[i]
	*l = append((*l)[:i], (*l)[i+1:]...)
	if r.IntN(4) == 0 {
		require.NoError(t, one.tx.Rollback(t.Context()))
		return one.job, false
	}
	require.NoError(t, one.tx.Commit(t.Context()))
	return one.job, true
}

func (l *late) rollback(t *testing.T) {
	t.Helper()
	for _, one := range *l {
		require.NoError(t, one.tx.Rollback(t.Context()))
	}
}

// However transactions overlap, and whatever is rolled back or not confirmed,
// each event is told, and those of a job in their order.
func TestFeedKeepsTheOrderOfEachJob(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if seed%2 == 0 {
				db.TellAtOnce(b.jobs)
			}
			r := rand.New(rand.NewPCG(seed, 1))
			got, want := map[events.ID][]int{}, map[events.ID]bool{}
			var running late
			for n := range 150 {
				switch k := r.IntN(10); {
				case k < 4 && len(running) < 5:
					running.open(t, b, fmt.Sprint(n))
				case k < 7 && len(running) > 0:
					if id, committed := running.end(t, r); committed {
						want[id] = true
						b.begin(t, events.Holder{ID: "w"}, b.get(t, id))
					}
				case k < 8: // read and not confirmed
					_, err := b.jobs.Fresh(t.Context(), 1+r.IntN(5))
					require.NoError(t, err)
				default:
					told(t, b.jobs, 1+r.IntN(20), got)
				}
			}
			running.rollback(t)
			told(t, b.jobs, 100, got)
			require.Len(t, got, len(want))
			for id := range want {
				require.Equal(t, []int{1, 2}, got[id])
			}
		})
	}
}

// A snapshot that somebody holds keeps what was told in the index. Reading the
// feed does not pass over it, once what ran at the start has ended.
func TestFeedIsNotReadThroughWhatWasTold(t *testing.T) {
	t.Parallel()
	b, rec := recorded(t)
	got := map[events.ID][]int{}
	one := func(n int) {
		b.enqueue(t, fmt.Sprint(n), fmt.Sprint(n, "too")) // one alone is told later
		told(t, b.jobs, 100, got)
	}
	for n := range 3 {
		one(n)
	}
	report, err := b.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer func() { _ = report.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = report.Exec(t.Context(), "SELECT count(*) FROM job_feed")
	require.NoError(t, err)
	began := time.Now()
	for n := range 2000 {
		one(10 + n)
	}
	b.enqueue(t, "last", "last too")
	plan := b.run(t, rec.calls["FreshFeed"], 1000)
	if time.Since(began) < 25*time.Second { // then it is read from its head, now and then
		require.Less(t, plan.Hit, float64(30), "pages looked at")
	}
	told(t, b.jobs, 100, got)
	require.Len(t, got, 4008)
}
