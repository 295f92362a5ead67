package cmd_test

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/netfault"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// postgres is a server of one test alone, which may do to it what it likes.
type postgres struct {
	*embedded.Postgres
	t        *testing.T
	dir      string
	settings map[string]string
}

func newPostgres(t *testing.T, settings map[string]string) *postgres {
	t.Helper()
	dir, err := os.MkdirTemp("", "obs-pg-") //nolint:usetesting // short: the path of a socket has to fit
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) // as root it runs as another user
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return postgresIn(t, dir, settings)
}

func postgresIn(t *testing.T, dir string, settings map[string]string) *postgres {
	t.Helper()
	p := &postgres{t: t, dir: dir, settings: settings}
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *postgres) start() {
	p.t.Helper()
	var err error
	p.Postgres, err = embedded.StartPostgres(p.t.Context(), embedded.PostgresConfig{
		Dir: p.dir, BinDir: os.Getenv("OBS_PG_BIN"), NoDownload: true, Settings: p.settings,
	})
	require.NoError(p.t, err)
}

func (p *postgres) stop() {
	_ = p.Stop(context.WithoutCancel(p.t.Context())) // of one that was killed there is little to stop
}

// kill ends the server at once, with its sessions.
func (p *postgres) kill() {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "pg", "postmaster.pid"))
	require.NoError(p.t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(p.t, err)
	require.NoError(p.t, syscall.Kill(pid, syscall.SIGKILL))
	<-p.Done()
	p.stop()
}

func (p *postgres) dsn() string { return p.URL(embedded.Database) }

// rowOn is newRow on a server of the test's own, migrated.
func rowOn(t *testing.T, dsn string) *stack {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Config{URL: dsn, MaxConns: 2})
	require.NoError(t, err)
	require.NoError(t, db.Migrate(t.Context(), pool))
	pool.Close()
	s := newStackOn(t, dsn)
	s.impatient(1)
	return s
}

// proxiedPostgres puts a proxy before the database, and gives the flag that
// leads there.
func (s *stack) proxiedPostgres() (*netfault.Proxy, []string) {
	s.t.Helper()
	u, err := url.Parse(s.dsn)
	require.NoError(s.t, err)
	p := proxy(s.t, filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port")))
	u.Host, u.RawQuery = p.Addr(), "sslmode=disable"
	return p, []string{"--database-url", u.String()}
}

// Postgres is killed and started again under load.
func TestF15PostgresRestarts(t *testing.T) {
	t.Parallel()
	pg := newPostgres(t, nil)
	s := rowOn(t, pg.dsn())
	relay, worker := s.busy(100)
	pg.kill()
	require.False(t, s.tell(1000), "what is not stored is not accepted")
	pg.start()
	n := 100
	s.eventually("the door opens again", func() bool { return s.tell(1000) })
	s.send(n, 50)
	s.whole(n + 51)
	for _, p := range []*proc{relay, worker} {
		require.Nil(t, p.cmd.ProcessState, "%s goes on", p.name)
	}
}

// Every session of ours is ended by the server, again and again.
func TestF15SessionsTerminated(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	relay, worker := s.busy(100)
	for round := range 5 {
		for n := range 20 {
			s.eventually("an event is accepted", func() bool { return s.tell(1000 + 20*round + n) })
		}
		s.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	s.whole(200)
	for _, p := range []*proc{relay, worker} {
		require.Nil(t, p.cmd.ProcessState, "%s goes on", p.name)
	}
}

// The database breaks off what settles jobs, for reasons that say nothing
// about the jobs.
func TestF16SettlingBrokenOff(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.sql(`CREATE SEQUENCE broken;
		CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE n bigint := nextval('broken');
		BEGIN
			IF n <= 12 THEN
				RAISE EXCEPTION 'broken off' USING ERRCODE = (ARRAY['40P01', '40001', '57014', '53100'])[n % 4 + 1];
			END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER break_off BEFORE INSERT ON observations FOR EACH ROW EXECUTE FUNCTION break_off()`)
	s.server()
	s.relay(calm)
	s.worker(calm)
	s.send(0, 30)
	s.whole(30)
	require.Equal(t, 30, s.history("processing"), "no attempt was lost by it")
}

// The worker loses Postgres while a handler runs, for longer than its lease:
// another one does the job, and the result of the first is thrown away.
func TestF18WorkerLosesPostgres(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	net, via := s.proxiedPostgres()
	worker := s.moodyWorker(`{"slowMs":2000}`, via...)
	s.send(0, 20)
	s.eventually("they are in hand", func() bool { return s.jobs("processing") > 0 })
	net.Cut()
	s.worker()
	s.settled(20)
	require.NotZero(t, s.history("reclaimed"))
	net.Heal()
	s.eventually("it has noticed", func() bool { return worker.says("the lease is lost") && worker.says("the lease is back") })
	s.send(20, 20)
	s.whole(40)
}

// The worker loses Postgres with messages in hand that it has not claimed yet:
// without a lease it lets go of them.
func TestF18WorkerCannotClaim(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	net, via := s.proxiedPostgres()
	worker := s.start("obs-worker", append(via, "--lease", lease, "--slots", "event=20")...)
	s.send(0, 1)
	s.settled(1)
	net.Cut()
	s.send(1, 20)
	s.eventually("it has messages, and no jobs", func() bool { // on a slow machine it may know before that it should take none
		return worker.says("the ledger does not answer") || worker.says("the lease is lost")
	})
	s.worker()
	s.settled(21)
	net.Heal()
	s.eventually("it has noticed", func() bool { return worker.says("the lease is back") })
	s.send(21, 20)
	s.whole(41)
	s.noneTwice()
}

// The connection is cut while the COMMIT is under way: it is stored, and
// nobody was told. Once for a worker's results, once for a client's event.
func TestX01CommitOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	for _, table := range []string{"observations", "agent_events"} {
		s.sql(`CREATE OR REPLACE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
			CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON ` + table + ` DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION slow_commit()`)
	}
	conn, err := pgx.Connect(t.Context(), s.dsn)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	hold := func() {
		_, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock(4711)`)
		require.NoError(t, err)
	}
	release := func() {
		_, err := conn.Exec(t.Context(), `SELECT pg_advisory_unlock(4711)`)
		require.NoError(t, err)
	}
	waits := func() { // not the first, which waits for no lock longer than 50 ms
		s.eventually("a COMMIT is under way", func() bool {
			return s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
				AND wait_event = 'advisory' AND lower(query) LIKE 'commit%' AND query_start < clock_timestamp() - interval '300 ms'`) > 0
		})
	}
	net, via := s.proxiedPostgres()
	s.start("obs", append([]string{"server"}, via...)...)
	s.relay()
	s.start("obs-worker", append(via, "--lease", lease, "--slots", "event=20")...)

	hold()
	answered := make(chan bool, 1)
	go func() {
		code, _ := s.post("/v1/events", s.event(0))
		answered <- code == http.StatusCreated
	}()
	waits()
	net.Cut() // and no way for the client to have the COMMIT broken off
	require.False(t, <-answered, "nobody knows")
	release()
	s.eventually("it was stored", func() bool { return s.count(`SELECT count(*) FROM agent_events`) == 1 })
	net.Heal()
	s.eventually("the client sends it again", func() bool { return s.tell(0) })
	require.Equal(t, 1, s.count(`SELECT count(*) FROM observation_generation_jobs`))
	s.settled(1)

	s.send(1, 1)
	s.settled(2)
	release2 := s.held("observations") // so that the job is done and its result waits
	s.send(2, 10)
	s.eventually("results wait", func() bool { return s.storing("observations") > 0 })
	hold()
	release2()
	waits()
	net.Cut()
	release()
	s.eventually("some were stored", func() bool { return s.jobs("completed") > 2 })
	net.Heal()
	s.whole(12)
}

// Others take every connection that Postgres has.
func TestX02PostgresOutOfConnections(t *testing.T) {
	t.Parallel()
	pg := newPostgres(t, map[string]string{"max_connections": "40", "superuser_reserved_connections": "3"})
	s := rowOn(t, pg.dsn())
	// Our programs are not the superuser, whose last places are for mending.
	s.sql(`CREATE ROLE app LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
		GRANT ALL ON SCHEMA public TO app`)
	u, err := url.Parse(s.dsn)
	require.NoError(t, err)
	u.User = url.User("app")
	own := []string{"--database-url", u.String()}
	s.start("obs", append([]string{"server"}, own...)...)
	s.start("obs-relay", append(own, "--lease", lease)...)
	worker := s.start("obs-worker", append(own, "--lease", lease, "--slots", "event=20")...)
	s.send(0, 50)
	var hogs []*pgx.Conn
	for range 200 { // as ours are ended, others are faster
		conn, err := pgx.Connect(t.Context(), u.String())
		if err != nil {
			require.ErrorContains(t, err, "connection")
			s.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'obs%' AND pid <> pg_backend_pid() AND usename = 'app'`)
			if len(hogs) >= 36 {
				break
			}
			continue
		}
		hogs = append(hogs, conn)
	}
	require.Greater(t, len(hogs), 30)
	s.eventually("the door says so", func() bool {
		code, _ := s.post("/v1/events", s.event(1000))
		return code == http.StatusServiceUnavailable
	})
	for _, conn := range hogs {
		require.NoError(t, conn.Close(t.Context()))
	}
	s.eventually("the door opens again", func() bool { return s.tell(1000) })
	s.whole(51)
	require.Nil(t, worker.cmd.ProcessState, "it goes on")
}

// Yesterday's dump is restored, beside the broker of today.
func TestF29RestoredFromADump(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	relay, worker := s.relay(), s.worker()
	s.send(0, 30)
	s.settled(30)
	tool := func(program string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), filepath.Join(binaries(t), program), args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	dump := filepath.Join(t.TempDir(), "dump")
	tool("pg_dump", "-Fc", "-f", dump, s.dsn)

	require.Zero(t, worker.end(t, syscall.SIGTERM, patience))
	s.send(30, 30) // after the dump; some of it is on the stream
	js := s.js()
	s.eventually("30 are on the stream", func() bool { return s.onJobs(js) == 30 })
	require.Zero(t, relay.end(t, syscall.SIGTERM, patience))
	after := s.accepted[30:]
	s.accepted = s.accepted[:30] // the dump does not know of the others
	s.pool.Close()

	s.dsn = testenv.EmptyPostgres(t)
	tool("pg_restore", "--no-owner", "-d", s.dsn, dump)
	pool, err := db.Open(t.Context(), db.Config{URL: s.dsn, MaxConns: 3})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s.pool = pool
	// What docs/reliability.md says: EVENTS tells of what is no more, so it goes.
	require.NoError(t, js.DeleteStream(t.Context(), "EVENTS"))
	s.eventsLost()
	s.server()
	s.relay()
	worker = s.worker()
	s.eventually("the messages of jobs that nobody knows are ended", func() bool { return s.onJobs(js) == 0 })
	require.True(t, worker.says("refused"))
	s.send(60, 30)
	for n := range after {
		require.True(t, s.tell(30+n), "clients may send again what is missing")
	}
	s.whole(90)
}

// binaries is the folder of Postgres' programs.
func binaries(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("OBS_PG_BIN"); dir != "" {
		return dir
	}
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	require.NoError(t, err)
	if len(dirs) > 0 {
		return dirs[len(dirs)-1]
	}
	path, err := exec.LookPath("pg_dump")
	require.NoError(t, err)
	return filepath.Dir(path)
}
