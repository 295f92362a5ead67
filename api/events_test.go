package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
)

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// with is the good event with one member replaced; nil takes it out.
func (w *world) with(name string, value any) string {
	w.t.Helper()
	var m map[string]any
	require.NoError(w.t, json.Unmarshal([]byte(w.event("e1")), &m))
	if value == nil {
		delete(m, name)
	} else {
		m[name] = value
	}
	b, err := json.Marshal(m)
	require.NoError(w.t, err)
	return string(b)
}

func init() {
	routeCases["POST /v1/events"] = eventCases
	routeCases["POST /v1/events/batch"] = batchCases
	routeCases["GET /v1/events/:id"] = getEventCases
	routeCases["GET /v1/events/:id/observations"] = eventObservationsCases
}

func eventCases(w *world) []check {
	invalid := func(name string, value any, code string) check {
		return check{
			name: fmt.Sprintf("%s %.30v", name, value), request: request{key: "team", body: w.with(name, value)}, want: 400,
			has: map[string]any{"error": "ValidationError", "issues.0.path.0": name, "issues.0.code": code},
		}
	}
	post := func(key, body string) request { return request{key: key, body: body} }
	ask := func(query string) request {
		return request{path: "/v1/events?" + query, key: "team", body: w.event("e1")}
	}
	bad := []check{
		invalid("projectId", nil, "invalid_type"), invalid("projectId", 7, "invalid_type"), invalid("projectId", "", "too_small"),
		invalid("projectId", strings.Repeat("p", 257), "too_big"), invalid("projectId", "a\x00b", "custom"),
		invalid("sourceType", "cron", "invalid_value"), invalid("sourceType", nil, "invalid_value"),
		invalid("eventType", nil, "invalid_type"), invalid("eventType", strings.Repeat("e", 257), "too_big"),
		invalid("occurredAtEpoch", nil, "invalid_type"), invalid("occurredAtEpoch", "now", "invalid_type"),
		invalid("occurredAtEpoch", -1, "too_small"), invalid("occurredAtEpoch", 1.5, "invalid_type"),
		invalid("occurredAtEpoch", 8.64e15, "too_big"), invalid("occurredAtEpoch", 253402300800000, "too_big"), invalid("occurredAtEpoch", 1e300, "too_big"),
		invalid("serverSessionId", 7, "invalid_type"), invalid("contentSessionId", []int{}, "invalid_type"),
		invalid("platformSource", true, "invalid_type"), invalid("metadata", "x", "invalid_type"), invalid("sourceEventId", 1, "invalid_type"),
		{name: "wait=1", request: ask("wait=1"), want: 400, has: map[string]any{"issues.0.path.0": "wait"}},
		{name: "generate=", request: ask("generate="), want: 400, has: map[string]any{"issues.0.path.0": "generate"}},
		{name: "names differ by case", request: post("team", strings.Replace(w.event("e1"), "projectId", "ProjectID", 1)), want: 400},
		{name: "all issues at once", request: post("team", "{}"), want: 400, has: map[string]any{"issues.3.path.0": "occurredAtEpoch"}},
		{
			name: "another team's project", request: post("team", eventOf(w.abroad, "e1")), want: 403,
			has: map[string]any{"error": "Forbidden", "message": "project_id must belong to team_id"},
		},
		{name: "no such project", request: post("team", eventOf("nothing", "e1")), want: 403, has: map[string]any{"error": "Forbidden"}},
		{
			name: "key of another project", request: post("sibling", w.event("e1")), want: 403,
			has: map[string]any{"error": "Forbidden", "message": "API key is scoped to a different project"},
		},
		{name: "no such session", request: post("team", w.with("serverSessionId", "nothing")), want: 403, has: map[string]any{"error": "Forbidden"}},
	}
	good := []check{
		{
			name: "good", request: post("team", w.event("e1")), want: 201,
			has: map[string]any{
				"event.projectId": w.project, "event.teamId": w.team, "event.sourceAdapter": "hook", "event.eventType": "PostToolUse",
				"event.serverSessionId": nil, "event.occurredAtEpoch": 1700000000000, "event.payload.tool_name": "Read",
				"generationJob.status": "queued", "generationJob.transport": "enqueued", "generationJob.sourceType": "agent_event",
			},
		},
		{name: "again", request: post("project", w.event("e1")), want: 201, has: map[string]any{"generationJob.status": "queued"}},
		{
			name: "without a job", request: request{path: "/v1/events?generate=false", key: "team", body: w.event("e2")}, want: 201,
			has: map[string]any{"generationJob": missing{}, "waitTimedOut": missing{}},
		},
		{
			name: "waits for no job", request: request{path: "/v1/events?generate=false&wait=true", key: "team", body: w.event("e3")}, want: 201,
			has: map[string]any{"generationJob": nil, "waitTimedOut": missing{}},
		},
		{
			name: "waits too long", request: request{path: "/v1/events?wait=true", key: "team", body: w.event("e4")}, want: 201,
			has: map[string]any{"generationJob.status": "queued", "generationJob.attempts": 0, "generationJob.maxAttempts": 3, "waitTimedOut": true},
		},
		{name: "duplicate members: the last counts", request: post("team", `{"projectId":"no",`+w.event("e5")[1:]), want: 201, has: map[string]any{"event.projectId": w.project}},
		{name: "NUL in a payload", request: post("team", w.with("payload", map[string]any{"a\x00": "b\x00c"})), want: 201},
		{
			name: "lone surrogate in a payload", want: 201,
			request: post("team", strings.Replace(w.event("e6"), `"main.go"`, `"\ud800 \udc00\ud800"`, 1)),
		},
		{
			name: "numbers beyond a double", want: 201, has: map[string]any{"event.payload.a": nil},
			request: post("team", strings.Replace(w.event("e13"), `{"tool_name"`, `{"a":1e400,"b":1e-99999,"c":-1e999999999999,"tool_name"`, 1)),
		},
		{name: "null payload", request: post("team", strings.Replace(w.event("e7"), `"payload":`, `"payload":null,"x":`, 1)), want: 201, has: map[string]any{"event.payload": map[string]any{}}},
		{name: "a string as payload", request: post("team", strings.Replace(w.event("e8"), `"payload":`, `"payload":"text","x":`, 1)), want: 201, has: map[string]any{"event.payload": "text"}},
		{name: "unknown members", request: post("team", strings.Replace(w.event("e9"), "{", `{"unknown":{"a":[1]},`, 1)), want: 201},
		{name: "a float that is whole", request: post("team", strings.Replace(w.event("e10"), "1700000000000", "1.7e12", 1)), want: 201, has: map[string]any{"event.occurredAtEpoch": 1700000000000}},
		{name: "the last millisecond", request: post("team", strings.Replace(w.event("e11"), "1700000000000", "253402300799999", 1)), want: 201, has: map[string]any{"event.occurredAtEpoch": 253402300799999}},
		{name: "X-Api-Key", request: request{body: w.event("e12"), header: map[string]string{"X-Api-Key": w.secrets["team"]}}, want: 201},
	}
	return append(append(badBodies(false), bad...), good...)
}

func batchCases(w *world) []check {
	many := func(n int, bad string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = w.event(fmt.Sprintf("b%d", i))
		}
		if bad != "" {
			all[n/2] = bad
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	post := func(key, body string) request { return request{key: key, body: body} }
	return append(badBodies(true),
		check{name: "empty", request: post("team", "[]"), want: 400, has: map[string]any{"issues.0.code": "too_small"}},
		check{name: "501", request: post("team", many(501, "")), want: 400, has: map[string]any{"issues.0.code": "too_big"}},
		check{
			name: "500 with a bad one", request: post("team", many(500, w.with("eventType", 7))), want: 400,
			has: map[string]any{"issues.0.path": []any{250.0, "eventType"}, "issues.1": missing{}},
		},
		check{name: "500 with one that is none", request: post("team", many(500, `"x"`)), want: 400, has: map[string]any{"issues.0.path": []any{250.0}}},
		check{name: "500 with one of another team", request: post("team", many(500, eventOf(w.abroad, "x"))), want: 403},
		check{name: "500 with one of another project", request: post("project", many(500, eventOf(w.sibling, "x"))), want: 403},
		check{name: "500 with one of no session", request: post("team", many(500, w.with("serverSessionId", "nothing"))), want: 403},
		check{name: "500 bad ones", request: post("team", "["+strings.Repeat("{},", 499)+"{}]"), want: 400, has: map[string]any{"issues.99.code": "invalid_type", "issues.100": missing{}}},
		check{
			name: "500", request: post("team", many(500, "")), want: 201,
			has: map[string]any{"events.0.event.sourceEventId": "b0", "events.499.event.sourceEventId": "b499", "events.499.generationJob.transport": "enqueued"},
		},
		check{name: "without jobs", request: request{path: "/v1/events/batch?generate=false", key: "team", body: "[" + w.event("c1") + "]"}, want: 201, has: map[string]any{"events.0.generationJob": missing{}}},
		check{
			name: "waits too long", request: request{path: "/v1/events/batch?wait=true", key: "team", body: "[" + w.event("c2") + "," + w.event("c3") + "]"}, want: 201,
			has: map[string]any{"waitTimedOut": true, "events.0.waitTimedOut": true, "events.1.generationJob.status": "queued"},
		},
	)
}

func getEventCases(w *world) []check {
	path := "/v1/events/" + w.posted("e1").str("event.id")
	return []check{
		{name: "good", request: request{path: path, key: "team"}, want: 200, has: map[string]any{"event.projectId": w.project, "event.sourceEventId": "e1"}},
		{name: "by a project's key", request: request{path: path, key: "project"}, want: 200},
		{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404, has: map[string]any{"message": "Event not found"}},
		{name: "by another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"error": "NotFound", "message": "Event not found"}},
		{name: "HEAD", request: request{method: "HEAD", path: path, key: "team"}, want: 200},
	}
}

func eventObservationsCases(w *world) []check {
	id := w.posted("e1").str("event.id")
	path := "/v1/events/" + id + "/observations"
	w.observed("obs-1", id, "the parser reads main.go")
	return []check{
		{
			name: "good", request: request{path: path, key: "team"}, want: 200,
			has: map[string]any{
				"eventId": id, "observations.0.id": "obs-1", "observations.0.content": "the parser reads main.go",
				"observations.0.source.sourceId": id, "observations.0.source.sourceType": "agent_event", "observations.1": missing{},
			},
		},
		{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404},
		{name: "by another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"message": "Event not found"}},
		{name: "without observations", request: request{path: "/v1/events/" + w.posted("e2").str("event.id") + "/observations", key: "team"}, want: 200, has: map[string]any{"observations": []any{}}},
	}
}

// observed stores an observation of an event, as a job's commit would.
func (w *world) observed(id, event, content string) {
	w.t.Helper()
	_, err := w.pool.Exec(w.t.Context(), `INSERT INTO observations (id, team_id, project_id, kind, content, content_search)
		VALUES ($1, $2, $3, 'discovery', $4, $5::text::tsvector)`, id, w.team, w.project, content,
		search.Note{Body: content}.Entry(search.Scope(w.team, w.project), "discovery").Vector)
	require.NoError(w.t, err)
	_, err = w.pool.Exec(w.t.Context(), `INSERT INTO observation_sources (id, team_id, project_id, observation_id, source_type, source_id)
		VALUES ($1, $2, $3, $4, 'agent_event', $5)`, "src-"+id, w.team, w.project, id, event)
	require.NoError(w.t, err)
}

// TestWait: the answer comes as soon as the job is settled, not when the wait
// runs out.
func TestWait(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		how  events.Type
		want string
	}{{events.Completed, "completed"}, {events.Failed, "failed"}} {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *api.Config) { c.WaitLimit = time.Minute })
			id := w.posted("e1").str("generationJob.id")
			got := make(chan answer, 1)
			go func() {
				got <- w.do(request{method: "POST", path: "/v1/events?wait=true", key: "team", body: w.event("e1")})
			}()
			w.settle(w.claim(id), test.how)
			select {
			case a := <-got:
				require.Equal(t, http.StatusCreated, a.status, a.text)
				require.Equal(t, test.want, a.str("generationJob.status"))
				require.Equal(t, missing{}, a.at("waitTimedOut"))
			case <-time.After(time.Minute):
				require.FailNow(t, "the job is settled and the client still waits")
			}
		})
	}
}

// TestSettledIsSkipped: for work that is done already nothing is enqueued.
func TestSettledIsSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.settle(w.claim(w.posted("e1").str("generationJob.id")), events.Completed)
	again := w.posted("e1")
	require.Equal(t, "completed", again.str("generationJob.status"))
	require.Equal(t, "skipped", again.str("generationJob.transport"))
}

// TestRequestIDReachesTheJob: from the header to the job and its history.
func TestRequestIDReachesTheJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := w.do(request{method: "POST", path: "/v1/events", key: "team", body: w.event("e1"), header: map[string]string{"X-Request-Id": "my-request_1"}})
	require.Equal(t, http.StatusCreated, a.status, a.text)
	id := a.str("generationJob.id")
	require.Equal(t, "my-request_1", w.job(id).RequestID)
	history := w.do(request{method: "GET", path: "/v1/jobs/" + id, key: "team"})
	require.Equal(t, "my-request_1", history.str("history.0.requestId"))
}
