package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/internal/observe"
)

const bothTypes = "application/json, text/event-stream"

func init() {
	routeCases["POST /v1/mcp"] = func(*world) []check {
		say := func(body, accept string) request {
			return request{key: "team", body: body, header: map[string]string{"Accept": accept}}
		}
		list := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`
		refused := func(code int) map[string]any {
			return map[string]any{"jsonrpc": "2.0", "id": nil, "error.code": code}
		}
		return []check{
			{name: "good", request: say(list, bothTypes), want: 200, says: "event: message\ndata: {"},
			{
				name: "initialize", want: 200, says: `"protocolVersion":"2025-06-18"`,
				request: say(`{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`, bothTypes),
			},
			{name: "ping", request: say(`{"jsonrpc":"2.0","id":7,"method":"ping"}`, bothTypes), want: 200, says: `"id":7,"result":{}`},
			{
				name: "no session is needed", want: 200, says: `"isError":true`,
				request: say(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"recent"}}`, bothTypes),
			},
			{name: "no name", request: say(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{}}`, bothTypes), want: 200, says: "Unknown tool"},
			{name: "a session of another server's", request: request{key: "team", body: list, header: map[string]string{"Accept": bothTypes, "Mcp-Session-Id": "x"}}, want: 200},
			{name: "case and parameters", request: say(list, "Text/Event-Stream;q=1 , application/json;charset=utf-8"), want: 200},
			{
				name: "no such method, of a later protocol", want: 404, has: map[string]any{"error.code": -32601},
				request: request{key: "team", body: `{"jsonrpc":"2.0","id":1,"method":"eat","params":{}}`, header: map[string]string{"Accept": bothTypes, "Mcp-Protocol-Version": "9999-01-01"}},
			},
			{name: "no Accept", request: say(list, ""), want: 406, has: refused(-32000), says: "must accept both"},
			{name: "JSON only", request: say(list, "application/json"), want: 406, has: refused(-32000)},
			{name: "events only", request: say(list, "text/event-stream"), want: 406, has: refused(-32000)},
			{name: "anything", request: say(list, "*/*"), want: 406, has: refused(-32000)},
			{name: "no body", request: say("", bothTypes), want: 400, has: refused(-32700)},
			{name: "cut off", request: say(`{"jsonrpc":`, bothTypes), want: 400, has: refused(-32700), says: "Parse error"},
			{name: "deep", request: say(strings.Repeat("[", 10_000), bothTypes), want: 400, has: refused(-32700)},
			{name: "not UTF-8", request: say("\"\xff\"", bothTypes), want: 400, has: refused(-32700)},
			{name: "not a message", request: say(`{"a":1}`, bothTypes), want: 400, has: refused(-32600)},
			{name: "no version", request: say(`{"id":1,"method":"tools/list"}`, bothTypes), want: 400, has: refused(-32600)},
			{name: "unknown method", request: say(`{"jsonrpc":"2.0","id":1,"method":"tools/eat","params":{}}`, bothTypes), want: 400, has: refused(-32600)},
			{name: "empty batch", request: say(`[]`, bothTypes), want: 400, has: refused(-32600)},
			{name: "too large", request: say(`{"a":"`+strings.Repeat("x", 1<<20)+`"}`, bothTypes), want: 413, has: map[string]any{"error": "PayloadTooLargeError"}},
			{name: "xml", request: request{key: "team", body: "<a/>", header: map[string]string{"Accept": bothTypes, "Content-Type": "application/xml"}}, want: 415},
			{name: "old version", request: request{key: "team", body: list, header: map[string]string{"Accept": bothTypes, "MCP-Protocol-Version": "1999-01-01"}}, want: 400, has: refused(-32600)},
			{name: "a notification", request: say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, bothTypes), want: 202},
			{name: "PUT", request: request{method: "PUT", key: "team"}, want: 405},
			{name: "DELETE", request: request{method: "DELETE", key: "team"}, want: 405},
		}
	}
	routeCases["GET /v1/mcp"] = func(*world) []check {
		ask := func(accept string) request {
			return request{key: "team", header: map[string]string{"Accept": accept}}
		}
		head := ask("text/event-stream")
		head.method = "HEAD"
		return []check{ // a good GET does not end: TestIdleStream
			{name: "HEAD", request: head, want: 200},
			{name: "a page", request: ask("text/html"), want: 406, has: map[string]any{"error.code": -32000}},
		}
	}
}

// keyed is an http.RoundTripper that shows a key.
type keyed string

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// serve serves the world over real connections.
func (w *world) serve() *httptest.Server {
	w.t.Helper()
	server := httptest.NewServer(w.http)
	w.t.Cleanup(server.Close)
	return server
}

// connect opens a session of the SDK's client with the key of that name.
func (w *world) connect(server *httptest.Server, key string) *mcp.ClientSession {
	w.t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(w.t.Context(), &mcp.StreamableClientTransport{
		Endpoint: server.URL + "/v1/mcp", HTTPClient: &http.Client{Transport: keyed(w.secrets[key])},
	}, nil)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = session.Close() })
	return session
}

// use calls a tool and gives what came: text, and whether it is an error. A
// good answer says the same as text and as structure.
func use(t *testing.T, session *mcp.ClientSession, name string, args any) (text string, failed bool) {
	t.Helper()
	res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: args})
	require.NoError(t, err)
	require.Len(t, res.Content, 1)
	text = res.Content[0].(*mcp.TextContent).Text
	if res.IsError {
		require.Nil(t, res.StructuredContent)
		for _, word := range []string{"SQLSTATE", "pgx", "goroutine", ".go:", "sqlc"} {
			require.NotContains(t, text, word)
		}
		return text, true
	}
	structured, err := json.Marshal(res.StructuredContent)
	require.NoError(t, err)
	require.JSONEq(t, text, string(structured))
	require.True(t, strings.HasPrefix(text, "{\n  \""), "it is indented: %s", text)
	return text, false
}

type m = map[string]any

func TestMCPSaysWhatItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	session := w.connect(w.serve(), observe.ScopeRead)
	is := session.InitializeResult()
	require.Equal(t, "obs", is.ServerInfo.Name)
	require.Equal(t, "1.2.3", is.ServerInfo.Version)
	capabilities, err := json.Marshal(is.Capabilities)
	require.NoError(t, err)
	require.JSONEq(t, `{"tools":{}}`, string(capabilities))
	require.Empty(t, session.ID(), "there are no sessions")
}

// The tools as clients see them are in testdata/tools.json. After a change
// that is meant, copy there what the failure prints.
func TestMCPToolsAreAsPromised(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	server := w.serve()
	list := func(key string) []*mcp.Tool {
		res, err := w.connect(server, key).ListTools(t.Context(), nil)
		require.NoError(t, err)
		return res.Tools
	}
	want, err := os.ReadFile("testdata/tools.json")
	require.NoError(t, err)
	got, err := json.MarshalIndent(list("team"), "", "  ")
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got), "%s", got)

	// The key of one project need not name it.
	for i, tool := range list("project") {
		needed, _ := tool.InputSchema.(m)["required"].([]any)
		require.NotContains(t, needed, "projectId", tool.Name)
		if tool.Name != "observation_generation_status" {
			require.Contains(t, list("team")[i].InputSchema.(m)["required"], "projectId", tool.Name)
		}
	}
}

func TestMCPToolsWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.observed("obs-1", w.posted("e1").str("event.id"), "the parser reads main.go")
	w.observed("obs-2", w.posted("e2").str("event.id"), "the printer writes <b>it</b>")
	server := w.serve()
	for _, key := range []string{"team", "project", "star"} {
		session := w.connect(server, key)
		good := func(name string, args m) answer {
			t.Helper()
			text, failed := use(t, session, name, args)
			require.False(t, failed, text)
			return answer{t: t, text: text}
		}
		in := func(args m) m {
			if key != "project" {
				args["projectId"] = w.project
			}
			return args
		}
		for _, prefix := range []string{"", "observation_"} {
			found := good(prefix+"search", in(m{"query": "parser"}))
			require.Equal(t, "obs-1", found.at("observations.0.id"))
			require.Equal(t, missing{}, found.at("observations.1"))
			require.Equal(t, missing{}, found.at("context"))
			told := good(prefix+"context", in(m{"query": "printer", "limit": 1}))
			require.Equal(t, "the printer writes <b>it</b>", told.at("context"))
			require.Contains(t, told.text, "<b>", "text is for people")
			require.Equal(t, []any{}, good(prefix+"search", in(m{"query": "giraffe", "limit": nil})).at("observations"))
		}
		recent := good("recent", in(m{}))
		require.Len(t, recent.at("observations"), 2)

		// Limits are brought within their bounds, whatever they are.
		for _, limit := range []any{0, -5, 1, 1.9} {
			require.Len(t, good("recent", in(m{"limit": limit})).at("observations"), 1, limit)
			require.Len(t, good("search", in(m{"query": "parser OR printer", "limit": limit})).at("observations"), 1, limit)
		}
		for _, limit := range []any{1000, 1e300, 2} {
			require.Len(t, good("recent", in(m{"limit": limit})).at("observations"), 2, limit)
		}
	}
	var details []string
	rows, err := w.pool.Query(t.Context(), `SELECT DISTINCT details->>'mode' || ' ' || (details->>'via') FROM audit_log
		WHERE action = 'observation.read' AND team_id = $1 AND request_id IS NOT NULL AND api_key_id IS NOT NULL ORDER BY 1`, w.team)
	require.NoError(t, err)
	for rows.Next() {
		var one string
		require.NoError(t, rows.Scan(&one))
		details = append(details, one)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, []string{"context mcp", "recent mcp", "search mcp"}, details)
}

func TestMCPRecordsEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	session := w.connect(w.serve(), "project")
	before := time.Now().UnixMilli()
	text, failed := use(t, session, "observation_record_event", m{"eventType": "decision", "payload": m{"chosen": "NATS"}})
	require.False(t, failed, text)
	a := answer{t: t, text: text}
	require.Equal(t, "api", a.str("event.sourceAdapter"))
	require.Equal(t, w.project, a.str("event.projectId"))
	require.GreaterOrEqual(t, a.at("event.occurredAtEpoch"), float64(before))
	require.Equal(t, "NATS", a.at("event.payload.chosen"))
	job := a.str("generationJob.id")

	text, failed = use(t, session, "observation_generation_status", m{"jobId": job})
	require.False(t, failed, text)
	require.Equal(t, "queued", answer{t: t, text: text}.str("generationJob.status"))
	w.settle(w.claim(job), "completed")
	text, _ = use(t, session, "observation_generation_status", m{"jobId": job})
	require.Equal(t, "completed", answer{t: t, text: text}.str("history.2.type"))

	args := m{
		"projectId": w.project, "eventType": "tool_use", "sourceType": "hook", "sourceEventId": "mine", "occurredAtEpoch": 1700000000000,
		"platformSource": "claude", "memorySessionId": "x", "metadata": m{"a": 1}, "generate": false,
	}
	text, failed = use(t, session, "observation_record_event", args)
	require.False(t, failed, text)
	a = answer{t: t, text: text}
	require.Equal(t, missing{}, a.at("generationJob"))
	require.Equal(t, "hook", a.str("event.sourceAdapter"))
	require.EqualValues(t, 1700000000000, a.at("event.occurredAtEpoch"))
	again, _ := use(t, session, "observation_record_event", args)
	require.Equal(t, a.str("event.id"), answer{t: t, text: again}.str("event.id"), "said twice, stored once")
}

func TestMCPAddsObservations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	session := w.connect(w.serve(), "team")
	text, failed := use(t, session, "observation_add", m{
		"projectId": w.project, "content": "we chose giraffes", "kind": "decision", "metadata": m{"title": "Giraffes"},
	})
	require.False(t, failed, text)
	a := answer{t: t, text: text}
	require.Equal(t, "decision", a.str("memory.kind"))
	require.Equal(t, "Giraffes", a.str("memory.metadata.title"))
	text, failed = use(t, session, "search", m{"projectId": w.project, "query": "giraffe"})
	require.False(t, failed, text)
	require.Equal(t, a.str("memory.id"), answer{t: t, text: text}.str("observations.0.id"))
	text, failed = use(t, session, "observation_add", m{"projectId": w.project, "content": "plain"})
	require.False(t, failed, text)
	require.Equal(t, "manual", answer{t: t, text: text}.str("memory.kind"))
}

// What does not work is told as a result, changes nothing, and tells nothing
// of another tenant's.
func TestMCPRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	posted := w.posted("e1")
	w.observed("obs-1", posted.str("event.id"), "the parser reads main.go")
	server := w.serve()
	before := w.rows()
	sessions := map[string]*mcp.ClientSession{}
	for _, key := range []string{"team", "project", "sibling", "foreign", observe.ScopeRead} {
		sessions[key] = w.connect(server, key)
	}
	const (
		notYours = "project_id must belong to team_id"
		notThis  = "API key is scoped to a different project"
		noScope  = "Invalid API key or insufficient scope"
	)
	p, job := w.project, posted.str("generationJob.id")
	for _, test := range []struct {
		key, tool string
		args      any
		says      string
	}{
		{"team", "search", m{"query": "parser"}, "projectId: Invalid input: expected string, received undefined"},
		{"team", "search", nil, "projectId: Invalid input: expected string, received undefined (and 1 more)"},
		{"team", "search", m{"projectId": p}, "query: Invalid input"},
		{"team", "search", m{"projectId": p, "query": " \t\n"}, "query: Too small"},
		{"team", "search", m{"projectId": p, "query": ""}, "query: Too small"},
		{"team", "search", m{"projectId": p, "query": 7}, "query: Invalid input: expected string, received number"},
		{"team", "search", m{"projectId": p, "query": strings.Repeat("x", 5000)}, "query: Too big"},
		{"team", "search", m{"projectId": p, "query": "x", "limit": "5"}, "limit: Invalid input: expected number, received string"},
		{"team", "search", m{"projectId": "a\x00b", "query": "x"}, "projectId: Invalid string"},
		{"team", "recent", m{"projectId": ""}, "projectId: Too small"},
		{"team", "recent", m{"projectId": "nothing"}, notYours},
		{"team", "context", m{"projectId": w.abroad, "query": "parser"}, notYours},
		{"foreign", "search", m{"projectId": p, "query": "parser"}, notYours},
		{"foreign", "context", m{"projectId": p, "query": "parser"}, notYours},
		{"foreign", "recent", m{"projectId": p}, notYours},
		{"foreign", "observation_search", m{"projectId": p, "query": "parser"}, notYours},
		{"foreign", "observation_context", m{"projectId": p, "query": "parser"}, notYours},
		{"foreign", "observation_add", m{"projectId": p, "content": "x"}, notYours},
		{"foreign", "observation_record_event", m{"projectId": p, "eventType": "x"}, notYours},
		{"foreign", "observation_generation_status", m{"jobId": job}, "Generation job not found"},
		{"sibling", "search", m{"projectId": p, "query": "parser"}, notThis},
		{"sibling", "recent", m{"projectId": p}, notThis},
		{"sibling", "observation_add", m{"projectId": p, "content": "x"}, notThis},
		{"sibling", "observation_record_event", m{"projectId": p, "eventType": "x"}, notThis},
		{"sibling", "observation_generation_status", m{"jobId": job}, "Generation job not found"},
		{observe.ScopeRead, "observation_add", m{"projectId": p, "content": "x"}, noScope},
		{observe.ScopeRead, "observation_record_event", m{"projectId": p, "eventType": "x"}, noScope},
		{"team", "observation_add", m{"projectId": p, "content": "  "}, "content: Too small"},
		{"team", "observation_add", m{"projectId": p, "content": "x", "metadata": []int{}}, "metadata: Invalid input: expected object, received array"},
		{"team", "observation_record_event", m{"projectId": p}, "eventType: Invalid input"},
		{"team", "observation_record_event", m{"projectId": p, "eventType": "x", "sourceType": "moon"}, "sourceType: Invalid option"},
		{"team", "observation_record_event", m{"projectId": p, "eventType": "x", "generate": "yes"}, "generate: Invalid input: expected boolean, received string"},
		{"team", "observation_record_event", m{"projectId": p, "eventType": "x", "occurredAtEpoch": -1}, "occurredAtEpoch: Too small"},
		{"team", "observation_record_event", m{"projectId": p, "eventType": "x", "serverSessionId": "nothing"}, "must belong to project_id"},
		{"team", "observation_generation_status", m{}, "jobId: Invalid input"},
		{"team", "observation_generation_status", m{"jobId": "nothing"}, "Generation job not found"},
		{"team", "observation_eat", m{}, "Unknown tool: observation_eat"},
		{"team", "search", json.RawMessage("null"), "projectId: Invalid input: expected string, received undefined (and 1 more)"},
		{"team", "search", []int{1}, "Invalid input: expected object, received array"},
	} {
		what := fmt.Sprintf("%s %s %.100v", test.key, test.tool, test.args)
		text, failed := use(t, sessions[test.key], test.tool, test.args)
		require.True(t, failed, "%s: %s", what, text)
		require.Contains(t, text, test.says, what)
		require.NotContains(t, text, "main.go", what)
	}
	require.Equal(t, before, w.rows())
	require.Empty(t, w.log.of(`"ERROR"`))
}

// A key that may not read, or is none, gets no session.
func TestMCPWantsAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	server := w.serve()
	for _, key := range []string{"unknown", "expired", observe.ScopeWrite} {
		_, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), &mcp.StreamableClientTransport{
			Endpoint: server.URL + "/v1/mcp", HTTPClient: &http.Client{Transport: keyed(w.secrets[key])},
		}, nil)
		require.ErrorContains(t, err, "Forbidden", key)
	}
}

// Two tenants who ask the same at the same time, on the same connections, get
// each their own.
func TestMCPKeepsTenantsApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	server := w.serve()
	projects := map[string]string{"team": w.project, "sibling": w.sibling, "foreign": w.abroad}
	for key, project := range projects {
		text, failed := use(t, w.connect(server, key), "observation_add", m{"projectId": project, "content": "the word of " + key})
		require.False(t, failed, text)
	}
	done := make(chan string)
	for key, project := range projects {
		session := w.connect(server, key)
		for range 3 {
			go func() {
				for i := range 20 {
					tool, args := "recent", m{"projectId": project}
					if i%2 == 0 {
						tool, args = "search", m{"projectId": project, "query": "word"}
					}
					res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
					if err != nil || res.IsError || strings.Count(res.Content[0].(*mcp.TextContent).Text, `"content":`) != 1 ||
						!strings.Contains(res.Content[0].(*mcp.TextContent).Text, "the word of "+key) {
						done <- fmt.Sprint(key, tool, err, res)
						return
					}
				}
				done <- ""
			}()
		}
	}
	for range 3 * len(projects) {
		require.Empty(t, <-done)
	}
}

// A database that does not answer is told to the model, and nothing of it.
func TestMCPWithoutADatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *api.Config) { c.Timeout = time.Second })
	session := w.connect(w.serve(), "team")
	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE audit_log")
	require.NoError(t, err)
	text, failed := use(t, session, "recent", m{"projectId": w.project})
	require.True(t, failed)
	require.Regexp(t, `^The database does not answer. Try again. \(request [0-9a-f-]{36}\)$`, text)
	require.NoError(t, tx.Rollback(t.Context()))
	_, failed = use(t, session, "recent", m{"projectId": w.project})
	require.False(t, failed)
	require.Len(t, w.log.of(`"ERROR"`), 1)
}

// A bug in a tool is an answer and a line in the log, and the process lives.
func TestMCPSurvivesAPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	text := api.CallTool(t.Context(), api.Config{Log: slog.New(slog.NewJSONHandler(w.log, nil))},
		observe.Caller{Team: "t", Scopes: []string{"*"}, RequestID: "r1"}, "recent", `{"projectId":"p"}`)
	require.Equal(t, "Something went wrong here. The log has the cause under this request's id. (request r1)", text)
	require.Len(t, w.log.of("nil pointer"), 1)
}

// The stream on which nothing comes stays open beyond the time that a request
// may take, ends with the server, and needs a key.
func TestIdleStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *api.Config) { c.Timeout = 2 * time.Second })
	server := httptest.NewUnstartedServer(w.http)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 2*time.Second, 2*time.Second
	base, stop := context.WithCancel(t.Context())
	server.Config.BaseContext = func(net.Listener) context.Context { return base }
	server.Start()
	t.Cleanup(server.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/mcp", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+w.secrets[observe.ScopeRead])
	res, err := server.Client().Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	body := bufio.NewReader(res.Body)
	line, err := body.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, ": idle\n", line)
	rest := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, body)
		rest <- err
	}()
	select {
	case err := <-rest:
		require.FailNow(t, "the stream ended", "%v", err)
	case <-time.After(3 * time.Second): // past all of the limits above
	}
	stop()
	select {
	case err := <-rest:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.FailNow(t, "the stream outlives the server")
	}
}

// An idle stream says now and then that it is there, so that a client that
// has vanished is noticed.
func TestIdleStreamPings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Second)
		defer cancel()
		rec := httptest.NewRecorder()
		api.Idle(ctx, rec)
		require.Equal(t, strings.Repeat(": idle\n\n", 3), rec.Body.String())
		require.True(t, rec.Flushed)
	})
}

// An error that belongs to no message has an id that says so, whoever wrote it.
func TestMCPErrorsSayWhichMessageTheyAreOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for body, id := range map[string]string{
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`: `"id":null`, // the SDK's own has none
		`{"jsonrpc":"2.0","id":7,"method":"tools/list"}`:         `"id":7`,
		`{"jsonrpc":`: `"id":null`,
	} {
		a := w.do(request{
			method: http.MethodPost, path: "/v1/mcp", key: "team", body: body,
			header: map[string]string{"Accept": bothTypes, "Mcp-Protocol-Version": "2026-07-28"}, // it wants a header more
		})
		require.Equal(t, http.StatusBadRequest, a.status, a.text)
		require.Contains(t, a.text, id)
	}
}
