package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// seed is a good request. Names in braces stand for ids of the world that it
// is sent to.
type seed struct{ method, target, header, body string }

const (
	eventSeed  = `{"projectId":"{project}","sourceType":"hook","eventType":"tool_use","occurredAtEpoch":1700000000000,"sourceEventId":"e","contentSessionId":"c","serverSessionId":"{session}","payload":{"tool_name":"Read","tool_input":{"file_path":"a.go"}},"metadata":{"a":1}}`
	memorySeed = `{"projectId":"{project}","content":"we use tabs","kind":"decision","serverSessionId":"{session}","metadata":{"title":"style"}}`
	querySeed  = `{"projectId":"{project}","query":"tabs or \"a b\" -c","limit":5,"platformSource":"claude"}`
)

// seeds has at least one for every route of the table.
var seeds = []seed{
	{method: "GET", target: "/healthz"},
	{method: "GET", target: "/api/health"},
	{method: "GET", target: "/api/readiness"},
	{method: "GET", target: "/api/version"},
	{method: "GET", target: "/v1/info"},
	{method: "GET", target: "/metrics"},
	{method: "GET", target: "/"},
	{method: "GET", target: "/docs"},
	{method: "GET", target: "/live"},
	{method: "GET", target: "/live.css"},
	{method: "GET", target: "/live.js"},
	{method: "GET", target: "/openapi.json"},
	{method: "GET", target: "/api/instructions"},
	{method: "POST", target: "/v1/events?generate=true", body: eventSeed},
	{method: "POST", target: "/v1/events?wait=true", body: eventSeed},
	{method: "POST", target: "/v1/events/batch", body: "[" + eventSeed + "]"},
	{method: "GET", target: "/v1/events/{event}"},
	{method: "GET", target: "/v1/events/{event}/observations"},
	{method: "GET", target: "/v1/jobs?status=queued&source_type=agent_event&since=2020-01-01&limit=10&offset=0"},
	{method: "GET", target: "/v1/teams/{team}/jobs?status=failed&limit=1"},
	{method: "GET", target: "/v1/projects/{project}/jobs?offset=1"},
	{method: "GET", target: "/v1/jobs?status=held"},
	{method: "GET", target: "/v1/jobs/{job}"},
	{method: "GET", target: "/v1/jobs/{job}/prompt?form=grammar"},
	{method: "POST", target: "/v1/jobs/{job}/retry"},
	{method: "POST", target: "/v1/jobs/{job}/cancel"},
	{method: "POST", target: "/v1/sessions/start", body: `{"projectId":"{project}","externalSessionId":"x","contentSessionId":"c","agentId":"a","agentType":"b","platformSource":"claude","metadata":{"prompt":"why?"}}`},
	{method: "GET", target: "/v1/sessions/{session}"},
	{method: "POST", target: "/v1/sessions/{session}/end"},
	{method: "POST", target: "/api/sessions/observations", body: `{"projectId":"{project}","contentSessionId":"c","tool_name":"Read","tool_input":{"file_path":"a.go"},"tool_response":"x","cwd":"/src","platformSource":"claude","tool_use_id":"t1"}`},
	{method: "POST", target: "/api/sessions/summarize", body: `{"projectId":"{project}","contentSessionId":"c","last_assistant_message":"done","platformSource":"claude"}`},
	{method: "POST", target: "/v1/memories", header: "Idempotency-Key: k1", body: memorySeed},
	{method: "GET", target: "/v1/memories/{memory}"},
	{method: "PATCH", target: "/v1/projects/{project}", body: `{"policy":"debounce","debounceMs":100}`},
	{method: "PATCH", target: "/v1/projects/{project}", body: `{"storage":"stripped","mode":"code","prompts":{"system":"a","observe":"b {types}","summary":"c"}}`},
	{method: "PATCH", target: "/v1/memories/{memory}", body: `{"content":"we use spaces","kind":"x","metadata":{"a":1}}`},
	{method: "DELETE", target: "/v1/memories/{memory}"},
	{method: "POST", target: "/v1/search", body: querySeed},
	{method: "POST", target: "/v1/context", body: querySeed},
	{method: "POST", target: "/v1/reindex", body: `{"projectId":"{project}"}`},
	{method: "POST", target: "/v1/mcp", header: "Accept: " + bothTypes, body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":` + querySeed + `}}`},
	{method: "POST", target: "/v1/mcp", header: "Accept: " + bothTypes, body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"observation_add","arguments":` + memorySeed + `}}`},
	{method: "POST", target: "/v1/mcp", header: "Accept: " + bothTypes, body: `[{"jsonrpc":"2.0","id":"a","method":"ping"},{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}]`},
	{method: "POST", target: "/v1/mcp", header: "Accept: " + bothTypes + "\nMcp-Protocol-Version: 2025-06-18", body: `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`},
	{method: "GET", target: "/v1/mcp", header: "Accept: text/event-stream"},
	{method: "GET", target: "/v1/projects"},
	{method: "POST", target: "/v1/projects", body: `{"name":"three"}`},
	{method: "GET", target: "/v1/projects/{project}"},
	{method: "GET", target: "/v1/teams"},
	{method: "POST", target: "/v1/teams", body: `{"name":"third"}`},
	{method: "GET", target: "/v1/connect", header: "X-Forwarded-Proto: https\nHost: x"},
	{method: "GET", target: "/v1/usage"},
	{method: "GET", target: "/v1/audit?limit=5&action=job.retry"},
	{method: "POST", target: "/v1/keys", body: `{"label":"x","expiresInDays":3,"scopes":["memories:read"]}`},
	{method: "GET", target: "/v1/keys"},
	{method: "POST", target: "/v1/keys/{key}/revoke"},
	{method: "DELETE", target: "/v1/keys/{key}"},
	{method: "GET", target: "/v1/stream?project={project}", header: "Last-Event-Id: 1700000000000000000-5-obs_1"},
	{method: "DELETE", target: "/v1/projects/{project}/memory"}, // the last: it takes away what the others found
}

// named gives what the names in braces stand for here.
func (w *world) named() *strings.Replacer {
	w.t.Helper()
	event := w.posted("seed")
	session := w.do(request{method: "POST", path: "/v1/sessions/start", key: "team", body: fmt.Sprintf(`{"projectId":%q,"externalSessionId":"seed"}`, w.project)})
	w.issue("spare", w.team, "", []string{observe.ScopeRead}, time.Time{})
	return strings.NewReplacer("{team}", w.team, "{project}", w.project, "{abroad}", w.abroad, "{event}", event.str("event.id"),
		"{job}", event.str("generationJob.id"), "{session}", session.str("session.id"), "{memory}", w.remembered("we use tabs"), "{key}", w.keys["spare"].ID)
}

func (s seed) request(key string, names *strings.Replacer) request {
	r := request{method: s.method, path: names.Replace(s.target), key: key, body: names.Replace(s.body), header: map[string]string{}}
	for line := range strings.SplitSeq(names.Replace(s.header), "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && headerName(name) {
			r.header[name] = value
		}
	}
	return r
}

var seedKeys = []string{"star", "project", "team", "sibling", "foreign", observe.ScopeRead, observe.ScopeWrite, observe.ScopeAdmin}

// key is the place in seedKeys of one that may do it.
func (s seed) key() int {
	if strings.HasPrefix(s.target, "/api/sessions/") {
		return 1 // they say no project
	}
	return 0
}

func headerName(name string) bool {
	return name != "" && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz-") == ""
}

func quick(c *api.Config) {
	withMetrics(c)
	c.WaitLimit = 5 * time.Millisecond
}

// TestSeeds: the fuzzer begins with a good request of every route.
func TestSeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick)
	names := w.named()
	good := map[string]bool{}
	for _, s := range seeds {
		a, logged := w.harmless(s.request(seedKeys[s.key()], names), true)
		require.Less(t, a.status, 300, "%v: %s", s, a.text)
		for line := range strings.Lines(logged) {
			_, route, _ := strings.Cut(line, `"route":"`)
			route, _, _ = strings.Cut(route, `"`)
			good[s.method+" "+route] = true
		}
	}
	for _, r := range routes() {
		require.Contains(t, good, r.Method+" "+r.Path, "the route has no seed")
	}
	w.clean()
}

// FuzzRoutes sends anything to any route. What it finds wrong is kept in
// testdata/fuzz.
func FuzzRoutes(f *testing.F) {
	for i := range seeds {
		f.Add(uint8(i), uint8(seeds[i].key()), seeds[i].target, seeds[i].header, seeds[i].body)
	}
	w := newWorld(f, quick)
	names := w.named()
	began, looking := time.Now(), time.Duration(0)
	f.Fuzz(func(t *testing.T, which, key uint8, target, header, body string) {
		here := *w // with this run's t
		here.t = t
		s := seed{seeds[int(which)%len(seeds)].method, target, header, body}
		// Looking at all rows takes longer the more there are: a tenth of the time.
		at := time.Now()
		rows := 10*looking <= at.Sub(began)
		here.harmless(s.request(seedKeys[int(key)%len(seedKeys)], names), rows)
		if rows {
			here.clean()
			looking += time.Since(at)
		}
	})
}

// FuzzStream begins the stream at any place, with a real broker behind it. It
// is either refused or begins, at a place that the client can come back to.
func FuzzStream(f *testing.F) {
	l := newLive(f, 1, nil)
	l.postAs("team", l.project, "e1")
	c := l.open("team", "", "")
	here := c.lastID
	c.close()
	epoch, _, _ := strings.Cut(here, "-")
	for _, id := range []string{
		"", "{here}", "{epoch}-0", "{epoch}-1", "{epoch}-1-obs_1", "{epoch}-18446744073709551615", "{epoch}-18446744073709551615-x", "{epoch}-0-x", "{epoch}--", "-", "1-1",
		"9223372036854775807-1", "9223372036854775808-1", "0-0", "-1-1", "{epoch}-01", "{epoch}-1-", "{epoch}-1-a.b", "{epoch}-1-\xff", " {here}", "{here} ", "{epoch}-1-" + strings.Repeat("x", 5000),
	} {
		f.Add(id, "", false)
		f.Add(id, "{project}", true)
	}
	f.Add("", "\xff", false)
	f.Add("", "a\x00", false)
	f.Add("", "{abroad}", false)
	f.Add("", strings.Repeat("é", 200), false)
	f.Fuzz(func(t *testing.T, id, project string, inQuery bool) {
		w := *l.world
		w.t = t
		w.log.take()
		names := strings.NewReplacer("{here}", here, "{epoch}", epoch, "{project}", w.project, "{abroad}", w.abroad)
		id, project = names.Replace(id), names.Replace(project)
		query := url.Values{}
		if project != "" {
			query.Set("project", project)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.srv.URL+"/v1/stream", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+w.secrets["team"])
		if inQuery {
			query.Set("lastEventId", id)
		} else if id = visible(id); id != "" {
			req.Header.Set("Last-Event-ID", id)
		}
		req.URL.RawQuery = query.Encode()
		res, err := l.srv.Client().Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		what := fmt.Sprintf("%q of %q: %d", id, project, res.StatusCode)
		if res.StatusCode != http.StatusOK {
			require.Less(t, res.StatusCode, 500, "%s\n%s", what, w.log.take())
			require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"), what)
			return
		}
		c := &client{t: t, res: res, lines: bufio.NewReader(res.Body), close: cancel}
		for c.lastID == "" || c.lastID == id { // one that is given stands until there is more to tell
			if told, err := c.word(); id != "" && err == nil && (told.comment || told.name != "") {
				break
			}
			require.NoError(t, err, what)
		}
		if c.lastID != "" {
			_, _, ok := api.ParseEventID(c.lastID)
			require.True(t, ok, "%s: it says %q", what, c.lastID)
		}
		require.NotContains(t, w.log.take(), "panic", what)
	})
}
