package observe_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// left counts the rows of a project, by table.
func (w *world) left(t *testing.T, team, project string) map[string]int {
	t.Helper()
	left := map[string]int{}
	for _, table := range tables {
		filter := "team_id = $1 AND project_id = $2"
		switch table {
		case "teams", "team_members", "usage_events", "usage_counters", "outbox", "job_feed": // those are cleared away later, or kept
			continue
		case "projects":
			filter = "team_id = $1 AND id = $2"
		}
		var n int
		require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table+" WHERE "+filter, team, project).Scan(&n))
		if n > 0 {
			left[table] = n
		}
	}
	return left
}

// Whatever is taken away takes along what belongs to it, and nothing else.
func TestWhatIsTakenAwayTakesItsOwnAlong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  func(h *home) (sql, id string)
		gone func(t *testing.T, h *home)
	}{
		"observation": {
			func(h *home) (string, string) { return "DELETE FROM observations WHERE id = $1", h.observation },
			func(t *testing.T, h *home) {
				require.Zero(t, h.count(t, "observation_sources WHERE observation_id = '"+h.observation+"'"))
				require.NotZero(t, h.count(t, "observation_sources"))
			},
		},
		"session": {
			func(h *home) (string, string) { return "DELETE FROM server_sessions WHERE id = $1", h.session },
			func(t *testing.T, h *home) {
				require.Zero(t, h.count(t, "observations WHERE server_session_id = '"+h.session+"'"))
				require.Zero(t, h.count(t, "observation_sources WHERE observation_id = '"+h.observation+"'"))
				require.Zero(t, h.count(t, "agent_events WHERE server_session_id = '"+h.session+"'"))
				require.NotZero(t, h.count(t, "observations"))
				require.NotZero(t, h.count(t, "agent_events"))
			},
		},
		"project": {
			func(h *home) (string, string) { return "DELETE FROM projects WHERE id = $1", h.project },
			func(t *testing.T, h *home) {
				require.Empty(t, h.left(t, h.team, h.project))
				require.NotZero(t, h.count(t, "audit_log WHERE team_id = '"+h.team+"' AND project_id IS NULL"))
				h.check(t)
			},
		},
		"team": {
			func(h *home) (string, string) { return "DELETE FROM teams WHERE id = $1", h.team },
			func(t *testing.T, h *home) {
				require.Empty(t, h.left(t, h.team, h.project))
				require.Zero(t, h.count(t, "audit_log WHERE team_id = '"+h.team+"'"))
				h.check(t)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			_, err := h.AddMemory(t.Context(), h.me, observe.NewMemory{ProjectID: h.project, Content: "remember that"})
			require.NoError(t, err)
			_, err = h.pool.Exec(t.Context(), "INSERT INTO audit_log (team_id, actor_id, action, resource_type) VALUES ($1, 'x', 'team.budget', 'team')", h.team)
			require.NoError(t, err)
			var stranger world
			stranger.Service, stranger.pool, stranger.jobs, stranger.provider = h.Service, h.pool, h.jobs, h.provider
			stranger.team, stranger.project = h.tenant(t, "strangers")
			stranger.me = h.caller(t, stranger.team, stranger.project, observe.ScopeAll)
			session := stranger.session(t, "theirs")
			stranger.do(t, stranger.record(t, stranger.inSession(1, session.ID))[0].Job.ID)
			theirs := stranger.left(t, stranger.team, stranger.project)
			for _, table := range []string{"observations", "observation_sources", "observation_words", "audit_log", "agent_events", "server_sessions"} {
				require.NotZero(t, theirs[table], table)
			}

			sql, id := c.sql(h)
			_, err = h.pool.Exec(t.Context(), sql, id)
			require.NoError(t, err)
			// What the relay does now and then.
			_, err = h.pool.Exec(t.Context(), "DELETE FROM outbox o WHERE NOT EXISTS (SELECT FROM observation_generation_jobs j WHERE j.id = o.job_id)")
			require.NoError(t, err)
			c.gone(t, h)
			require.Equal(t, theirs, stranger.left(t, stranger.team, stranger.project))
		})
	}
}

// waited reports whether the session of a backend waits for a lock.
func (w *world) waited(t *testing.T, pid uint32) {
	t.Helper()
	require.Eventually(t, func() bool {
		var waits bool
		require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'", pid).Scan(&waits))
		return waits
	}, time.Minute, time.Millisecond)
}

// beside runs a statement in a session of its own; it is over when done gets
// its error.
func (w *world) beside(t *testing.T, sql string, args ...any) (pid uint32, done chan error) {
	t.Helper()
	conn, err := w.pool.Acquire(t.Context())
	require.NoError(t, err)
	pid, done = conn.Conn().PgConn().PID(), make(chan error, 1)
	go func() {
		defer conn.Release()
		_, err := conn.Exec(context.WithoutCancel(t.Context()), sql, args...)
		done <- err
	}()
	return pid, done
}

// Nothing locks the project while an observation is stored: the job's row
// keeps it there.
func TestAProjectThatGoesWhileAnObservationIsStoredTakesItAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.session(t, "s")
	job := w.claim(t, w.read(t, w.record(t, w.inSession(1, session.ID))[0].Job.ID))
	commit, err := w.Handler(job.Kind)(t.Context(), job)
	require.NoError(t, err)
	var done chan error
	errs, err := w.jobs.Settle(t.Context(), []events.Step{completed(job)}, []func(context.Context, pgx.Tx) error{func(ctx context.Context, tx pgx.Tx) error {
		var pid uint32
		pid, done = w.beside(t, "DELETE FROM projects WHERE id = $1", w.project)
		w.waited(t, pid)
		return commit(ctx, tx)
	}})
	require.NoError(t, err)
	require.NoError(t, errs[0])
	require.NoError(t, <-done)
	require.Empty(t, w.left(t, w.team, w.project))
	w.check(t)
}

// between is a transaction in which something else happens before a query.
type between struct {
	pgx.Tx
	query  string
	before func()
}

func (b *between) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if strings.HasPrefix(sql, "-- name: "+b.query+" ") && b.before != nil {
		before := b.before
		b.before = nil
		before()
	}
	return b.Tx.Query(ctx, sql, args...)
}

// A second report of what is noted already, while somebody takes the note
// away: before it is looked for, or after.
func TestANoteThatIsTakenAwayWhileItsTwinIsStored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		query string
		waits bool // the one who takes it away does
		left  int
	}{
		"before it is held": {"HoldObservations", false, 1},
		"after":             {"", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			session := w.session(t, "s")
			first := w.record(t, w.inSession(1, session.ID))[0]
			w.do(t, first.Job.ID)
			found, err := w.EventObservations(t.Context(), w.me, first.Event.ID)
			require.NoError(t, err)
			note := found[0].ID
			again := w.inSession(1, session.ID)
			again.OccurredAtEpoch++
			job := w.claim(t, w.read(t, w.record(t, again)[0].Job.ID))
			commit, err := w.Handler(job.Kind)(t.Context(), job)
			require.NoError(t, err)
			var done chan error
			takeAway := func() {
				var pid uint32
				pid, done = w.beside(t, "DELETE FROM observations WHERE id = $1", note)
				if c.waits {
					w.waited(t, pid)
				} else {
					require.NoError(t, <-done)
					done <- nil
				}
			}
			errs, err := w.jobs.Settle(t.Context(), []events.Step{completed(job)}, []func(context.Context, pgx.Tx) error{func(ctx context.Context, tx pgx.Tx) error {
				if err := commit(ctx, &between{tx, c.query, takeAway}); err != nil || c.query != "" {
					return err
				}
				takeAway()
				return nil
			}})
			require.NoError(t, err)
			require.NoError(t, errs[0])
			require.NoError(t, <-done)
			require.Equal(t, c.left, w.count(t, "observations"))
			require.Equal(t, c.left, w.count(t, "observation_sources"))
			w.check(t)
		})
	}
}
