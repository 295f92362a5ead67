package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// busy is a world in which somebody always does something.
func busy(t *testing.T, w *world) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for writer := range 2 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				e := w.event(1000*writer + n + 10_000)
				got, err := w.Record(ctx, w.me, []observe.NewEvent{e}, observe.RecordOptions{Generate: true})
				if err != nil {
					continue
				}
				if n%2 == 0 {
					_, _, _ = w.CancelJob(ctx, w.me, got[0].Job.ID)
					continue
				}
				_, _ = w.Search(ctx, w.me, observe.Query{ProjectID: w.project, Query: "batch"})
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// Pages of the audit have all that was there at the first one, once, in
// order, however many come meanwhile, for every filter, scope and size.
func TestAuditPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second, err := w.CreateProject(t.Context(), w.team, "second")
	require.NoError(t, err)
	team := w.caller(t, w.team, "", observe.ScopeAll)
	session := w.session(t, "s")
	var evs []observe.NewEvent
	for n := range 20 { // of one moment
		e := w.inSession(n, session.ID)
		evs = append(evs, e)
	}
	w.record(t, evs...)
	elsewhere := w.event(1)
	elsewhere.ProjectID = second
	_, err = w.Record(t.Context(), team, []observe.NewEvent{elsewhere}, observe.RecordOptions{Generate: true})
	require.NoError(t, err)
	_, _, err = w.EndSession(t.Context(), w.me, session.ID)
	require.NoError(t, err)
	w.doAll(t)
	stop := busy(t, w)
	defer stop()

	actions := []string{
		"", "", "event.received", "event.batch_received", "generation_job.queued", "generation_job.processing",
		"generation_job.completed", "observation.created", "observation.generated", "generation_job.cancelled_by_operator", "nothing",
	}
	rapid.Check(t, func(r *rapid.T) {
		c := rapid.SampledFrom([]observe.Caller{w.me, team}).Draw(r, "caller")
		f := observe.AuditFilter{Action: rapid.SampledFrom(actions).Draw(r, "action"), Since: time.Now().Add(-time.Hour)}
		f.Limit = rapid.IntRange(100, 500).Draw(r, "first limit")
		first := w.audit(t, c, f)
		f.Limit = rapid.IntRange(3, 100).Draw(r, "limit")
		seen := map[string]bool{}
		var last observe.AuditEntry
		for page := 0; page < 30 && len(seen) < len(first); page++ {
			entries := w.audit(t, c, f)
			for i, e := range entries {
				require.False(r, seen[e.ID], "%s comes twice", e.ID)
				seen[e.ID] = true
				require.Equal(r, w.team, e.TeamID)
				if c.Project != "" {
					require.Equal(r, c.Project, *e.ProjectID)
				}
				if f.Action != "" {
					require.Equal(r, f.Action, e.Action)
				}
				if i > 0 || page > 0 {
					require.False(r, e.CreatedAt.After(last.CreatedAt), "%s is not older than %s", e.Cursor, last.Cursor)
				}
				last = e
			}
			if len(entries) < f.Limit {
				last = observe.AuditEntry{}
				break
			}
			f.Before = last.Cursor
		}
		for _, e := range first {
			if !seen[e.ID] && (last.ID == "" || e.CreatedAt.After(last.CreatedAt)) {
				r.Fatalf("%s of %s was passed over", e.ID, e.Action)
			}
		}
	})
}

func TestAuditScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.record(t, w.event(1))[0]
	w.do(t, r.Job.ID)
	team := w.caller(t, w.team, "", observe.ScopeAdmin)
	_, err := w.Projects(t.Context(), team)
	require.Error(t, err)
	second, err := w.CreateProject(t.Context(), w.team, "second")
	require.NoError(t, err)
	foreign, abroad := w.tenant(t, "foreign")
	job := func(c observe.Caller) (n int) {
		for _, e := range w.audit(t, c, observe.AuditFilter{Limit: 500}) {
			if e.JobID != nil {
				require.Equal(t, string(r.Job.ID), *e.JobID)
				n++
			}
		}
		return n
	}
	require.Equal(t, 5, job(w.me), "queued, processing, completed, generated, created")
	require.Equal(t, 5, job(team))
	require.Zero(t, job(w.caller(t, w.team, second, observe.ScopeAdmin)))
	require.Zero(t, job(w.caller(t, foreign, "", observe.ScopeAdmin)))
	require.Zero(t, job(w.caller(t, foreign, abroad, observe.ScopeAdmin)))
	// A caller made up of both sees neither.
	require.Zero(t, job(observe.Caller{Team: foreign, Project: w.project, Scopes: []string{observe.ScopeAll}}))
	require.Zero(t, job(observe.Caller{Team: w.team, Project: abroad, Scopes: []string{observe.ScopeAll}}))

	for _, cursor := range []string{"x", "1", "1-", "-", "1-a b", "1-\x00", "99999999999999999999-a", "1-a'"} {
		_, err := w.Audit(t.Context(), w.me, observe.AuditFilter{Before: cursor})
		require.Equal(t, []any{"cursor"}, as[*observe.Invalid](t, err).Issues[0].Path, cursor)
	}
	require.Empty(t, w.audit(t, w.me, observe.AuditFilter{Before: "0-a"}))
	require.Empty(t, w.audit(t, w.me, observe.AuditFilter{Since: time.Now().Add(time.Hour)}))
	_, err = w.Audit(t.Context(), w.caller(t, w.team, "", observe.ScopeWrite), observe.AuditFilter{Before: "x"})
	require.ErrorIs(t, err, observe.ErrNoScope, "who may nothing is told nothing else")
}

// A page costs the same however large the tables are, with cold statistics
// and with good ones.
func TestAuditReadsAPage(t *testing.T) {
	t.Parallel()
	pool, rec := coldPool(t)
	w := newWorldOn(t, pool)
	fill(t, w)
	for _, sql := range []string{ // 5,000 of one moment are none that a request makes
		"DELETE FROM observation_generation_job_events",
		`UPDATE observation_generation_jobs j SET created_at = now() + n.i * interval '1 ms'
		 FROM (SELECT id, row_number() OVER () AS i FROM observation_generation_jobs) n WHERE j.id = n.id`,
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	const rows = 20_000
	for _, insert := range []string{
		`audit_log (team_id, project_id, actor_id, action, resource_type, created_at)
		 SELECT $1, $2, 'a', 'event.received', 'x', now() + i * interval '1 ms'`,
		`observation_generation_job_events (job_id, version, team_id, project_id, event_type, status_after, attempt, at, schema)
		 SELECT 'j' || (1 + i % 5000), 1 + i / 5000, $1, $2, CASE WHEN i % 3 = 0 THEN 'processing' ELSE 'completed' END,
		        'completed', 1, now() + i * interval '1 ms', 1`,
		`observations (id, team_id, project_id, kind, content, created_by_job_id, created_at)
		 SELECT 'made' || i, $1, $2, 'change', 'word', 'j' || (1 + i % 5000), now() + i * interval '1 ms'`,
	} {
		_, err := pool.Exec(t.Context(), fmt.Sprintf("INSERT INTO %s FROM generate_series(1, %d) i", insert, rows), w.team, w.project)
		require.NoError(t, err)
	}
	for range 40 { // projects in which nothing happens cost something too
		_, err := w.CreateProject(t.Context(), w.team, fmt.Sprint(time.Now().UnixNano()))
		require.NoError(t, err)
	}
	team := w.caller(t, w.team, "", observe.ScopeAll)
	for _, statistics := range []string{"cold", "good"} {
		if statistics == "good" {
			_, err := pool.Exec(t.Context(), "ANALYZE")
			require.NoError(t, err)
		}
		for _, c := range []observe.Caller{w.me, team} {
			for _, action := range []string{"", "event.received", "generation_job.queued", "generation_job.completed", "generation_job.failed", "observation.created"} {
				f := observe.AuditFilter{Action: action, Limit: 20}
				for range 2 { // the first page, and one further on
					entries := w.audit(t, c, f)
					n, scanned := rowsOf(t, pool, rec.last["ListAudit"])
					require.Empty(t, scanned, "%s statistics, %q", statistics, action)
					require.Less(t, n, 2000, "%s statistics, %q of %d rows", statistics, action, 3*rows)
					if len(entries) > 0 {
						f.Before = entries[len(entries)-1].Cursor
					}
				}
			}
		}
	}
}

// rowsOf runs the call once more, by the plan for any arguments, and gives how
// many rows it looked at, and which of the large tables it scanned.
func rowsOf(t *testing.T, pool *pgxpool.Pool, call pgx.TraceQueryStartData) (read int, scanned []string) {
	t.Helper()
	var plan []struct{ Plan scan }
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL plan_cache_mode = force_generic_plan"); err != nil {
			return err
		}
		var raw []byte
		if err := tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+call.SQL, call.Args...).Scan(&raw); err != nil {
			return err
		}
		return json.Unmarshal(raw, &plan)
	})
	require.NoError(t, err)
	return plan[0].Plan.read(), plan[0].Plan.scans()
}

type scan struct {
	node
	Type  string `json:"Node Type"`
	Table string `json:"Relation Name"`
	Plans []scan
}

func (s scan) read() int {
	sum := s.node.read()
	for _, p := range s.Plans {
		sum += p.read()
	}
	return sum
}

func (s scan) scans() (tables []string) {
	large := []string{"audit_log", "observation_generation_job_events", "observation_generation_jobs", "observations"}
	if s.Type == "Seq Scan" && slices.Contains(large, s.Table) {
		tables = append(tables, s.Table)
	}
	for _, p := range s.Plans {
		tables = append(tables, p.scans()...)
	}
	return tables
}
