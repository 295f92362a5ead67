package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *ingestLoad != "" {
		if err := sendLoad(*ingestLoad); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testenv.Main(m)
}

// world is a door on a database of its own: two teams, the first with two
// projects, and keys of every sort.
type world struct {
	t    testing.TB
	pool *pgxpool.Pool
	jobs *db.Jobs
	svc  *observe.Service
	http http.Handler
	log  *lines

	team, project, sibling string // sibling: the team's other project
	foreign, abroad        string // another team and its project
	keys                   map[string]observe.Key
	secrets                map[string]string
}

// newWorld makes a world; change may be nil, and changes the door's config.
func newWorld(t testing.TB, change func(*api.Config)) *world {
	t.Helper()
	pool := testenv.Pool(t)
	w := &world{
		t: t, pool: pool, jobs: db.NewJobs(pool, db.JobsConfig{Process: "api-test"}), log: &lines{},
		keys: map[string]observe.Key{}, secrets: map[string]string{},
	}
	w.svc = observe.New(observe.Config{Pool: pool, Jobs: w.jobs, Process: "api-test", Build: "test"})
	cfg := api.Config{
		Service: w.svc, Version: "1.2.3", WaitLimit: 200 * time.Millisecond, BodyLimit: 1 << 20,
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	w.http = api.New(cfg)

	ctx := t.Context()
	var err error
	w.team, err = w.svc.CreateTeam(ctx, "home")
	require.NoError(t, err)
	w.project, err = w.svc.CreateProject(ctx, w.team, "one")
	require.NoError(t, err)
	w.sibling, err = w.svc.CreateProject(ctx, w.team, "two")
	require.NoError(t, err)
	w.foreign, err = w.svc.CreateTeam(ctx, "away")
	require.NoError(t, err)
	w.abroad, err = w.svc.CreateProject(ctx, w.foreign, "one")
	require.NoError(t, err)

	both := []string{observe.ScopeRead, observe.ScopeWrite}
	w.issue("team", w.team, "", both, time.Time{})
	w.issue("project", w.team, w.project, both, time.Time{})
	w.issue("sibling", w.team, w.sibling, both, time.Time{})
	w.issue("foreign", w.foreign, "", both, time.Time{})
	w.issue("star", w.team, "", []string{"*"}, time.Time{})
	w.issue(observe.ScopeRead, w.team, "", []string{observe.ScopeRead}, time.Time{})
	w.issue(observe.ScopeWrite, w.team, "", []string{observe.ScopeWrite}, time.Time{})
	w.issue(observe.ScopeAdmin, w.team, "", []string{observe.ScopeAdmin}, time.Time{})
	w.issue("expired", w.team, "", both, time.Now().Add(-time.Minute))
	w.secrets["unknown"] = "obs_" + strings.Repeat("0", 48)
	w.secrets["odd"] = "\x80\xff '; DROP TABLE teams; --"
	return w
}

func (w *world) issue(name, team, project string, scopes []string, expires time.Time) {
	w.t.Helper()
	k, secret, err := w.svc.IssueKey(w.t.Context(), team, project, "tester", name, scopes, expires)
	require.NoError(w.t, err)
	w.keys[name], w.secrets[name] = k, secret
}

// caller is who the key of that name stands for.
func (w *world) caller(name string) observe.Caller {
	w.t.Helper()
	c, err := w.svc.Authenticate(w.t.Context(), w.secrets[name])
	require.NoError(w.t, err)
	return c
}

// event is the body of a good event of that name, in the world's project.
func (w *world) event(name string) string { return eventOf(w.project, name) }

func eventOf(project, name string) string {
	return fmt.Sprintf(`{"projectId":%q,"sourceType":"hook","eventType":"PostToolUse","occurredAtEpoch":1700000000000,`+
		`"sourceEventId":%q,"payload":{"tool_name":"Read","tool_input":{"file_path":"main.go"}}}`, project, name)
}

// posted records an event and gives the answer.
func (w *world) posted(name string) answer {
	w.t.Helper()
	a := w.do(request{method: "POST", path: "/v1/events", key: "team", body: w.event(name)})
	require.Equal(w.t, http.StatusCreated, a.status, a.text)
	return a
}

// claim begins an attempt of a queued job, as a worker would.
func (w *world) claim(id string) events.Job {
	w.t.Helper()
	job := w.job(id)
	holder := events.Holder{ID: "worker-1", Name: "test"}
	require.NoError(w.t, w.jobs.Seen(w.t.Context(), holder))
	claims, err := w.jobs.Begin(w.t.Context(), holder, []events.Envelope{job.Envelope()})
	require.NoError(w.t, err)
	require.NoError(w.t, claims[0].Err)
	return claims[0].Job
}

// settle ends the attempt in hand and tells those who wait.
func (w *world) settle(job events.Job, how events.Type) {
	w.t.Helper()
	step := events.Step{Job: job, Event: events.Event{Type: how, Process: "worker-1", Actor: "worker", Reason: "because"}}
	errs, err := w.jobs.Settle(w.t.Context(), []events.Step{step}, []func(context.Context, pgx.Tx) error{nil})
	require.NoError(w.t, err)
	require.NoError(w.t, errs[0])
	w.svc.Notice(job.ID, w.job(string(job.ID)).Status)
}

// hold puts a job off as the pipeline does when its team has used up its month.
func (w *world) hold(id string) {
	w.t.Helper()
	errs, err := w.jobs.Move(w.t.Context(), nil, []events.Step{{Job: w.claim(id), Delay: time.Hour, Event: events.Event{
		Type: events.Released, Process: "worker-1", Actor: "worker", Reason: "used up", Details: events.Held(),
	}}})
	require.NoError(w.t, err)
	require.NoError(w.t, errs[0])
}

func (w *world) job(id string) events.Job {
	w.t.Helper()
	job, _, err := w.jobs.Get(w.t.Context(), events.Scope{Team: w.team, Project: w.project}, events.ID(id))
	require.NoError(w.t, err)
	return job
}

// rows is a fingerprint of all that a refused request must not change.
func (w *world) rows() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for _, table := range []string{
		"teams", "projects", "server_sessions", "agent_events", "observation_generation_jobs",
		"observation_generation_job_events", "outbox", "job_feed", "observations", "observation_sources",
		"(SELECT id, revoked_at FROM api_keys)",
	} {
		var sum string
		err := w.pool.QueryRow(w.t.Context(),
			"SELECT count(*) || ' ' || coalesce(md5(string_agg(r::text, '|' ORDER BY r::text)), '') FROM "+table+" r").Scan(&sum)
		require.NoError(w.t, err)
		out[table] = sum
	}
	return out
}

type request struct {
	method, path string
	key          string // a name of the world's; empty: none
	body         string
	header       map[string]string
}

type answer struct {
	t      testing.TB
	status int
	header http.Header
	text   string
}

func (w *world) do(r request) answer {
	w.t.Helper()
	return w.doUntil(r, false)
}

// doUntil is do, and the client may leave as soon as it is told anything.
func (w *world) doUntil(r request, leaves bool) answer {
	w.t.Helper()
	ctx, leave := context.WithCancel(w.t.Context())
	defer leave()
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req := httptest.NewRequestWithContext(ctx, r.method, "/", body)
	target, err := url.ParseRequestURI(r.path) // as a server does: nothing is cleaned
	require.NoError(w.t, err, r.path)
	req.URL = target
	if r.key != "" {
		require.Contains(w.t, w.secrets, r.key)
		req.Header.Set("Authorization", "Bearer "+w.secrets[r.key])
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	if host := r.header["Host"]; host != "" {
		req.Host = host
	}
	rec, flushed := httptest.NewRecorder(), func() {}
	if leaves {
		flushed = leave
	}
	w.http.ServeHTTP(&leaving{rec, flushed}, req)
	c, err := theContract()
	if err != nil {
		w.t.Error(err) // also in goroutines, where FailNow may not be called
	} else {
		c.holds(w.t, req, r.body, rec)
	}
	return answer{w.t, rec.Code, rec.Header(), rec.Body.String()}
}

// leaving is a client that does something when it is told the first.
type leaving struct {
	*httptest.ResponseRecorder
	flushed func()
}

func (l *leaving) Flush() {
	l.ResponseRecorder.Flush()
	l.flushed()
}

// at is the member at a path as "generationJob.status" or "events.0.event".
func (a answer) at(path string) any {
	a.t.Helper()
	var v any
	require.NoError(a.t, json.Unmarshal([]byte(a.text), &v), a.text)
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			member, ok := x[name]
			if !ok {
				return missing{}
			}
			v = member
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(x) {
				return missing{}
			}
			v = x[i]
		default:
			return missing{}
		}
	}
	return v
}

func (a answer) str(path string) string {
	a.t.Helper()
	s, ok := a.at(path).(string)
	require.True(a.t, ok, "%s in %s", path, a.text)
	return s
}

// missing is what stands at a path where nothing is.
type missing struct{}

// problem checks that a is a whole problem document and tells nothing it
// should not.
func (a answer) problem() {
	a.t.Helper()
	require.Equal(a.t, "application/problem+json", a.header.Get("Content-Type"), a.text)
	for _, name := range []string{"error", "message", "type", "title", "detail", "instance", "requestId"} {
		require.NotEmpty(a.t, a.at(name), "%s in %s", name, a.text)
	}
	require.InDelta(a.t, a.status, a.at("status"), 0)
	require.Equal(a.t, a.header.Get("X-Request-Id"), a.at("requestId"))
	for _, word := range []string{"SQLSTATE", "pgx", "goroutine", ".go:", "sqlc", "postgres://"} {
		require.NotContains(a.t, a.text, word)
	}
}

// lines is a log that a test can read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take gives all that was logged since it was last asked.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// of gives the lines that have the text.
func (l *lines) of(text string) []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(l.b.String()) {
		var one map[string]any
		if strings.Contains(line, text) && json.Unmarshal([]byte(line), &one) == nil {
			out = append(out, one)
		}
	}
	return out
}
