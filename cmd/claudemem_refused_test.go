//go:build npm

package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// uses reports a use of a tool, whose response is JSON as it is given.
func (a *claudeCode) uses(response string) {
	a.t.Helper()
	input := map[string]any{"tool_name": "Bash"}
	a.hookText("PostToolUse", input, fmt.Appendf(nil, `{"hook_event_name":"PostToolUse","session_id":%q,"cwd":%q,"transcript_path":%q,
		"tool_name":"Bash","tool_use_id":"toolu_1","tool_input":{"command":"go test ./..."},"tool_response":%s}`, a.session, a.folder, a.transcript(), response))
}

func stdout(text string) string { return fmt.Sprintf(`{"stdout":%q,"stderr":""}`, text) }

// What the server refuses is lost to the client, which says so in its log and
// goes on. It is never kept for the local worker, so no mistake of a client
// may look like a failure of the server.
func refusedClaudeMem(t *testing.T, p *plugin) {
	s := newStack(t)
	s.server()
	code, body := s.post("/v1/keys", map[string]any{"label": "reader"})
	require.Equal(t, http.StatusCreated, code, "%s", body)
	reader := decoded(t, string(body), "apiKey")
	for _, c := range []struct {
		name, key, project, response string
		status                       int
	}{
		{"no such key", "obs_none", s.project, stdout("x"), 403},
		{"a key that may only read", reader, s.project, stdout("x"), 403},
		{"a project of others", s.key, "another", stdout("x"), 403},
		{"more than 5 MB", s.key, s.project, stdout(strings.Repeat("x", 6<<20)), 413},
		{"nested too deep", s.key, s.project, strings.Repeat("[", 600) + strings.Repeat("]", 600), 400},
	} {
		a := p.agent(t, s.api, c.key, c.project)
		a.uses(c.response)
		require.Contains(t, a.log(), fmt.Sprintf("Server POST /v1/events returned %d", c.status), c.name)
		require.Contains(t, a.log(), "Server event failed (non-recoverable)", c.name)
		a.alone()
	}
	require.Zero(t, s.count(`SELECT count(*) FROM agent_events`))

	// Odd as it may be, what a tool says is stored.
	a := p.agent(t, s.api, s.key, s.project)
	prompt, err := json.Marshal(map[string]any{"prompt": strings.Repeat("All of it. ", 100_000)})
	require.NoError(t, err)
	a.hook("UserPromptSubmit", map[string]any{"prompt": string(prompt)})
	require.Equal(t, 1, s.count(`SELECT count(*) FROM server_sessions`))
	for i, response := range []string{
		`"\u0000 and \ud800 and \u2028"`, `null`, `[1e400,-0,1e-400,{"__proto__":{"a":1}}]`, stdout(strings.Repeat("é", 2<<20)),
		`{"stdout":"<private>it</private> <system-reminder>"}`,
	} {
		a.uses(response)
		require.Equal(t, i+1, s.count(`SELECT count(*) FROM agent_events WHERE server_session_id IS NOT NULL`), response[:min(len(response), 80)])
	}
	a.alone()
	require.NotContains(t, a.log(), "non-recoverable")
}

// What the client takes for a server that is down, it tells the worker on its
// own machine instead, once and for all: obs does not get it later.
func divertedClaudeMem(t *testing.T, p *plugin) {
	s := newStack(t)
	diverted := func(a *claudeCode, reason string) {
		t.Helper()
		require.Contains(t, a.log(), "[server-fallback] reason="+reason)
		require.Contains(t, a.worker.seen(), "POST /api/sessions/observations")
		require.Contains(t, a.worker.bodies(), "go test ./...")
	}
	limited := s.start("obs", "server", "--rate-limit-per-min", "1")
	a := p.agent(t, s.api, s.key, s.project)
	for range 5 { // a new minute may begin between two of them
		a.uses(stdout("one of many"))
		if a.worker.calls() > 0 {
			break
		}
	}
	require.Contains(t, a.log(), "returned 429")
	diverted(a, "http_error")
	limited.kill()

	// A cap is no rate: 402 is refused like any other 4xx.
	capped := s.start("obs", "server", "--monthly-request-cap", "1")
	a = p.agent(t, s.api, s.key, s.project)
	for range 2 {
		a.uses(stdout("beyond the cap"))
	}
	require.Contains(t, a.log(), "returned 402")
	a.alone()
	capped.kill()

	a = p.agent(t, s.api, s.key, s.project)
	a.uses(stdout("nobody is there"))
	diverted(a, "transport")

	// Postgres that is not up yet.
	_, err := s.pool.Exec(t.Context(), `CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE 'the database system is starting up' USING ERRCODE = '57P03'; END $$;
		CREATE TRIGGER away BEFORE INSERT ON agent_events EXECUTE FUNCTION away()`)
	require.NoError(t, err)
	s.server()
	a = p.agent(t, s.api, s.key, s.project)
	before := s.count(`SELECT count(*) FROM agent_events`)
	a.uses(stdout("too early"))
	require.Contains(t, a.log(), "returned 503")
	diverted(a, "http_error")

	// It comes back to the server by itself, without what it told the worker.
	_, err = s.pool.Exec(t.Context(), `DROP TRIGGER away ON agent_events`)
	require.NoError(t, err)
	a.worker.forget()
	a.uses(stdout("in time"))
	require.Zero(t, a.worker.calls())
	require.Equal(t, before+1, s.count(`SELECT count(*) FROM agent_events`))
	require.Zero(t, s.count(`SELECT count(*) FROM agent_events WHERE payload::text LIKE '%too early%'`))
}
