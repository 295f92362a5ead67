package cmd_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

// metric gives a figure that a process tells.
func (p *proc) metric(t *testing.T, name string) float64 {
	t.Helper()
	code, body := get(t, p.url+"/metrics", "")
	require.Equal(t, http.StatusOK, code, "%s", body)
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
	require.NotNil(t, m, "%s is told", name)
	v, err := strconv.ParseFloat(string(m[1]), 64)
	require.NoError(t, err)
	return v
}

// A provider that is away in every way there is, for as long as it takes each
// of two workers to rest five times, ends no job of a thousand. What the test
// in package pipeline does with ten minutes of virtual time, this one does
// with real programs and a clock that is a hundred times as fast.
func TestAThousandJobsThroughAnOutage(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	provider := llmtest.New(t)
	const key = "sk-loopback-0123456789"
	trouble := []llmtest.Answer{
		llmtest.TooMany("1"), llmtest.TooMany(""), llmtest.Status(500, "server_error"), llmtest.Status(529, "overloaded_error"),
		llmtest.Truncated, llmtest.WrongType, llmtest.Status(401, "invalid_api_key"), llmtest.Hang,
	}
	var n atomic.Int64
	provider.Always(func(w http.ResponseWriter, r *http.Request, q llmtest.Question) {
		trouble[int(n.Add(1))%len(trouble)](w, r, q)
	})
	server := s.server()
	s.relay()
	args := []string{"--provider", "openai", "--base-url", provider.URL, "--provider-key", key, "--provider-timeout", "2s", "--lane-pause", "50ms"}
	workers := []*proc{s.worker(args...), s.worker(args...)}
	s.send(0, 1000)

	const rests, until = `obs_worker_lane_rests_total{kind="event"}`, `obs_worker_lane_rest_until_seconds{kind="event"}`
	for _, w := range workers {
		require.Eventually(t, func() bool {
			code, body := get(t, w.url+"/api/health", "")
			return code == http.StatusServiceUnavailable && strings.Contains(string(body), "lane event rests until ") &&
				strings.Contains(string(body), "provider openai: ")
		}, patience, look, "the worker says so in its health")
		for began := time.Now(); w.metric(t, rests) < 5; <-time.After(look) {
			require.Less(t, time.Since(began), patience, "it rests again")
			require.Positive(t, w.metric(t, until))
			code, body := get(t, w.url+"/api/health", "")
			require.Equal(t, http.StatusServiceUnavailable, code, "between the rests too: %s", body)
			require.Regexp(t, `lane event (rests until|tries with one job since) \S+: .*provider openai: `, string(body))
		}
	}
	code, _ := get(t, server.url+"/api/health", "")
	require.Equal(t, http.StatusOK, code, "the door works all the same")
	during := len(provider.Asked())
	require.Less(t, during, 300, "a thousand jobs, and few are begun in vain")
	require.Zero(t, s.jobs("failed"))
	require.Zero(t, s.jobs("completed"))

	provider.Always(llmtest.Fine)
	s.settled(1000)
	s.once(1000)
	history := func(where string, args ...any) int {
		return s.count(`SELECT count(*) FROM observation_generation_job_events WHERE `+where, args...)
	}
	require.Zero(t, history(`event_type = 'failed'`))
	require.Positive(t, history(`event_type = 'released'`))
	require.LessOrEqual(t, history(`event_type = 'retry_scheduled'`), 2*(4+20), "before the lanes rested: four, and those that were then in hand")
	for _, w := range workers {
		require.Eventually(t, func() bool { return w.metric(t, until) == 0 }, patience, look)
		code, body := get(t, w.url+"/api/health", "")
		require.Equal(t, http.StatusOK, code, "%s", body)
		require.NotContains(t, w.out.String(), key)
	}
	for _, table := range []string{"observation_generation_job_events", "observation_generation_jobs", "observations", "audit_log"} {
		require.Zero(t, s.count(fmt.Sprintf(`SELECT count(*) FROM %s t WHERE t::text LIKE '%%' || $1 || '%%'`, table), key))
	}
	s.check()
}
