package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/pipeline"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a database with one team, one project and a key that may do all.
type world struct {
	*observe.Service
	pool     *pgxpool.Pool
	jobs     *db.Jobs
	provider *recorder
	rings    atomic.Int64
	team     string
	project  string
	me       observe.Caller
}

func newWorld(t testing.TB, change ...func(*observe.Config)) *world {
	t.Helper()
	return newWorldOn(t, testenv.Pool(t), change...)
}

func newWorldOn(t testing.TB, pool *pgxpool.Pool, change ...func(*observe.Config)) *world {
	t.Helper()
	w := &world{pool: pool, provider: &recorder{Provider: llm.NewOffline()}}
	w.jobs = db.NewJobs(w.pool, db.JobsConfig{Process: "test", Beside: observe.Beside})
	cfg := observe.Config{
		Pool: w.pool, Jobs: w.jobs, Provider: w.provider, Log: testenv.Log(t), Ring: func(...events.Envelope) { w.rings.Add(1) },
	}
	for _, fn := range change {
		fn(&cfg)
	}
	w.Service = observe.New(cfg)
	w.team, w.project = w.tenant(t, "home")
	w.me = w.caller(t, w.team, w.project, observe.ScopeAll)
	return w
}

func debounce(d time.Duration) func(*observe.Config) {
	return func(cfg *observe.Config) { cfg.Debounce = d }
}

func (w *world) tenant(t testing.TB, name string) (team, project string) {
	t.Helper()
	team, err := w.CreateTeam(t.Context(), name)
	require.NoError(t, err)
	project, err = w.CreateProject(t.Context(), team, name)
	require.NoError(t, err)
	return team, project
}

// caller is who holds a new key. project "" means all of the team's.
func (w *world) caller(t testing.TB, team, project string, scopes ...string) observe.Caller {
	t.Helper()
	_, secret, err := w.IssueKey(t.Context(), team, project, "tester", "", scopes, time.Time{})
	require.NoError(t, err)
	c, err := w.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	c.RequestID = "req-1"
	return c
}

// event is a tool use that the offline extractor has something to say about.
func (w *world) event(n int) observe.NewEvent {
	return observe.NewEvent{
		ProjectID: w.project, SourceType: "hook", EventType: "tool_use", OccurredAtEpoch: 1700000000000 + int64(n)*1000,
		Payload: json.RawMessage(fmt.Sprintf(
			`{"tool_name":"Write","tool_input":{"file_path":"/src/openBatch%d.go","content":"package x"},"tool_response":{"type":"create"}}`, n)),
	}
}

func (w *world) record(t testing.TB, evs ...observe.NewEvent) []observe.Recorded {
	t.Helper()
	got, err := w.Record(t.Context(), w.me, evs, observe.RecordOptions{Generate: true, Batch: true})
	require.NoError(t, err)
	require.Len(t, got, len(evs))
	return got
}

func (w *world) session(t testing.TB, id string) observe.Session {
	t.Helper()
	s, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{
		ProjectID: w.project, ExternalSessionID: &id, ContentSessionID: &id, Metadata: json.RawMessage(`{"prompt":"make it faster"}`),
	})
	require.NoError(t, err)
	return s
}

// claim begins an attempt of a job as a worker would.
func (w *world) claim(t testing.TB, job events.Job) events.Job {
	t.Helper()
	claims, err := w.jobs.Begin(t.Context(), holder, []events.Envelope{job.Envelope()})
	require.NoError(t, err)
	require.NoError(t, claims[0].Err)
	return claims[0].Job
}

var holder = events.Holder{ID: "worker-1", Name: "worker"}

// do does one job as a worker would: claim, handler, settle.
func (w *world) do(t testing.TB, id events.ID) {
	t.Helper()
	w.finish(t, w.claim(t, w.read(t, id)))
}

// finish does a job that is claimed.
func (w *world) finish(t testing.TB, job events.Job) {
	t.Helper()
	commit, err := w.Handler(job.Kind)(t.Context(), job)
	step := completed(job)
	if why, ok := errors.AsType[pipeline.Done](err); ok {
		step.Event.Reason, err = string(why), nil
	}
	require.NoError(t, err)
	errs, err := w.jobs.Settle(t.Context(), []events.Step{step}, []func(context.Context, pgx.Tx) error{commit})
	require.NoError(t, err)
	require.NoError(t, errs[0])
}

// why is what the history of a job says of its last step.
func (w *world) why(t testing.TB, id events.ID) string {
	t.Helper()
	_, history, err := w.Job(t.Context(), w.me, id)
	require.NoError(t, err)
	return history[len(history)-1].Reason
}

func completed(job events.Job) events.Step {
	return events.Step{Job: job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: holder.ID}}
}

func (w *world) read(t testing.TB, id events.ID) events.Job {
	t.Helper()
	job, _, err := w.Job(t.Context(), w.me, id)
	require.NoError(t, err)
	return job
}

// doAll does all the jobs that wait, also those that are not due yet.
func (w *world) doAll(t testing.TB) int {
	t.Helper()
	jobs, _, err := w.ListJobs(t.Context(), w.me, observe.JobFilter{Status: "queued", Limit: 200})
	require.NoError(t, err)
	for _, job := range jobs {
		w.do(t, job.ID)
	}
	return len(jobs)
}

func (w *world) count(t testing.TB, table string) int {
	t.Helper()
	var n int
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// tables are those that hold tenants' rows, or say something of them.
var tables = []string{
	"teams", "projects", "team_members", "api_keys", "audit_log", "server_sessions", "agent_events",
	"observation_generation_jobs", "observation_generation_job_events", "outbox", "job_feed", "observations", "observation_sources", "observation_words",
	"observation_vectors", "tool_uses",
	"usage_events", "usage_counters",
}

// dump is all that the tables hold.
func dump(t testing.TB, pool *pgxpool.Pool) string {
	t.Helper()
	var all strings.Builder
	for _, table := range tables {
		var rows string
		err := pool.QueryRow(t.Context(),
			"SELECT coalesce(string_agg(x, E'\\n' ORDER BY x), '') FROM (SELECT t::text AS x FROM "+table+" t) y").Scan(&rows)
		require.NoError(t, err)
		all.WriteString(table + "\n" + rows + "\n")
	}
	return all.String()
}

// same asserts that fn changes no row of any table.
func (w *world) same(t testing.TB, fn func()) {
	t.Helper()
	before := dump(t, w.pool)
	fn()
	require.Equal(t, before, dump(t, w.pool))
}

// audited counts what the audit tells with this action, of all teams.
func (w *world) audited(t testing.TB, action string) int {
	t.Helper()
	teams, err := w.ListTeams(t.Context())
	require.NoError(t, err)
	n := 0
	for _, team := range teams {
		n += len(w.audit(t, observe.Caller{Team: team.ID, Scopes: []string{observe.ScopeAll}}, observe.AuditFilter{Action: action, Limit: 500}))
	}
	return n
}

// audit is a page of what the caller is told was done.
func (w *world) audit(t testing.TB, c observe.Caller, f observe.AuditFilter) []observe.AuditEntry {
	t.Helper()
	entries, err := w.Audit(t.Context(), c, f)
	require.NoError(t, err)
	return entries
}

// check verifies the invariants of the job table.
func (w *world) check(t testing.TB) {
	t.Helper()
	found, err := w.jobs.Check(t.Context(), db.CheckConfig{Lease: time.Hour})
	require.NoError(t, err)
	require.Empty(t, found)
}

// recorder is a provider that keeps what it was asked. It answers as the one
// inside it, unless before says otherwise.
type recorder struct {
	llm.Provider
	before func(ctx context.Context, q llm.Question) (*llm.Answer, error)

	mu    sync.Mutex
	asked []llm.Question
}

func (r *recorder) Answer(ctx context.Context, q llm.Question) (llm.Answer, error) {
	r.mu.Lock()
	r.asked = append(r.asked, q)
	r.mu.Unlock()
	if r.before != nil {
		if a, err := r.before(ctx, q); a != nil || err != nil {
			if a == nil {
				a = &llm.Answer{}
			}
			return *a, err
		}
	}
	return r.Provider.Answer(ctx, q)
}

func (r *recorder) questions() []llm.Question {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]llm.Question(nil), r.asked...)
}

func as[T any](t testing.TB, err error) T {
	t.Helper()
	var want T
	require.ErrorAs(t, err, &want)
	return want
}
