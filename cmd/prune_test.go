package cmd_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// Finished jobs are pruned while others are done. What they made is still
// found, who sends their events again asks for nothing, and the checks of the
// database and of both streams have nothing to say.
func TestPruneBesideTheWork(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.server()
	s.relay()
	s.worker()
	prune := func() {
		t.Helper()
		p := run(t, "obs", "prune", "--older-than", "0s", "--rate", "0", "--database-url", s.dsn)
		require.Zero(t, p.exit(t, patience), p.out)
	}
	s.send(0, 200)
	s.settled(200)
	for at := 200; at < 800; at += 100 {
		s.send(at, 100)
		prune()
	}
	require.Eventually(t, func() bool {
		return s.jobs("queued")+s.jobs("processing") == 0 && s.count(`SELECT count(*) FROM job_feed`) == 0
	}, patience, look)
	prune()
	require.Zero(t, s.count(`SELECT count(*) FROM observation_generation_jobs`))
	require.Zero(t, s.count(`SELECT count(*) FROM observation_generation_job_events`))
	require.Equal(t, 800, s.count(`SELECT count(*) FROM observations`))

	code, body := s.post("/v1/events", s.event(17))
	require.Equal(t, http.StatusCreated, code, "%s", body)
	var answer struct {
		Event         struct{ ID string }
		GenerationJob *struct{ ID string }
	}
	require.NoError(t, json.Unmarshal(body, &answer))
	require.Nil(t, answer.GenerationJob)
	code, body = get(t, s.api+"/v1/events/"+answer.Event.ID+"/observations", s.key)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, string(body), "TestPart17")
	code, body = s.post("/v1/search", map[string]any{"projectId": s.project, "query": "TestPart17"})
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, string(body), "TestPart17")
	s.send(0, 100)
	s.send(800, 10)
	s.settled(10)
	require.Equal(t, 810, s.count(`SELECT count(*) FROM observations`))
	s.check()
}
