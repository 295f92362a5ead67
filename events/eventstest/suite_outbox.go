package eventstest

import (
	"context"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

func names(asks []events.Ask) []string {
	var ids []string
	for _, a := range asks {
		ids = append(ids, string(a.Envelope.Job))
	}
	return ids
}

func ids(jobs ...events.Job) []string {
	var ids []string
	for _, j := range jobs {
		ids = append(ids, string(j.ID))
	}
	return ids
}

func testAsks(b bundle) {
	read := func(q events.AskQuery) []events.Ask {
		asks, err := b.Asks(b.t.Context(), q)
		require.NoError(b.t, err)
		return asks
	}
	require.Empty(b.t, read(events.AskQuery{Limit: 10}))
	jobs := b.add("1", "2", "3", "4")
	theirs := step(b.t, "a", "5", func(j *events.Job) { j.Scope, j.Priority = Theirs, 9 })
	other := step(b.t, "b", "6")
	b.enqueue(theirs)
	b.enqueue(other)
	all := read(events.AskQuery{Limit: enough})
	require.Equal(b.t, ids(append(slices.Clone(jobs), theirs.Job, other.Job)...), names(all), "in the order of rows")
	require.True(b.t, slices.IsSortedFunc(all, func(x, y events.Ask) int { return int(x.Row - y.Row) }))
	require.Equal(b.t, 9, all[4].Priority)
	require.Equal(b.t, b.job(theirs.Job).Envelope(), all[4].Envelope)

	require.Equal(b.t, all[:2], read(events.AskQuery{Limit: 2}))
	require.Equal(b.t, all[2:4], read(events.AskQuery{After: all[1].Row, Limit: 2}))
	require.Empty(b.t, read(events.AskQuery{After: all[5].Row, Limit: 2}))
	with := read(events.AskQuery{After: all[3].Row, Rows: []int64{all[1].Row, all[0].Row, all[5].Row + 1000}, Limit: 10})
	require.ElementsMatch(b.t, slices.Concat(all[:2], all[4:]), with)

	require.Equal(b.t, all[:4], read(events.AskQuery{Tenant: &Mine, Kind: "a", Limit: 10}))
	require.Equal(b.t, all[1:3], read(events.AskQuery{Tenant: &Mine, Kind: "a", After: all[0].Row, Limit: 2}))
	require.Equal(b.t, all[4:5], read(events.AskQuery{Tenant: &Theirs, Kind: "a", Limit: 10}))
	require.Equal(b.t, all[5:], read(events.AskQuery{Tenant: &Mine, Kind: "b", Limit: 10}))
	require.Empty(b.t, read(events.AskQuery{Tenant: &Theirs, Kind: "b", Limit: 10}))

	// An ask goes with the attempt, and a new one comes in a place behind all.
	held := b.begin(w1, jobs[0])[0]
	require.Equal(b.t, all[1:], read(events.AskQuery{Limit: enough}))
	b.settled(end(held, events.RetryScheduled, "busy"))
	now := read(events.AskQuery{Limit: enough})
	require.Len(b.t, now, 6)
	require.Greater(b.t, now[5].Row, all[5].Row)
	require.Equal(b.t, 3, now[5].Envelope.Asked)
}

func testAsksDelayed(b bundle) {
	soon, later, never := step(b.t, "a", "soon"), step(b.t, "a", "later"), step(b.t, "a", "never")
	later.Delay, soon.Delay, never.Delay = 40*time.Millisecond, 10*time.Millisecond, time.Hour
	b.enqueue(later, soon, never)
	b.enqueue(step(b.t, "a", "at once"))
	require.Len(b.t, b.asks(), 1, "those with a due time are not among the others")
	var due []events.Ask
	require.Eventually(b.t, func() bool {
		var err error
		due, err = b.Asks(b.t.Context(), events.AskQuery{Delayed: true, Limit: 10})
		return err == nil && len(due) == 2
	}, patience, tick)
	require.Equal(b.t, ids(soon.Job, later.Job), names(due), "the longest due first")
	require.Equal(b.t, b.job(soon.Job).NextAt, due[0].DueAt)
	one, err := b.Asks(b.t.Context(), events.AskQuery{Delayed: true, Limit: 1})
	require.NoError(b.t, err)
	require.Equal(b.t, due[:1], one)
	b.begin(w1, b.job(soon.Job))
	one, err = b.Asks(b.t.Context(), events.AskQuery{Delayed: true, Limit: 1})
	require.NoError(b.t, err)
	require.Equal(b.t, due[1:], one)
	check(b.t, b.t.Context(), b, never.Job)
}

func testWaiting(b bundle) {
	jobs := b.add("x", "y", "z")
	x, y, z := b.row(jobs[0]), b.row(jobs[1]), b.row(jobs[2])
	held := b.begin(w1, jobs[1])[0]
	rows := []int64{x, y, z, z + 1000}
	left, err := b.Waiting(b.t.Context(), rows)
	require.NoError(b.t, err)
	require.ElementsMatch(b.t, []int64{x, z}, left)

	require.NoError(b.t, b.Enqueued(b.t.Context(), rows))
	require.Equal(b.t, []events.Type{events.Queued, events.Enqueued}, b.types(jobs[0]))
	require.Equal(b.t, []events.Type{events.Queued, events.Processing}, b.types(jobs[1]), "it had moved on")
	noted := b.job(jobs[0])
	require.Equal(b.t, 2, noted.Version)
	require.Equal(b.t, 1, noted.Asked, "a note asks for nothing")
	require.Equal(b.t, x, b.row(noted), "and leaves the ask where it was")
	b.settled(end(held, events.Completed, ""))
	b.begin(w1, noted)
	left, err = b.Waiting(b.t.Context(), rows)
	require.NoError(b.t, err)
	require.Equal(b.t, []int64{z}, left)
	left, err = b.Waiting(b.t.Context(), nil)
	require.NoError(b.t, err)
	require.Empty(b.t, left)
	for _, j := range jobs {
		check(b.t, b.t.Context(), b, j)
	}
}

func testAgain(b bundle) {
	jobs := b.add("lost", "begun")
	lostRow, begunRow := b.row(jobs[0]), b.row(jobs[1])
	held := b.begin(w1, jobs[1])[0]
	lost, err := b.Again(b.t.Context(), []int64{lostRow, begunRow})
	require.NoError(b.t, err)
	require.Equal(b.t, events.Lost{Reclaimed: 1}, lost)
	require.Equal(b.t, held, b.job(jobs[1]))

	j := b.job(jobs[0])
	require.Equal(b.t, []events.Type{events.Queued, events.Reclaimed}, b.types(j))
	require.Equal(b.t, 2, j.Asked)
	require.NotEmpty(b.t, j.LastError)
	require.NotEqual(b.t, jobs[0].Envelope().MsgID(), j.Envelope().MsgID(), "a stream remembers the old one")
	require.Greater(b.t, b.row(j), begunRow)
	require.ErrorIs(b.t, b.claim(w1, jobs[0])[0].Err, events.ErrSettled, "the lost message may turn up")
	lost, err = b.Again(b.t.Context(), []int64{lostRow})
	require.NoError(b.t, err)
	require.Zero(b.t, lost, "the old row is gone")
	for _, j := range jobs {
		check(b.t, b.t.Context(), b, j)
	}
	b.begin(w1, j)
}

func testReclaim(b bundle) {
	ctx := b.t.Context()
	spent := step(b.t, "a", "spent", func(j *events.Job) { j.MaxAttempts = 1 })
	b.enqueue(spent)
	jobs := b.add("lost", "alive", "unseen", "queued", "done")
	require.NoError(b.t, b.Seen(ctx, w1))
	require.NoError(b.t, b.Seen(ctx, w2))
	held := b.begin(w1, jobs[0], b.job(spent.Job), jobs[4])
	b.settled(end(held[2], events.Completed, ""))
	alive := b.begin(w2, jobs[1])[0]
	b.begin(events.Holder{ID: "never seen"}, jobs[2])
	lost, err := b.Reclaim(ctx, time.Hour)
	require.NoError(b.t, err)
	require.Equal(b.t, events.Lost{Reclaimed: 1}, lost, "a worker that was never seen holds nothing")

	require.NoError(b.t, b.Gone(ctx, w1))
	lost, err = b.Reclaim(ctx, time.Hour)
	require.NoError(b.t, err)
	require.Equal(b.t, events.Lost{Reclaimed: 1, Failed: 1}, lost)
	j := b.job(jobs[0])
	require.Equal(b.t, events.StatusQueued, j.Status)
	require.Equal(b.t, 1, j.Attempts, "the attempt counts")
	require.NotEmpty(b.t, j.LastError)
	s := b.job(spent.Job)
	require.Equal(b.t, events.StatusFailed, s.Status)
	require.NotEmpty(b.t, s.LastError)
	require.Equal(b.t, alive, b.job(jobs[1]))
	lost, err = b.Reclaim(ctx, time.Hour)
	require.NoError(b.t, err)
	require.Zero(b.t, lost)
	for _, j := range append(jobs, spent.Job) {
		check(b.t, ctx, b, j)
	}
}

func testReclaimLease(b bundle) {
	ctx := b.t.Context()
	j := b.add("x")[0]
	require.NoError(b.t, b.Seen(ctx, w1))
	b.begin(w1, j)
	lost, err := b.Reclaim(ctx, time.Hour)
	require.NoError(b.t, err)
	require.Zero(b.t, lost)
	require.Eventually(b.t, func() bool {
		lost, err = b.Reclaim(ctx, time.Millisecond)
		return err != nil || lost.Reclaimed > 0
	}, patience, tick, "not seen for the lease")
	require.NoError(b.t, err)
	require.Equal(b.t, events.Lost{Reclaimed: 1}, lost)
	require.NoError(b.t, b.Seen(ctx, w1), "a lost worker may come back")
	b.begin(w1, b.job(j))
	lost, err = b.Reclaim(ctx, time.Hour)
	require.NoError(b.t, err)
	require.Zero(b.t, lost)
	check(b.t, ctx, b, j)
}

func testSlots(b bundle) {
	ctx := b.t.Context()
	slots := func(lease time.Duration) map[events.Kind]int {
		got, err := b.Slots(ctx, lease)
		require.NoError(b.t, err)
		return got
	}
	require.Empty(b.t, slots(time.Hour))
	require.NoError(b.t, b.Seen(ctx, w1))
	require.NoError(b.t, b.Seen(ctx, w2))
	require.NoError(b.t, b.Seen(ctx, w2))
	require.Equal(b.t, map[events.Kind]int{"a": 5, "b": 1}, slots(time.Hour))
	more := w2
	more.Slots = map[events.Kind]int{"c": 4}
	require.NoError(b.t, b.Seen(ctx, more), "slots may change")
	require.NoError(b.t, b.Gone(ctx, w1))
	require.NoError(b.t, b.Gone(ctx, events.Holder{ID: "nobody"}))
	require.Equal(b.t, map[events.Kind]int{"c": 4}, slots(time.Hour))
	require.Eventually(b.t, func() bool { return len(slots(time.Millisecond)) == 0 }, patience, tick)
}

func testLead(b bundle) {
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	led, release, err := b.Lead(ctx)
	require.NoError(b.t, err)
	require.NoError(b.t, led.Err())
	_, _, err = b.Lead(ctx)
	require.ErrorIs(b.t, err, events.ErrNotLeader)
	release()
	<-led.Done()

	type reign struct {
		over    <-chan struct{}
		release func()
	}
	next := func(ctx context.Context) (r reign) {
		require.Eventually(b.t, func() bool {
			led, release, err := b.Lead(ctx)
			if err == nil {
				r = reign{led.Done(), release}
			}
			return err == nil
		}, patience, tick, "the place is free")
		return r
	}
	second := next(ctx)
	cancel()
	<-second.over
	second.release()
	third := next(b.t.Context())
	third.release()
	<-third.over
}

func testFeed(b bundle) {
	ctx := b.t.Context()
	fresh := func(limit int) []events.FeedEvent {
		f, err := b.Fresh(ctx, limit)
		require.NoError(b.t, err)
		return Events(f)
	}
	require.Empty(b.t, fresh(10))
	theirs := step(b.t, "b", "theirs", func(j *events.Job) { j.Scope = Theirs })
	b.enqueue(theirs)
	require.Len(b.t, fresh(enough), 1) // between jobs there is an order from the first look on
	j := b.add("x")[0]
	b.settled(end(b.begin(w1, j)[0], events.Completed, ""))

	all := fresh(enough)
	require.Len(b.t, all, 4)
	require.True(b.t, slices.IsSortedFunc(all, func(x, y events.FeedEvent) int { return int(x.Row - y.Row) }))
	require.Equal(b.t, Theirs, all[0].Scope)
	require.Equal(b.t, events.Kind("b"), all[0].Kind)
	for i, e := range b.history(j) { // whole, and in the order of their versions
		require.Equal(b.t, events.FeedEvent{Row: all[i+1].Row, Scope: Mine, Kind: "a", Event: e}, all[i+1])
	}
	require.Equal(b.t, all[:2], fresh(2))
	require.NoError(b.t, b.Told(ctx, []int64{all[0].Row, all[2].Row}))
	require.Equal(b.t, []events.FeedEvent{all[1], all[3]}, fresh(enough))
	require.NoError(b.t, b.Told(ctx, []int64{all[0].Row, all[1].Row, all[3].Row}), "it may be told twice")
	require.Empty(b.t, fresh(enough))
	require.NoError(b.t, b.Told(ctx, nil))

	b.begin(w1, b.add("1", "2", "3")...)
	all = fresh(enough)
	var queued []int64
	for _, f := range all[:3] {
		queued = append(queued, f.Row)
	}
	require.NoError(b.t, b.Told(ctx, queued))
	require.Equal(b.t, all[3:], fresh(1), "those of a statement come together")
	require.Equal(b.t, all[3].Row, all[5].Row)
	require.NoError(b.t, b.Told(ctx, []int64{all[3].Row}))
	require.Empty(b.t, fresh(enough))
}

func testEndedContext(b bundle) {
	j := b.add("x")[0]
	ctx, cancel := context.WithCancel(b.t.Context())
	cancel()
	_, err := b.Enqueue(ctx, step(b.t, "a", "y"))
	require.ErrorIs(b.t, err, context.Canceled)
	_, err = b.Begin(ctx, w1, []events.Envelope{j.Envelope()})
	require.ErrorIs(b.t, err, context.Canceled)
	_, err = b.Asks(ctx, events.AskQuery{Limit: 1})
	require.ErrorIs(b.t, err, context.Canceled)
	_, err = b.Again(ctx, []int64{b.row(j)})
	require.ErrorIs(b.t, err, context.Canceled)
	require.ErrorIs(b.t, b.Seen(ctx, w1), context.Canceled)
	require.Equal(b.t, j, b.job(j))
}
