package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// turn is what an agent's session tells of one turn; it gives the jobs of its
// three events, and the summary's.
func (s *stack) turn(name string, n int) (jobs map[string]string, summary string) {
	s.t.Helper()
	must := func(path string, body, into any) {
		s.t.Helper()
		code, answer := s.post(path, body)
		require.Less(s.t, code, 300, "%s: %s", path, answer)
		require.NoError(s.t, json.Unmarshal(answer, into))
	}
	var started struct{ Session struct{ ID string } }
	must("/v1/sessions/start", map[string]any{"projectId": s.project, "externalSessionId": name, "contentSessionId": name}, &started)
	jobs = map[string]string{}
	for i := range 3 {
		e := s.event(10*n + i)
		e["serverSessionId"] = started.Session.ID
		var told struct {
			Event         struct{ ID string }
			GenerationJob struct{ ID string }
		}
		must("/v1/events", e, &told)
		jobs[told.Event.ID] = told.GenerationJob.ID
	}
	var ended struct{ GenerationJob struct{ ID string } }
	must("/v1/sessions/"+started.Session.ID+"/end", map[string]any{}, &ended)
	again := ended
	must("/v1/sessions/"+started.Session.ID+"/end", map[string]any{}, &again)
	require.Equal(s.t, ended, again, "said again it is the same")
	return jobs, ended.GenerationJob.ID
}

// done waits until the job is completed.
func (s *stack) done(job string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		code, body := get(s.t, s.api+"/v1/jobs/"+job, s.key)
		var b struct{ GenerationJob struct{ Status string } }
		return code == http.StatusOK && json.Unmarshal(body, &b) == nil && b.GenerationJob.Status == "completed"
	}, patience, look, "job %s", job)
}

// Each policy of the server, with the real programs: how many jobs a session's
// events are, that all of them are done, and that a session that goes on has
// one summary, of all of it.
func TestPoliciesOfTheServer(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.relay()
	s.worker()
	for i, c := range []struct {
		args []string
		jobs int // of three events
	}{
		{nil, 3},
		{[]string{"--policy", "per-event"}, 3},
		{[]string{"--policy", "debounce", "--debounce", "2s"}, 1},
		{[]string{"--debounce", "2s"}, 1},
		{[]string{"--policy", "end-of-session", "--debounce", "2s"}, 1},
	} {
		server := s.start("obs", append([]string{"server"}, c.args...)...)
		name := fmt.Sprint("session-", i)
		var summaries []string
		for turn := range 2 {
			jobs, summary := s.turn(name, 10*i+turn)
			distinct := map[string]bool{}
			for _, job := range jobs {
				distinct[job] = true
				s.done(job)
			}
			require.LessOrEqual(t, len(distinct), 3)
			if turn == 0 { // later the batch of the first turn may have begun, or not
				if c.jobs == 3 {
					require.Len(t, distinct, 3, "%v", c.args)
				} else {
					require.Less(t, len(distinct), 3, "%v", c.args)
				}
			}
			s.done(summary)
			summaries = append(summaries, summary)
		}
		require.NotEqual(t, summaries[0], summaries[1], "the second turn was news")
		var n int
		var job string
		require.NoError(t, s.pool.QueryRow(t.Context(), `SELECT count(*), max(o.created_by_job_id) FROM observations o
			JOIN server_sessions s ON s.id = o.server_session_id WHERE s.external_session_id = $1 AND o.kind = 'summary'`, name).Scan(&n, &job))
		require.Equal(t, 1, n, "%v", c.args)
		require.Equal(t, summaries[1], job)
		server.kill()
	}
	s.check()
}
