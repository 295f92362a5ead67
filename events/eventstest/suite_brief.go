package eventstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

// Look gives what Begin would and stores nothing; what it does not give is for
// Begin to judge.
func testLook(b bundle) {
	jobs := b.add("x", "y", "held", "done", "noted")
	held := b.begin(w1, jobs[2], jobs[3])
	b.settled(end(held[1], events.Completed, ""))
	require.NoError(b.t, b.Enqueued(b.t.Context(), []int64{b.row(jobs[4])}))

	noted := b.job(jobs[4])
	seen := b.look(w1, jobs[1], jobs[4], jobs[0])
	for i, want := range []events.Job{jobs[1], noted, jobs[0]} {
		require.Equal(b.t, want, b.job(want), "nothing is stored")
		got := seen[i]
		require.Equal(b.t, "w1", got.LockedBy)
		require.Equal(b.t, got.UpdatedAt, got.LockedAt)
		require.False(b.t, got.LockedAt.Before(want.UpdatedAt))
		next, err := want.Apply(events.Event{Type: events.Processing, Process: "w1", At: got.LockedAt})
		require.NoError(b.t, err)
		require.Equal(b.t, next, got, "it is what the state machine makes of it")
	}

	forge := func(change func(*events.Envelope)) events.Envelope {
		e := jobs[0].Envelope()
		change(&e)
		return e
	}
	es := []events.Envelope{
		forge(func(e *events.Envelope) { e.Job = "a_nosuchjob" }),
		forge(func(e *events.Envelope) { e.Kind = "b" }),
		forge(func(e *events.Envelope) { e.Scope.Team = Theirs.Team }),
		forge(func(e *events.Envelope) { e.Scope.Project = Theirs.Project }),
		forge(func(e *events.Envelope) { e.Asked = 2 }),
		jobs[2].Envelope(), jobs[3].Envelope(),
	}
	claims, err := b.Look(b.t.Context(), w1, append(es, jobs[0].Envelope()))
	require.NoError(b.t, err)
	for i, e := range es {
		require.Error(b.t, claims[i].Err, "%v", e)
	}
	claims, err = b.Look(b.t.Context(), events.Holder{}, []events.Envelope{jobs[1].Envelope()})
	require.NoError(b.t, err)
	require.Error(b.t, claims[0].Err, "no worker is named")
	claims, err = b.Look(b.t.Context(), w1, nil)
	require.NoError(b.t, err)
	require.Empty(b.t, claims)
}

// A brief attempt leaves the history that any other one does.
func testBrief(b bundle) {
	jobs := b.add("done", "failed", "retry", "late", "released", "noted", "two")
	seen := b.look(w1, jobs...)
	require.NoError(b.t, b.Enqueued(b.t.Context(), []int64{b.row(jobs[5])}), "a note does not spoil it")
	late := brief(seen[3], events.RetryScheduled, "busy")
	late.Delay = time.Hour
	steps := []events.Step{
		brief(seen[0], events.Completed, ""), brief(seen[1], events.Failed, "no"), brief(seen[2], events.RetryScheduled, "busy"), late,
		brief(seen[4], events.Released, ""), brief(seen[5], events.Completed, ""), brief(seen[6], events.Completed, ""),
	}
	for i := range steps {
		steps[i].Event.Build = "v1"
	}
	b.settled(steps...)
	for i, want := range [][]events.Type{
		{events.Queued, events.Processing, events.Completed},
		{events.Queued, events.Processing, events.Failed},
		{events.Queued, events.Processing, events.RetryScheduled},
		{events.Queued, events.Processing, events.RetryScheduled},
		{events.Queued, events.Processing, events.Released},
		{events.Queued, events.Enqueued, events.Processing, events.Completed},
		{events.Queued, events.Processing, events.Completed},
	} {
		require.Equal(b.t, want, b.types(jobs[i]))
		h := b.history(jobs[i])
		began, ended := h[len(h)-2], h[len(h)-1]
		if i != 5 {
			require.Equal(b.t, seen[i].LockedAt, began.At, "when it was looked at")
		}
		require.Equal(b.t, 1, began.Attempt)
		for _, e := range []events.Event{began, ended} {
			require.Equal(b.t, "worker", e.Actor)
			require.Equal(b.t, "w1", e.Process)
			require.Equal(b.t, "v1", e.Build)
			require.Equal(b.t, jobs[i].RequestID, e.RequestID)
		}
		check(b.t, b.t.Context(), b, jobs[i])
	}
	done, retry := b.job(jobs[0]), b.job(jobs[2])
	require.Equal(b.t, events.StatusCompleted, done.Status)
	require.Equal(b.t, 1, done.Attempts)
	require.Equal(b.t, done.UpdatedAt, done.CompletedAt)
	require.Equal(b.t, 3, retry.Asked)
	require.Equal(b.t, "busy", retry.LastError)
	require.Zero(b.t, b.job(jobs[4]).Attempts, "a released attempt does not count")

	// The second attempt of a job that was begun by two workers in turn.
	again := b.look(w2, retry)[0]
	b.settled(brief(again, events.Completed, ""))
	require.Equal(b.t, 2, b.job(retry).Attempts)
	require.Empty(b.t, b.job(retry).LastError)
	check(b.t, b.t.Context(), b, retry)

	told := map[events.ID][]int{}
	fresh, err := b.Fresh(b.t.Context(), enough)
	require.NoError(b.t, err)
	for _, f := range Events(fresh) {
		told[f.Event.Job] = append(told[f.Event.Job], f.Event.Version)
	}
	require.Equal(b.t, []int{1, 2, 3}, told[jobs[0].ID], "followers are told of each event, in order")
	require.Equal(b.t, []int{1, 2, 3, 4, 5}, told[retry.ID])
}

// Whoever was first, the attempt is lost and nothing of it is stored.
func testBriefFences(b bundle) {
	jobs := b.add("claimed", "done", "cancelled", "again", "stored", "spent", "twice")
	seen := b.look(w1, jobs...)
	held := b.begin(w2, jobs[0])
	b.settled(end(b.begin(w2, jobs[1])[0], events.Completed, ""))
	errs, err := b.Move(b.t.Context(), []events.Step{{Job: jobs[2], Event: events.Event{Type: events.Cancelled, Actor: "operator"}}})
	require.NoError(b.t, err)
	require.NoError(b.t, errs[0])
	_, err = b.Again(b.t.Context(), []int64{b.row(jobs[3])})
	require.NoError(b.t, err)
	b.settled(brief(seen[4], events.RetryScheduled, "busy"), brief(seen[5], events.Completed, ""))
	before := make([][]events.Event, len(jobs))
	for i, j := range jobs {
		before[i] = b.history(j)
	}
	foreign := seen[6]
	foreign.Scope = Theirs
	for _, typ := range []events.Type{events.Completed, events.Failed} {
		ran := 0
		commit := func(context.Context, pgx.Tx) error { ran++; return nil }
		for _, commits := range [][]func(context.Context, pgx.Tx) error{make([]func(context.Context, pgx.Tx) error, 7), {commit, commit, commit, commit, commit, commit, commit}} {
			var steps []events.Step
			for i := range 6 {
				steps = append(steps, brief(seen[i], typ, ""))
			}
			errs, err := b.Settle(b.t.Context(), append(steps, brief(foreign, typ, "")), commits)
			require.NoError(b.t, err)
			for i := range errs {
				require.ErrorIs(b.t, errs[i], events.ErrHeld, "%s of %d", typ, i)
			}
			require.Zero(b.t, ran, "no commit of a step that is not stored")
		}
	}
	for i, j := range jobs {
		require.Equal(b.t, before[i], b.history(j))
	}
	twice := b.settle(brief(seen[6], events.Completed, ""), brief(seen[6], events.Completed, ""), brief(seen[6], events.Failed, "no"))
	require.NoError(b.t, twice[0])
	require.ErrorIs(b.t, twice[1], events.ErrHeld, "one step a job")
	require.ErrorIs(b.t, twice[2], events.ErrHeld)
	b.settled(end(held[0], events.Completed, ""))
	for _, j := range jobs {
		check(b.t, b.t.Context(), b, j)
	}
}

// Of workers that did the same jobs at the same time, one has each stored.
func testBriefAtOnce(b bundle) {
	const workers = 4
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprint("job", i)
	}
	jobs := b.add(names...)
	got := make([][]error, workers)
	fails := make([]error, workers)
	steps := make([][]events.Step, workers)
	for w := range workers {
		for _, j := range b.look(events.Holder{ID: fmt.Sprint("w", w)}, jobs...) {
			steps[w] = append(steps[w], brief(j, events.Completed, ""))
		}
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			got[w], fails[w] = b.Settle(b.t.Context(), steps[w], make([]func(context.Context, pgx.Tx) error, len(jobs)))
		})
	}
	all.Wait()
	for i, j := range jobs {
		stored := 0
		for w := range workers {
			require.NoError(b.t, fails[w])
			if got[w][i] == nil {
				stored++
				require.Equal(b.t, fmt.Sprint("w", w), b.history(j)[1].Process)
			}
		}
		require.Equal(b.t, 1, stored)
		check(b.t, b.t.Context(), b, j)
	}
}

func testBriefCommits(b bundle) {
	jobs := b.add("x", "y", "lost", "failed")
	seen := b.look(w1, jobs...)
	b.begin(w2, jobs[2])
	boom := errors.New("boom")
	var ran []string
	commit := func(name string, result error) func(context.Context, pgx.Tx) error {
		return func(context.Context, pgx.Tx) error { ran = append(ran, name); return result }
	}
	steps := []events.Step{
		brief(seen[0], events.Completed, ""), brief(seen[1], events.Completed, ""), brief(seen[2], events.Completed, ""), brief(seen[3], events.Failed, "no"),
	}
	_, err := b.Settle(b.t.Context(), steps, []func(context.Context, pgx.Tx) error{commit("x", nil), commit("y", boom), commit("lost", nil), nil})
	require.ErrorIs(b.t, err, boom)
	for i := range 4 {
		if i != 2 {
			require.Equal(b.t, jobs[i], b.job(jobs[i]), "nothing of the batch is stored")
		}
	}
	ran = nil
	errs, err := b.Settle(b.t.Context(), steps, []func(context.Context, pgx.Tx) error{commit("x", nil), commit("y", nil), commit("lost", nil), nil}, commit("last", nil))
	require.NoError(b.t, err)
	require.NoError(b.t, errors.Join(errs[0], errs[1], errs[3]))
	require.ErrorIs(b.t, errs[2], events.ErrHeld)
	require.Equal(b.t, []string{"x", "y", "last"}, ran)
	for _, j := range jobs {
		check(b.t, b.t.Context(), b, j)
	}
}
