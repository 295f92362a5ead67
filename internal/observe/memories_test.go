package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/sqlc"
)

func init() {
	attempts["AddMemory"] = attempt{scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.AddMemory(ctx, c, observe.NewMemory{ProjectID: h.project, Content: "x"})
	}}
	attempts["Memory"] = attempt{scope: observe.ScopeRead, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Memory(ctx, c, h.observation)
	}}
	attempts["EditMemory"] = attempt{scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.EditMemory(ctx, c, h.observation, observe.MemoryEdit{Content: new("edited")})
	}}
	attempts["DeleteMemory"] = attempt{scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		if err := h.DeleteMemory(ctx, c, h.observation); err != nil {
			return nil, err
		}
		return "deleted", nil
	}}
	attempts["Purge"] = attempt{scope: observe.ScopeWrite, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.Purge(ctx, c, h.project)
	}}

	forAllTenants["LockProject"] = "the project itself, by its id and team"
	mutations["InsertMemory"] = mutation{makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.InsertMemory(ctx, sqlc.InsertMemoryParams{
			ID: x.observation, TeamID: x.scope.Team, ProjectID: x.scope.Project, Kind: "x", Content: "taken",
			Metadata: json.RawMessage("{}"), SourceRowID: "s", SourceMetadata: json.RawMessage("{}"),
		})
		return err
	}}
	mutations["EditMemory"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.EditMemory(ctx, sqlc.EditMemoryParams{
			Kind: new("taken"), ID: x.observation, TeamID: x.scope.Team, ProjectID: x.scope.Project,
		})
		return err
	}}
	mutations["IndexMemory"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.IndexMemory(ctx, sqlc.IndexMemoryParams{ID: x.observation, TeamID: x.scope.Team, ProjectID: x.scope.Project, Search: "taken"})
	}}
	mutations["PurgeWords"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.PurgeWords(ctx, sqlc.PurgeWordsParams{TeamID: x.scope.Team, ProjectID: x.scope.Project})
	}}
	mutations["DeleteMemory"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.DeleteMemory(ctx, sqlc.DeleteMemoryParams{ID: x.observation, TeamID: x.scope.Team, ProjectID: x.scope.Project})
		return err
	}}
	mutations["PurgeJobs"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.PurgeJobs(ctx, sqlc.PurgeJobsParams{TeamID: x.scope.Team, ProjectID: x.scope.Project})
		return err
	}}
	mutations["PurgeOutbox"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.PurgeOutbox(ctx, sqlc.PurgeOutboxParams{TeamID: x.scope.Team, ProjectID: x.scope.Project})
	}}
	mutations["PurgeFeed"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.PurgeFeed(ctx, sqlc.PurgeFeedParams{TeamID: x.scope.Team, ProjectID: x.scope.Project})
	}}
	mutations["PurgeObservations"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.PurgeObservations(ctx, sqlc.PurgeObservationsParams{TeamID: x.scope.Team, ProjectID: x.scope.Project})
		return err
	}}
	mutations["PurgeAgentEvents"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.PurgeAgentEvents(ctx, sqlc.PurgeAgentEventsParams{TeamID: x.scope.Team, ProjectID: x.scope.Project})
		return err
	}}
	mutations["PurgeSessions"] = mutation{call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.PurgeSessions(ctx, sqlc.PurgeSessionsParams{TeamID: x.scope.Team, ProjectID: x.scope.Project})
		return err
	}}
}

// What somebody wrote into an observation stays when its project is rendered
// anew.
func TestAnEditedObservationIsNotRenderedAnew(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	edited, err := h.EditMemory(t.Context(), h.me, h.observation, observe.MemoryEdit{Content: new("as I say <private>" + planted + "</private>")})
	require.NoError(t, err)
	require.Equal(t, "as I say ", edited.Content)
	_, err = h.Reindex(t.Context(), h.me, h.project, "")
	require.NoError(t, err)
	h.doAll(t)
	after, err := h.Memory(t.Context(), h.me, h.observation)
	require.NoError(t, err)
	require.Contains(t, after.Content, "as I say")
	require.NotContains(t, after.Content, "Batch")
	require.Equal(t, 1, h.audited(t, "memory.write"))
	h.check(t)
}

// Whatever is written while a project is purged again and again: no job, event
// or outbox row is left without what it belongs to.
func TestPurgeAmongWritersKeepsTheInvariants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.jobs.Seen(t.Context(), holder))
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for n := range 3 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				s, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{ProjectID: w.project, ExternalSessionID: new(fmt.Sprint(n, i%3))})
				if err != nil {
					t.Errorf("start: %v", err)
					return
				}
				// The session may be gone before the event or its end comes.
				e := w.event(n*1000 + i)
				e.ServerSessionID = &s.ID
				if _, err := w.Record(t.Context(), w.me, []observe.NewEvent{e}, observe.RecordOptions{Generate: true}); err != nil && !errors.Is(err, observe.ErrForbidden) {
					t.Errorf("record: %v", err)
				}
				if _, _, err := w.EndSession(t.Context(), w.me, s.ID); err != nil && !errors.Is(err, observe.ErrNotFound) {
					t.Errorf("end: %v", err)
				}
			}
		})
	}
	var purged observe.Purged
	purges := 0
	for until := time.Now().Add(time.Minute); purges < 15 || purged.Jobs == 0 && time.Now().Before(until); purges++ { // the writers may be late
		p, err := w.Purge(t.Context(), w.me, w.project)
		require.NoError(t, err)
		purged.Jobs += p.Jobs
		w.check(t)
	}
	close(stop)
	writers.Wait()
	require.NotZero(t, purged.Jobs)
	w.check(t)
	require.Equal(t, purges, w.audited(t, "project.memory_purged"))
}
