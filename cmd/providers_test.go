package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

// Three providers in order, named by one variable, their keys where people have
// them. While the first two refuse the third one writes, no job fails, and the
// health says who rests; then the first one is back. No key is seen anywhere.
func TestFailoverBetweenProviders(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	keys := map[string]string{
		"ANTHROPIC_API_KEY": "sk-ant-loopback-0123456789", "GEMINI_API_KEY": "AIzaLoopback0123456789", "OPENAI_API_KEY": "sk-loopback-0123456789",
	}
	provider := llmtest.New(t)
	var back atomic.Bool
	provider.Always(func(w http.ResponseWriter, r *http.Request, q llmtest.Question) {
		switch {
		case back.Load(), q.API == "openai":
			llmtest.Fine(w, r, q)
		case q.API == "anthropic":
			llmtest.Status(http.StatusUnauthorized, "authentication_error")(w, r, q) // with the key in its message
		default:
			llmtest.TooMany("1")(w, r, q)
		}
	})
	s.server()
	s.relay()
	env := []string{
		"OBS_PROVIDER=anthropic,gemini,openai", "OBS_LANE_PAUSE=100ms",
		fmt.Sprintf("OBS_PROVIDER_URL=anthropic=%[1]s,gemini=%[1]s,openai=%[1]s", provider.URL),
	}
	for name, key := range keys {
		env = append(env, name+"="+key)
	}
	w := s.startWith(env, "obs-worker", "--lease", lease, "--slots", "event=8")
	s.send(0, 200)
	s.settled(200)
	s.once(200)
	require.Zero(t, s.jobs("failed"))
	require.Equal(t, 200, s.count(`SELECT count(*) FROM observations WHERE metadata ->> 'provider' = 'openai' AND metadata ->> 'model' = 'loopback-1'`))
	require.Zero(t, s.count(`SELECT count(*) FROM observation_generation_job_events WHERE event_type IN ('released', 'retry_scheduled')`), "the question in hand went to the next one")
	used := s.usage()
	require.Len(t, used.By, 1)
	require.Equal(t, "openai", used.By[0].Provider)
	require.Equal(t, 200*100, used.By[0].TokensIn)
	require.Equal(t, 200*20, used.By[0].TokensOut)

	var health []byte
	require.Eventually(t, func() bool { // one may be tried just now
		_, health = get(t, w.url+"/api/health", "")
		return w.metric(t, `obs_provider_rest_until_seconds{provider="anthropic"}`) > 0
	}, patience, look)
	code, health := get(t, w.url+"/api/health", "")
	require.Equal(t, http.StatusOK, code, "the work gets done: %s", health)
	require.Contains(t, string(health), "anthropic rests until")
	require.Zero(t, w.metric(t, `obs_provider_rest_until_seconds{provider="openai"}`))

	back.Store(true)
	at := 200
	require.Eventually(t, func() bool {
		s.send(at, 1)
		at++
		s.settled(at)
		return s.count(`SELECT count(*) FROM observations WHERE metadata ->> 'provider' = 'anthropic'`) > 0
	}, patience, look, "the first one is asked again")

	_, metrics := get(t, w.url+"/metrics", "")
	for _, key := range keys {
		for _, text := range []string{w.out.String(), string(health), string(metrics)} {
			require.NotContains(t, text, key)
		}
		for _, table := range []string{"observation_generation_job_events", "observation_generation_jobs", "observations", "audit_log", "usage_events", "usage_counters"} {
			require.Zero(t, s.count(fmt.Sprintf(`SELECT count(*) FROM %s t WHERE t::text LIKE '%%' || $1 || '%%'`, table), key))
		}
	}
	require.Contains(t, w.out.String(), "the provider rests, the next one is asked")
	s.check()
}

// used is what /v1/usage tells.
type used struct {
	Usage map[string]int
	By    []struct {
		Provider, Model     string
		TokensIn, TokensOut int
		CostMicroUSD        int
	}
	Budget struct{ Held bool }
}

func (s *stack) usage() used {
	s.t.Helper()
	code, body := get(s.t, s.api+"/v1/usage", s.key)
	require.Equal(s.t, http.StatusOK, code, "%s", body)
	var u used
	require.NoError(s.t, json.Unmarshal(body, &u))
	return u
}

// A team that has used up its money waits, with all its attempts, overdrawn by
// no more than what was in work; another team on the same lane goes on. A
// larger budget lets it go.
func TestACappedTeamIsHeldAndOthersAreNot(t *testing.T) {
	t.Parallel()
	const jobs, slots = 60, 4
	s := newStack(t)
	prices := filepath.Join(t.TempDir(), "prices.txt")
	require.NoError(t, os.WriteFile(prices, []byte("# a cent for each answer of the loopback server\nopenai loopback-* 100 0\n"), 0o600))
	provider := llmtest.New(t)
	s.server()
	s.relay()
	w := s.start("obs-worker", "--lease", lease, "--slots", fmt.Sprintf("event=%d", slots), "--provider", "openai", "--base-url", provider.URL, "--prices", prices)
	other := &stack{t: t, dsn: s.dsn, pool: s.pool, port: s.port, api: s.api}
	other.tenantNamed("other")

	out := s.run("budget", "set", "--team", s.team, "--usd", "0.10") // ten answers
	require.Contains(t, out, "usd 0.1000")
	s.send(0, jobs)
	other.send(0, jobs)
	mine := func(where string) int {
		return s.count(`SELECT count(*) FROM observation_generation_jobs WHERE team_id = $1 AND `+where, s.team)
	}
	held := `status = 'queued' AND next_attempt_at > now() + interval '1 minute'`
	require.Eventually(t, func() bool {
		return mine(`status = 'completed'`)+mine(held) == jobs &&
			s.count(`SELECT count(*) FROM observation_generation_jobs WHERE team_id = $1 AND status = 'completed'`, other.team) == jobs
	}, patience, look, "one waits, and the other is done")
	done := mine(`status = 'completed'`)
	require.GreaterOrEqual(t, done, 10)
	require.Less(t, done, 10+slots, "overdrawn by what was in work")
	require.Zero(t, mine(`attempts > 0 AND status = 'queued'`), "no attempt is lost")
	u := s.usage()
	require.Equal(t, done*10_000, u.By[0].CostMicroUSD)
	require.Equal(t, done*10_000, u.Usage["cost"])
	require.True(t, u.Budget.Held)
	require.False(t, other.usage().Budget.Held)
	_, body := get(t, s.api+"/v1/jobs?status=held&limit=200", s.key)
	var list struct {
		Total int
		Jobs  []struct {
			Status string
			Held   struct{ Reason string }
		}
	}
	require.NoError(t, json.Unmarshal(body, &list))
	require.Equal(t, jobs-done, list.Total)
	require.Equal(t, "queued", list.Jobs[0].Status)
	require.Contains(t, list.Jobs[0].Held.Reason, "of the 0.10 USD of its month")
	require.Contains(t, s.run("jobs", "list", "--status", "held", "--team", s.team), fmt.Sprintf("of %d jobs", jobs-done))
	require.Eventually(t, func() bool { return w.metric(t, "obs_teams_held") == 1 }, patience, look)
	code, health := get(t, w.url+"/api/health", "")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, string(health), "have used up their month")
	require.Zero(t, w.metric(t, `obs_worker_lane_rests_total{kind="event"}`), "the lane does not rest")
	s.check()

	require.Contains(t, s.run("budget", "set", "--team", s.team, "--usd", "none"), fmt.Sprintf("%d held jobs may go", jobs-done))
	require.Eventually(t, func() bool { return mine(`status = 'completed'`) == jobs }, patience, look)
	require.False(t, s.usage().Budget.Held)
	s.check()
}

// run runs a command of obs on the stack's database, and gives what it printed.
func (s *stack) run(args ...string) string {
	s.t.Helper()
	p := run(s.t, "obs", append(args, "--database-url", s.dsn)...)
	require.Zero(s.t, p.exit(s.t, patience), "%s", p.out)
	return p.out.String()
}
