package hook_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/hook"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// What the road to the server does to a request.
const (
	up     int32 = iota
	down         // the connection breaks before the server has it
	lost         // the server has it, and the answer does not come back
	errs         // 500 in place of an answer
	busy         // 503
	limits       // 429
	hangs        // nothing comes back until the client has gone
	login        // a proxy's page, with 200
	away         // a redirect
)

// world is a server on a database of its own, behind a road that breaks.
type world struct {
	t       *testing.T
	pool    *pgxpool.Pool
	svc     *observe.Service
	road    atomic.Int32
	calls   atomic.Int32
	url     string
	team    string
	project string
	key     string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, pool: testenv.Pool(t)}
	w.svc = observe.New(observe.Config{Pool: w.pool, Jobs: db.NewJobs(w.pool, db.JobsConfig{Process: "hook-test"})})
	door := api.New(api.Config{Service: w.svc})
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.calls.Add(1)
		switch w.road.Load() {
		case up:
			door.ServeHTTP(rw, r)
		case down:
			panic(http.ErrAbortHandler)
		case lost:
			door.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case errs:
			rw.WriteHeader(http.StatusInternalServerError)
		case busy:
			rw.WriteHeader(http.StatusServiceUnavailable)
		case limits:
			rw.Header().Set("Retry-After", "20")
			rw.WriteHeader(http.StatusTooManyRequests)
		case hangs:
			_, _ = new(bytes.Buffer).ReadFrom(r.Body)
			<-r.Context().Done()
		case login:
			_, _ = rw.Write([]byte("<html>Please sign in</html>"))
		case away:
			http.Redirect(rw, r, "/login", http.StatusFound)
		}
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	var err error
	w.team, w.project, err = w.svc.EnsureLocal(t.Context(), "hooks")
	require.NoError(t, err)
	_, w.key, err = w.svc.IssueKey(t.Context(), w.team, w.project, "hook", "hook", []string{observe.ScopeRead, observe.ScopeWrite}, time.Time{})
	require.NoError(t, err)
	return w
}

func (w *world) config(dir string) hook.Config {
	return hook.Config{URL: w.url, Key: w.key, Project: w.project, Dir: dir}
}

// call runs a hook and gives what it printed.
func (w *world) call(c hook.Config, event, input string) string {
	w.t.Helper()
	out, err := runHook(w.t, c, event, input)
	require.NoError(w.t, err)
	return out
}

func runHook(t *testing.T, c hook.Config, event, input string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := hook.Run(t.Context(), hook.Call{
		Event: event, Timeout: 3 * time.Minute, Stdin: strings.NewReader(input), Stdout: &out,
		Configure: func(string) (hook.Config, error) { return c, nil },
	})
	return out.String(), err
}

func (w *world) count(sql string, args ...any) int {
	w.t.Helper()
	var n int
	require.NoError(w.t, w.pool.QueryRow(w.t.Context(), sql, args...).Scan(&n))
	return n
}

// input is a hook's JSON from testdata, with some members changed.
func input(t *testing.T, event string, change map[string]any) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", event+".json"))
	require.NoError(t, err)
	transcript, err := filepath.Abs(filepath.Join("testdata", "transcript.jsonl"))
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(text, &m))
	m["transcript_path"] = transcript
	maps.Copy(m, change)
	text, err = json.Marshal(m)
	require.NoError(t, err)
	return string(text)
}

// files lists a folder of the spool.
func files(t *testing.T, dir, folder string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, folder, "*.json"))
	require.NoError(t, err)
	return found
}
