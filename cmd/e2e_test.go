package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSeparateProcessesDoTheMainJob(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	server, relay, worker := s.server(), s.relay(), s.worker()

	s.requestID = "from-the-client"
	code, body := s.post("/v1/events?wait=true", s.event(0))
	s.requestID = ""
	require.Equal(t, http.StatusCreated, code, "%s", body)
	var answer struct {
		Event         struct{ ID string }
		GenerationJob struct{ ID, Status string }
	}
	require.NoError(t, json.Unmarshal(body, &answer))
	require.Equal(t, "completed", answer.GenerationJob.Status, "%s", body)
	require.Eventually(t, func() bool { return strings.Contains(worker.out.String(), "from-the-client") }, patience, look,
		"the request id is in the worker's log")

	code, body = get(t, s.api+"/v1/events/"+answer.Event.ID+"/observations", s.key)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, string(body), "TestPart0")

	s.send(1, 299)
	s.settled(300)
	s.once(300)
	code, body = s.post("/v1/search", map[string]any{"projectId": s.project, "query": "TestPart17"})
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, string(body), "TestPart17")
	s.check()

	for _, p := range []*proc{worker, relay, server} {
		require.Zero(t, p.end(t, syscall.SIGTERM, 10*time.Second), p.name)
	}
}

// The worker hangs in the transaction that stores its results, which is as
// deep in a job as it gets, and is killed there. The jobs are brief: they are
// queued still, and their messages come again.
func TestWorkerKilledInMidJob(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.impatient(1)
	s.server()
	s.relay()
	worker := s.worker()
	release := s.held("observations")
	s.send(0, 50)
	require.Eventually(t, func() bool { return s.storing("observations") > 0 }, patience, look)
	worker.kill()
	release()
	require.Zero(t, s.jobs("completed"))

	s.worker()
	s.settled(50)
	s.once(50)
	s.check()
}

// The broker is killed under load and loses its disk.
func TestBrokerKilledAndEmptied(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.server()
	s.relay()
	s.worker()
	s.send(0, 300)
	s.broker.kill()
	s.send(300, 300) // the door does not need it
	s.natsDir = t.TempDir()
	s.startBroker()
	s.eventsLost()
	s.settled(600)
	s.once(600)
	s.kept()
	s.check()
}

func TestHealthTellsTheTruth(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.server()
	healthy := func() bool { code, _ := get(t, s.api+"/api/health", ""); return code == http.StatusOK }
	require.Eventually(t, healthy, patience, look)

	s.broker.kill()
	require.Eventually(t, func() bool {
		code, body := get(t, s.api+"/api/health", "")
		return code == http.StatusServiceUnavailable && strings.Contains(string(body), `"degraded"`) && strings.Contains(string(body), "nats")
	}, patience, look)
	code, body := s.post("/v1/events", s.event(1))
	require.Equal(t, http.StatusCreated, code, "what needs only Postgres goes on: %s", body)

	s.startBroker()
	require.Eventually(t, healthy, patience, look, "it comes back by itself")
}

func TestStartFailsInOneLineWhenSomethingIsDown(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	nowhere := freePort(t)
	noNATS := fmt.Sprintf("nats://127.0.0.1:%d", nowhere)
	noPostgres := fmt.Sprintf("postgres://u:secret@127.0.0.1:%d/obs", nowhere)
	for _, program := range []string{"obs-relay", "obs-worker"} {
		for _, c := range []struct{ name, database, broker, says string }{
			{"NATS", s.dsn, noNATS, "NATS"},
			{"Postgres", noPostgres, s.natsURL(), "Postgres"},
		} {
			t.Run(program+" without "+c.name, func(t *testing.T) {
				t.Parallel()
				p := run(t, program, "--database-url", c.database, "--nats-url", c.broker, "--connect-timeout", "2s", "--addr", "off", "--log-level", "error")
				require.Equal(t, 1, p.exit(t, patience))
				out := strings.TrimSpace(p.out.String())
				require.Equal(t, 1, strings.Count(out, "\n")+1, "one line: %s", out)
				require.Contains(t, strings.ToLower(out), strings.ToLower(c.says))
				require.Contains(t, out, fmt.Sprint(nowhere))
				require.NotContains(t, out, "secret")
			})
		}
	}
}

// A worker that is told to end gives back what it cannot finish, and no
// attempt is lost.
func TestWorkerGivesBackWhatItCannotFinish(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.server()
	s.relay()
	worker := s.worker("--grace", "1s")
	s.send(0, 200)
	require.Eventually(t, func() bool { return s.jobs("completed") > 0 }, patience, look)
	require.Zero(t, worker.end(t, syscall.SIGTERM, 15*time.Second))
	require.Zero(t, s.jobs("processing"))
	s.worker()
	s.settled(200)
	s.once(200)
	s.check()
}
