package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
)

// full is a door with one place, one more to wait at, and a database whose
// answers are held back, so that who has the place keeps it.
func full(t *testing.T, a api.Admission) (w *world, load *api.Load, release func()) {
	t.Helper()
	load = &api.Load{}
	a.Load = load
	w = newWorld(t, func(c *api.Config) { c.Admission = a })
	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE observations IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	var once sync.Once
	release = func() { once.Do(func() { _ = tx.Rollback(context.Background()) }) }
	t.Cleanup(release)
	return w, load, release
}

// memory is the body of a good memory, in the world's project.
func (w *world) memory(content string) string {
	return fmt.Sprintf(`{"projectId":%q,"content":%q}`, w.project, content)
}

func TestWhoFindsNoRoomIsToldToComeBack(t *testing.T) {
	t.Parallel()
	w, load, release := full(t, api.Admission{Requests: 1, Queue: 1, Wait: 50 * time.Millisecond})
	first := make(chan answer, 1)
	go func() {
		first <- w.do(request{method: "POST", path: "/v1/memories", key: "team", body: w.memory("e1")})
	}()
	require.Eventually(t, func() bool { return load.Running() == 1 }, patience, look)

	a := w.do(request{method: "POST", path: "/v1/memories", key: "team", body: w.memory("e2")})
	require.Equal(t, http.StatusServiceUnavailable, a.status, a.text)
	require.Equal(t, "overloaded", a.at("error"))
	after, err := strconv.Atoi(a.header.Get("Retry-After"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, after, 1)
	require.LessOrEqual(t, after, 3)
	require.EqualValues(t, 1, load.Refused())
	require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: "/healthz"}).status, "probes are always answered")
	require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: "/api/readiness"}).status)

	release()
	require.Equal(t, http.StatusCreated, (<-first).status)
	require.Equal(t, http.StatusCreated, w.do(request{method: "POST", path: "/v1/memories", key: "team", body: w.memory("e2")}).status)
	require.Zero(t, load.Running()+load.Queued()+load.Bytes())
}

// Who is beyond the queue does not even wait.
func TestTheQueueIsBounded(t *testing.T) {
	t.Parallel()
	w, load, release := full(t, api.Admission{Requests: 1, Queue: 1, Wait: time.Hour})
	var sent sync.WaitGroup
	// One after the other: two that come at once may both be counted as waiting.
	for i, name := range []string{"e1", "e2"} {
		sent.Go(func() { w.do(request{method: "POST", path: "/v1/memories", key: "team", body: w.memory(name)}) })
		require.Eventually(t, func() bool { return load.Running() == 1 && load.Queued() == int64(i) }, patience, look)
	}
	require.Equal(t, http.StatusServiceUnavailable, w.do(request{method: "GET", path: "/v1/jobs", key: "team"}).status)
	release()
	sent.Wait()
	require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: "/v1/jobs", key: "team"}).status)
}

// One event shares its transaction, and so takes a quarter of a place; what
// takes a whole one waits for all four.
func TestFourEventsShareAPlace(t *testing.T) {
	t.Parallel()
	load := &api.Load{}
	w := newWorld(t, func(c *api.Config) {
		c.Admission = api.Admission{Requests: 1, Queue: 1, Wait: 50 * time.Millisecond, Load: load}
	})
	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE") // who has no place yet needs none of it
	require.NoError(t, err)
	post := func(path, body string) answer {
		return w.do(request{method: "POST", path: path, key: "team", body: body})
	}
	answers := make(chan answer, 4)
	for i := range 4 {
		go func() { answers <- post("/v1/events", w.event(fmt.Sprint("e", i))) }()
		require.Eventually(t, func() bool { return load.Running() == int64(i+1) }, patience, look)
	}
	require.Equal(t, http.StatusServiceUnavailable, post("/v1/events", w.event("e4")).status)
	require.Equal(t, http.StatusServiceUnavailable, post("/v1/events/batch", "["+w.event("e5")+"]").status)
	require.NoError(t, tx.Rollback(t.Context()))
	for range 4 {
		a := <-answers
		require.Equal(t, http.StatusCreated, a.status, a.text)
	}
	require.Zero(t, load.Running()+load.Queued()+load.Bytes())
}

// The bodies of all requests together are bounded, whatever each says of its
// length.
func TestBodiesAreBoundedTogether(t *testing.T) {
	t.Parallel()
	w, load, release := full(t, api.Admission{Requests: 10, Wait: 50 * time.Millisecond, Bytes: 1 << 20})
	first := make(chan answer, 1)
	go func() {
		first <- w.do(request{method: "POST", path: "/v1/memories", key: "team", body: w.memory("e1")})
	}()
	require.Eventually(t, func() bool { return load.Running() == 1 }, patience, look)
	require.EqualValues(t, len(w.memory("e1")), load.Bytes())
	large := `{"a":"` + strings.Repeat("x", 1<<20) + `"}`
	require.Equal(t, http.StatusServiceUnavailable, w.do(request{method: "POST", path: "/v1/events", key: "team", body: large}).status)
	require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: "/v1/jobs", key: "team"}).status, "who sends none needs none")

	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/events", io.MultiReader(bytes.NewReader([]byte("{}"))))
	req.ContentLength = -1
	req.Header.Set("Authorization", "Bearer "+w.secrets["team"])
	rec := httptest.NewRecorder()
	w.http.ServeHTTP(rec, req)
	require.Equal(t, http.StatusServiceUnavailable, rec.Code, "a length that is not told counts as the largest")
	release()
	require.Equal(t, http.StatusCreated, (<-first).status)
}

// Who waits for a job, which costs nothing, takes no place from others.
func TestWaitingForAJobTakesNoPlace(t *testing.T) {
	t.Parallel()
	load := &api.Load{}
	w := newWorld(t, func(c *api.Config) {
		c.Admission = api.Admission{Requests: 1, Queue: 3, Wait: 100 * time.Millisecond, Waiting: 3, Load: load}
		c.WaitLimit = time.Hour
	})
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for _, name := range []string{"e1", "e2", "e3"} {
		waiting.Go(func() {
			req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/events?wait=true", strings.NewReader(w.event(name)))
			req.Header.Set("Authorization", "Bearer "+w.secrets["team"])
			w.http.ServeHTTP(httptest.NewRecorder(), req)
		})
		require.Eventually(t, func() bool { return load.Queued() == 0 && load.Waiting() > 0 }, patience, look)
	}
	require.Eventually(t, func() bool { return load.Waiting() == 3 }, patience, look)
	require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: "/v1/jobs", key: "team"}).status)
	require.Equal(t, http.StatusServiceUnavailable, w.do(request{method: "POST", path: "/v1/events?wait=true", key: "team", body: w.event("e4")}).status)
	cancel()
	waiting.Wait()
}

// Wrong keys are bounded by address; good ones go on working behind it.
// Events for a project that somebody holds, as while it is emptied, wait and
// leave their places to others'.
func TestWhoWaitsForAProjectTakesNoPlace(t *testing.T) {
	t.Parallel()
	load := &api.Load{}
	w := newWorld(t, func(c *api.Config) { c.Admission = api.Admission{Requests: 1, Queue: 10, Wait: patience, Load: load} })
	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "SELECT FROM projects WHERE id = $1 FOR UPDATE", w.sibling)
	require.NoError(t, err)

	const held = 4 // of the 8 that may wait
	answers := make(chan answer, held)
	for i := range held {
		go func() {
			answers <- w.do(request{method: "POST", path: "/v1/events", key: "team", body: eventOf(w.sibling, fmt.Sprint("held-", i))})
		}()
	}
	require.Eventually(t, func() bool { return load.Waiting() == held && load.Running() == 0 }, patience, look)
	for i := range 5 {
		require.Equal(t, http.StatusCreated, w.do(request{method: "POST", path: "/v1/events", key: "foreign", body: eventOf(w.abroad, fmt.Sprint("e", i))}).status)
	}
	require.Empty(t, answers)
	require.NoError(t, tx.Rollback(t.Context()))
	for range held {
		require.Equal(t, http.StatusCreated, (<-answers).status)
	}
	require.Zero(t, load.Running()+load.Waiting()+load.Queued()+load.Bytes())
}

func TestWrongKeysAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *api.Config) { c.FailedKeys = 3 })
	get := func(key, addr string) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/jobs", nil)
		req.RemoteAddr = net.JoinHostPort(addr, "1234")
		req.Header.Set("Authorization", "Bearer "+key)
		rec := httptest.NewRecorder()
		w.http.ServeHTTP(rec, req)
		return rec
	}
	const here, there = "192.0.2.7", "192.0.2.8"
	require.Equal(t, http.StatusOK, get(w.secrets["team"], here).Code)
	for range 3 {
		require.Equal(t, http.StatusForbidden, get("obs_guess", here).Code)
	}
	blocked := get("obs_guess", here)
	require.Equal(t, http.StatusTooManyRequests, blocked.Code)
	after, err := strconv.Atoi(blocked.Header().Get("Retry-After"))
	require.NoError(t, err)
	require.LessOrEqual(t, after, 20, "a third of a minute for the next try")
	require.Positive(t, after)
	require.Equal(t, http.StatusTooManyRequests, get(w.secrets["project"], here).Code, "one that was not seen here is not tried either: it would tell")
	require.Equal(t, http.StatusOK, get(w.secrets["team"], here).Code, "one that was good goes on")
	require.Equal(t, http.StatusForbidden, get("obs_guess", there).Code, "another address is another one's")
	require.Equal(t, http.StatusForbidden, get("obs_guess", "2001:db8::1").Code)
	for _, a := range []string{"2001:db8::2", "2001:db8::3"} {
		require.Equal(t, http.StatusForbidden, get("obs_guess", a).Code)
	}
	require.Equal(t, http.StatusTooManyRequests, get("obs_guess", "2001:db8::4").Code, "one network of IPv6 is one client")

	_, err = w.svc.RevokeKey(t.Context(), w.caller("star"), w.keys["team"].ID)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, get(w.secrets["team"], here).Code, "a revoked key is found out")
	require.Equal(t, http.StatusTooManyRequests, get(w.secrets["team"], here).Code)
}

func TestTheGuardsMemoryIsBounded(t *testing.T) {
	t.Parallel()
	addresses, keys := api.GuardMemory(25_000)
	require.LessOrEqual(t, addresses, 10_000)
	require.LessOrEqual(t, keys, 10_000)
}

// Whoever adds a route that asks for no key has to say so here.
func TestRoutesWithoutAKey(t *testing.T) {
	t.Parallel()
	var open []string
	for _, r := range routes() {
		if r.Scope == "" {
			open = append(open, r.Method+" "+r.Path)
		}
	}
	require.ElementsMatch(t, []string{
		"GET /healthz", "GET /api/health", "GET /api/readiness", "GET /api/version", "GET /v1/info", "GET /metrics",
		"GET /", "GET /docs", "GET /openapi.json", "GET /api/instructions", "GET /live", "GET /live.css", "GET /live.js",
	}, open, "these tell nothing of a tenant and change nothing")
}
