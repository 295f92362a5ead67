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

// Whatever the jobs of a statement have in common or not, what is told of each
// is its history: in the feed it is said once where it is the same for all.
func TestFeedTellsTheHistory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := events.Holder{ID: "w"}
	ids := map[events.ID]events.Scope{}
	add := func(n int, change func(i int, st *events.Step)) (es []events.Envelope) {
		steps := make([]events.Step, n)
		for i := range steps {
			steps[i] = step(t, fmt.Sprint(len(ids)))
			change(i, &steps[i])
			j, _, err := steps[i].Next()
			require.NoError(t, err)
			ids[j.ID], es = j.Scope, append(es, j.Envelope())
		}
		_, err := b.jobs.Add(t.Context(), nil, steps...)
		require.NoError(t, err)
		return es
	}
	brief := func(es []events.Envelope) {
		claims, err := b.jobs.Look(t.Context(), w, es)
		require.NoError(t, err)
		steps := make([]events.Step, len(es))
		for i, c := range claims {
			require.NoError(t, c.Err)
			steps[i] = events.Step{Job: c.Job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: w.ID}, Begins: true}
		}
		errs, err := b.jobs.Settle(t.Context(), steps, make([]func(context.Context, pgx.Tx) error, len(es)))
		require.NoError(t, err)
		for _, err := range errs {
			require.NoError(t, err)
		}
	}
	same := add(3, func(_ int, st *events.Step) { st.Job.RequestID = "req" })
	mixed := add(5, func(i int, st *events.Step) { st.Job.RequestID = []string{"", "a", "a", "", "b"}[i] })
	theirs := add(2, func(_ int, st *events.Step) { st.Job.Scope = other })
	one := add(1, func(int, *events.Step) {})
	add(3, func(i int, st *events.Step) { st.Delay = time.Duration(i) * time.Hour })
	add(4, func(i int, st *events.Step) {
		st.Event.Reason, st.Event.Actor = []string{"why", "", "because", "because"}[i], fmt.Sprint(i/3)
	})
	again := mixed[1:3] // in their second attempt
	for i, e := range again {
		b.settle(t, events.Event{Type: events.RetryScheduled, Actor: "worker", Reason: "busy"}, nil, b.begin(t, w, b.get(t, e.Job))...)
		again[i] = b.get(t, e.Job).Envelope()
	}
	brief(same)
	brief(append(append([]events.Envelope{}, mixed...), theirs...))
	brief(one)

	fed, err := db.TellAtOnce(b.jobs).Fresh(t.Context(), 1000)
	require.NoError(t, err)
	told := map[events.ID][]events.Event{}
	for _, f := range eventstest.Events(fed) {
		require.Equal(t, ids[f.Event.Job], f.Scope)
		told[f.Event.Job] = append(told[f.Event.Job], f.Event)
	}
	require.Len(t, told, len(ids))
	for id, s := range ids {
		_, history, err := b.jobs.Get(t.Context(), s, id)
		require.NoError(t, err)
		require.Equal(t, history, told[id])
	}
}

// A worker from before migration 00025 writes a list of each thing, which is
// read. A relay from before cannot read what is written now, and so tells
// nothing of it and takes nothing away.
func TestFeedBesideProgramsOfBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
		job_ids, versions, attempts, ats, next_ats, request_ids, reasons)
		VALUES ('t', 'p', 'event', 'queued', 'queued', 'who', 'server', 'v0', 1,
		'{one,two}', '{1,3}', '{0,1}', '{2026-01-02T03:04:05Z,2026-01-02T03:04:06Z}', '{epoch,2026-01-02T04:00:00Z}', '{a,b}', '{"",why}'),
		('t', 'p', 'event', 'completed', 'completed', 'worker', 'w', 'v0', 1, '{one,two}', '{3,5}', '{1,2}', '{2026-01-02T03:04:07Z,2026-01-02T03:04:07Z}', '{}', '{a,b}', '{}')`)
	fed, err := b.jobs.Fresh(t.Context(), 10)
	require.NoError(t, err)
	got := eventstest.Events(fed)
	require.Len(t, got, 4)
	at := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	require.Equal(t, events.FeedEvent{Row: got[0].Row, Kind: "event", Scope: scope, Event: events.Event{
		Job: "two", Version: 3, Type: events.Queued, Status: events.StatusQueued, Attempt: 1, At: at, NextAt: time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC),
		Actor: "who", Process: "server", Build: "v0", RequestID: "b", Reason: "why", Schema: 1,
	}}, got[1])
	require.Equal(t, events.ID("two"), got[3].Event.Job)
	require.Equal(t, 5, got[3].Event.Version)
	require.Empty(t, got[3].Event.Reason)

	b.enqueue(t, "a", "b")
	var jobIDs []string
	require.ErrorContains(t, b.pool.QueryRow(t.Context(), `SELECT job_ids FROM job_feed ORDER BY id DESC LIMIT 1`).Scan(&jobIDs), "NULL")
}
