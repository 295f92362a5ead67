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
)

// However transactions overlap, and whatever is rolled back or done meanwhile,
// reading from the head gives all asks that wait, each time: the floor never
// passes one that is committed later.
func TestAsksFromTheHeadAreAllThatWait(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.jobs.LookAlways()
			r := rand.New(rand.NewPCG(seed, 2))
			var running late
			waiting := map[events.ID]bool{}
			for n := range 120 {
				switch k := r.IntN(10); {
				case k < 3 && len(running) < 4:
					running.open(t, b, fmt.Sprint(n))
				case k < 5 && len(running) > 0:
					if id, committed := running.end(t, r); committed {
						waiting[id] = true
					}
				case k < 8:
					for id := range waiting {
						b.begin(t, events.Holder{ID: "w"}, b.get(t, id))
						delete(waiting, id)
						break
					}
				default:
					asks, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 1000})
					require.NoError(t, err)
					got := map[events.ID]bool{}
					for _, a := range asks {
						got[a.Envelope.Job] = true
					}
					require.Equal(t, waiting, got)
				}
			}
			running.rollback(t)
		})
	}
}

// pages is how many a query looked at, when it is asked as it was the last time.
func pages(t *testing.T, b bundle, rec *recorder, query string) float64 {
	t.Helper()
	rec.mu.Lock()
	call := rec.calls[query]
	rec.mu.Unlock()
	return b.run(t, call, 1000).Hit
}

// While somebody holds a snapshot, the asks that are gone stay in the index. To
// read all that wait is not to pass over them again and again.
func TestAsksAreNotReadThroughWhatIsGone(t *testing.T) {
	t.Parallel()
	b, rec := recorded(t)
	b.jobs.LookAlways()
	began := time.Now()
	report, err := b.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer func() { _ = report.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = report.Exec(t.Context(), "SELECT count(*) FROM outbox")
	require.NoError(t, err)
	for n := range 10 {
		names := make([]string, 500)
		for i := range names {
			names[i] = fmt.Sprint(n, "-", i)
		}
		jobs := b.enqueue(t, names...)
		for _, done := range []bool{false, true, true} { // what it learns by one, the one after the next can use
			if done && len(jobs) > 0 {
				b.begin(t, events.Holder{ID: "w"}, jobs...)
				jobs = nil
			}
			_, err = b.jobs.Asks(t.Context(), events.AskQuery{Limit: 3000})
			require.NoError(t, err)
		}
	}
	_, err = b.jobs.Asks(t.Context(), events.AskQuery{Limit: 3000})
	require.NoError(t, err)
	if time.Since(began) < 25*time.Second { // then it is read from its head, now and then
		require.Less(t, pages(t, b, rec, "AsksAfter"), 45.0, "all 5,000 are on 90")
	}
	last := b.enqueue(t, "last")[0]
	asks, err := b.jobs.Asks(t.Context(), events.AskQuery{Limit: 3000})
	require.NoError(t, err)
	require.Len(t, asks, 1)
	require.Equal(t, last.ID, asks[0].Envelope.Job)
}

// A relay that starts while a stranger writes and does not commit does not
// know what runs. It waits for those who write to the feed, not for him: he
// keeps what was told in the index.
func TestFeedOfANewRelayDoesNotWaitForAStranger(t *testing.T) {
	t.Parallel()
	b, rec := recorded(t)
	cfg := b.pool.Config().ConnConfig.Copy()
	cfg.Database = "postgres"
	cfg.Tracer = nil
	stranger, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer stranger.Close(context.WithoutCancel(t.Context()))
	_, err = stranger.Exec(t.Context(), "BEGIN; SELECT pg_current_xact_id()")
	require.NoError(t, err)
	relay := db.NewJobs(b.pool, db.JobsConfig{})
	relay.LookAlways()
	got := map[events.ID][]int{}
	for n := range 1500 {
		b.enqueue(t, fmt.Sprint(n), fmt.Sprint(n, " too")) // one by itself is told of from its ask
		told(t, relay, 100, got)
	}
	began := time.Now()
	b.enqueue(t, "last", "last too")
	told(t, relay, 100, got)
	if time.Since(began) < 25*time.Second { // then it is read from its head, now and then
		require.Less(t, pages(t, b, rec, "FreshFeed"), 20.0)
	}
	require.Len(t, got, 3002)
}
