package api_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func init() {
	routeCases["GET /v1/usage"] = usageCases
	routeCases["GET /v1/connect"] = connectCases
}

func usageCases(w *world) []check {
	now := time.Now().UTC()
	_, err := w.pool.Exec(w.t.Context(), `INSERT INTO usage_events (team_id, project_id, kind, quantity)
		VALUES ($1, $2, 'tokens', 5), ($1, $3, 'tokens', 7), ($1, $2, 'observation', 1)`, w.team, w.project, w.sibling)
	require.NoError(w.t, err)
	_, err = w.pool.Exec(w.t.Context(), `INSERT INTO usage_events (team_id, project_id, kind, quantity, provider, model)
		VALUES ($1, $2, 'tokens', 50, 'openai', 'm1'), ($1, $2, 'tokens_out', 10, 'openai', 'm1'), ($1, $2, 'cost', 1234, 'openai', 'm1')`, w.foreign, w.abroad)
	require.NoError(w.t, err)
	_, err = w.pool.Exec(w.t.Context(), `INSERT INTO team_budgets (team_id, tokens, cost) VALUES ($1, 50, 2000000)`, w.foreign)
	require.NoError(w.t, err)
	return []check{
		{name: "good", request: request{key: "team"}, want: 200, has: map[string]any{
			"usage.tokens": 12, "usage.observation": 1, "usage.request": missing{}, "by": []any{},
			"budget.tokens": nil, "budget.costMicroUsd": nil, "budget.held": false, "budget.reason": nil,
			"since": time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).Format(time.RFC3339),
		}},
		{name: "by a project's key", request: request{key: "sibling"}, want: 200, has: map[string]any{"usage": map[string]any{"tokens": 7.0}}},
		{name: "by another team", request: request{key: "foreign"}, want: 200, has: map[string]any{
			"usage":         map[string]any{"tokens": 50.0, "tokens_out": 10.0, "cost": 1234.0},
			"by.0":          map[string]any{"projectId": w.abroad, "provider": "openai", "model": "m1", "tokensIn": 40.0, "tokensOut": 10.0, "costMicroUsd": 1234.0},
			"budget.tokens": 50, "budget.costMicroUsd": 2000000, "budget.held": true, "budget.reason": "the team has used 50 of the 50 tokens of its month",
		}},
	}
}

func connectCases(*world) []check {
	return []check{{
		name: "good", request: request{key: "team"}, want: 200, says: "<your-api-key>",
		has: map[string]any{
			"mcpUrl":         "http://example.com/v1/mcp",
			"connectCommand": `claude mcp add --transport http claude-mem http://example.com/v1/mcp --header "Authorization: Bearer <your-api-key>"`,
		},
	}}
}

// TestConnectURL: a key comes with the URL that the server is known by.
func TestConnectURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *api.Config) { c.PublicURL = "https://obs.example.org/" })
	a := w.do(request{method: "POST", path: "/v1/keys", key: "team", body: "{}"})
	require.Equal(t, http.StatusCreated, a.status, a.text)
	require.Equal(t, "https://obs.example.org/v1/mcp", a.str("mcpUrl"))
	require.Contains(t, a.str("connectCommand"), a.str("apiKey"))
}

// limited puts the door's service under limits.
func (w *world) limited(l observe.Limits) {
	w.svc = observe.New(observe.Config{Pool: w.pool, Jobs: w.jobs, Limits: l})
	cfg := api.Config{Service: w.svc, Version: "1.2.3"}
	withMetrics(&cfg)
	w.http = api.New(cfg)
}

// TestRateLimit: a key beyond its rate is told until when, whatever it asks
// for under /v1, and the routes of older clients are not counted.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.limited(observe.Limits{PerMinute: 2})
	get := request{method: "GET", path: "/v1/jobs", key: "project"}
	var a answer
	for { // until three are in one minute by the clock
		w.issue("fresh", w.team, "", []string{"*"}, time.Time{})
		get.key = "fresh"
		first := w.do(get)
		require.Equal(t, http.StatusOK, first.status, first.text)
		require.Equal(t, "2", first.header.Get("X-RateLimit-Limit"))
		require.Equal(t, "1", first.header.Get("X-RateLimit-Remaining"))
		w.do(get)
		if a = w.do(get); a.header.Get("X-RateLimit-Reset") == first.header.Get("X-RateLimit-Reset") {
			break
		}
	}
	require.Equal(t, http.StatusTooManyRequests, a.status, a.text)
	a.problem()
	require.Equal(t, "rate_limited", a.str("error"))
	require.Equal(t, "Rate limit exceeded (2 requests / 60s)", a.str("message"))
	require.Equal(t, "0", a.header.Get("X-RateLimit-Remaining"))
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	require.NoError(t, err)
	require.True(t, wait >= 1 && wait <= 60, wait)
	reset, err := strconv.ParseInt(a.header.Get("X-RateLimit-Reset"), 10, 64)
	require.NoError(t, err)
	require.Zero(t, reset%60)
	for i := range 4 {
		old := w.do(request{method: "POST", path: "/api/sessions/observations", key: "project", body: toolUseOf(strconv.Itoa(i), "")})
		require.Equal(t, http.StatusOK, old.status, old.text)
		require.Empty(t, old.header.Get("X-RateLimit-Limit"))
	}
}

// TestQuota: a team at its cap gets 402 with the numbers.
func TestQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.limited(observe.Limits{MonthlyRequests: 1})
	require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: "/v1/jobs", key: "team"}).status)
	a := w.do(request{method: "GET", path: "/v1/usage", key: "project"})
	require.Equal(t, http.StatusPaymentRequired, a.status, a.text)
	a.problem()
	require.Equal(t, "quota_exceeded", a.str("error"))
	require.Equal(t, "Monthly request quota reached (1)", a.str("message"))
	require.InDelta(t, 1, a.at("used"), 0)
	require.InDelta(t, 1, a.at("cap"), 0)

	w.limited(observe.Limits{MonthlyTokens: 5})
	_, err := w.pool.Exec(t.Context(), "INSERT INTO usage_events (team_id, kind, quantity) VALUES ($1, 'tokens', 5)", w.foreign)
	require.NoError(t, err)
	body := eventOf(w.abroad, "e1")
	a = w.do(request{method: "POST", path: "/v1/events", key: "foreign", body: body})
	require.Equal(t, http.StatusPaymentRequired, a.status, a.text)
	require.Equal(t, "Monthly tokens quota reached (5)", a.str("message"))
	require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: "/v1/jobs", key: "foreign"}).status)
	require.Equal(t, http.StatusOK, w.do(request{method: "DELETE", path: "/v1/projects/" + w.abroad + "/memory", key: "foreign"}).status)
	require.Equal(t, http.StatusCreated, w.do(request{method: "POST", path: "/v1/events", key: "team", body: w.event("e1")}).status)
}

// TestEveryRouteIsLimited: whatever a key asks for under /v1, beyond its rate
// it is 429, and beyond its team's cap 402; and the whole of each answer.
func TestEveryRouteIsLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ask := func(r api.Route, key string) answer {
		path := strings.NewReplacer(":teamId", w.team, ":projectId", w.project, ":id", "nothing").Replace(r.Path)
		return w.do(request{method: r.Method, path: path, key: key, body: "{"})
	}
	whole := func(a answer, name, message, more string) {
		t.Helper()
		id := a.header.Get("X-Request-Id")
		require.JSONEq(t, fmt.Sprintf(`{"error":%q,"message":%q,"detail":%q,"type":"about:blank","title":%q,"status":%d,"instance":"urn:obs:request:%s","requestId":%q%s}`,
			name, message, message, http.StatusText(a.status), a.status, id, id, more), a.text)
	}
	w.limited(observe.Limits{PerMinute: 1})
	for _, r := range routes() {
		if r.Scope == "" || !strings.HasPrefix(r.Path, "/v1/") {
			continue
		}
		for { // until both are in one minute by the clock
			w.issue("fresh", w.team, "", []string{"*"}, time.Time{})
			first := w.do(request{method: "GET", path: "/v1/teams", key: "fresh"})
			require.Equal(t, http.StatusOK, first.status, first.text)
			a := ask(r, "fresh")
			if a.header.Get("X-RateLimit-Reset") != first.header.Get("X-RateLimit-Reset") {
				continue
			}
			require.Equal(t, http.StatusTooManyRequests, a.status, "%s %s", r.Method, r.Path)
			whole(a, "rate_limited", "Rate limit exceeded (1 requests / 60s)", "")
			break
		}
	}
	w.limited(observe.Limits{MonthlyRequests: 1})
	require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: "/v1/teams", key: "team"}).status)
	for _, r := range routes() {
		if r.Scope == "" || !strings.HasPrefix(r.Path, "/v1/") {
			continue
		}
		a := ask(r, "star")
		require.Equal(t, http.StatusPaymentRequired, a.status, "%s %s", r.Method, r.Path)
		whole(a, "quota_exceeded", "Monthly request quota reached (1)", `,"used":1,"cap":1`)
	}
}
