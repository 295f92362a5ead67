package observe_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func (w *world) settle(t testing.TB, job events.Job, e events.Event) {
	t.Helper()
	e.Process, e.Actor = holder.ID, "worker"
	errs, err := w.jobs.Settle(t.Context(), []events.Step{{Job: job, Event: e}}, []func(context.Context, pgx.Tx) error{nil})
	require.NoError(t, err)
	require.NoError(t, errs[0])
}

func TestRetryAndCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.record(t, w.event(1))[0].Job.ID
	retry := func() (events.Job, bool, error) { return w.RetryJob(t.Context(), w.me, id) }
	cancel := func() (events.Job, bool, error) { return w.CancelJob(t.Context(), w.me, id) }

	rings := w.rings.Load()
	job, already, err := retry()
	require.NoError(t, err)
	require.True(t, already)
	require.Equal(t, events.StatusQueued, job.Status)
	require.Equal(t, rings, w.rings.Load())

	job, already, err = cancel()
	require.NoError(t, err)
	require.False(t, already)
	require.Equal(t, events.StatusCancelled, job.Status)
	_, already, err = cancel()
	require.NoError(t, err)
	require.True(t, already)
	require.Zero(t, w.count(t, "outbox"))

	job, already, err = retry()
	require.NoError(t, err)
	require.False(t, already)
	require.Equal(t, events.StatusQueued, job.Status)
	require.Equal(t, rings+1, w.rings.Load())

	held := w.claim(t, job)
	_, _, err = retry()
	require.ErrorIs(t, err, observe.ErrConflict)
	w.settle(t, held, events.Event{Type: events.Failed, Reason: "no"})
	_, _, err = cancel()
	require.ErrorIs(t, err, observe.ErrConflict)
	job, _, err = retry()
	require.NoError(t, err)
	require.Zero(t, job.Attempts, "an operator's retry gives all the attempts anew")
	require.Empty(t, job.LastError)

	w.do(t, id)
	for _, fn := range []func() (events.Job, bool, error){retry, cancel} {
		w.same(t, func() {
			_, _, err := fn()
			require.ErrorIs(t, err, observe.ErrConflict)
		})
	}
	_, history, err := w.Job(t.Context(), w.me, id)
	require.NoError(t, err)
	require.Equal(t, "operator_cancel", history[1].Reason)
	require.Equal(t, w.me.KeyID, history[1].Actor)
	require.Equal(t, "req-1", history[1].RequestID)
	require.Equal(t, 2, w.audited(t, "generation_job.retried_by_operator"))
	require.Equal(t, 1, w.audited(t, "generation_job.cancelled_by_operator"))
	w.check(t)
}

func TestACancelledAttemptIsThrownAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	job := w.claim(t, *w.record(t, w.event(1))[0].Job)
	cancelled, _, err := w.CancelJob(t.Context(), w.me, job.ID)
	require.NoError(t, err)
	require.Equal(t, events.StatusCancelled, cancelled.Status)
	require.Empty(t, cancelled.LockedBy)
	w.check(t)
}

// Operators and a worker at once: each order is told what came of it, and the
// audit log and the history agree.
func TestOperatorsRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.record(t, w.event(1))[0].Job.ID
	var wg sync.WaitGroup
	failed := make(chan error, 200)
	for i := range 6 {
		wg.Go(func() {
			for range 10 {
				var err error
				if i%2 == 0 {
					_, _, err = w.CancelJob(t.Context(), w.me, id)
				} else {
					_, _, err = w.RetryJob(t.Context(), w.me, id)
				}
				if err != nil {
					failed <- err
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		require.ErrorIs(t, err, observe.ErrConflict, "many at once may lose to each other, nothing else")
	}
	w.check(t) // I16: each order has its audit row
}

func TestListJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, "s")
	w.record(t, w.event(1), w.event(2), w.event(3))
	_, summary, err := w.EndSession(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	w.do(t, summary.ID)
	list := func(c observe.Caller, f observe.JobFilter) ([]events.Job, int) {
		jobs, total, err := w.ListJobs(t.Context(), c, f)
		require.NoError(t, err)
		return jobs, total
	}
	jobs, total := list(w.me, observe.JobFilter{})
	require.Len(t, jobs, 4)
	require.Equal(t, 4, total)
	require.Equal(t, summary.ID, jobs[0].ID, "newest first")
	require.Nil(t, jobs[0].Args)
	jobs, total = list(w.me, observe.JobFilter{Limit: 1, Offset: 3})
	require.Len(t, jobs, 1)
	require.Equal(t, 4, total)
	jobs, _ = list(w.me, observe.JobFilter{Status: "completed"})
	require.Len(t, jobs, 1)
	jobs, _ = list(w.me, observe.JobFilter{SourceType: observe.SourceEvent, Status: "nonsense"})
	require.Len(t, jobs, 3)
	jobs, _ = list(w.me, observe.JobFilter{Since: time.Now().Add(time.Hour)})
	require.Empty(t, jobs)
	jobs, _ = list(w.me, observe.JobFilter{Payload: true, Limit: -5, Offset: -5})
	require.Len(t, jobs, 1)
	require.JSONEq(t, `{"server_session_id":"`+s.ID+`","actor_id":"tester","api_key_id":"`+w.me.KeyID+`"}`, string(jobs[0].Args))

	reader := w.caller(t, w.team, w.project, observe.ScopeRead)
	_, _, err = w.ListJobs(t.Context(), reader, observe.JobFilter{Payload: true})
	require.ErrorIs(t, err, observe.ErrForbidden)
	jobs, _ = list(w.caller(t, w.team, "", observe.ScopeRead), observe.JobFilter{Project: w.project})
	require.Len(t, jobs, 4)
}

func TestWaitJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.record(t, w.event(1), w.event(2))
	ids := []events.ID{got[0].Job.ID, got[1].Job.ID}
	type answer struct {
		jobs  map[events.ID]events.Job
		timed bool
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		jobs, timed, err := w.WaitJobs(t.Context(), w.me, ids, time.Minute)
		answers <- answer{jobs, timed, err}
	}()
	for _, id := range ids {
		require.Empty(t, answers)
		w.do(t, id)
		w.Notice(id, events.StatusCompleted)
	}
	a := <-answers
	require.NoError(t, a.err)
	require.False(t, a.timed)
	require.Len(t, a.jobs, 2)
	require.Equal(t, events.StatusCompleted, a.jobs[ids[0]].Status)

	// One who comes late reads the rows and needs no notice.
	jobs, timed, err := w.WaitJobs(t.Context(), w.me, append(ids, "unknown"), time.Minute)
	require.NoError(t, err)
	require.False(t, timed)
	require.Len(t, jobs, 2)

	// One who waits in vain gets what there is.
	slow := w.record(t, w.event(3))[0].Job.ID
	jobs, timed, err = w.WaitJobs(t.Context(), w.me, []events.ID{slow}, time.Millisecond)
	require.NoError(t, err)
	require.True(t, timed)
	require.Equal(t, events.StatusQueued, jobs[slow].Status)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = w.WaitJobs(ctx, w.me, []events.ID{slow}, time.Minute)
	require.ErrorIs(t, err, context.Canceled)

	writer := w.caller(t, w.team, w.project, observe.ScopeWrite)
	_, _, err = w.WaitJobs(t.Context(), writer, ids, time.Minute)
	require.NoError(t, err, "who may ask for a job may wait for it")
}

// Whether the job settles before, while or after one begins to wait: the
// answer comes with it, never only at the end of the limit.
func TestNoNoticeIsMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, rounds := 0, 0; rounds < 30; i++ {
		id := w.record(t, w.event(i))[0].Job.ID
		var wg sync.WaitGroup
		const limit = 4 * time.Second // less than lookAgain
		late := make([]bool, 3)
		for k := range late {
			wg.Go(func() {
				start := time.Now()
				_, timed, err := w.WaitJobs(t.Context(), w.me, []events.ID{id}, limit)
				late[k] = timed || err != nil || time.Since(start) >= limit
			})
		}
		began := time.Now()
		w.do(t, id)
		w.Notice(id, events.StatusCompleted)
		told := time.Since(began)
		wg.Wait()
		if told < limit/2 { // else a busy machine took so long that the round says nothing
			require.NotContains(t, late, true)
			rounds++
		}
	}
}

func TestNoticeForNobodyBlocksNobody(t *testing.T) {
	t.Parallel()
	s := observe.New(observe.Config{})
	for range 1000 {
		s.Notice("job", events.StatusCompleted)
		s.Notice("job", events.StatusProcessing)
	}
}

func TestLanes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, "s")
	got := w.record(t, w.event(1), w.event(2), w.event(3), w.event(4))
	w.do(t, got[0].Job.ID)
	w.claim(t, *got[1].Job)
	failed := w.claim(t, *got[2].Job)
	w.settle(t, failed, events.Event{Type: events.Failed, Reason: "no"})
	burst := observe.New(observe.Config{Pool: w.pool, Jobs: w.jobs, Debounce: time.Hour})
	_, err := burst.Record(t.Context(), w.me, []observe.NewEvent{w.inSession(9, s.ID)}, observe.RecordOptions{Generate: true})
	require.NoError(t, err)

	lanes, err := w.Lanes(t.Context())
	require.NoError(t, err)
	require.Len(t, lanes, 4)
	event := lanes[0]
	require.Positive(t, event.Oldest)
	event.Oldest = 0
	require.Equal(t, observe.Lane{Kind: observe.KindEvent, Waiting: 1, Active: 1, Completed: 1, Failed: 1}, event)
	require.Equal(t, observe.Lane{Kind: observe.KindBatch, Delayed: 1}, lanes[1])
	require.Equal(t, observe.Lane{Kind: observe.KindSummary}, lanes[2])

	w.record(t, w.event(5))
	again, err := w.Lanes(t.Context())
	require.NoError(t, err)
	require.Equal(t, lanes, again, "counted once a second at most")
}

func TestAMessageForAnothersJobIsRecordedAtItsOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	job := new(w.read(t, w.record(t, w.event(1))[0].Job.ID))
	team, project := w.tenant(t, "other")
	forged := job.Envelope()
	forged.Scope = events.Scope{Team: team, Project: project}
	claims, err := w.jobs.Begin(t.Context(), holder, []events.Envelope{forged})
	require.NoError(t, err)
	require.ErrorIs(t, claims[0].Err, events.ErrScope)
	w.Refused(t.Context(), forged, forged.Marshal(), claims[0].Err)

	var owner, id string
	var details json.RawMessage
	require.NoError(t, w.pool.QueryRow(t.Context(),
		"SELECT team_id, job_id, details FROM audit_log WHERE action = 'generation_job.scope_violation'").Scan(&owner, &id, &details))
	require.Equal(t, w.team, owner)
	require.Equal(t, string(job.ID), id)
	require.Contains(t, string(details), team)
	require.Equal(t, *job, w.read(t, job.ID), "the job is as it was")

	w.same(t, func() {
		w.Refused(t.Context(), events.Envelope{}, []byte("{"), context.DeadlineExceeded)
		w.Refused(t.Context(), events.Envelope{Job: "unknown"}, nil, events.ErrScope)
	})
	w.check(t)
}
