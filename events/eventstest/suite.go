package eventstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

const (
	patience = 20 * time.Second
	tick     = 2 * time.Millisecond
)

// Suite is what every table must pass. Each of its tests gets a table of its
// own, empty but for the tenants [Mine] and [Theirs]. A table that is not a
// [Memory] must give commits a transaction.
func Suite(t *testing.T, newTable func(t *testing.T) Table) {
	tests := []struct {
		name string
		run  func(b bundle)
	}{
		{"Enqueue", testEnqueue},
		{"Enqueue again", testEnqueueAgain},
		{"Get", testGet},
		{"Begin", testBegin},
		{"Begin guards", testBeginGuards},
		{"Begin at once", testBeginAtOnce},
		{"Settle", testSettle},
		{"Settle fences", testSettleFences},
		{"Settle with commits", testCommits},
		{"Settle after a reclaim", testSettleAfterReclaim},
		{"Look", testLook},
		{"Settle brief attempts", testBrief},
		{"Settle brief attempts once", testBriefFences},
		{"Settle brief attempts at once", testBriefAtOnce},
		{"Settle brief attempts with commits", testBriefCommits},
		{"Move", testMove},
		{"Asks", testAsks},
		{"Asks delayed", testAsksDelayed},
		{"Waiting and Enqueued", testWaiting},
		{"Again", testAgain},
		{"Reclaim", testReclaim},
		{"Reclaim by the lease", testReclaimLease},
		{"Slots", testSlots},
		{"Lead", testLead},
		{"Feed", testFeed},
		{"ended context", testEndedContext},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(bundle{newTable(t), t})
		})
	}
}

var (
	w1 = events.Holder{ID: "w1", Name: "one", Build: "v1", Slots: map[events.Kind]int{"a": 2, "b": 1}}
	w2 = events.Holder{ID: "w2", Name: "two", Slots: map[events.Kind]int{"a": 3}}
)

func testEnqueue(b bundle) {
	s := step(b.t, "a", "x", func(j *events.Job) {
		j.Priority, j.MaxAttempts, j.Args = 7, 5, []byte(`{"n": 1}`)
	})
	added, err := b.Enqueue(b.t.Context(), s)
	require.NoError(b.t, err)
	require.Equal(b.t, []bool{true}, added)

	j := b.job(s.Job)
	want := s.Job
	require.JSONEq(b.t, string(want.Args), string(j.Args))
	want.Args = j.Args
	require.Equal(b.t, want, j.Unborn(), "stored as it was asked for")
	require.Equal(b.t, events.StatusQueued, j.Status)
	require.Equal(b.t, 1, j.Version)
	require.Equal(b.t, 1, j.Asked)
	require.WithinDuration(b.t, time.Now(), j.CreatedAt, time.Minute)
	h := b.history(j)
	require.Len(b.t, h, 1)
	require.Equal(b.t, events.Queued, h[0].Type)
	require.Equal(b.t, "test", h[0].Actor)
	require.Equal(b.t, "req-x", h[0].RequestID)
	check(b.t, b.t.Context(), b, j)

	late := step(b.t, "a", "late")
	late.Delay = time.Hour
	b.enqueue(late)
	l := b.job(late.Job)
	require.Equal(b.t, l.CreatedAt.Add(time.Hour), l.NextAt)
	require.Equal(b.t, l.NextAt, b.history(l)[0].NextAt)
	check(b.t, b.t.Context(), b, l)
}

func testEnqueueAgain(b bundle) {
	x, y := step(b.t, "a", "x"), step(b.t, "a", "y")
	b.enqueue(x)
	held := b.begin(w1, b.job(x.Job))
	added, err := b.Enqueue(b.t.Context(), x, y, y)
	require.NoError(b.t, err)
	require.Equal(b.t, []bool{false, true, false}, added)
	require.Equal(b.t, held[0], b.job(x.Job), "what was there is left as it was")
	require.Len(b.t, b.history(y.Job), 1)
	b.settled(end(held[0], events.Completed, ""))
	added, err = b.Enqueue(b.t.Context(), x)
	require.NoError(b.t, err)
	require.Equal(b.t, []bool{false}, added, "a completed job is not asked for again")
	check(b.t, b.t.Context(), b, x.Job)
}

func testGet(b bundle) {
	j := b.add("x")[0]
	_, _, err := b.Get(b.t.Context(), Mine, "a_nosuchjob")
	require.ErrorIs(b.t, err, events.ErrUnknownJob)
	for _, scope := range []events.Scope{Theirs, {Team: Mine.Team, Project: Theirs.Project}, {Team: Theirs.Team, Project: Mine.Project}, {}} {
		_, _, err = b.Get(b.t.Context(), scope, j.ID)
		require.ErrorIs(b.t, err, events.ErrUnknownJob, "%v may not see it", scope)
	}
}

func testBegin(b bundle) {
	jobs := b.add("x", "y", "z")
	claims := b.claim(w1, jobs[2], jobs[0])
	for i, want := range []events.Job{jobs[2], jobs[0]} { // in the order of the envelopes
		require.NoError(b.t, claims[i].Err)
		held := claims[i].Job
		require.Equal(b.t, want.ID, held.ID)
		require.Equal(b.t, b.job(want), held, "the claim is the row")
		require.Equal(b.t, events.StatusProcessing, held.Status)
		require.Equal(b.t, "w1", held.LockedBy)
		require.Equal(b.t, held.UpdatedAt, held.LockedAt)
		require.Equal(b.t, 1, held.Attempts)
		e := b.history(want)[1]
		require.Equal(b.t, events.Processing, e.Type)
		require.Equal(b.t, "w1", e.Process)
		require.Equal(b.t, "v1", e.Build)
		require.Equal(b.t, want.RequestID, e.RequestID)
	}
	require.Equal(b.t, events.StatusQueued, b.job(jobs[1]).Status)
	for _, j := range jobs {
		check(b.t, b.t.Context(), b, j)
	}
	claims, err := b.Begin(b.t.Context(), w1, nil)
	require.NoError(b.t, err)
	require.Empty(b.t, claims)
}

func testBeginGuards(b bundle) {
	jobs := b.add("x", "held", "done", "noted")
	held := b.begin(w1, jobs[1])[0]
	done := b.begin(w1, jobs[2])[0]
	b.settled(end(done, events.Completed, ""))
	require.NoError(b.t, b.Enqueued(b.t.Context(), []int64{b.row(jobs[3])})) // version 2, asked 1
	again := b.add("again")[0]
	b.settled(end(b.begin(w1, again)[0], events.RetryScheduled, "busy")) // asked is 3 now

	forge := func(j events.Job, change func(*events.Envelope)) events.Envelope {
		e := j.Envelope()
		change(&e)
		return e
	}
	x := jobs[0]
	tests := []struct {
		name string
		e    events.Envelope
		w    events.Holder
		want error
	}{
		{"unknown", forge(x, func(e *events.Envelope) { e.Job = "a_nosuchjob" }), w1, events.ErrUnknownJob},
		{"other kind", forge(x, func(e *events.Envelope) { e.Kind = "b" }), w1, events.ErrScope},
		{"other team", forge(x, func(e *events.Envelope) { e.Scope.Team = Theirs.Team }), w1, events.ErrScope},
		{"other project", forge(x, func(e *events.Envelope) { e.Scope.Project = Theirs.Project }), w1, events.ErrScope},
		{"other tenant", forge(x, func(e *events.Envelope) { e.Scope = Theirs }), w1, events.ErrScope},
		{"no tenant", forge(x, func(e *events.Envelope) { e.Scope = events.Scope{} }), w1, events.ErrScope},
		{"from the future", forge(x, func(e *events.Envelope) { e.Asked = 99 }), w1, events.ErrUnknownJob},
		{"never an ask", forge(jobs[3], func(e *events.Envelope) { e.Asked = 2 }), w1, events.ErrSettled},
		{"settled", jobs[2].Envelope(), w1, events.ErrSettled},
		{"stale ask", again.Envelope(), w1, events.ErrSettled},
		{"held by another", jobs[1].Envelope(), w2, events.ErrHeld},
		{"held by me", jobs[1].Envelope(), w1, nil},
	}
	es := make([]events.Envelope, 0, len(tests))
	for _, tt := range tests {
		before := b.history(jobs[1])
		claims, err := b.Begin(b.t.Context(), tt.w, []events.Envelope{tt.e})
		require.NoError(b.t, err, tt.name)
		if tt.want == nil {
			require.NoError(b.t, claims[0].Err, tt.name)
			require.Equal(b.t, held, claims[0].Job, tt.name)
		} else {
			require.ErrorIs(b.t, claims[0].Err, tt.want, tt.name)
		}
		require.Equal(b.t, before, b.history(jobs[1]), tt.name)
		if tt.w.ID == w1.ID {
			es = append(es, tt.e)
		}
	}
	require.Equal(b.t, x, b.job(x), "no forgery changed it")
	// A forgery beside the true one is told from it, whichever comes first.
	y := b.add("y")[0]
	forged := forge(y, func(e *events.Envelope) { e.Scope = Theirs })
	both, err := b.Begin(b.t.Context(), w1, []events.Envelope{forged, y.Envelope(), forged})
	require.NoError(b.t, err)
	require.ErrorIs(b.t, both[0].Err, events.ErrScope)
	require.NoError(b.t, both[1].Err)
	require.ErrorIs(b.t, both[2].Err, events.ErrScope)
	// One bad envelope in a batch spoils no other.
	claims, err := b.Begin(b.t.Context(), w1, append(es, x.Envelope()))
	require.NoError(b.t, err)
	require.NoError(b.t, claims[len(es)].Err)
	require.NoError(b.t, b.claim(w2, jobs[3])[0].Err, "a note does not spoil the ask")
	for _, j := range append(jobs, again) {
		check(b.t, b.t.Context(), b, j)
	}
}

// Of workers that claim the same jobs at the same time, one gets each.
func testBeginAtOnce(b bundle) {
	const workers = 4
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprint("job", i)
	}
	jobs := b.add(names...)
	es := make([]events.Envelope, len(jobs))
	for i, j := range jobs {
		es[i] = j.Envelope()
	}
	got := make([][]events.Claim, workers)
	errs := make([]error, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			got[i], errs[i] = b.Begin(b.t.Context(), events.Holder{ID: fmt.Sprint("w", i)}, es)
		})
	}
	all.Wait()
	for i, j := range jobs {
		claimed := 0
		for w := range workers {
			require.NoError(b.t, errs[w])
			err := got[w][i].Err
			if err == nil {
				claimed++
				continue
			}
			require.ErrorIs(b.t, err, events.ErrHeld)
		}
		require.Equal(b.t, 1, claimed)
		check(b.t, b.t.Context(), b, j)
	}
}

func testSettle(b bundle) {
	jobs := b.begin(w1, b.add("done", "failed", "retry", "late", "released")...)
	late := end(jobs[3], events.RetryScheduled, "busy")
	late.Delay = time.Hour
	b.settled(
		end(jobs[0], events.Completed, ""), end(jobs[1], events.Failed, "no"),
		end(jobs[2], events.RetryScheduled, "busy"), late, end(jobs[4], events.Released, ""),
	)
	done, failed, retry := b.job(jobs[0]), b.job(jobs[1]), b.job(jobs[2])
	require.Equal(b.t, done.UpdatedAt, done.CompletedAt)
	require.Equal(b.t, failed.UpdatedAt, failed.FailedAt)
	require.Equal(b.t, "no", failed.LastError)
	require.Equal(b.t, events.StatusQueued, retry.Status)
	require.Equal(b.t, 3, retry.Asked)
	require.True(b.t, retry.NextAt.IsZero())
	require.Equal(b.t, "busy", retry.LastError)
	l := b.job(jobs[3])
	require.Equal(b.t, l.UpdatedAt.Add(time.Hour), l.NextAt)
	require.Zero(b.t, b.job(jobs[4]).Attempts, "a released attempt does not count")
	for _, j := range jobs {
		check(b.t, b.t.Context(), b, j)
	}
}

func testSettleFences(b bundle) {
	jobs := b.add("x", "y", "queued")
	held := b.begin(w1, jobs[0], jobs[1])
	twice := b.settle(end(held[0], events.Completed, ""), end(held[0], events.Failed, ""))
	require.NoError(b.t, twice[0])
	require.ErrorIs(b.t, twice[1], events.ErrHeld, "one step a job")

	foreign := held[1]
	foreign.Scope = Theirs
	unknown := held[1]
	unknown.ID = "a_nosuchjob"
	stale := held[1]
	stale.Version--
	stale.Status = events.StatusQueued
	for name, s := range map[string]events.Step{
		"settled before": end(held[0], events.Completed, ""),
		"other tenant":   end(foreign, events.Completed, ""),
		"no such job":    end(unknown, events.Completed, ""),
		"older version":  {Job: stale, Event: events.Event{Type: events.Cancelled}},
		"not an arrow":   end(held[1], events.Queued, ""),
		"not begun":      end(jobs[2], events.Completed, ""),
	} {
		ran := false
		errs, err := b.Settle(b.t.Context(), []events.Step{s}, []func(context.Context, pgx.Tx) error{
			func(context.Context, pgx.Tx) error { ran = true; return nil },
		})
		require.NoError(b.t, err, name)
		require.Error(b.t, errs[0], name)
		require.False(b.t, ran, "%s: no commit of a step that is not stored", name)
	}
	b.settled(end(held[1], events.Completed, ""))
	for _, j := range jobs {
		check(b.t, b.t.Context(), b, j)
	}
}

func testCommits(b bundle) {
	held := b.begin(w1, b.add("x", "y", "stale")...)
	b.settled(end(held[2], events.Released, ""))
	steps := []events.Step{end(held[0], events.Completed, ""), end(held[1], events.Completed, ""), end(held[2], events.Completed, "")}
	_, inMemory := b.Table.(*Memory)
	boom := errors.New("boom")
	var xids []int64
	write := func(result error) func(context.Context, pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) error {
			if inMemory {
				require.Nil(b.t, tx)
				xids = append(xids, 1)
				return result
			}
			var xid int64
			if err := tx.QueryRow(ctx, `SELECT txid_current()`).Scan(&xid); err != nil {
				return err
			}
			xids = append(xids, xid)
			// Anything that the transaction takes back with it.
			_, err := tx.Exec(ctx, fmt.Sprintf(`CREATE TABLE eventstest_%d ()`, len(xids)))
			return errors.Join(err, result)
		}
	}
	_, err := b.Settle(b.t.Context(), steps, []func(context.Context, pgx.Tx) error{write(nil), write(nil), nil}, write(boom))
	require.ErrorIs(b.t, err, boom, "the last word's error can be told")
	require.Len(b.t, xids, 3)
	require.Equal(b.t, held[0], b.job(held[0]), "and nothing of its batch is stored")
	xids = nil
	errs, err := b.Settle(b.t.Context(), steps[2:], []func(context.Context, pgx.Tx) error{write(nil)}, write(boom))
	require.NoError(b.t, err, "there is no last word where no step is stored")
	require.ErrorIs(b.t, errs[0], events.ErrHeld)
	require.Empty(b.t, xids)

	_, err = b.Settle(b.t.Context(), steps, []func(context.Context, pgx.Tx) error{write(nil), write(boom), nil}, write(nil))
	require.ErrorIs(b.t, err, boom, "a commit's error can be told")
	require.Equal(b.t, held[0], b.job(held[0]), "and nothing of its batch is stored")
	require.Equal(b.t, held[1], b.job(held[1]))

	xids = nil // the same tables can be made: the first ones are gone
	errs, err = b.Settle(b.t.Context(), steps, []func(context.Context, pgx.Tx) error{write(nil), write(nil), write(nil)}, write(nil))
	require.NoError(b.t, err)
	require.NoError(b.t, errors.Join(errs[:2]...))
	require.ErrorIs(b.t, errs[2], events.ErrHeld)
	require.Len(b.t, xids, 3, "no commit for the stale one")
	require.Len(b.t, slices.Compact(xids), 1, "one transaction for all")
	for _, j := range held {
		check(b.t, b.t.Context(), b, j)
	}
}

func testSettleAfterReclaim(b bundle) {
	j := b.add("x")[0]
	require.NoError(b.t, b.Seen(b.t.Context(), w1))
	old := b.begin(w1, j)[0]
	require.NoError(b.t, b.Gone(b.t.Context(), w1))
	lost, err := b.Reclaim(b.t.Context(), time.Hour)
	require.NoError(b.t, err)
	require.Equal(b.t, events.Lost{Reclaimed: 1}, lost)
	require.ErrorIs(b.t, b.settle(end(old, events.Completed, ""))[0], events.ErrHeld)
	require.ErrorIs(b.t, b.claim(w1, old)[0].Err, events.ErrSettled, "its message asks for nothing any more")
	held := b.begin(w2, b.job(j))[0]
	require.ErrorIs(b.t, b.settle(end(old, events.Completed, ""))[0], events.ErrHeld)
	require.Equal(b.t, 2, held.Attempts)
	b.settled(end(held, events.Completed, ""))
	require.Equal(b.t, []events.Type{
		events.Queued, events.Processing, events.Reclaimed, events.Processing, events.Completed,
	}, b.types(j))
	check(b.t, b.t.Context(), b, j)
}

func testMove(b bundle) {
	move := func(j events.Job, typ events.Type) error {
		errs, err := b.Move(b.t.Context(), []events.Step{{Job: j, Event: events.Event{Type: typ, Actor: "operator", Reason: "asked"}}})
		require.NoError(b.t, err)
		require.Len(b.t, errs, 1)
		return errs[0]
	}
	jobs := b.add("queued", "held", "done")
	held, done := b.begin(w1, jobs[1])[0], b.begin(w1, jobs[2])[0]
	b.settled(end(done, events.Completed, ""))

	require.NoError(b.t, move(jobs[0], events.Cancelled))
	require.NoError(b.t, move(held, events.Cancelled))
	require.ErrorIs(b.t, b.settle(end(held, events.Completed, ""))[0], events.ErrHeld, "the worker comes too late")
	require.ErrorIs(b.t, move(jobs[0], events.Cancelled), events.ErrHeld, "read before it changed")
	require.ErrorIs(b.t, move(b.job(done), events.Cancelled), events.ErrSettled)
	require.ErrorIs(b.t, move(b.job(done), events.Queued), events.ErrSettled)

	cancelled := b.job(held)
	require.Equal(b.t, cancelled.UpdatedAt, cancelled.CancelledAt)
	require.NoError(b.t, move(cancelled, events.Queued))
	again := b.job(held)
	require.Zero(b.t, again.Attempts, "an operator's retry starts anew")
	require.Equal(b.t, again.Version, again.Asked)
	require.Equal(b.t, "operator", b.history(held)[again.Version-1].Actor)
	require.NotEqual(b.t, jobs[1].Envelope().MsgID(), again.Envelope().MsgID())
	b.settled(end(b.begin(w2, again)[0], events.Failed, "no"))
	require.NoError(b.t, move(b.job(held), events.Queued))
	require.ErrorIs(b.t, move(b.job(held), events.Queued), events.ErrHeld, "it is queued already")
	for _, j := range jobs {
		check(b.t, b.t.Context(), b, j)
	}
}
