package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
)

func init() {
	routeCases["POST /v1/memories"] = createMemoryCases
	routeCases["GET /v1/memories/:id"] = getMemoryCases
	routeCases["PATCH /v1/memories/:id"] = editMemoryCases
	routeCases["DELETE /v1/memories/:id"] = deleteMemoryCases
	routeCases["DELETE /v1/projects/:projectId/memory"] = purgeCases
}

func memoryOf(project, content, more string) string {
	return fmt.Sprintf(`{"projectId":%q,"content":%q%s}`, project, content, more)
}

// remembered stores a memory and gives its id.
func (w *world) remembered(content string) string {
	w.t.Helper()
	a := w.do(request{method: "POST", path: "/v1/memories", key: "team", body: memoryOf(w.project, content, "")})
	require.Equal(w.t, http.StatusCreated, a.status, a.text)
	return a.str("memory.id")
}

func createMemoryCases(w *world) []check {
	post := func(key, body string) request { return request{key: key, body: body} }
	keyed := func(key, body string) request {
		return request{key: "team", body: body, header: map[string]string{"Idempotency-Key": key}}
	}
	invalid := func(body, name, code string) check {
		return check{
			name: body, request: post("team", body), want: 400,
			has: map[string]any{"error": "ValidationError", "issues.0.path.0": name, "issues.0.code": code},
		}
	}
	started := w.do(request{method: "POST", path: "/v1/sessions/start", key: "team", body: fmt.Sprintf(`{"projectId":%q,"externalSessionId":"s"}`, w.sibling)})
	session := fmt.Sprintf(`,"serverSessionId":%q`, started.str("session.id"))
	return append(badBodies(false),
		invalid(memoryOf(w.project, "", ""), "content", "too_small"), invalid(`{"projectId":"p"}`, "content", "invalid_type"),
		invalid(memoryOf(w.project, strings.Repeat("x", 64<<10+1), ""), "content", "too_big"),
		invalid(memoryOf(w.project, "<private>all of it</private>", ""), "content", "too_small"),
		invalid(`{"projectId":"p","title":"","facts":[]}`, "content", "invalid_type"), invalid(`{"projectId":"p","narrative":7}`, "narrative", "invalid_type"),
		invalid(`{"projectId":"p","narrative":"x","facts":["",1]}`, "facts", "invalid_type"), invalid(`{"projectId":"p","facts":[""]}`, "facts", "too_small"),
		invalid(fmt.Sprintf(`{"projectId":"p","title":"x","narrative":%q}`, strings.Repeat("x", 64<<10)), "content", "too_big"),
		invalid(memoryOf("", "x", ""), "projectId", "too_small"), invalid(memoryOf(w.project, "x", `,"kind":7`), "kind", "invalid_type"),
		invalid(memoryOf(w.project, "x", `,"kind":""`), "kind", "too_small"), invalid(memoryOf(w.project, "x", `,"metadata":[]`), "metadata", "invalid_type"),
		invalid(memoryOf(w.project, "x", `,"metadata":{"a":"`+strings.Repeat("x", 64<<10)+`"}`), "metadata", "too_big"),
		invalid(memoryOf(w.project, "x", `,"serverSessionId":1`), "serverSessionId", "invalid_type"),
		check{name: "long key", request: keyed(strings.Repeat("k", 257), memoryOf(w.project, "x", "")), want: 400, has: map[string]any{"issues.0.path.0": "Idempotency-Key"}},
		check{name: "blank key", request: keyed(" ", memoryOf(w.project, "x", "")), want: 400, has: map[string]any{"issues.0.path.0": "Idempotency-Key"}},
		check{name: "another team's project", request: post("team", memoryOf(w.abroad, "x", "")), want: 403, has: map[string]any{"message": "project_id must belong to team_id"}},
		check{name: "key of another project", request: post("sibling", memoryOf(w.project, "x", "")), want: 403, has: map[string]any{"message": "API key is scoped to a different project"}},
		check{
			name: "another project's session", request: post("team", memoryOf(w.project, "x", session)), want: 403,
			has: map[string]any{"error": "Forbidden", "message": "server_session_id must belong to project_id and team_id"},
		},
		check{
			name: "good", request: post("team", memoryOf(w.project, "we use tabs", `,"metadata":{"title":"style"}`)), want: 201,
			has: map[string]any{
				"memory.projectId": w.project, "memory.teamId": w.team, "memory.serverSessionId": nil, "memory.kind": "manual",
				"memory.content": "we use tabs", "memory.metadata": map[string]any{"title": "style"}, "memory.generationKey": missing{},
			},
		},
		check{
			name: "in a session", request: post("sibling", memoryOf(w.sibling, "x", `,"kind":"decision"`+session)), want: 201,
			has: map[string]any{"memory.serverSessionId": started.str("session.id"), "memory.kind": "decision"},
		},
		check{ // what the published client of claude-mem sends for observation_add
			name: "in parts", want: 201,
			request: post("project", fmt.Sprintf(`{"projectId":%q,"kind":"decision","type":"decision","narrative":"we use tabs","title":"style","metadata":{"title":"style"}}`, w.project)),
			has:     map[string]any{"memory.content": "style\n\nwe use tabs", "memory.kind": "decision", "memory.metadata": map[string]any{"title": "style"}},
		},
		check{
			name: "all parts", want: 201,
			request: post("team", fmt.Sprintf(`{"projectId":%q,"content":null,"title":"a","subtitle":"b","narrative":"c","facts":["d","e"]}`, w.project)),
			has:     map[string]any{"memory.content": "a\n\nb\n\nc\n\n- d\n- e"},
		},
		check{name: "content before parts", request: post("team", memoryOf(w.project, "x", `,"narrative":"y"`)), want: 201, has: map[string]any{"memory.content": "x"}},
		check{name: "private parts", request: post("team", memoryOf(w.project, "the key is <private>hunter2</private> here", "")), want: 201, has: map[string]any{"memory.content": "the key is  here"}},
		check{name: "NUL", request: post("team", `{"projectId":"`+w.project+`","content":"a\u0000b","metadata":{"a":"\ud800"}}`), want: 201, has: map[string]any{"memory.content": "a\uFFFDb"}},
		check{name: "keyed", request: keyed("k1", memoryOf(w.project, "once", "")), want: 201, has: map[string]any{"memory.content": "once"}},
		check{name: "keyed again", request: keyed("k1", memoryOf(w.project, "once", "")), want: 201, has: map[string]any{"memory.content": "once"}},
		check{name: "keyed in another project", request: keyed("k1", memoryOf(w.sibling, "twice", "")), want: 201},
		check{name: "the key with other words", request: keyed("k1", memoryOf(w.project, "twice", "")), want: 409, has: map[string]any{"error": "Conflict"}},
	)
}

func getMemoryCases(w *world) []check {
	path := "/v1/memories/" + w.remembered("we use tabs")
	return []check{
		{name: "good", request: request{path: path, key: "team"}, want: 200, has: map[string]any{"memory.content": "we use tabs", "memory.projectId": w.project}},
		{name: "by a project's key", request: request{path: path, key: "project"}, want: 200},
		{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404, has: map[string]any{"message": "Memory not found"}},
		{name: "by another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"message": "Memory not found"}},
	}
}

func editMemoryCases(w *world) []check {
	path := "/v1/memories/" + w.remembered("we use tabs")
	edit := func(key, body string) request { return request{path: path, key: key, body: body} }
	return append(badBodies(false),
		check{name: "nothing", request: edit("team", "{}"), want: 400, has: map[string]any{"error": "ValidationError"}},
		check{name: "content", request: edit("team", `{"content":""}`), want: 400, has: map[string]any{"issues.0.path.0": "content"}},
		check{name: "private content", request: edit("team", `{"content":"<private>x"}`), want: 400, has: map[string]any{"issues.0.path.0": "content"}},
		check{name: "kind", request: edit("team", `{"kind":[]}`), want: 400, has: map[string]any{"issues.0.path.0": "kind"}},
		check{name: "metadata", request: edit("team", `{"metadata":"x"}`), want: 400, has: map[string]any{"issues.0.path.0": "metadata"}},
		check{name: "by another project's key", request: edit("sibling", `{"kind":"x"}`), want: 404, has: map[string]any{"message": "Memory not found"}},
		check{name: "by another team", request: edit("foreign", `{"kind":"x"}`), want: 404},
		check{
			name: "good", request: edit("team", `{"content":"we use spaces","metadata":{"a":1}}`), want: 200,
			has: map[string]any{"memory.content": "we use spaces", "memory.kind": "manual", "memory.metadata": map[string]any{"a": 1.0}},
		},
		check{name: "the kind alone", request: edit("project", `{"kind":"decision","content":null}`), want: 200, has: map[string]any{"memory.content": "we use spaces", "memory.kind": "decision"}},
		check{
			name: "is found", request: request{method: "POST", path: "/v1/search", key: "team", body: queryOf(w.project, "spaces", "")}, want: 200,
			has: map[string]any{"observations.0.content": "we use spaces"},
		},
	)
}

func deleteMemoryCases(w *world) []check {
	id := w.remembered("we use tabs")
	path := "/v1/memories/" + id
	return []check{
		{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404, has: map[string]any{"error": "not_found", "message": "Memory not found"}},
		{name: "by another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"error": "not_found"}},
		{name: "good", request: request{path: path, key: "project"}, want: 200, has: map[string]any{"deleted": true, "id": id}},
		{name: "again", request: request{path: path, key: "project"}, want: 404, has: map[string]any{"error": "not_found"}},
	}
}

func purgeCases(w *world) []check {
	w.remembered("we use tabs")
	w.posted("e1")
	path := func(project string) string { return "/v1/projects/" + project + "/memory" }
	return []check{
		{name: "unknown", request: request{path: path("nothing"), key: "team"}, want: 404, has: map[string]any{"error": "not_found", "message": "Project not found"}},
		{name: "NUL", request: request{path: path("a%00b"), key: "team"}, want: 404},
		{name: "another team's", request: request{path: path(w.abroad), key: "team"}, want: 404, has: map[string]any{"error": "not_found"}},
		{name: "by another team", request: request{path: path(w.project), key: "foreign"}, want: 404},
		{name: "by another project's key", request: request{path: path(w.project), key: "sibling"}, want: 404},
		{
			name: "good", request: request{path: path(w.project), key: "team"}, want: 200,
			has: map[string]any{
				"purged": true, "projectId": w.project, "counts.observations": 1, "counts.agentEvents": 1, "counts.sessions": 0, "counts.jobs": 1,
			},
		},
		{name: "again", request: request{path: path(w.project), key: "project"}, want: 200, has: map[string]any{"counts.jobs": 0}},
		{name: "and it goes on", request: request{method: "POST", path: "/v1/events", key: "team", body: w.event("e1")}, want: 201, has: map[string]any{"generationJob.status": "queued"}},
	}
}

// TestPurgeTakesAllButTheAudit: after a purge no table has a row of the
// project's but the audit log and what makes the tenant, and all invariants hold.
func TestPurgeTakesAllButTheAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.remembered("we use tabs")
	held := w.claim(w.posted("e1").str("generationJob.id"))
	w.posted("e2")
	kept := w.do(request{method: "POST", path: "/v1/events", key: "team", body: eventOf(w.sibling, "e3")})
	require.Equal(t, http.StatusCreated, kept.status)
	a := w.do(request{method: "DELETE", path: "/v1/projects/" + w.project + "/memory", key: "team"})
	require.Equal(t, http.StatusOK, a.status, a.text)
	for _, table := range []string{
		"server_sessions", "agent_events", "observation_generation_jobs", "observation_generation_job_events", "outbox", "job_feed",
		"observations", "observation_sources",
	} {
		var mine, others int
		require.NoError(t, w.pool.QueryRow(t.Context(),
			"SELECT count(*) FILTER (WHERE project_id = $1), count(*) FILTER (WHERE project_id = $2) FROM "+table, w.project, w.sibling).Scan(&mine, &others))
		require.Zero(t, mine, table)
		if table == "outbox" || table == "agent_events" {
			require.Equal(t, 1, others, table)
		}
	}
	late := events.Step{Job: held, Event: events.Event{Type: events.Completed, Process: "worker-1", Actor: "worker"}}
	errs, err := w.jobs.Settle(t.Context(), []events.Step{late}, []func(context.Context, pgx.Tx) error{nil})
	require.NoError(t, err)
	require.Error(t, errs[0], "the worker's result comes too late")
	found, err := w.jobs.Check(t.Context(), db.CheckConfig{})
	require.NoError(t, err)
	require.Empty(t, found)
}

// TestKeyedMemoryIsOne: the same Idempotency-Key, also at the same moment, is
// one memory.
func TestKeyedMemoryIsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ids := make(chan string, 8)
	for range cap(ids) {
		go func() {
			a := w.do(request{
				method: "POST", path: "/v1/memories", key: "team", body: memoryOf(w.project, "once", ""),
				header: map[string]string{"Idempotency-Key": "k"},
			})
			id, _ := a.at("memory.id").(string)
			ids <- id
		}()
	}
	first := <-ids
	require.NotEmpty(t, first)
	for range cap(ids) - 1 {
		require.Equal(t, first, <-ids)
	}
	var n int
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT count(*) FROM observations").Scan(&n))
	require.Equal(t, 1, n)
}
