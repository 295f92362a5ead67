package observe_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func (w *world) policy(t *testing.T, name string, d time.Duration) {
	t.Helper()
	require.NoError(t, w.SetPolicy(t.Context(), w.me, w.project, observe.Policy{Name: name, Debounce: d}))
}

// due is when a queued job may be begun; zero means at once.
func (w *world) due(t *testing.T, id events.ID) time.Time {
	t.Helper()
	job := w.read(t, id)
	require.Equal(t, events.StatusQueued, job.Status)
	return job.NextAt
}

func TestThePolicyOfAProjectGoesBeforeTheServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, debounce(time.Hour))
	s := w.session(t, "s")
	w.policy(t, observe.PolicyPerEvent, 0)
	require.Equal(t, observe.KindEvent, w.record(t, w.inSession(1, s.ID))[0].Job.Kind)
	w.policy(t, observe.PolicyDebounce, 90*time.Second)
	two := w.record(t, w.inSession(2, s.ID), w.inSession(3, s.ID))
	require.Equal(t, observe.KindBatch, two[0].Job.Kind)
	require.Equal(t, two[0].Job.ID, two[1].Job.ID)
	require.WithinDuration(t, time.Now().Add(90*time.Second), two[0].Job.NextAt, 20*time.Second)
	p, err := w.ProjectPolicy(t.Context(), w.me, w.project)
	require.NoError(t, err)
	require.Equal(t, observe.Policy{Name: observe.PolicyDebounce, Debounce: 90 * time.Second}, p)
	w.policy(t, "", 0)
	p, err = w.ProjectPolicy(t.Context(), w.me, w.project)
	require.NoError(t, err)
	require.Zero(t, p)
	other := w.session(t, "other")
	require.WithinDuration(t, time.Now().Add(time.Hour), w.record(t, w.inSession(4, other.ID))[0].Job.NextAt, time.Minute)

	require.ErrorIs(t, w.SetPolicy(t.Context(), w.me, "nobody", observe.Policy{Name: observe.PolicyPerEvent}), observe.ErrForbidden)
	require.Error(t, w.SetPolicy(t.Context(), w.me, w.project, observe.Policy{Name: "sometimes"}))
	require.Error(t, w.SetPolicy(t.Context(), w.me, w.project, observe.Policy{Name: observe.PolicyDebounce, Debounce: 2 * time.Hour}))
	reader := w.me
	reader.Scopes = []string{observe.ScopeRead, observe.ScopeWrite}
	require.ErrorIs(t, w.SetPolicy(t.Context(), reader, w.project, observe.Policy{}), observe.ErrNoScope)
	w.check(t)
}

func TestTheEndOfASessionAsksForAllOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy(t, observe.PolicyEndOfSession, time.Minute)
	s, other := w.session(t, "s"), w.session(t, "other")
	batch := w.record(t, w.inSession(1, s.ID))[0].Job
	require.Equal(t, observe.KindBatch, batch.Kind)
	require.Equal(t, batch.ID, w.record(t, w.inSession(2, s.ID), w.inSession(3, s.ID))[1].Job.ID)
	stays := w.record(t, w.inSession(4, other.ID))[0].Job
	require.Equal(t, observe.KindEvent, w.record(t, w.event(5))[0].Job.Kind, "without a session there is no end")
	require.Greater(t, time.Until(w.due(t, batch.ID)), 23*time.Hour, "it waits, but not for ever")

	rings := w.rings.Load()
	_, summary, err := w.EndSession(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	require.True(t, w.due(t, batch.ID).IsZero())
	require.Greater(t, time.Until(w.due(t, stays.ID)), 23*time.Hour, "another session goes on")
	require.Equal(t, rings+1, w.rings.Load())
	version := w.read(t, batch.ID).Version

	// Said again, it asks for nothing new.
	_, again, err := w.EndSession(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	require.Equal(t, summary.ID, again.ID)
	require.Equal(t, version, w.read(t, batch.ID).Version)
	require.Equal(t, rings+1, w.rings.Load())
	w.check(t)

	w.do(t, batch.ID)
	require.Len(t, w.provider.questions()[0].Events, 3)

	// What comes late waits for others only a moment, and not when the end is
	// said once more.
	late := w.record(t, w.inSession(6, s.ID))[0].Job
	require.NotEqual(t, batch.ID, late.ID)
	require.WithinDuration(t, time.Now().Add(time.Minute), w.due(t, late.ID), 20*time.Second)
	_, _, err = w.EndSession(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	require.True(t, w.due(t, late.ID).IsZero())
	w.check(t)
}

// However the end of a session falls among its events, each event has one
// job, and no job waits for an end that has been.
func TestEventsRaceWithTheEndOfTheirSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy(t, observe.PolicyEndOfSession, time.Second)
	for round := range 6 {
		s := w.session(t, "race"+strconv.Itoa(round))
		const senders, each = 4, 8
		var wg sync.WaitGroup
		failed := make(chan error, senders*each+2)
		jobs := make(chan events.ID, senders*each)
		for i := range senders {
			wg.Go(func() {
				for k := range each {
					got, err := w.Record(t.Context(), w.me, []observe.NewEvent{w.inSession(round*1000+i*each+k, s.ID)}, observe.RecordOptions{Generate: true})
					if err != nil {
						failed <- err
						return
					}
					jobs <- got[0].Job.ID
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				if _, _, err := w.EndSession(t.Context(), w.me, s.ID); err != nil {
					failed <- err
				}
			})
		}
		wg.Wait()
		close(failed)
		for err := range failed {
			require.NoError(t, err)
		}
		close(jobs)
		require.Len(t, jobs, senders*each)
		for id := range jobs {
			require.Less(t, time.Until(w.due(t, id)), time.Minute, "nothing waits for an end that was")
		}
	}
	w.check(t)
}
