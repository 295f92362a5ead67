package api_test

import (
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/internal/observe"
)

func init() {
	routeCases["GET /v1/projects"] = listProjectsCases
	routeCases["POST /v1/projects"] = createProjectCases
	routeCases["GET /v1/projects/:id"] = getProjectCases
	routeCases["PATCH /v1/projects/:id"] = setProjectCases
	routeCases["GET /v1/teams"] = listTeamsCases
	routeCases["POST /v1/teams"] = createTeamCases
	routeCases["GET /v1/audit"] = auditCases
}

func listProjectsCases(w *world) []check {
	return []check{
		{name: "good", request: request{key: "team"}, want: 200, has: map[string]any{
			"projects.0.id": w.project, "projects.0.teamId": w.team, "projects.0.name": "one", "projects.1.id": w.sibling, "projects.2": missing{},
		}},
		{name: "by a project's key", request: request{key: "sibling"}, want: 200, has: map[string]any{"projects.0.id": w.sibling, "projects.1": missing{}}},
		{name: "by another team", request: request{key: "foreign"}, want: 200, has: map[string]any{"projects.0.id": w.abroad, "projects.1": missing{}}},
	}
}

// withKey is those checks by another key.
func withKey(checks []check, key string) []check {
	for i := range checks {
		checks[i].key = key
	}
	return checks
}

func nameCases(key string) []check {
	invalid := func(body string) check {
		return check{name: body, request: request{key: key, body: body}, want: 400, has: map[string]any{"error": "ValidationError", "issues.0.path.0": "name"}}
	}
	return append(withKey(badBodies(false), key),
		invalid(`{}`), invalid(`{"name":7}`), invalid(`{"name":""}`), invalid(`{"name":"  "}`), invalid(`{"name":"`+strings.Repeat("x", 401)+`"}`))
}

func createProjectCases(w *world) []check {
	w.issue("narrow", w.team, w.project, []string{observe.ScopeAdmin}, time.Time{})
	return append(nameCases("star"),
		check{name: "by a project's key", request: request{key: "narrow", body: `{"name":"three"}`}, want: 403, has: map[string]any{"message": "API key is scoped to a project"}},
		check{name: "a name that is taken", request: request{key: "star", body: `{"name":"one"}`}, want: 409, has: map[string]any{"error": "Conflict"}},
		check{name: "good", request: request{key: observe.ScopeAdmin, body: `{"name":"three"}`}, want: 201, has: map[string]any{"project.name": "three", "project.teamId": w.team}},
		check{name: "again", request: request{key: observe.ScopeAdmin, body: `{"name":"three"}`}, want: 409},
	)
}

func getProjectCases(w *world) []check {
	path := "/v1/projects/" + w.project
	return []check{
		{name: "good", request: request{path: path, key: "team"}, want: 200, has: map[string]any{"project.id": w.project, "project.teamId": w.team, "project.name": "one"}},
		{name: "by its key", request: request{path: path, key: "project"}, want: 200},
		{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404, has: map[string]any{"message": "Project not found"}},
		{name: "by another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"message": "Project not found"}},
	}
}

func listTeamsCases(w *world) []check {
	return []check{
		{name: "good", request: request{key: "project"}, want: 200, has: map[string]any{"teams.0.id": w.team, "teams.0.name": "home", "teams.1": missing{}}},
		{name: "by another team", request: request{key: "foreign"}, want: 200, has: map[string]any{"teams.0.id": w.foreign, "teams.1": missing{}}},
	}
}

func createTeamCases(w *world) []check {
	w.issue("narrow", w.team, w.project, []string{observe.ScopeAll}, time.Time{})
	return append(nameCases("star"),
		check{name: "by a project's key", request: request{key: "narrow", body: `{"name":"new"}`}, want: 403},
		check{name: "good", request: request{key: "star", body: `{"name":"new"}`}, want: 201, has: map[string]any{"team.name": "new", "key.scopes": []any{"*"}, "key.projectId": nil}, says: `"apiKey":"obs_`},
		check{name: "the same name", request: request{key: "star", body: `{"name":"new"}`}, want: 201},
	)
}

func auditCases(w *world) []check {
	id := w.posted("e1").str("event.id")
	w.posted("e2")
	w.issue("narrow", w.team, w.sibling, []string{observe.ScopeAdmin}, time.Time{})
	w.issue("chief", w.foreign, "", []string{observe.ScopeAdmin}, time.Time{})
	ask := func(key, query string) request { return request{path: "/v1/audit?" + query, key: key} }
	return []check{
		{name: "since", request: ask("star", "since=yesterday"), want: 400, has: map[string]any{"error": "ValidationError", "issues.0.path.0": "since"}},
		{name: "cursor", request: ask("star", "cursor=0"), want: 400, has: map[string]any{"issues.0.path.0": "cursor"}},
		{name: "no number", request: ask("star", "cursor=x"), want: 400},
		{name: "good", request: ask(observe.ScopeAdmin, "action=event.received"), want: 200, has: map[string]any{
			"audit.1.action": "event.received", "audit.1.resourceId": id, "audit.1.apiKeyId": w.keys["team"].ID, "audit.1.projectId": w.project,
			"audit.1.actorId": "tester", "audit.1.details.created": 1.0, "audit.2": missing{}, "limit": 50, "nextCursor": nil,
		}},
		{name: "a page", request: ask("star", "action=event.received&limit=1"), want: 200, has: map[string]any{"audit.1": missing{}, "limit": 1}, says: `"nextCursor":"`},
		{name: "nothing so new", request: ask("star", "since=2999-01-01"), want: 200, has: map[string]any{"audit": []any{}}},
		{name: "no such action", request: ask("star", "action=%00"), want: 200, has: map[string]any{"audit": []any{}}},
		{name: "another project's key", request: ask("narrow", "action=event.received"), want: 200, has: map[string]any{"audit": []any{}}},
		{name: "another team", request: ask("chief", "action=event.received"), want: 200, has: map[string]any{"audit": []any{}}},
	}
}

func setProjectCases(w *world) []check {
	path := "/v1/projects/" + w.project
	w.issue("narrow", w.team, w.sibling, []string{observe.ScopeAdmin}, time.Time{})
	w.issue("chief", w.foreign, "", []string{observe.ScopeAdmin}, time.Time{})
	set := func(key, body string) request { return request{path: path, key: key, body: body} }
	invalid := func(body, name, code string) check {
		return check{
			name: body, request: set("star", body), want: 400,
			has: map[string]any{"error": "ValidationError", "issues.0.path.0": name, "issues.0.code": code},
		}
	}
	shows := func(policy string, ms any) check {
		return check{
			name: "and it is read", request: request{method: "GET", path: path, key: "team"}, want: 200,
			has: map[string]any{"project.policy": policy, "project.debounceMs": ms},
		}
	}
	return append(withKey(badBodies(false), "star"),
		invalid(`{}`, "policy", "invalid_value"), invalid(`{"policy":"sometimes"}`, "policy", "invalid_value"), invalid(`{"policy":null}`, "policy", "invalid_value"),
		invalid(`{"policy":"debounce","debounceMs":-1}`, "debounceMs", "too_small"), invalid(`{"policy":"debounce","debounceMs":3600001}`, "debounceMs", "too_big"),
		invalid(`{"policy":"debounce","debounceMs":"5s"}`, "debounceMs", "invalid_type"),
		check{name: "by another project's key", request: set("narrow", `{"policy":"debounce"}`), want: 404, has: map[string]any{"message": "Project not found"}},
		check{name: "by another team", request: set("chief", `{"policy":"debounce"}`), want: 404, has: map[string]any{"message": "Project not found"}},
		check{name: "good", request: set(observe.ScopeAdmin, `{"policy":"debounce","debounceMs":90000}`), want: 200},
		shows("debounce", 90000),
		check{name: "the usual wait", request: set("star", `{"policy":"end-of-session","debounceMs":null}`), want: 200},
		shows("end-of-session", 5000),
		check{name: "no wait", request: set("star", `{"policy":"per-event","debounceMs":7}`), want: 200},
		shows("per-event", nil),
		check{name: "the server's", request: set("star", `{"policy":"server"}`), want: 200},
		shows("server", nil),
		invalid(`{"storage":"attic"}`, "storage", "invalid_value"), invalid(`{"storage":7}`, "storage", "invalid_value"), invalid(`{"storage":null}`, "storage", "invalid_value"),
		invalid(`{"policy":"per-event","storage":null}`, "storage", "invalid_value"), invalid(`{"policy":"per-event","mode":null}`, "mode", "invalid_type"),
		invalid(`{"policy":"per-event","prompts":null}`, "prompts", "invalid_type"), invalid(`{"policy":null,"storage":"raw"}`, "policy", "invalid_value"),
		invalid(`{"mode":""}`, "mode", "too_small"), invalid(`{"mode":"nobody"}`, "mode", "invalid_value"), invalid(`{"prompts":"x"}`, "prompts", "invalid_type"),
		invalid(`{"prompts":{"system":7}}`, "prompts", "invalid_type"), invalid(`{"prompts":{"system":"a\u0000b"}}`, "prompts", "custom"), invalid(`{"prompts":{"observe":"`+strings.Repeat("x", 16385)+`"}}`, "prompts", "too_big"),
		check{name: "the words of another team's project", request: set("chief", `{"prompts":{"observe":"x"}}`), want: 404, has: map[string]any{"message": "Project not found"}},
		check{name: "storage", request: set(observe.ScopeAdmin, `{"storage":"redacted"}`), want: 200, has: map[string]any{"project.storage": "redacted", "project.policy": missing{}}},
		check{name: "mode and words", request: set("star", `{"mode":"code","prompts":{"observe":"Only decisions: {types}"}}`), want: 200, has: map[string]any{
			"project.mode": "code", "project.prompts.observe": "Only decisions: {types}", "project.prompts.system": missing{}, "project.storage": missing{},
		}},
		check{name: "all of it is read", request: request{method: "GET", path: path, key: "team"}, want: 200, has: map[string]any{
			"project.policy": "server", "project.storage": "redacted", "project.mode": "code", "project.prompts.observe": "Only decisions: {types}",
		}},
		check{name: "the mode's words again", request: set("star", `{"prompts":{},"storage":"raw","policy":"per-event"}`), want: 200, has: map[string]any{
			"project.policy": "per-event", "project.storage": "raw", "project.prompts.observe": missing{},
		}},
	)
}
