package cmd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

// follower reads GET /v1/stream, and keeps what it was told over several
// connections.
type follower struct {
	s            *stack
	last         string
	versions     map[string]int // of each job, the last one
	observations map[string]bool
	completed    int
	halfway      func() // called once, when 20 jobs are completed
}

// follow reads from the server at api until n jobs are completed, or until
// the stream ends where n is 0. It calls stands once it is known where the
// stream is.
func (f *follower) follow(api string, n int, stands func()) {
	t := f.s.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/v1/stream", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+f.s.key)
	req.Header.Set("Last-Event-Id", f.last)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	var name string
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			f.last = value
		case "event":
			name = value
		case "data":
			f.told(name, value)
			if f.completed == n {
				return
			}
			if f.completed == 20 && f.halfway != nil {
				f.halfway()
				f.halfway = nil
			}
		}
		if f.last != "" && stands != nil {
			stands()
			stands = nil
		}
	}
	require.Zero(t, n, "the stream ended after %d: %v", f.completed, lines.Err())
	require.NoError(t, ctx.Err(), "the stream goes on")
}

func (f *follower) told(name, data string) {
	t := f.s.t
	t.Helper()
	var d struct {
		ID, JobID, Type, ProjectID string
		Version                    int
	}
	require.NoError(t, json.Unmarshal([]byte(data), &d))
	require.Equal(t, f.s.project, d.ProjectID, data)
	switch name {
	case "observation":
		require.False(t, f.observations[d.ID], "twice: %s", data)
		f.observations[d.ID] = true
	case "job":
		require.Equal(t, f.versions[d.JobID]+1, d.Version, data)
		f.versions[d.JobID] = d.Version
		if d.Type == "completed" {
			f.completed++
		}
	default:
		require.Fail(t, "what is this", "%s: %s", name, data)
	}
}

// A client follows one server while the broker is killed, is told by the end
// of its stream that the server stops, and goes on at another.
func TestStreamGoesOnOverServersAndBrokers(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	first := s.server()
	one := s.api
	s.server()
	two := s.api
	s.relay()
	s.worker()
	f := &follower{s: s, versions: map[string]int{}, observations: map[string]bool{}}
	f.halfway = func() {
		s.broker.kill()
		s.send(20, 20)
		s.startBroker()
	}
	f.follow(one, 40, func() { s.send(0, 20) })

	f.follow(one, 0, func() { require.NoError(t, first.cmd.Process.Signal(syscall.SIGTERM)) })
	require.Zero(t, first.exit(t, patience))
	s.send(40, 10)
	f.follow(two, 50, nil)
	require.Len(t, f.versions, 50)
	require.Len(t, f.observations, 50)
	var history int
	for _, n := range f.versions {
		history += n
	}
	require.Equal(t, s.count(`SELECT count(*) FROM observation_generation_job_events`), history)
	s.check()
}

// obs follow prints the same, for people and as JSON.
func TestFollowCommand(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.server()
	s.relay()
	s.worker()
	follow := func(key string, more ...string) *proc {
		return run(t, "obs", append([]string{"follow", "--url", s.api, "--key", key}, more...)...)
	}
	text := follow(s.key)
	// Whether it stands is not printed, so events are sent until one is.
	sent := 0
	require.Eventually(t, func() bool {
		s.send(sent, 1)
		sent++
		return strings.Contains(text.out.String(), "completed")
	}, patience, time.Second)
	s.settled(sent)
	require.Regexp(t, `(?m)^\d\d:\d\d:\d\d  processing      event_\w+  attempt 1$`, text.out.String())
	require.Regexp(t, `(?m)^\d\d:\d\d:\d\d  observation     \w+: .*TestPart`, text.out.String())

	all := follow(s.key, "--json", "--after", s.start0())
	require.Eventually(t, func() bool { return strings.Count(all.out.String(), `"type":"completed"`) == sent }, patience, look, "all from the start")
	for line := range strings.Lines(all.out.String()) {
		var f struct {
			ID, Event string
			Data      map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(line), &f), line)
		require.Equal(t, s.project, f.Data["projectId"])
	}
	for _, p := range []*proc{text, all} {
		require.Zero(t, p.end(t, syscall.SIGINT, patience))
	}
	bad := follow("obs_nobody")
	require.Equal(t, 1, bad.exit(t, patience))
	require.Contains(t, bad.out.String(), "Invalid API key")
}

// start0 is the id before the first event of the stream.
func (s *stack) start0() string {
	s.t.Helper()
	stream, err := s.js().Stream(s.t.Context(), "EVENTS")
	require.NoError(s.t, err)
	return events.CursorAt(stream.CachedInfo().Created, 0).String()
}
