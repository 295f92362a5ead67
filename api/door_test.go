package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
)

// bare is a door without a database behind it, for all that is decided before one is asked.
func bare(t *testing.T, change func(*api.Config)) *world {
	t.Helper()
	cfg := api.Config{Version: "1.2.3"}
	if change != nil {
		change(&cfg)
	}
	return &world{t: t, http: api.New(cfg)}
}

func TestUnknownRoute(t *testing.T) {
	t.Parallel()
	w := bare(t, nil)
	for _, path := range []string{"/index.html", "/v1", "/v2/events", "/v1/events/a/b", "/v1/jobs/", "/healthz/", "/v1/events/../jobs", "/a%00b", "/%ff"} {
		a := w.do(request{method: "GET", path: path})
		require.Equal(t, http.StatusNotFound, a.status, path)
		a.problem()
		require.Equal(t, "NotFound", a.str("error"))
		require.Contains(t, a.str("message"), "Cannot GET /")
	}
	long := w.do(request{method: "GET", path: "/" + strings.Repeat("x", 5000)})
	require.Equal(t, http.StatusNotFound, long.status)
	require.Less(t, len(long.text), 1000, "the answer must not echo what is long")
}

func TestWrongMethod(t *testing.T) {
	t.Parallel()
	w := bare(t, nil)
	a := w.do(request{method: "PUT", path: "/v1/events"})
	require.Equal(t, http.StatusMethodNotAllowed, a.status)
	a.problem()
	require.Equal(t, "MethodNotAllowed", a.str("error"))
	require.ElementsMatch(t, []string{"OPTIONS", "POST"}, strings.Split(a.header.Get("Allow"), ", "))

	a = w.do(request{method: "DELETE", path: "/healthz"})
	require.Equal(t, http.StatusMethodNotAllowed, a.status)
	require.ElementsMatch(t, []string{"OPTIONS", "GET", "HEAD"}, strings.Split(a.header.Get("Allow"), ", "))
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	w := bare(t, nil)
	for path, status := range map[string]int{"/healthz": 200, "/nothing": 404, "/v1/jobs": 401} {
		a := w.do(request{method: "GET", path: path})
		require.Equal(t, status, a.status)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "X-DNS-Prefetch-Control": "off", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Origin-Agent-Cluster": "?1",
			"X-Powered-By": "", "Server": "",
		} {
			require.Equal(t, want, a.header.Get(name), "%s of %s", name, path)
		}
	}
	require.Equal(t, "Bearer", w.do(request{method: "GET", path: "/v1/jobs"}).header.Get("WWW-Authenticate"))
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	w := bare(t, nil)
	ask := func(id string) string {
		return w.do(request{method: "GET", path: "/healthz", header: map[string]string{"X-Request-Id": id}}).header.Get("X-Request-Id")
	}
	for _, id := range []string{"a", "0", "My_request-7", strings.Repeat("x", 64)} {
		require.Equal(t, id, ask(id))
	}
	for _, id := range []string{"", "-a", "_a", "a b", "a.b", "é", "a\tb", strings.Repeat("x", 65), `"><script>`} {
		require.Regexp(t, "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$", ask(id), "%q", id)
	}
}

func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	w := bare(t, nil)
	for origin, ours := range map[string]bool{
		"http://localhost:3000": true, "http://127.0.0.1:37877": true, "https://localhost": true, "http://[::1]:8080": true,
		"http://localhost.example.org": false, "http://localhost:3000.example.org": false, "http://localhost@example.org": false,
		"https://example.org": false, "null": false, "file://": false, "http://localhost:80/path": false, "": true, "%": false,
	} {
		if origin != "" {
			require.Equal(t, ours, api.Local(origin), origin)
		}
		a := w.do(request{method: "GET", path: "/healthz", header: map[string]string{"Origin": origin}})
		require.Equal(t, "Origin", a.header.Get("Vary"))
		if ours {
			require.Equal(t, http.StatusOK, a.status, origin)
			require.Equal(t, origin, a.header.Get("Access-Control-Allow-Origin"))
			continue
		}
		require.Equal(t, http.StatusForbidden, a.status, origin)
		a.problem()
		require.Equal(t, "CORS not allowed", a.str("message"))
		require.Empty(t, a.header.Get("Access-Control-Allow-Origin"))
	}
	a := w.do(request{method: "OPTIONS", path: "/v1/events", header: map[string]string{"Origin": "http://localhost:3000"}})
	require.Equal(t, http.StatusNoContent, a.status)
	require.Equal(t, "GET,HEAD,POST,PUT,PATCH,DELETE", a.header.Get("Access-Control-Allow-Methods"))
	allowed := strings.Split(a.header.Get("Access-Control-Allow-Headers"), ",")
	require.Subset(t, allowed, []string{"Content-Type", "Authorization", "X-Requested-With"}, "theirs")
	require.Subset(t, allowed, []string{"X-Api-Key", "X-Request-Id", "Idempotency-Key", "If-None-Match", "Last-Event-ID"}, "what this API reads")
}

// TestPanic: a bug answers 500 without a word about it, and is in the log
// once, under the id that the client got.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *api.Config) {
		c.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the secret cause") })
	})
	a := w.do(request{method: "GET", path: "/metrics"})
	require.Equal(t, http.StatusInternalServerError, a.status)
	a.problem()
	require.Equal(t, "InternalError", a.str("error"))
	require.NotContains(t, a.text, "secret")
	logged := w.log.of("the secret cause")
	require.Len(t, logged, 1)
	require.Equal(t, "ERROR", logged[0]["level"])
	require.Equal(t, a.str("requestId"), logged[0]["request_id"])
}

// TestLog: one line a request, with the pattern of its route and no more of it.
func TestLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.do(request{method: "GET", path: "/v1/jobs/a-job?status=secret", key: "team", header: map[string]string{"X-Request-Id": "r1"}})
	logged := w.log.of(`"r1"`)
	require.Len(t, logged, 1)
	line := logged[0]
	require.Equal(t, "request", line["msg"])
	require.Equal(t, "INFO", line["level"])
	require.Equal(t, "GET", line["method"])
	require.Equal(t, "/v1/jobs/:id", line["route"])
	require.InDelta(t, 404, line["status"], 0)
	require.Equal(t, w.keys["team"].ID, line["key"])
	require.Contains(t, line, "took")
	require.NotContains(t, line, "err", "a refusal is no fault of ours")
	require.Empty(t, w.log.of("secret"))
	require.Empty(t, w.log.of(w.secrets["team"]))
}

// TestKeyHeaders: a bearer token wins, whatever the case of the word.
func TestKeyHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	good, bad := w.secrets["team"], w.secrets["unknown"]
	for _, test := range []struct {
		authorization, apiKey string
		want                  int
	}{
		{"Bearer " + good, "", 200},
		{"bEaReR   " + good + " ", "", 200},
		{"", good, 200},
		{"Bearer " + good, bad, 200},
		{"Bearer " + bad, good, 403},
		{"Basic dTpw", good, 200},
		{"Bearer", good, 200},
		{"Bearer", "", 401},
		{"Basic dTpw", "", 401},
		{good, "", 401},
	} {
		header := map[string]string{"Authorization": test.authorization, "X-Api-Key": test.apiKey}
		a := w.do(request{method: "GET", path: "/v1/jobs", header: header})
		require.Equal(t, test.want, a.status, "%v", test)
	}
}

// TestBodyWithoutLength: the limit holds also where the client does not say
// how much is coming, over a real connection.
func TestBodyWithoutLength(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	server := httptest.NewServer(w.http)
	t.Cleanup(server.Close)
	before := w.rows()
	post := func(path string, body string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, struct{ *bufio.Reader }{bufio.NewReader(strings.NewReader(body))})
		require.NoError(t, err)
		require.EqualValues(t, 0, req.ContentLength, "net/http must not know the length, and sends chunks")
		req.Header.Set("Authorization", "Bearer "+w.secrets["team"])
		res, err := server.Client().Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	require.Equal(t, http.StatusRequestEntityTooLarge, post("/v1/events", `{"a":"`+strings.Repeat("x", 1<<20)+`"}`))
	require.Equal(t, before, w.rows())
	require.Equal(t, http.StatusCreated, post("/v1/events", w.event("e1")))
}

// TestCutOffBody: a client that goes away in the middle leaves nothing behind.
func TestCutOffBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	server := httptest.NewServer(w.http)
	t.Cleanup(server.Close)
	before := w.rows()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	_, err = conn.Write([]byte("POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Request-Id: cut\r\nAuthorization: Bearer " + w.secrets["team"] +
		"\r\nContent-Length: 10000\r\n\r\n" + w.event("e1")))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil { // the server may find the client gone before it answers
		require.Contains(t, []int{http.StatusBadRequest, 499}, res.StatusCode) // whichever the server notices first
		require.NoError(t, res.Body.Close())
	}
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return len(w.log.of(`"cut"`)) == 1 }, time.Minute, 10*time.Millisecond)
	require.Empty(t, w.log.of(`"ERROR"`))
	require.Equal(t, before, w.rows())
}

// underWay sends an event, and comes back when the query counts one. What is
// answered may be read once done is closed.
func (w *world) underWay(ctx context.Context, path, query string) (rec *httptest.ResponseRecorder, done chan struct{}) {
	w.t.Helper()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(w.event("e1")))
	req.Header.Set("Authorization", "Bearer "+w.secrets["team"])
	rec, done = httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(done)
		w.http.ServeHTTP(rec, req)
	}()
	require.Eventually(w.t, func() bool {
		var n int
		err := w.pool.QueryRow(w.t.Context(), query).Scan(&n)
		return err == nil && n == 1
	}, time.Minute, 10*time.Millisecond)
	return rec, done
}

// TestClientLeaves: who does not wait for the answer holds nothing up, and is
// no error of ours.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	var rec *httptest.ResponseRecorder
	for range 10 {
		w := newWorld(t, func(c *api.Config) { c.WaitLimit = time.Hour })
		ctx, cancel := context.WithCancel(t.Context())
		var done chan struct{}
		rec, done = w.underWay(ctx, "/v1/events?wait=true", "SELECT count(*) FROM agent_events")
		cancel()
		select {
		case <-done:
		case <-time.After(time.Minute):
			require.FailNow(t, "the door waits for a client that is gone")
		}
		require.Empty(t, w.log.of(`"ERROR"`))
		if rec.Code != http.StatusServiceUnavailable { // as where it leaves between the commit and the door's knowing of it
			break
		}
	}
	// A server that stops cancels the same context; the client, still there,
	// learns that its event is stored.
	a := answer{t, rec.Code, rec.Header(), rec.Body.String()}
	require.Equal(t, http.StatusCreated, a.status, a.text)
	require.Equal(t, true, a.at("waitTimedOut"))
	require.Equal(t, "queued", a.str("generationJob.status"))
}

// TestDatabaseCutsConnections: what is under way then may be tried again, and
// is no fault of the program's.
func TestDatabaseCutsConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	admin, err := pgx.ConnectConfig(t.Context(), w.pool.Config().ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	for i := range 10 {
		_, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		require.NoError(t, err)
		a := w.do(request{method: "POST", path: "/v1/events", key: "team", body: w.event(fmt.Sprint(i))})
		require.Contains(t, []int{http.StatusCreated, http.StatusServiceUnavailable}, a.status, "%s\n%v", a.text, w.log.of(`"ERROR"`))
	}
	require.Eventually(t, func() bool {
		return w.do(request{method: "GET", path: "/v1/jobs", key: "team"}).status == http.StatusOK
	}, time.Minute, 10*time.Millisecond)
}

// TestDatabaseAway: a request is refused soon, as something to try again, and
// says nothing of the database.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *api.Config) { c.Timeout = time.Second }) // it is 30 s by itself
	// Every connection is in use, and none comes back: what a hung database
	// looks like from here.
	var held []func()
	for range w.pool.Config().MaxConns {
		conn, err := w.pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn.Release)
	}
	began := time.Now()
	a := w.do(request{method: "GET", path: "/v1/jobs", key: "team"})
	require.Equal(t, http.StatusServiceUnavailable, a.status, a.text)
	require.Less(t, time.Since(began), 30*time.Second)
	a.problem()
	require.Equal(t, "1", a.header.Get("Retry-After"))

	info := w.do(request{method: "GET", path: "/v1/info"})
	require.Equal(t, http.StatusOK, info.status, "info answers without a database")
	require.Equal(t, true, info.at("queueLanes.0.unavailable"))

	for _, release := range held {
		release()
	}
	require.Eventually(t, func() bool { // within a second, which a busy machine may not make
		return w.do(request{method: "GET", path: "/v1/jobs", key: "team"}).status == http.StatusOK
	}, time.Minute, 10*time.Millisecond, "it comes back by itself")
}

// TestServerStopsBeforeTheAnswer: a client that is still there is told to come
// back, and not that it left, which would be its own mistake.
func TestServerStopsBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		cause error // nil: the client left
		want  int
	}{{"the server stops", errors.New("the server stops"), http.StatusServiceUnavailable}, {"the client left", nil, 499}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			tx, err := w.pool.Begin(t.Context())
			require.NoError(t, err)
			defer tx.Rollback(context.Background()) //nolint:errcheck // it only held others up
			_, err = tx.Exec(t.Context(), "LOCK TABLE agent_events")
			require.NoError(t, err)
			ctx, cancel := context.WithCancelCause(t.Context())
			rec, done := w.underWay(ctx, "/v1/events", `SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
				WHERE datname = current_database() AND NOT granted AND relation = 'agent_events'::regclass`)
			cancel(c.cause)
			<-done
			require.Equal(t, c.want, rec.Code, rec.Body)
			require.Equal(t, c.want == http.StatusServiceUnavailable, rec.Header().Get("Retry-After") != "")
		})
	}
}
