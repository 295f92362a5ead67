package api_test

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"
)

func init() {
	routeCases["POST /v1/sessions/start"] = startCases
	routeCases["GET /v1/sessions/:id"] = getSessionCases
	routeCases["POST /v1/sessions/:id/end"] = endCases
}

func (w *world) session(project, name string) string {
	return fmt.Sprintf(`{"projectId":%q,"externalSessionId":%q,"contentSessionId":"c-%s","agentId":null,"platformSource":"Claude Code","metadata":{"cwd":"/src"}}`, project, name, name)
}

func (w *world) started(name string) string {
	w.t.Helper()
	a := w.do(request{method: "POST", path: "/v1/sessions/start", key: "team", body: w.session(w.project, name)})
	require.Equal(w.t, http.StatusCreated, a.status, a.text)
	return a.str("session.id")
}

func startCases(w *world) []check {
	post := func(key, body string) request { return request{key: key, body: body} }
	invalid := func(name, value, code string) check {
		return check{
			name: name + " " + value, request: post("team", fmt.Sprintf(`{"projectId":%q,%q:%s}`, w.project, name, value)), want: 400,
			has: map[string]any{"error": "ValidationError", "issues.0.path.0": name, "issues.0.code": code},
		}
	}
	return append(badBodies(false),
		invalid("projectId", `""`, "too_small"), invalid("externalSessionId", "null", "invalid_type"), invalid("externalSessionId", `""`, "too_small"),
		invalid("contentSessionId", "7", "invalid_type"), invalid("agentId", `""`, "too_small"), invalid("agentType", "{}", "invalid_type"),
		invalid("platformSource", `""`, "too_small"), invalid("metadata", "[]", "invalid_type"),
		invalid("agentId", `"`+strings.Repeat("x", 257)+`"`, "too_big"),
		check{name: "another team's project", request: post("team", w.session(w.abroad, "s1")), want: 403, has: map[string]any{"error": "Forbidden", "message": "project_id must belong to team_id"}},
		check{name: "key of another project", request: post("sibling", w.session(w.project, "s1")), want: 403, has: map[string]any{"message": "API key is scoped to a different project"}},
		check{
			name: "good", request: post("team", w.session(w.project, "s1")), want: 201,
			has: map[string]any{
				"session.projectId": w.project, "session.teamId": w.team, "session.externalSessionId": "s1", "session.contentSessionId": "c-s1",
				"session.agentId": nil, "session.platformSource": "claude", "session.endedAtEpoch": nil, "session.metadata.cwd": "/src",
			},
		},
		check{name: "again", request: post("team", w.session(w.project, "s1")), want: 200, has: map[string]any{"session.externalSessionId": "s1"}},
		check{name: "without an id", request: post("team", fmt.Sprintf(`{"projectId":%q}`, w.project)), want: 201, has: map[string]any{"session.externalSessionId": nil}},
	)
}

func getSessionCases(w *world) []check {
	path := "/v1/sessions/" + w.started("s1")
	return []check{
		{name: "good", request: request{path: path, key: "team"}, want: 200, has: map[string]any{"session.externalSessionId": "s1"}},
		{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404},
		{name: "by another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"message": "Session not found"}},
	}
}

func endCases(w *world) []check {
	id := w.started("s1")
	path := "/v1/sessions/" + id + "/end"
	return []check{
		{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404},
		{name: "by another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"message": "Session not found"}},
		{
			name: "good", request: request{path: path, key: "team", body: "ignored"}, want: 200,
			has: map[string]any{
				"session.id": id, "generationJob.status": "queued", "generationJob.sourceType": "session_summary",
				"generationJob.sourceId": id, "generationJob.transport": "enqueued",
			},
		},
		{name: "again", request: request{path: path, key: "project"}, want: 200, has: map[string]any{"generationJob.sourceId": id}},
	}
}
