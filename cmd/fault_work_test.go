package cmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
)

// Each message comes four times, in any order.
func TestF20EveryMessageManyTimes(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	s.send(0, 50)
	js := s.js()
	s.eventually("50 are on the stream", func() bool { return s.onJobs(js) == 50 })
	asks := s.asks()
	copies := append(append(append([]events.Envelope{}, asks...), asks...), asks...)
	rand.Shuffle(len(copies), func(i, j int) { copies[i], copies[j] = copies[j], copies[i] })
	for i, e := range copies {
		_, err := js.Publish(t.Context(), "jobs.event", e.Marshal())
		require.NoError(t, err)
		if i == len(copies)/2 {
			s.worker()
		}
	}
	s.worker()
	s.whole(50)
	s.noneTwice()
}

// One tenant floods a lane, whose slots are all busy with slow handlers;
// another one's single job is soon begun all the same.
func TestF21OneTenantFloods(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	relay := s.relay()
	const flood = 5000
	s.send(0, flood)
	s.moodyWorker(`{"slowMs":40}`)
	s.eventually("the flood is under way", func() bool { return s.jobs("completed") > 50 })
	crowd := s.accepted
	busyTeam, busyProject, busyKey := s.team, s.project, s.key
	s.tenantNamed("quiet")
	require.NotEqual(t, busyTeam, s.team)
	before := s.jobs("completed")
	require.True(t, s.tell(1))
	quiet := s.accepted[len(crowd):]
	done := `SELECT count(*) FROM observation_generation_jobs WHERE source_id = ANY($1) AND status = 'completed'`
	s.eventually("the quiet tenant's job is done", func() bool { return s.count(done, quiet) == 1 })
	ahead := s.jobs("completed") - before
	var window int
	for _, l := range s.lanes(relay) {
		window = max(window, l.Window)
	}
	t.Logf("%d jobs of the flood were done before it; the lane's window is %d", ahead, window)
	require.NotZero(t, window)
	require.Less(t, ahead, 3*window+100, "what was on its way, and not the flood")
	require.Less(t, s.jobs("completed"), flood, "the flood is not over")
	s.team, s.project, s.key = busyTeam, busyProject, busyKey
	s.worker("--slots", "event=200")
	s.whole(flood + 1)
}

type laneInfo struct{ Window int }

func (s *stack) lanes(relay *proc) []laneInfo {
	s.t.Helper()
	_, body := get(s.t, relay.url+"/v1/info", "")
	var info struct{ Lanes []laneInfo }
	require.NoError(s.t, json.Unmarshal(body, &info), "%s", body)
	return info.Lanes
}

// Poison: whatever a job does to its handler or to the process, its attempts
// come to an end and other jobs are done.
func TestF23Poison(t *testing.T) {
	t.Parallel()
	poisoned := func(t *testing.T) *stack {
		s := newRow(t)
		s.start("obs", "server", "--max-attempts", "2")
		s.relay()
		return s
	}
	failed := func(s *stack, reason string) {
		t := s.t
		t.Helper()
		s.eventually("it has failed", func() bool { return s.jobs("failed") == 1 })
		require.Equal(t, 1, s.count(`SELECT count(*) FROM observation_generation_jobs WHERE status = 'failed' AND attempts = 2
			AND last_error::text LIKE '%' || $1 || '%'`, reason), "its reason is %s", reason)
		s.worker()
		s.send(1, 20)
		s.eventually("the others are done", func() bool { return s.jobs("completed") == 20 && s.count(`SELECT count(*) FROM job_feed`) == 0 })
		s.kept()
		s.check()
	}
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		s := poisoned(t)
		worker := s.faulty("handler.asking=panic@1+", "obs-worker", "--lease", lease, "--slots", "event=20")
		s.send(0, 1)
		s.eventually("it has failed", func() bool { return s.jobs("failed") == 1 })
		require.Nil(t, worker.cmd.ProcessState, "it lives")
		require.Zero(t, worker.end(t, syscall.SIGTERM, patience))
		failed(s, "panic")
	})
	for _, way := range []string{"exit", "memory"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := poisoned(t)
			s.send(0, 1)
			died := 0
			for { // whoever supervises workers starts them again
				worker := s.doomed(way)
				s.eventually("it ends, or has nothing to do", func() bool { return worker.ended() || s.jobs("failed") == 1 })
				if !worker.ended() {
					worker.kill()
					break
				}
				worker.dies(t)
				died++
			}
			require.Contains(t, []int{2, 3}, died, "one may have claimed nothing, where it was soon")
			failed(s, "was lost")
		})
	}
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		s := poisoned(t)
		worker := s.faulty("handler.asking=hang@1+", "obs-worker", "--lease", lease, "--slots", "event=1", "--job-timeout", "1s")
		s.send(0, 1)
		s.eventually("it has failed", func() bool { return s.jobs("failed") == 1 })
		require.Nil(t, worker.cmd.ProcessState, "it lives")
		worker.kill()
		failed(s, "too long")
	})
}

// doomed is a worker that its first job ends, perhaps before it answers. It
// gets no more than 3 GB of address space where it is to use up its memory.
func (s *stack) doomed(way string) *proc {
	s.t.Helper()
	worker := "faults/obs-worker"
	if way == "memory" {
		worker = "faults/limited-worker"
		script := filepath.Join(bin, worker)
		text := fmt.Sprintf("#!/bin/sh\nulimit -v 3000000\nexec %q \"$@\"\n", filepath.Join(bin, "faults", "obs-worker"))
		require.NoError(s.t, os.WriteFile(script+".new", []byte(text), 0o755))
		require.NoError(s.t, os.Rename(script+".new", script))
	}
	return s.launch([]string{"OBS_FAULTS=handler.asking=" + way}, worker, "--lease", lease, "--slots", "event=20")
}

// Whoever can write to the stream can waste our time and nothing else.
func TestF24ForgedMessagesChangeNothing(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	s.send(0, 1)
	var job string
	require.NoError(t, s.pool.QueryRow(t.Context(), `SELECT id FROM observation_generation_jobs`).Scan(&job))
	envelope := func(job, team, project string, asked int) string {
		return fmt.Sprintf(`{"job":%q,"kind":"event","asked":%d,"team":%q,"project":%q}`, job, asked, team, project)
	}
	js := s.js()
	forged := []string{
		envelope(job, "another-team", s.project, 1),
		envelope(job, s.team, "another-project", 1),
		envelope(job, s.team, s.project, 99),
		envelope(job, s.team, s.project, 1<<31),
		envelope("event_unknown", s.team, s.project, 1),
		envelope("'; DROP TABLE observations; --", s.team, s.project, 1),
		strings.Replace(envelope(job, s.team, s.project, 1), `"event"`, `"summary"`, 1),
		`{"job":`, ``, "\x00\xff", `[]`, strings.Repeat("x", 4000), `{"v":2,"jobs":["` + job + `"]}`,
	}
	for _, body := range forged {
		_, err := js.Publish(t.Context(), "jobs.event", []byte(body))
		require.NoError(t, err)
	}
	rollup := nats.NewMsg("jobs.event")
	rollup.Header.Set("Nats-Rollup", "all")
	_, err := js.PublishMsg(t.Context(), rollup)
	require.Error(t, err, "the stream lets nobody replace what is on it")
	_, err = js.Publish(t.Context(), "jobs.event", make([]byte, 1<<20-100))
	require.Error(t, err, "nor anything that is larger than a job")
	s.worker()
	s.whole(1)
	s.noneTwice()
	require.Equal(t, 2, s.count(`SELECT count(*) FROM audit_log WHERE action = 'generation_job.scope_violation' AND job_id = $1 AND team_id = $2`, job, s.team),
		"the two forged scopes are on record, under the job's true team")
}

// odd are ids that mean something to somebody on the way.
var odd = []string{
	"a.b.>", "*", "..", "../../etc", "%", "_", "\x00", "\u202eabc", strings.Repeat("x", 5000), "'; DROP TABLE agent_events; --",
	"foo:*", "a & b | !c", "$JS.API.>", " ", "a\tb\r\nc", "😀", "%00", "<script>", "nul\\u0000",
}

// Ids that are wildcards, paths, SQL or nonsense are refused or harmless.
func TestF25OddIDs(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	server := s.server()
	relay, worker := s.relay(), s.worker()
	n := 0
	for i, id := range odd {
		for _, member := range []string{"projectId", "eventType", "contentSessionId", "sourceEventId", "platformSource", "serverSessionId"} {
			e := s.event(100*i + n)
			e[member] = id
			code, body := s.post("/v1/events", e)
			require.Less(t, code, 500, "%s %q: %s", member, id, body)
			require.NotZero(t, code, "%s %q: %s", member, id, body)
			if code == http.StatusCreated {
				s.accept(body)
				n++
			}
		}
		code, body := s.post("/v1/search", map[string]any{"projectId": s.project, "query": id})
		require.Less(t, code, 500, "%q: %s", id, body)
		require.NotZero(t, code)
	}
	require.NotZero(t, n)
	s.settledAll()
	s.kept()
	s.check()
	for _, p := range []*proc{server, relay, worker} {
		require.Nil(t, p.cmd.ProcessState, p.name)
		require.False(t, p.says("nats is away"), "no subject closed the connection")
	}
}

// settledAll waits until every job has come to its end and all is told.
func (s *stack) settledAll() {
	s.t.Helper()
	s.eventually("nothing is left to do", func() bool {
		return s.count(`SELECT count(*) FROM observation_generation_jobs WHERE status IN ('queued', 'processing')`) == 0 &&
			s.count(`SELECT count(*) FROM job_feed`) == 0
	})
}

// Payloads that JSON, UTF-8 or Postgres cannot hold are refused with a 400 or
// stored so that they can be.
func TestX03OddPayloads(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	server := s.server()
	s.relay()
	s.worker()
	event := func(payload string) []byte {
		return fmt.Appendf(nil, `{"projectId":%q,"sourceType":"hook","eventType":"tool_use","occurredAtEpoch":%d,"payload":%s}`,
			s.project, 1_795_435_200_000+len(s.accepted), payload)
	}
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	for name, c := range map[string]struct {
		payload string
		want    int
	}{
		"NaN":             {`{"a":NaN}`, 400},
		"Infinity":        {`{"a":-Infinity}`, 400},
		"not UTF-8":       {"{\"a\":\"\xff\xfe\"}", 400},
		"a bare NUL":      {"{\"a\":\"\x00\"}", 400},
		"10,000 deep":     {deep, 400},
		"10,000 lists":    {strings.Repeat("[", 10_000), 400},
		"an escaped NUL":  {`{"tool_name":"Bash","tool_input":{"command":"a\u0000b"}}`, 201},
		"half a pair":     {`{"tool_name":"Bash","tool_input":{"command":"\ud800"}}`, 201},
		"a huge number":   {`{"tool_name":"Bash","n":1e999}`, 201},
		"a NUL as a name": {`{"a\u0000b":1}`, 201},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.api+"/v1/events", bytes.NewReader(event(c.payload)))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		code, body := do(t, req, s.key)
		t.Logf("%s: %d %.120s", name, code, body)
		if c.want == 201 && code == 400 {
			continue // refused is as good
		}
		require.Equal(t, c.want, code, "%s: %s", name, body)
		if code == http.StatusCreated {
			s.accept(body)
		}
	}
	s.send(100, 5)
	s.settledAll()
	s.kept()
	s.check()
	require.Nil(t, server.cmd.ProcessState)
}

// A provider that writes 5 MB, or what no text may hold: what is stored of it
// is bounded and clean.
func TestX04ResultsTheDatabaseWouldRefuse(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	s.moodyWorker(`{"huge":5000000,"dirty":true}`)
	s.send(0, 5)
	s.whole(5)
	require.Less(t, s.count(`SELECT max(length(content) + length(metadata::text)) FROM observations`), 1<<20)
}

// A result that Postgres refuses all the same fails its job, with the reason,
// and no other in its batch.
func TestX05ResultsThatAreRefused(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.sql(`ALTER TABLE observations ADD CONSTRAINT picky CHECK (content NOT LIKE '%TestPart7 %' AND content NOT LIKE '%TestPart7' AND content NOT LIKE '%part7 %')`)
	s.start("obs", "server", "--max-attempts", "1")
	s.relay()
	s.worker()
	s.send(0, 20)
	s.settledAll()
	require.Equal(t, 1, s.jobs("failed"))
	require.Equal(t, 19, s.jobs("completed"))
	require.Equal(t, 1, s.count(`SELECT count(*) FROM observation_generation_jobs WHERE last_error::text LIKE '%picky%'`))
	s.kept()
	s.check()
	s.sql(`ALTER TABLE observations DROP CONSTRAINT picky`)
	code, body := s.post("/v1/jobs/"+s.oneJob("failed")+"/retry", map[string]any{})
	require.Less(t, code, 300, "%s", body)
	s.whole(20)
}

func (s *stack) oneJob(status string) (id string) {
	s.t.Helper()
	require.NoError(s.t, s.pool.QueryRow(s.t.Context(), `SELECT id FROM observation_generation_jobs WHERE status = $1 LIMIT 1`, status).Scan(&id))
	return id
}

var routeLine = regexp.MustCompile(`\{(get|post|patch|remove), "(/[^"]+)", (reads|writes|admins|anyKey),`)

// One team's key with another's ids, on every route that takes one.
func TestF26AnotherTeamsKey(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	s.worker()
	code, body := s.post("/v1/sessions/start", map[string]any{"projectId": s.project, "contentSessionId": "e2e"})
	require.Less(t, code, 300, "%s", body)
	s.send(0, 3)
	s.settled(3)
	rows := func() string {
		var out strings.Builder
		for _, table := range []string{"agent_events", "observations", "observation_generation_jobs", "observation_generation_job_events", "server_sessions", "api_keys", "projects"} {
			out.WriteString(fmt.Sprint(s.count(`SELECT count(*) FROM `+table), " "))
		}
		return out.String() + fmt.Sprint(s.count(`SELECT coalesce(sum(version), 0) FROM observation_generation_jobs`))
	}
	var ids []string
	for _, sql := range []string{
		`SELECT id FROM agent_events`, `SELECT id FROM observations`, `SELECT id FROM observation_generation_jobs`,
		`SELECT id FROM server_sessions`, `SELECT id FROM api_keys`, `SELECT id FROM projects`,
	} {
		var id string
		require.NoError(t, s.pool.QueryRow(t.Context(), sql+` LIMIT 1`).Scan(&id))
		ids = append(ids, id)
	}
	theirTeam, theirProject := s.team, s.project
	s.tenantNamed("stranger")
	before := rows()

	source, err := os.ReadFile("../api/api.go")
	require.NoError(t, err)
	table := routeLine.FindAllStringSubmatch(string(source), -1)
	require.Greater(t, len(table), 30, "the table of routes is still read")
	methods := map[string]string{"get": http.MethodGet, "post": http.MethodPost, "patch": http.MethodPatch, "remove": http.MethodDelete}
	tried := 0
	for _, r := range table {
		if !strings.Contains(r[2], ":") {
			continue
		}
		for _, id := range ids {
			path := strings.NewReplacer(":teamId", theirTeam, ":projectId", theirProject, ":id", id).Replace(r[2])
			req, err := http.NewRequestWithContext(t.Context(), methods[r[1]], s.api+path, strings.NewReader(`{"kind":"x"}`))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			code, body := do(t, req, s.key)
			require.Contains(t, []int{403, 404}, code, "%s %s: %s", r[1], path, body)
			require.NotContains(t, string(body), "TestPart", path)
			tried++
		}
	}
	require.Greater(t, tried, 50)
	for path, body := range map[string]map[string]any{
		"/v1/search":         {"projectId": theirProject, "query": "TestPart"},
		"/v1/context":        {"projectId": theirProject, "query": "TestPart"},
		"/v1/reindex":        {"projectId": theirProject},
		"/v1/sessions/start": {"projectId": theirProject, "contentSessionId": "mine"},
		"/v1/events":         s.eventOf(theirProject, 99),
	} {
		code, answer := s.post(path, body)
		require.Contains(t, []int{403, 404}, code, "%s: %s", path, answer)
	}
	require.Equal(t, before, rows(), "nothing changed")
	require.NotZero(t, s.count(`SELECT count(*) FROM audit_log WHERE team_id = $1`, s.team), "and it is on record")
	s.check()
}

func (s *stack) eventOf(project string, n int) map[string]any {
	e := s.event(n)
	e["projectId"] = project
	return e
}

// Operators who contradict each other, or the workers.
func TestF27OperatorsRace(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	worker := s.worker()
	act := func(job, what string) int {
		code, _ := s.post("/v1/jobs/"+job+"/"+what, map[string]any{})
		return code
	}
	all := func(job, what string) (yes int) {
		var wg sync.WaitGroup
		codes := make([]int, 8)
		for i := range codes {
			wg.Go(func() { codes[i] = act(job, what) })
		}
		wg.Wait()
		for _, code := range codes {
			require.Less(t, code, 500, "%v", codes)
			if code < 300 {
				yes++
			}
		}
		return yes
	}
	release := s.held("observations")
	s.send(0, 1)
	s.eventually("it is being settled", func() bool { return s.storing("observations") == 1 })
	job := s.oneJob("queued") // a brief one is so until it is settled
	cancelled := make(chan int, 1)
	go func() { cancelled <- act(job, "cancel") }()
	s.eventually("the operator waits for the row", func() bool { return s.waiting("obs-server", "obs-worker") == 1 })
	release()
	require.Equal(t, http.StatusConflict, <-cancelled, "the worker was first")
	s.settled(1)
	require.Zero(t, all(job, "cancel"), "it is done")

	require.Zero(t, worker.end(t, syscall.SIGTERM, patience))
	slow := s.moodyWorker(`{"takesMs":5000}`) // longer than the operators
	s.send(1, 1)
	s.eventually("it is begun", func() bool { return s.jobs("processing") == 1 })
	job = s.oneJob("processing")
	require.Equal(t, http.StatusConflict, act(job, "retry"), "it is being done")
	require.NotZero(t, all(job, "cancel"))
	require.Equal(t, 1, s.history("cancelled"), "one of them did it")
	s.eventually("its result is thrown away", func() bool { return slow.says("outcome=lost") })
	s.settledAll()
	require.Equal(t, 1, s.count(`SELECT count(DISTINCT source_id) FROM observation_sources`))
	require.Zero(t, slow.end(t, syscall.SIGTERM, patience))
	s.worker()

	s.sql(`ALTER TABLE observations ADD CONSTRAINT none CHECK (false) NOT VALID`)
	s.send(2, 1)
	s.eventually("it waits for its second attempt", func() bool { return s.history("retry_scheduled") > 0 })
	job = s.one(`SELECT job_id FROM observation_generation_job_events WHERE event_type = 'retry_scheduled' LIMIT 1`)
	require.NotZero(t, all(job, "cancel"))
	require.Equal(t, 2, s.history("cancelled"), "one of them did it")
	s.sql(`ALTER TABLE observations DROP CONSTRAINT none`)
	require.NotZero(t, all(job, "retry"))
	require.Equal(t, 4, s.history("queued"), "one of them did it, besides the three events")
	s.settledAll()
	s.kept()
	s.check()
}

func (s *stack) one(sql string) (text string) {
	s.t.Helper()
	require.NoError(s.t, s.pool.QueryRow(s.t.Context(), sql).Scan(&text))
	return text
}

// A newer obs is being rolled out: it has more kinds of job, more members in
// its envelopes, streams of its own making, and in the end another schema.
func TestF28RollingDeploy(t *testing.T) {
	t.Parallel()
	s := newRow(t) // its consumers are of a newer version
	s.server()
	relay := s.relay()
	s.send(0, 20)
	js := s.js()
	s.eventually("20 are on the stream", func() bool { return s.onJobs(js) == 20 })
	for _, e := range s.asks() { // what a newer relay would send
		body := strings.Replace(string(e.Marshal()), "{", `{"schema":2,"trace":{"id":"x"},`, 1)
		_, err := js.Publish(t.Context(), "jobs.event", []byte(body))
		require.NoError(t, err)
	}
	jobs := db.NewJobs(s.pool, db.JobsConfig{})
	future, err := events.New(events.Job{
		ID: "future_1", Kind: "future", Scope: events.Scope{Team: s.team, Project: s.project}, SourceType: "agent_event", SourceID: s.accepted[0], Args: []byte(`{}`),
	}, events.Event{Actor: "newer"})
	require.NoError(t, err)
	require.NoError(t, db.InTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		_, err := jobs.Enqueue(t.Context(), tx, future)
		return err
	}))
	worker := s.worker()
	s.eventually("the old worker does what it knows", func() bool { return s.jobs("completed") == 20 })
	s.eventually("the relay carries what it does not know", func() bool { return s.onJobs(js) == 1 })
	require.Equal(t, "queued", s.one(`SELECT status FROM observation_generation_jobs WHERE id = 'future_1'`), "it waits for a worker that knows its kind")
	s.noneTwice()

	// The schema is changed by the newer one: who runs goes on, an old one
	// that starts says what to do.
	s.sql(`INSERT INTO goose_db_version (version_id, is_applied) SELECT max(version_id) + 1, true FROM goose_db_version`)
	old := run(t, "obs-worker", "--database-url", s.dsn, "--nats-url", s.natsURL(), "--addr", "off", "--log-level", "error")
	require.Equal(t, 1, old.exit(t, patience))
	require.Contains(t, old.out.String(), "upgrade the program")
	s.send(20, 20)
	s.eventually("who runs goes on", func() bool { return s.jobs("completed") == 40 })
	require.Nil(t, relay.cmd.ProcessState)
	require.Nil(t, worker.cmd.ProcessState)

	s.sql(`DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "obs"), "jobs", "cancel", "future_1", "--database-url", s.dsn).CombinedOutput()
	require.NoError(t, err, "%s", out)
	stream, err := js.Stream(t.Context(), "JOBS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	s.settledAll()
	s.kept()
	s.check()
}

// A burst, and everybody is told to end in the midst of it.
func TestF30BurstThenSIGTERM(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	server, relay := s.server(), s.relay(calm)
	workers := []*proc{s.worker(calm, "--slots", "event=100"), s.worker(calm, "--slots", "event=100")}
	const burst = 10_000
	s.send(0, burst)
	done := s.jobs("completed")
	var wg sync.WaitGroup
	codes := make([]int, 4)
	for i, p := range append(workers, server, relay) {
		p.signal(t, syscall.SIGTERM)
		wg.Go(func() {
			select {
			case <-p.done:
				codes[i] = p.cmd.ProcessState.ExitCode()
			case <-time.After(patience):
				codes[i] = -1
			}
		})
	}
	wg.Wait()
	require.Equal(t, []int{0, 0, 0, 0}, codes)
	require.Zero(t, s.jobs("processing"), "all was given back")
	t.Logf("%d of %d were done when they were told, %d when they had ended", done, burst, s.jobs("completed"))
	s.relay(calm)
	s.worker(calm, "--slots", "event=200")
	s.whole(burst)
	require.Equal(t, burst, s.count(`SELECT count(*) FROM observation_generation_jobs WHERE attempts = 1`), "no attempt was lost")
}
