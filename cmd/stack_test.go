package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

const (
	patience = 3 * time.Minute // for what has to happen in the end
	look     = 20 * time.Millisecond
	lease    = "4s"
	calm     = "--lease=1m" // where no lease is to run out, however slow the machine
)

// proc is one of our programs, or nats-server, as a process.
type proc struct {
	name string
	url  string // where it answers, if it is one of ours
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
}

// output collects what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// run starts a program. It is killed when the test ends, and what it printed
// is shown when the test has failed.
func run(t *testing.T, name string, args ...string) *proc {
	t.Helper()
	return runWith(t, nil, name, args...)
}

// runWith is run with variables on top of our own.
func runWith(t *testing.T, env []string, name string, args ...string) *proc {
	t.Helper()
	p := &proc{name: name, out: &output{}, done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(bin, name), args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // the exit code is read from ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %v printed:\n%s", name, args, p.out)
		}
	})
	return p
}

func (p *proc) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill sends SIGKILL and waits until the process is gone.
func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// end sends a signal and gives the exit code.
func (p *proc) end(t *testing.T, sig syscall.Signal, within time.Duration) int {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
	return p.exit(t, within)
}

// exit waits until the process ends by itself.
func (p *proc) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		require.Fail(t, "it does not end", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// stack is an outside Postgres and an outside nats-server with a tenant, and
// the programs that a test starts on them.
type stack struct {
	t        *testing.T
	dsn      string
	pool     *pgxpool.Pool
	broker   *proc
	natsDir  string
	natsConf string // the broker's configuration; empty: none
	port     int    // the broker's
	nats     string // its URL, or those of its servers, where there are several; empty: that of the port
	api      string
	key      string
	project  string
	team     string

	lost     time.Time // when EVENTS last lost something
	promised sync.Mutex
	accepted []string // events

	requestID string // goes with what post sends; empty: the server makes one
}

func newStack(t *testing.T) *stack {
	t.Helper()
	return newStackOn(t, testenv.Postgres(t))
}

// newStackOn is newStack with a database of the test's own.
func newStackOn(t *testing.T, dsn string) *stack {
	t.Helper()
	s := &stack{t: t, dsn: dsn, natsDir: t.TempDir(), port: freePort(t)}
	s.startBroker()
	pool, err := db.Open(t.Context(), db.Config{URL: s.dsn, MaxConns: 3})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s.pool = pool
	s.tenantNamed("e2e")
	return s
}

// tenantNamed makes a team with a project and a key, which are used from now on.
func (s *stack) tenantNamed(name string) {
	s.t.Helper()
	t := s.t
	var err error
	svc := observe.New(observe.Config{Pool: s.pool, Jobs: db.NewJobs(s.pool, db.JobsConfig{})})
	s.team, s.project, err = svc.EnsureLocal(t.Context(), name)
	require.NoError(t, err)
	_, s.key, err = svc.IssueKey(t.Context(), s.team, s.project, "e2e", "e2e", []string{observe.ScopeRead, observe.ScopeWrite}, time.Time{})
	require.NoError(t, err)
}

func (s *stack) natsURL() string {
	if s.nats != "" {
		return s.nats
	}
	return fmt.Sprintf("nats://127.0.0.1:%d", s.port)
}

func (s *stack) startBroker() {
	s.t.Helper()
	args := []string{"-js", "-sd", s.natsDir, "-a", "127.0.0.1", "-p", fmt.Sprint(s.port)}
	if s.natsConf != "" {
		args = append(args, "-c", s.natsConf)
	}
	s.broker = run(s.t, "nats-server", args...)
	require.Eventually(s.t, func() bool {
		nc, err := nats.Connect(s.natsURL())
		if err == nil {
			nc.Close()
		}
		return err == nil
	}, patience, look, "nats-server is up")
}

func (s *stack) js() jetstream.JetStream {
	s.t.Helper()
	nc, err := nats.Connect(s.natsURL(), nats.Timeout(patience))
	require.NoError(s.t, err)
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(s.t, err)
	return js
}

// start runs one of our programs on the stack, and waits until it answers.
func (s *stack) start(name string, args ...string) *proc {
	s.t.Helper()
	return s.startWith(nil, name, args...)
}

// faulty is start of a program that was built for the fault tests, with a plan
// of what goes wrong in it.
func (s *stack) faulty(plan, name string, args ...string) *proc {
	s.t.Helper()
	return s.startWith([]string{"OBS_FAULTS=" + plan}, filepath.Join("faults", name), args...)
}

func (s *stack) startWith(env []string, name string, args ...string) *proc {
	s.t.Helper()
	p := s.launch(env, name, args...)
	require.Eventually(s.t, func() bool {
		code, _ := get(s.t, p.url+"/healthz", "")
		return code == http.StatusOK || p.ended()
	}, patience, look, name+" answers")
	require.False(s.t, p.ended(), "%s ended: %s", name, p.out)
	return p
}

// launch is startWith of a program that may end before it answers.
func (s *stack) launch(env []string, name string, args ...string) *proc {
	s.t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(s.t))
	if filepath.Base(name) == "obs" {
		s.api = "http://" + addr
	}
	all := slices.Concat(args, []string{"--addr", addr})
	for flag, url := range map[string]string{"--database-url": s.dsn, "--nats-url": s.natsURL()} {
		if !slices.Contains(args, flag) {
			all = append(all, flag, url)
		}
	}
	p := runWith(s.t, env, name, all...)
	p.url = "http://" + addr
	return p
}

func (s *stack) server() *proc { s.t.Helper(); return s.start("obs", "server") }
func (s *stack) relay(args ...string) *proc {
	s.t.Helper()
	return s.start("obs-relay", append([]string{"--lease", lease}, args...)...)
}

func (s *stack) worker(args ...string) *proc {
	s.t.Helper()
	return s.start("obs-worker", append([]string{"--lease", lease, "--slots", "event=20", "--worker-name", "e2e"}, args...)...)
}

func get(t *testing.T, url, key string) (int, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	return do(t, req, key)
}

func do(t *testing.T, req *http.Request, key string) (int, []byte) {
	t.Helper()
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return res.StatusCode, body
}

func (s *stack) post(path string, body any) (int, []byte) {
	s.t.Helper()
	b, err := json.Marshal(body)
	require.NoError(s.t, err)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.api+path, bytes.NewReader(b))
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", "application/json")
	if s.requestID != "" {
		req.Header.Set("X-Request-Id", s.requestID)
	}
	return do(s.t, req, s.key)
}

// event is a command that failed, so that something is worth noting.
func (s *stack) event(n int) map[string]any {
	return map[string]any{
		"projectId": s.project, "sourceType": "hook", "eventType": "tool_use",
		"occurredAtEpoch": 1_795_435_200_000 + n, "contentSessionId": "e2e",
		"payload": map[string]any{
			"tool_name":     "Bash",
			"tool_input":    map[string]any{"command": fmt.Sprintf("go test ./part%d", n)},
			"tool_response": map[string]any{"exit_code": 1, "stdout": fmt.Sprintf("--- FAIL: TestPart%d (0.01s)\n    part_test.go:%d: two leaders", n, n+1)},
		},
	}
}

// storing is how many transactions of workers wait for a table that is held.
// The databases of all tests are copies of one, and so are the numbers of their
// tables: those of others' are in pg_locks as well.
func (s *stack) storing(table string) int {
	s.t.Helper()
	return s.count(`SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.datname = current_database() AND a.application_name = 'obs-worker'
		  AND l.relation = CAST($1 AS text)::regclass AND NOT l.granted`, table)
}

// waiting is how many transactions of a program wait for one of another's.
func (s *stack) waiting(program, other string) int {
	s.t.Helper()
	return s.count(`SELECT count(*) FROM pg_stat_activity a WHERE a.datname = current_database() AND a.application_name = $1
		AND EXISTS (SELECT FROM unnest(pg_blocking_pids(a.pid)) pid JOIN pg_stat_activity b USING (pid) WHERE b.application_name = $2)`, program, other)
}

// send posts n events, numbered from first, a hundred at a time.
func (s *stack) send(first, n int) {
	s.t.Helper()
	for at := first; at < first+n; at += 100 {
		var batch []any
		for i := at; i < min(at+100, first+n); i++ {
			batch = append(batch, s.event(i))
		}
		code, body := s.post("/v1/events/batch", batch)
		require.Equal(s.t, http.StatusCreated, code, "%s", body)
		s.accept(body)
	}
}

// accept keeps what the API has promised.
func (s *stack) accept(body []byte) {
	s.t.Helper()
	var answer struct {
		Event  struct{ ID string }
		Events []struct{ Event struct{ ID string } }
	}
	require.NoError(s.t, json.Unmarshal(body, &answer))
	s.promised.Lock()
	defer s.promised.Unlock()
	if answer.Event.ID != "" {
		s.accepted = append(s.accepted, answer.Event.ID)
	}
	for _, one := range answer.Events {
		s.accepted = append(s.accepted, one.Event.ID)
	}
}

// kept verifies that no event is missing that the API has accepted, and that
// each has a job that came to an end.
func (s *stack) kept() {
	s.t.Helper()
	s.promised.Lock()
	defer s.promised.Unlock()
	require.NotEmpty(s.t, s.accepted)
	slices.Sort(s.accepted)
	s.accepted = slices.Compact(s.accepted)
	require.Equal(s.t, len(s.accepted), s.count(`SELECT count(DISTINCT e.id) FROM agent_events e JOIN observation_generation_jobs j
		ON j.source_id = e.id AND j.team_id = e.team_id WHERE e.id = ANY($1) AND j.status IN ('completed', 'failed', 'cancelled')`, s.accepted),
		"what the API accepted is there and done")
}

// whole is the end of a row of the fault matrix: n jobs done, each once,
// nothing promised missing, and obs check has nothing to say.
func (s *stack) whole(n int) {
	s.t.Helper()
	s.settled(n)
	s.once(n)
	s.kept()
	s.check()
}

// count runs a query that gives one number.
func (s *stack) count(sql string, args ...any) int {
	s.t.Helper()
	var n int
	var err error
	for range 20 { // after a restart of Postgres each of the pool's connections may be dead
		if err = s.pool.QueryRow(s.t.Context(), sql, args...).Scan(&n); err == nil {
			break
		}
	}
	require.NoError(s.t, err)
	return n
}

func (s *stack) jobs(status string) int {
	s.t.Helper()
	return s.count(`SELECT count(*) FROM observation_generation_jobs WHERE status = $1`, status)
}

// settled waits until n jobs are completed and nothing is left to do or tell.
func (s *stack) settled(n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		return s.jobs("completed") == n && s.count(`SELECT count(*) FROM job_feed`) == 0
	}, patience, look, "%d jobs are completed", n)
	require.Equal(s.t, n, s.count(`SELECT count(*) FROM observation_generation_jobs`))
}

// once verifies that each job was completed once, and each event has exactly
// the observations of one completion.
func (s *stack) once(n int) {
	s.t.Helper()
	require.Equal(s.t, n, s.count(`SELECT count(*) FROM observation_generation_job_events WHERE event_type = 'completed'`))
	require.Equal(s.t, n, s.count(`SELECT count(DISTINCT source_id) FROM observation_sources`))
	require.Equal(s.t, n, s.count(`SELECT count(*) FROM observations`))
}

// check is the house's own word on what the test left behind.
func (s *stack) check() {
	s.t.Helper()
	var p *proc
	// The last acks may still be on their way to the broker.
	require.Eventually(s.t, func() bool {
		args := []string{"check", "--quiet-system", "--database-url", s.dsn, "--nats-url", s.natsURL()}
		if !s.lost.IsZero() {
			args = append(args, "--events-since", s.lost.Format(time.RFC3339Nano))
		}
		p = run(s.t, "obs", args...)
		return p.exit(s.t, patience) == 0
	}, patience, 200*time.Millisecond, "obs check is clean")
	require.Contains(s.t, p.out.String(), "0 findings")
}

// held locks a table until the test releases it, so that whoever writes to it
// hangs in the middle of what it does.
func (s *stack) held(table string) (release func()) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.dsn)
	require.NoError(s.t, err)
	_, err = conn.Exec(s.t.Context(), `BEGIN; LOCK TABLE `+table+` IN SHARE MODE`)
	require.NoError(s.t, err)
	var once sync.Once
	release = func() { once.Do(func() { _ = conn.Close(context.Background()) }) }
	s.t.Cleanup(release)
	return release
}
