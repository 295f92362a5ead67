package api_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func init() {
	routeCases["POST /api/sessions/observations"] = toolUseCases
	routeCases["POST /api/sessions/summarize"] = summarizeCases
}

func toolUseOf(id, more string) string {
	return fmt.Sprintf(`{"contentSessionId":"c1","tool_name":"Read","tool_input":{"file_path":"main.go"},"tool_response":"ok","cwd":"/src","tool_use_id":%q%s}`, id, more)
}

func toolUseCases(*world) []check {
	post := func(key, body string) request { return request{key: key, body: body} }
	invalid := func(body, name string) check {
		return check{name: body, request: post("project", body), want: 400, has: map[string]any{"error": "ValidationError", "issues.0.path.0": name}}
	}
	return append(withKey(badBodies(false), "project"),
		invalid(`{"tool_name":"Read"}`, "contentSessionId"), invalid(`{"contentSessionId":"c"}`, "tool_name"), invalid(`{"contentSessionId":"","tool_name":"x"}`, "contentSessionId"),
		invalid(toolUseOf("t", `,"cwd":7`), "cwd"), invalid(toolUseOf("t", `,"agentId":7`), "agentId"), invalid(toolUseOf("t", `,"platformSource":{}`), "platformSource"),
		invalid(`{"contentSessionId":"c","tool_name":"x","toolUseId":[]}`, "toolUseId"),
		check{
			name: "a team's key", request: post("team", toolUseOf("t", "")), want: 400,
			has: map[string]any{"error": "BadRequest", "message": "Legacy /api/sessions/observations requires a project-scoped API key"},
		},
		check{
			name: "good", request: post("project", toolUseOf("toolu_1", `,"unknown":1`)), want: 200,
			has: map[string]any{"status": "queued", "observationCount": 1, "transport": "enqueued"}, says: `"generationJobId":"`,
		},
		check{name: "in another project", request: post("sibling", toolUseOf("toolu_1", "")), want: 200},
		check{name: "without an id", request: post("project", `{"contentSessionId":"c2","tool_name":"Bash"}`), want: 200},
		check{name: "NUL", request: post("project", toolUseOf("toolu_2", `,"tool_response":{"a\u0000":"\ud800"}`)), want: 200},
	)
}

func summarizeCases(*world) []check {
	post := func(key, body string) request { return request{key: key, body: body} }
	return append(withKey(badBodies(false), "project"),
		check{name: "no session", request: post("project", `{}`), want: 400, has: map[string]any{"issues.0.path.0": "contentSessionId"}},
		check{name: "message", request: post("project", `{"contentSessionId":"c","last_assistant_message":7}`), want: 400, has: map[string]any{"issues.0.path.0": "last_assistant_message"}},
		check{
			name: "a team's key", request: post("team", `{"contentSessionId":"c1"}`), want: 400,
			has: map[string]any{"error": "BadRequest", "message": "Legacy /api/sessions/summarize requires a project-scoped API key"},
		},
		check{
			name: "a subagent", request: post("project", `{"contentSessionId":"c1","agentId":"a"}`), want: 200,
			has: map[string]any{"status": "skipped", "reason": "subagent_context", "sessionId": missing{}},
		},
		check{
			name: "good", request: post("project", `{"contentSessionId":"c1","last_assistant_message":"All done\u0000.","platformSource":"claude"}`), want: 200,
			has: map[string]any{"status": "queued", "transport": "enqueued", "reason": missing{}}, says: `"serverSessionId":"ses_`,
		},
		check{name: "again", request: post("project", `{"contentSessionId":"c1"}`), want: 200, has: map[string]any{"status": "queued"}},
	)
}

// TestOlderClients: the same tool use is one event, whatever is said of the
// time, and its session is the one that is summarized.
func TestOlderClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.do(request{method: "POST", path: "/api/sessions/observations", key: "project", body: toolUseOf("toolu_1", "")})
	require.Equal(t, http.StatusOK, first.status, first.text)
	again := w.do(request{method: "POST", path: "/api/sessions/observations", key: "project", body: toolUseOf("toolu_1", "")})
	require.Equal(t, first.text, again.text)
	event := w.do(request{method: "GET", path: "/v1/events/" + first.str("eventId"), key: "project"})
	require.Equal(t, "claude-code-compat", event.str("event.sourceAdapter"))
	require.Equal(t, "toolu_1", event.str("event.sourceEventId"))
	require.Equal(t, "main.go", event.str("event.payload.tool_input.file_path"))
	require.Equal(t, "claude", event.str("event.platformSource"))
	done := w.do(request{method: "POST", path: "/api/sessions/summarize", key: "project", body: `{"contentSessionId":"c1","last_assistant_message":"Done."}`})
	require.Equal(t, first.str("serverSessionId"), done.str("serverSessionId"))
	a := w.do(request{method: "POST", path: "/api/sessions/init", key: "project", body: "{}"})
	require.Equal(t, http.StatusNotFound, a.status)
	a.problem()
}
