package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/sqlc"
)

// calls keeps the last call of each query that reads: an insert looks for
// nothing.
type calls struct {
	mu   sync.Mutex
	last map[string]pgx.TraceQueryStartData
}

func (r *calls) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	if name, ok := strings.CutPrefix(d.SQL, "-- name: "); ok && !strings.HasPrefix(name, "Insert") {
		name, _, _ = strings.Cut(name, " ")
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last[name] = d
	}
	return ctx
}

func (*calls) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// coldPool is a database whose tables nobody analyzes, and what was last asked
// of it.
func coldPool(t *testing.T) (*pgxpool.Pool, *calls) {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(testenv.Postgres(t))
	require.NoError(t, err)
	rec := &calls{last: map[string]pgx.TraceQueryStartData{}}
	cfg.ConnConfig.Tracer = rec
	cfg.ConnConfig.RuntimeParams["enable_seqscan"] = "off" // as db.Open does
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, table := range tables {
		_, err := pool.Exec(t.Context(), "ALTER TABLE "+table+" SET (autovacuum_enabled = off)")
		require.NoError(t, err)
	}
	return pool, rec
}

// byTenant are the queries that read many rows of a tenant, or of all.
var byTenant = map[string]bool{
	"ListJobs": true, "CountJobs": true, "PageObservations": true, "SearchNewest": true, "SearchIndex": true, "CountObservations": true, "LaneJobs": true, "LaneAsks": true, "RecentWithSessions": true,
}

// large are the tables that grow with the work.
var large = []string{
	"agent_events", "server_sessions", "observation_generation_jobs", "observation_generation_job_events", "observations", "observation_sources", "audit_log",
}

// Whatever the planner believes of a tenant's size, what an id or a key names
// must be found without reading the tenant, and the foreign keys read nothing
// more: no large table is read through.
func TestQueriesByIDReadFewRowsWhateverTheStatisticsSay(t *testing.T) {
	t.Parallel()
	for name, gather := range map[string]func(t *testing.T, w *world){
		"never gathered":  fill,
		"of empty tables": func(t *testing.T, w *world) { t.Helper(); w.exec(t, "ANALYZE"); fill(t, w) },
		"of a few rows": func(t *testing.T, w *world) {
			t.Helper()
			askByID(t, w, newWorldOn(t, w.pool, debounce(time.Minute)), 1000)
			w.exec(t, "ANALYZE")
			fill(t, w)
		},
		"that are true": func(t *testing.T, w *world) { t.Helper(); fill(t, w); w.exec(t, "ANALYZE") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, rec := coldPool(t)
			w := newWorldOn(t, pool)
			burst := newWorldOn(t, pool, debounce(time.Minute))
			w.exec(t, "INSERT INTO hashed_events VALUES (now())") // as if some events had older names
			gather(t, w)
			before := w.readThrough(t)
			clear(rec.last) // what made the worlds is not a tenant's
			askByID(t, w, burst, 0)
			after := w.readThrough(t)

			var missing []string
			for query := range hotQueries(t) {
				if _, asked := rec.last[query]; !asked {
					missing = append(missing, query)
				}
			}
			require.Empty(t, missing, "hot queries that askByID does not ask: do they read little?")
			var slow []string
			for name, call := range maps.Clone(rec.last) {
				if !byTenant[name] {
					if n := rowsRead(t, pool, call); n >= 500 {
						slow = append(slow, fmt.Sprintf("%s reads %d rows", name, n))
					}
				}
			}
			require.Empty(t, slow)
			require.Equal(t, before, after, "a large table was read through")
		})
	}
}

// readThrough counts how often each large table was, by what has ended its
// session.
func (w *world) readThrough(t *testing.T) map[string]int64 {
	t.Helper()
	w.pool.Reset()
	conn, err := pgx.ConnectConfig(t.Context(), w.pool.Config().ConnConfig.Copy())
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	var others int
	require.Eventually(t, func() bool {
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&others)
		return err == nil && others == 0
	}, time.Minute, 5*time.Millisecond)
	scans := map[string]int64{}
	for _, table := range large {
		var n int64
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT seq_scan FROM pg_stat_user_tables WHERE relname = $1`, table).Scan(&n))
		scans[table] = n
	}
	return scans
}

func (w *world) exec(t *testing.T, sql string) {
	t.Helper()
	_, err := w.pool.Exec(t.Context(), sql)
	require.NoError(t, err)
}

// askByID asks most of what clients and workers ask of single things. from
// makes it about other events.
func askByID(t *testing.T, w, burst *world, from int) {
	t.Helper()
	each := w.record(t, w.event(from+1), w.event(from+2))
	w.record(t, w.event(from+1))
	again := w.event(from + 1)
	again.Metadata = json.RawMessage(`{"more":1}`)
	w.record(t, again)
	w.do(t, each[0].Job.ID)
	session := w.session(t, fmt.Sprint("s", from))
	w.session(t, fmt.Sprint("s", from))
	in := w.event(from + 3)
	in.ServerSessionID = &session.ID
	w.record(t, in)
	in = w.event(from + 4)
	in.ContentSessionID = new(fmt.Sprint("s", from))
	w.record(t, in)
	_, summary, err := w.EndSession(t.Context(), w.me, session.ID)
	require.NoError(t, err)
	w.do(t, summary.ID)
	_, err = w.Session(t.Context(), w.me, session.ID)
	require.NoError(t, err)
	_, err = w.Event(t.Context(), w.me, each[0].Event.ID)
	require.NoError(t, err)
	found, err := w.EventObservations(t.Context(), w.me, each[0].Event.ID)
	require.NoError(t, err)
	require.NotEmpty(t, found)
	_, _, err = w.CancelJob(t.Context(), w.me, each[1].Job.ID)
	require.NoError(t, err)
	_, _, err = w.RetryJob(t.Context(), w.me, each[1].Job.ID)
	require.NoError(t, err)
	reindex, err := w.Reindex(t.Context(), w.me, w.project, found[0].ID)
	require.NoError(t, err)
	w.do(t, reindex.ID)
	_, err = w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: "mistyped"})
	require.NoError(t, err)

	askMore(t, w, session, each[0].Job.ID, found[0].ID)

	burst.team, burst.project, burst.me = w.team, w.project, w.me
	in.ServerSessionID, in.ContentSessionID = new(burst.session(t, fmt.Sprint("b", from)).ID), nil
	burst.record(t, in)
	in.OccurredAtEpoch++
	one := burst.record(t, in)
	burst.record(t, in)
	burst.do(t, one[0].Job.ID)
}

// askMore asks about a memory, a session that goes on, what a job has made, a
// key, and a note that was made before.
func askMore(t *testing.T, w *world, session observe.Session, job events.ID, note string) {
	t.Helper()
	ctx := t.Context()
	said := observe.NewMemory{ProjectID: w.project, ServerSessionID: &session.ID, Content: "what a client has to say", IdempotencyKey: session.ID}
	memory, err := w.AddMemory(ctx, w.me, said)
	require.NoError(t, err)
	_, err = w.AddMemory(ctx, w.me, said)
	require.NoError(t, err)
	_, err = w.Memory(ctx, w.me, memory.ID)
	require.NoError(t, err)
	_, err = w.EditMemory(ctx, w.me, memory.ID, observe.MemoryEdit{Content: new("something else")})
	require.NoError(t, err)
	_, err = w.Search(ctx, w.me, observe.Query{ProjectID: w.project, Query: "something else"})
	require.NoError(t, err)
	require.NoError(t, w.DeleteMemory(ctx, w.me, memory.ID))
	_, err = w.Recent(ctx, w.me, w.project, 10)
	require.NoError(t, err)
	_, err = w.Context(ctx, w.me, observe.ContextQuery{Query: observe.Query{ProjectID: w.project}})
	require.NoError(t, err)
	_, err = w.Projects(ctx, w.me)
	require.NoError(t, err)
	_, err = w.OwnTeam(ctx, w.me)
	require.NoError(t, err)
	made, err := w.ObservationsOfJob(ctx, events.Scope{Team: w.team, Project: w.project}, job, "")
	require.NoError(t, err)
	require.Equal(t, note, made[0].ID)
	_, _, err = w.Summarize(ctx, w.me, *session.ContentSessionID, nil, "all done")
	require.NoError(t, err)
	_, _, err = w.EndSession(ctx, w.me, session.ID)
	require.NoError(t, err)
	in := w.event(1_000_000)
	in.ServerSessionID, in.SourceEventID = &session.ID, new("again-1-"+session.ID)
	one := w.record(t, in)
	_, _, err = w.EndSession(ctx, w.me, session.ID) // the summary that waits is held, and asked for anew
	require.NoError(t, err)
	in.SourceEventID = new("again-2-" + session.ID) // says the same
	two := w.record(t, in)
	w.do(t, one[0].Job.ID)
	w.do(t, two[0].Job.ID)
	q := sqlc.New(w.pool)
	for _, n := range []int{1, 2} { // read together with a look, which [world.do] has no need of
		ask, _ := observe.Beside(slices.Repeat([]events.Envelope{{Job: job, Scope: events.Scope{Team: w.team, Project: w.project}}}, n))
		require.NoError(t, ask(ctx, q))
	}
	// Where a provider is paid for, these are asked as well.
	_, err = q.NewestNotesOfSession(ctx, sqlc.NewestNotesOfSessionParams{SessionID: &session.ID, TeamID: w.team, ProjectID: w.project, MaxRows: 100})
	require.NoError(t, err)
	_, err = q.ToolUsesOfOthers(ctx, sqlc.ToolUsesOfOthersParams{SessionIds: []string{session.ID}, ToolUses: []string{"toolu_1"}, TeamID: w.team, ProjectID: w.project})
	require.NoError(t, err)
	require.NoError(t, q.SessionGenerated(ctx, sqlc.SessionGeneratedParams{ID: session.ID, TeamID: w.team, ProjectID: w.project}))
	key, secret, err := w.IssueKey(ctx, w.team, w.project, "tester", "", []string{observe.ScopeAll}, time.Time{})
	require.NoError(t, err)
	_, err = w.Authenticate(ctx, secret)
	require.NoError(t, err)
	rotated, _, err := w.RotateKey(ctx, w.me, key.ID)
	require.NoError(t, err)
	_, err = w.RevokeKey(ctx, w.me, rotated.ID)
	require.NoError(t, err)
}

// notHot are the queries of those files that askByID does not ask, and why.
var notHot = map[string]string{
	"ListJobs": "a page of a tenant's list, see the scale test", "CountJobs": "as ListJobs",
	"LaneAsks": "reads the outbox, for monitors, seldom", "LaneJobs": "reads all jobs, for monitors, seldom",
	"HashedEvents":       "one row, once",
	"LastAsker":          "of one job, where a key was revoked",
	"ListKeys":           "keys are few",
	"RehashKey":          "once for each key",
	"HoldNotesOfSession": "reads no row",
	"ProjectPolicies":    "projects are few, and it is cached",
	"LockProject":        "purges a project", "WaitLittle": "reads no row", "LockProjectSessions": "purges a project", "PurgeJobs": "as it says",
	"PurgeOutbox": "as it says", "PurgeFeed": "as it says", "PurgeObservations": "as it says", "PurgeWords": "as it says",
	"PurgeAgentEvents": "as it says", "PurgeSessions": "as it says",
}

// hotQueries are what requests and handlers ask, but those.
func hotQueries(t *testing.T) map[string]bool {
	t.Helper()
	hot := map[string]bool{}
	for _, file := range []string{"agent_events", "compat", "job_reads", "keys", "memories", "observations", "projects", "recent", "sessions", "stream"} {
		text, err := os.ReadFile("../../sqlc/" + file + ".sql")
		require.NoError(t, err)
		for _, q := range strings.Split(string(text), "-- name: ")[1:] {
			if name, _, _ := strings.Cut(q, " "); notHot[name] == "" && !strings.HasPrefix(name, "Insert") {
				hot[name] = true
			}
		}
	}
	return hot
}

// A search reads as many rows as it says, on tables that were never analyzed,
// with few of them and with many, the first time and when Postgres has a plan
// of its own for whatever may be asked.
func TestASearchReadsFewRowsWithColdStatistics(t *testing.T) {
	t.Parallel()
	pool, rec := coldPool(t)
	w := newWorldOn(t, pool)
	fillNotes(t, w, newBabble(t, 5), 6000)
	_, err := pool.Exec(t.Context(), `INSERT INTO observations (id, team_id, project_id, kind, content, content_search, created_at)
		VALUES ('zebra', $1, $2, 'change', 'zebra', ('zebra ' || $3)::tsvector, now() - interval '5 years')`,
		w.team, w.project, search.Scope(w.team, w.project))
	require.NoError(t, err)
	for range 8 { // after five, a prepared statement may get a plan for all
		page, err := w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: "zebra test"})
		require.NoError(t, err)
		require.Equal(t, "zebra", page.Hits[0].ID)
	}
	// Each row is counted once for each step that it goes through.
	require.Less(t, rowsRead(t, pool, rec.last["SearchNewest"]), 5500)
	require.Less(t, rowsRead(t, pool, rec.last["SearchIndex"]), 100)
	require.Less(t, rowsRead(t, pool, rec.last["GetObservations"]), 500)

	_, err = w.Context(t.Context(), w.me, observe.ContextQuery{Query: observe.Query{ProjectID: w.project}})
	require.NoError(t, err)
	require.Less(t, rowsRead(t, pool, rec.last["RecentWithSessions"]), 8*200)
}

// Nor does what a budget asks read the tenant's jobs or their history.
func TestBudgetsReadFewRowsWithColdStatistics(t *testing.T) {
	t.Parallel()
	pool, rec := coldPool(t)
	w := newWorldOn(t, pool, prices(t), limited(observe.Limits{MonthlyTokens: 1}))
	priced(t, w)
	fill(t, w)
	clear(rec.last)
	rs := w.record(t, w.event(1), w.event(2), w.event(3))
	require.False(t, w.try(t, rs[0].Job.ID))
	require.True(t, w.try(t, rs[1].Job.ID))
	require.True(t, w.try(t, rs[2].Job.ID))
	_, err := w.WhyHeld(t.Context(), w.me, w.read(t, rs[1].Job.ID))
	require.NoError(t, err)
	_, _, err = w.RetryJob(t.Context(), w.me, rs[1].Job.ID)
	require.NoError(t, err)
	require.False(t, w.try(t, rs[1].Job.ID))
	_, err = w.SetBudget(t.Context(), w.caller(t, w.team, "", observe.ScopeAll), observe.Budget{Tokens: new(int64(0))})
	require.NoError(t, err)
	_, err = w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	for _, name := range []string{"TeamBudget", "Spent", "LetGo", "NoteHold", "WhyHeld", "HeldJobs", "UsageOfMonth"} {
		require.Contains(t, rec.last, name)
	}
	for name, call := range rec.last {
		if !byTenant[name] {
			require.Less(t, rowsRead(t, pool, call), 500, name)
		}
	}
}

// fill gives the project 5,000 rows in each table that grows.
func fill(t *testing.T, w *world) {
	t.Helper()
	for _, insert := range []string{
		`server_sessions (id, team_id, project_id, content_session_id, idempotency_key)
		 SELECT 's' || i, $1, $2, 'c' || i, 's' || i`,
		`agent_events (id, team_id, project_id, server_session_id, source_adapter, idempotency_key, event_type, batch_job_id, occurred_at)
		 SELECT 'e' || i, $1, $2, 's' || i, 'hook', 'e' || i, 'x', 'b' || i, now()`,
		`observation_generation_jobs (id, team_id, project_id, job_type, source_type, source_id, status, version, asked, cancelled_at, created_at, updated_at, ask)
		 SELECT 'j' || i, $1, $2, 'event', 'agent_event', 'e' || i, 'cancelled', 2, 1, now(), now(), now(), 0`,
		`observation_generation_job_events (job_id, version, team_id, project_id, event_type, status_after, attempt, at, schema)
		 SELECT 'j' || i, 1, $1, $2, 'queued', 'queued', 0, now(), 1`,
		`observations (id, team_id, project_id, server_session_id, kind, content, generation_key, created_at)
		 SELECT 'o' || i, $1, $2, 's' || i, 'change', 'word' || i, 'o' || i, now() - i * interval '1 second'`,
		`observation_sources (id, team_id, project_id, observation_id, source_type, source_id)
		 SELECT 'r' || i, $1, $2, 'o' || i, 'agent_event', 'e' || i`,
		`observation_words (team_id, project_id, lexeme, word)
		 SELECT $1, $2, 'word' || i, 'word' || i`,
	} {
		_, err := w.pool.Exec(t.Context(), "INSERT INTO "+insert+" FROM generate_series(1, 5000) i", w.team, w.project)
		require.NoError(t, err)
	}
}

// rowsRead runs the call again, undoes it, and gives how many rows its plan
// looked at.
func rowsRead(t *testing.T, pool *pgxpool.Pool, call pgx.TraceQueryStartData) int {
	t.Helper()
	undo := errors.New("undo")
	var plan []struct{ Plan node }
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		var raw []byte
		if strings.HasPrefix(call.SQL, "-- name: Search") || strings.HasPrefix(call.SQL, "-- name: Recent") { // as their transaction does
			if err := sqlc.New(tx).InOrderOfIndex(t.Context()); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+call.SQL, call.Args...).Scan(&raw); err != nil {
			return fmt.Errorf("%.60s: %w", call.SQL, err)
		}
		require.NoError(t, json.Unmarshal(raw, &plan))
		return undo
	})
	require.ErrorIs(t, err, undo)
	return plan[0].Plan.read()
}

type node struct {
	Rows    float64 `json:"Actual Rows"`
	Loops   float64 `json:"Actual Loops"`
	Removed float64 `json:"Rows Removed by Filter"`
	Joined  float64 `json:"Rows Removed by Join Filter"`
	Plans   []node
}

func (n node) read() int {
	sum := int((n.Rows + n.Removed + n.Joined) * n.Loops)
	for _, p := range n.Plans {
		sum += p.read()
	}
	return sum
}
