//go:build slow

package cmd_test

// The rows that take long: `task faults` runs them, `task check` the others.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
)

// The clock of the relay's host is an hour slow, that of the worker's an hour
// fast: the programs are built with a package time that is off by what a
// variable says. Only Postgres' clock decides anything.
func TestF19ClocksAreOff(t *testing.T) {
	t.Parallel()
	buildOff(t)
	s := newRow(t)
	s.server()
	clock := func(off int) []string { return []string{fmt.Sprintf("OBS_TEST_CLOCK=%d", off)} }
	relay := s.startWith(clock(-3600), "clocks/obs-relay", "--lease", lease)
	worker := s.startWith(clock(3600), "clocks/obs-worker", "--lease", lease, "--slots", "event=20")
	s.startWith(clock(-3600), "clocks/obs-worker", "--lease", lease, "--slots", "event=20")
	require.True(t, relay.says(time.Now().UTC().Add(-time.Hour).Format("2006-01-02T15:")), "its clock is off: %s", relay.out)
	s.send(0, 100)
	s.settled(100)
	require.Zero(t, s.history("reclaimed"), "no lease ran out")
	release := s.held("observations")
	s.send(100, 50)
	s.eventually("results are being stored", func() bool { return s.storing("observations") > 0 })
	worker.kill()
	release()
	s.whole(150)
	require.Zero(t, s.count(`SELECT count(*) FROM observation_generation_job_events WHERE at > now() OR at < now() - interval '30 minutes'`))
}

// buildOff builds the programs whose clock can be off. The first time this
// compiles the standard library anew; then Go's cache has it.
func buildOff(t *testing.T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	require.NoError(t, err)
	root := strings.TrimSpace(string(out))
	source := filepath.Join(root, "src", "time", "time.go")
	text, err := os.ReadFile(source)
	require.NoError(t, err)
	const now = "	sec, nsec, mono := runtimeNow()\n"
	require.Equal(t, 1, strings.Count(string(text), now), "time.Now of %s is another one", runtime.Version())
	dir := filepath.Join(bin, "clocks")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	files := map[string]string{
		"time.go": strings.Replace(string(text), now, now+"	sec += clockOff\n", 1),
		"off.go": `package time

import "syscall"

// clockOff is how many seconds this process' clock is off.
var clockOff = func() (n int64) {
	s, _ := syscall.Getenv("OBS_TEST_CLOCK")
	sign := int64(1)
	for i := range len(s) {
		if s[i] == '-' {
			sign = -1
		} else {
			n = 10*n + int64(s[i]-'0')
		}
	}
	return sign * n
}()
`,
	}
	replace := map[string]string{source: filepath.Join(dir, "time.go"), filepath.Join(filepath.Dir(source), "obs_off.go"): filepath.Join(dir, "off.go")}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", dir+string(os.PathSeparator), "./obs-relay", "./obs-worker")
	out, err = build.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The primary is lost, and its synchronous replica takes its place: the
// database URL names both.
func TestF15PostgresFailsOver(t *testing.T) {
	t.Parallel()
	primary := newPostgres(t, nil)
	dir, err := os.MkdirTemp("", "obs-pg-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	s := rowOn(t, primary.dsn())
	owner := ownerOf(t, filepath.Join(primary.dir, "pg"))
	require.NoError(t, os.Chown(dir, int(owner.Uid), int(owner.Gid)))
	backup := exec.CommandContext(t.Context(), filepath.Join(primary.BinDir, "pg_basebackup"),
		"-d", primary.dsn(), "-D", filepath.Join(dir, "pg"), "-R", "-X", "stream", "-c", "fast")
	backup.SysProcAttr, backup.Dir = &syscall.SysProcAttr{Credential: owner}, dir
	out, err := backup.CombinedOutput()
	require.NoError(t, err, "%s", out)
	replica := postgresIn(t, dir, map[string]string{"hot_standby": "on"})
	s.sql(`ALTER SYSTEM SET synchronous_standby_names = '*'`)
	s.sql(`SELECT pg_reload_conf()`)
	s.eventually("it follows", func() bool { return s.count(`SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`) == 1 })

	both := func(p *postgres) string { u, _ := url.Parse(p.dsn()); return u.Query().Get("host") }
	first, second := both(primary), both(replica)
	u, err := url.Parse(s.dsn)
	require.NoError(t, err)
	q := u.Query()
	q.Set("host", first+","+second)
	q.Set("port", q.Get("port")+","+q.Get("port"))
	q.Set("target_session_attrs", "read-write")
	u.RawQuery = q.Encode()
	s.dsn = u.String()
	s.busy(100)
	primary.kill()
	conn, err := pgx.Connect(t.Context(), replica.dsn())
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), `ALTER SYSTEM SET synchronous_standby_names = ''`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `SELECT pg_reload_conf(), pg_promote()`)
	require.NoError(t, err)
	pool, err := db.Open(t.Context(), db.Config{URL: s.dsn, MaxConns: 3})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s.pool = pool
	s.eventually("the door opens again", func() bool { return s.tell(1000) })
	s.whole(101)
}

func ownerOf(t *testing.T, path string) *syscall.Credential {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	stat := info.Sys().(*syscall.Stat_t)
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
}

// newCluster is newRow with three brokers in place of the one.
func newCluster(t *testing.T) (s *stack, nodes []*node) {
	t.Helper()
	s = newStack(t)
	s.broker.kill()
	var routes, urls []string
	for i := range 3 {
		n := &node{s: s, name: fmt.Sprintf("n%d", i), dir: t.TempDir(), port: freePort(t), route: freePort(t)}
		nodes = append(nodes, n)
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", n.route))
		urls = append(urls, n.url())
	}
	s.nats = strings.Join(urls, ",")
	for _, n := range nodes {
		n.routes = strings.Join(routes, ",")
		n.start()
	}
	s.impatient(3)
	return s, nodes
}

type node struct {
	s           *stack
	name, dir   string
	port, route int
	routes      string
	*proc
}

func (n *node) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.port) }

func (n *node) start() {
	n.s.t.Helper()
	n.proc = run(n.s.t, "nats-server", "-js", "-sd", n.dir, "-n", n.name, "-a", "127.0.0.1", "-p", fmt.Sprint(n.port),
		"-cluster_name", "c", "-cluster", fmt.Sprintf("nats://127.0.0.1:%d", n.route), "-routes", n.routes)
	n.s.eventually(n.name+" is up", func() bool {
		nc, err := nats.Connect(n.url())
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}

func (s *stack) startReplicated() (relay, worker *proc) {
	s.t.Helper()
	s.start("obs", "server", "--nats-replicas", "3")
	return s.start("obs-relay", "--lease", lease, "--nats-replicas", "3"),
		s.start("obs-worker", "--lease", lease, "--slots", "event=20", "--nats-replicas", "3")
}

// leader is the node that leads a stream.
func (s *stack) leader(stream string) string {
	s.t.Helper()
	nc, err := nats.Connect(s.natsURL(), nats.Timeout(patience))
	if err != nil {
		return ""
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(s.t, err)
	st, err := js.Stream(s.t.Context(), stream)
	if err != nil || st.CachedInfo().Cluster == nil {
		return ""
	}
	return st.CachedInfo().Cluster.Leader
}

// Of three brokers the streams' leaders are moved under load, then one node
// is killed, then two, which leaves no majority.
func TestF11ClusterLosesNodes(t *testing.T) {
	t.Parallel()
	s, nodes := newCluster(t)
	s.startReplicated()
	s.send(0, 100)
	for _, stream := range []string{"JOBS", "EVENTS"} {
		before := ""
		s.eventually(stream+" has a leader", func() bool { before = s.leader(stream); return before != "" })
		nc, err := nats.Connect(s.natsURL(), nats.Timeout(patience))
		require.NoError(t, err)
		_, err = nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, patience)
		require.NoError(t, err)
		nc.Close()
		s.send(s.sent(), 50)
		s.eventually("another one leads", func() bool { now := s.leader(stream); return now != "" && now != before })
	}
	s.settled(200)

	lead := s.leader("JOBS")
	for i, n := range nodes {
		if n.name == lead {
			nodes[0], nodes[i] = nodes[i], nodes[0]
		}
	}
	nodes[0].kill()
	s.send(200, 100)
	s.settled(300) // two of three go on
	nodes[1].kill()
	s.send(300, 100) // no majority: the door takes it, and it waits
	nodes[0].start()
	nodes[1].start()
	s.settled(400)
	s.whole(400)
}

// sent is how many events were accepted so far.
func (s *stack) sent() int {
	s.promised.Lock()
	defer s.promised.Unlock()
	return len(s.accepted)
}
