package api_test

import (
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"
)

func init() {
	routeCases["POST /v1/search"] = func(w *world) []check {
		return append(append(queryCases(w, 100), sharedQueryCases(w)...), searchCases(w)...)
	}
	routeCases["GET /v1/context"] = readContextCases
	routeCases["POST /v1/context"] = func(w *world) []check {
		return append(append(queryCases(w, 50), sharedQueryCases(w)...), check{
			name: "text", request: request{key: "team", body: queryOf(w.project, "parser", "")}, want: 200,
			has: map[string]any{"context": "the parser reads main.go", "tokens": 6, "folded": 0, "leftOut": 0},
		}, check{
			name: "the latest", request: request{key: "team", body: fmt.Sprintf(`{"projectId":%q}`, w.project)}, want: 200,
			has: map[string]any{"context": "## Outside of sessions\n- **discovery** the printer writes it\n- **discovery** the parser reads main.go"},
		}, check{
			name: "few tokens", request: request{key: "team", body: fmt.Sprintf(`{"projectId":%q,"maxTokens":20}`, w.project)}, want: 200,
			has: map[string]any{"context": "## Outside of sessions\n- **discovery** the printer writes it", "leftOut": 1},
		}, check{
			name: "too many tokens", request: request{key: "team", body: queryOf(w.project, "parser", `,"maxTokens":32001`)}, want: 400,
			has: map[string]any{"issues.0.path.0": "maxTokens", "issues.0.code": "too_big"},
		}, check{
			name: "no query by another project's key", request: request{key: "sibling", body: fmt.Sprintf(`{"projectId":%q}`, w.project)}, want: 403,
		})
	}
	routeCases["POST /v1/reindex"] = reindexCases
}

func queryOf(project, query, more string) string {
	return fmt.Sprintf(`{"projectId":%q,"query":%q%s}`, project, query, more)
}

func queryCases(w *world, most int) []check {
	invalid := func(more, name, code string) check {
		return check{
			name: more, request: request{key: "team", body: queryOf(w.project, "parser", more)}, want: 400,
			has: map[string]any{"error": "ValidationError", "issues.0.path.0": name, "issues.0.code": code},
		}
	}
	return append(badBodies(false),
		invalid(`,"query":""`, "query", "too_small"), invalid(`,"query":null`, "query", "invalid_type"),
		invalid(`,"query":"`+strings.Repeat("x", 4097)+`"`, "query", "too_big"), invalid(`,"projectId":1`, "projectId", "invalid_type"),
		invalid(`,"limit":0`, "limit", "too_small"), invalid(fmt.Sprintf(`,"limit":%d`, most+1), "limit", "too_big"),
		invalid(`,"limit":"5"`, "limit", "invalid_type"), invalid(`,"limit":2.5`, "limit", "invalid_type"), invalid(`,"platformSource":[]`, "platformSource", "invalid_type"),
	)
}

func sharedQueryCases(w *world) []check {
	w.observed("obs-1", w.posted("e1").str("event.id"), "the parser reads main.go")
	w.observed("obs-2", w.posted("e2").str("event.id"), "the printer writes it")
	find := func(key, project, query, more string) request {
		return request{key: key, body: queryOf(project, query, more)}
	}
	return []check{
		{
			name: "good", request: find("team", w.project, "parser", ""), want: 200,
			has: map[string]any{
				"observations.0.id": "obs-1", "observations.0.content": "the parser reads main.go", "observations.0.kind": "discovery",
				"observations.0.projectId": w.project, "observations.0.serverSessionId": nil, "observations.1": missing{},
			},
		},
		{name: "by a project's key", request: find("project", w.project, "printer", `,"limit":1`), want: 200, has: map[string]any{"observations.0.id": "obs-2"}},
		{name: "nothing found", request: find("team", w.project, "giraffe", ""), want: 200, has: map[string]any{"observations": []any{}}},
		{name: "punctuation", request: find("team", w.project, `"'( & | ! <-> :*`, ""), want: 200},
		{name: "NUL", request: request{key: "team", body: `{"projectId":"` + w.project + `","query":"par\u0000ser"}`}, want: 200},
		{name: "lone surrogate", request: request{key: "team", body: `{"projectId":"` + w.project + `","query":"\ud800"}`}, want: 200},
		{name: "another project is empty", request: find("team", w.sibling, "parser", ""), want: 200, has: map[string]any{"observations": []any{}}},
		{name: "by another project's key", request: find("sibling", w.project, "parser", ""), want: 403, has: map[string]any{"message": "API key is scoped to a different project"}},
		{name: "another team's project", request: find("foreign", w.project, "parser", ""), want: 403},
	}
}

func searchCases(w *world) []check {
	find := func(query, more string) request { return request{key: "team", body: queryOf(w.project, query, more)} }
	page := find("the parser or the printer", `,"limit":1`)
	page.method, page.path = "POST", "/v1/search"
	first := w.do(page)
	require.Equal(w.t, 200, first.status, first.text)
	return []check{
		{name: "highlights", request: find("parser read", ""), want: 200, has: map[string]any{"observations.0.highlights.0": "the **parser** **reads** main.go", "nextCursor": nil}},
		{name: "next page", request: find("the parser or the printer", `,"limit":1,"cursor":"`+first.str("nextCursor")+`"`), want: 200, has: map[string]any{"observations.0.id": "obs-1", "nextCursor": nil}},
		{name: "a cursor of another query", request: find("parser", `,"cursor":"`+first.str("nextCursor")+`"`), want: 400, has: map[string]any{"issues.0.path.0": "cursor"}},
		{name: "no cursor", request: find("parser", `,"cursor":"x"`), want: 400, has: map[string]any{"issues.0.path.0": "cursor"}},
		{name: "of a type", request: find("parser", `,"types":["discovery","bugfix"]`), want: 200, has: map[string]any{"observations.0.id": "obs-1"}},
		{name: "of another type", request: find("parser", `,"types":["bugfix"]`), want: 200, has: map[string]any{"observations": []any{}}},
		{name: "types are a list", request: find("parser", `,"types":"bugfix"`), want: 400, has: map[string]any{"issues.0.path.0": "types"}},
		{name: "before it was made", request: find("parser", `,"untilEpoch":1000`), want: 200, has: map[string]any{"observations": []any{}}},
		{name: "since it was made", request: find("parser", `,"sinceEpoch":1000`), want: 200, has: map[string]any{"observations.0.id": "obs-1"}},
		{name: "of no such session", request: find("parser", `,"sessionId":"nothing"`), want: 200, has: map[string]any{"observations": []any{}}},
		{name: "of no such file", request: find("parser", `,"file":"other.go"`), want: 200, has: map[string]any{"observations": []any{}}},
		{name: "a time that is none", request: find("parser", `,"sinceEpoch":-1`), want: 400, has: map[string]any{"issues.0.path.0": "sinceEpoch"}},
	}
}

func readContextCases(w *world) []check {
	w.observed("obs-1", w.posted("e1").str("event.id"), "the parser reads main.go")
	read := func(key, query string) request {
		return request{method: "GET", path: "/v1/context?" + query, key: key}
	}
	return []check{
		{name: "the latest", request: read("team", "project="+w.project), want: 200, has: map[string]any{"observations.0.id": "obs-1", "context": "## Outside of sessions\n- **discovery** the parser reads main.go"}},
		{name: "by a project's key", request: read("project", "project="+w.project+"&limit=1&maxTokens=100"), want: 200, has: map[string]any{"observations.0.id": "obs-1"}},
		{name: "with a query", request: read("team", "project="+w.project+"&query=parser"), want: 200, has: map[string]any{"context": "the parser reads main.go"}},
		{name: "an empty project", request: read("team", "project="+w.sibling), want: 200, has: map[string]any{"observations": []any{}, "context": ""}},
		{name: "no project", request: read("team", ""), want: 400, has: map[string]any{"issues.0.path.0": "projectId"}},
		{name: "limit", request: read("team", "project="+w.project+"&limit=51"), want: 400, has: map[string]any{"issues.0.path.0": "limit"}},
		{name: "no number", request: read("team", "project="+w.project+"&maxTokens=x"), want: 400, has: map[string]any{"issues.0.path.0": "maxTokens", "issues.0.code": "invalid_type"}},
		{name: "by another project's key", request: read("sibling", "project="+w.project), want: 403, has: map[string]any{"message": "API key is scoped to a different project"}},
		{name: "another team's project", request: read("foreign", "project="+w.project), want: 403},
	}
}

func reindexCases(w *world) []check {
	w.observed("obs-1", w.posted("e1").str("event.id"), "the parser reads main.go")
	ask := func(key, project, more string) request {
		return request{key: key, body: fmt.Sprintf(`{"projectId":%q%s}`, project, more)}
	}
	return append(badBodies(false),
		check{name: "bad observation", request: ask("team", w.project, `,"observationId":7`), want: 400, has: map[string]any{"issues.0.path.0": "observationId"}},
		check{name: "by another project's key", request: ask("sibling", w.project, ""), want: 403},
		check{name: "another team's project", request: ask("foreign", w.project, ""), want: 403},
		check{name: "no such observation", request: ask("team", w.project, `,"observationId":"nothing"`), want: 404, has: map[string]any{"error": "NotFound"}},
		check{name: "another project's observation", request: ask("team", w.sibling, `,"observationId":"obs-1"`), want: 404},
		check{
			name: "one", request: ask("team", w.project, `,"observationId":"obs-1"`), want: 202,
			has: map[string]any{"generationJob.status": "queued", "generationJob.sourceType": "observation_reindex", "generationJob.transport": "enqueued"},
		},
		check{name: "the project", request: ask("team", w.project, ""), want: 202, has: map[string]any{"generationJob.sourceType": "observation_reindex"}},
	)
}
