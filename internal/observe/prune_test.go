package observe_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func (w *world) prune(t testing.TB, cfg observe.PruneConfig) observe.Pruned {
	t.Helper()
	if cfg.Before.IsZero() {
		cfg.Before = time.Now().Add(time.Hour)
	}
	n, err := w.Prunable(t.Context(), w.me, w.project, cfg)
	require.NoError(t, err)
	got, err := w.Service.Prune(t.Context(), w.me, w.project, cfg)
	require.NoError(t, err)
	require.Equal(t, n, got.Jobs, "as it was foretold")
	w.check(t)
	return got
}

// What a pruned job made stays, and whoever sends its event again asks for
// nothing, with a job for each event and with a job for a burst.
func TestPruneForgetsNothingThatWasDone(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"per-event", "debounce"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(cfg *observe.Config) { cfg.Policy = policy })
			session := w.session(t, "s")
			var evs []observe.NewEvent
			for n := range 7 {
				e := w.event(n)
				e.ServerSessionID = &session.ID
				evs = append(evs, e)
			}
			w.record(t, evs...)
			w.doAll(t)
			jobs, history, made := w.count(t, "observation_generation_jobs"), w.count(t, "observation_generation_job_events"), w.count(t, "observations")
			require.NotZero(t, made)

			got := w.prune(t, observe.PruneConfig{Batch: 2})
			require.Equal(t, observe.Pruned{Jobs: int64(jobs), Events: int64(history), AgentEvents: 7}, got)
			require.Zero(t, w.count(t, "observation_generation_jobs"))
			require.Zero(t, w.count(t, "observation_generation_job_events"))
			require.Equal(t, made, w.count(t, "observations"))

			asked := len(w.provider.questions())
			for _, r := range w.record(t, evs...) {
				require.False(t, r.Created)
				require.Nil(t, r.Job)
			}
			require.Zero(t, w.count(t, "observation_generation_jobs"))
			found, err := w.EventObservations(t.Context(), w.me, w.record(t, evs[0])[0].Event.ID)
			require.NoError(t, err)
			require.NotEmpty(t, found)
			w.record(t, w.event(100)) // and what is new is asked about
			require.Equal(t, 1, w.doAll(t))
			now := len(w.provider.questions())
			require.Equal(t, asked+1, now)
			require.Equal(t, 1, w.audited(t, "project.prune"))
			require.Equal(t, 1, w.audited(t, "project.pruned"))
			w.check(t)
		})
	}
}

// A job stays while it is not over, is too young, is of a status that is
// kept, is named by something, or is somebody else's.
func TestPruneLeavesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.jobs.Seen(t.Context(), holder))
	each := w.record(t, w.event(1), w.event(2), w.event(3), w.event(4))
	w.do(t, each[0].Job.ID)
	w.claim(t, w.read(t, each[1].Job.ID))
	_, _, err := w.CancelJob(t.Context(), w.me, each[2].Job.ID)
	require.NoError(t, err)
	session := w.session(t, "s")
	in := w.event(5)
	in.ServerSessionID = &session.ID
	inSession := w.record(t, in)[0].Job.ID
	w.do(t, inSession)
	_, first, err := w.EndSession(t.Context(), w.me, session.ID)
	require.NoError(t, err)
	w.do(t, first.ID)
	left := func(ids ...events.ID) {
		t.Helper()
		rows, err := w.pool.Query(t.Context(), "SELECT id FROM observation_generation_jobs")
		require.NoError(t, err)
		var have []events.ID
		for rows.Next() {
			var id events.ID
			require.NoError(t, rows.Scan(&id))
			have = append(have, id)
		}
		require.ElementsMatch(t, ids, have)
	}

	require.Zero(t, w.prune(t, observe.PruneConfig{Before: time.Now().Add(-time.Hour)}))
	require.Zero(t, w.audited(t, "project.prune"), "nothing was done")

	got := w.prune(t, observe.PruneConfig{Statuses: []events.Status{events.StatusCompleted, events.StatusQueued}})
	require.EqualValues(t, 2, got.Jobs)
	left(each[1].Job.ID, each[2].Job.ID, each[3].Job.ID, first.ID)
	got = w.prune(t, observe.PruneConfig{Payloads: true})
	require.EqualValues(t, 1, got.Jobs)
	left(each[1].Job.ID, each[3].Job.ID, first.ID)
	var payloads int
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT count(*) FROM agent_events WHERE payload = '{}'").Scan(&payloads))
	require.Equal(t, 1, payloads)

	// The end said again asks for nothing, and its next summary takes the
	// place of the one before.
	_, again, err := w.EndSession(t.Context(), w.me, session.ID)
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	in = w.event(6)
	in.ServerSessionID = &session.ID
	w.do(t, w.record(t, in)[0].Job.ID)
	_, second, err := w.EndSession(t.Context(), w.me, session.ID)
	require.NoError(t, err)
	w.do(t, second.ID)
	w.prune(t, observe.PruneConfig{})
	left(each[1].Job.ID, each[3].Job.ID, second.ID)

	// Only who may administer the project, and that is his own.
	stranger := w.caller(t, w.team, w.project, observe.ScopeRead, observe.ScopeWrite)
	_, err = w.Service.Prune(t.Context(), stranger, w.project, observe.PruneConfig{Before: time.Now()})
	require.ErrorIs(t, err, observe.ErrNoScope)
	team, project := w.tenant(t, "away")
	_, err = w.Service.Prune(t.Context(), w.caller(t, team, project, observe.ScopeAll), w.project, observe.PruneConfig{Before: time.Now()})
	require.ErrorIs(t, err, observe.ErrForbidden)
}

// A prune that is stopped has told what it did, and the next one goes on.
func TestPruneGoesOnWhereItWasStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 9 {
		w.record(t, w.event(n))
	}
	w.doAll(t)
	ctx, stop := context.WithCancel(t.Context())
	got, err := w.Service.Prune(ctx, w.me, w.project, observe.PruneConfig{
		Before: time.Now().Add(time.Hour), Batch: 2, Rate: 1000,
		Each: func(p observe.Pruned) {
			if p.Jobs >= 4 {
				stop()
			}
		},
	})
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 4, got.Jobs)
	entries := w.audit(t, w.me, observe.AuditFilter{Action: "project.pruned"})
	require.Len(t, entries, 1)
	require.Contains(t, string(entries[0].Details), `"jobs": 4`)
	require.Contains(t, string(entries[0].Details), `"whole": false`)
	require.EqualValues(t, 5, w.prune(t, observe.PruneConfig{Batch: 3}).Jobs)
}

// Everybody works while jobs are pruned as fast as they are done.
func TestPruneBesideTheWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		for ctx.Err() == nil {
			if _, err := w.Service.Prune(t.Context(), w.me, w.project, observe.PruneConfig{Before: time.Now().Add(time.Hour), Batch: 3}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n := range 40 {
		var evs []observe.NewEvent
		for i := range 5 {
			evs = append(evs, w.event(n*5+i), w.event(max(0, n*5+i-7))) // some were sent before
		}
		_, err := w.Record(t.Context(), w.me, evs, observe.RecordOptions{Generate: true, Batch: true})
		require.NoError(t, err)
		w.doAll(t)
	}
	stop()
	require.NoError(t, <-done)
	w.check(t)
	require.Equal(t, 200, w.count(t, "agent_events"))
	asked := len(w.provider.questions())
	require.Equal(t, 200, asked, "each was asked about once")
	require.Equal(t, 200, w.count(t, "(SELECT DISTINCT source_id FROM observation_sources) x"))
}
