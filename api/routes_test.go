package api_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// check is a request and what must come of it. One that is refused must also
// leave every row as it was.
type check struct {
	name string
	request
	want int
	has  map[string]any // members of the answer by their path
	says string         // a piece of the answer's text
}

// routeCases are the cases of each route, beyond those that every route has
// to pass. Each runs in a world of its own, in order.
var routeCases = map[string]func(w *world) []check{}

func withMetrics(c *api.Config) {
	c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, "obs_up 1\n")
	})
	// A feed that ends at once; the tests of the stream have the real one.
	c.Feed = func(context.Context, events.Scope, events.Cursor, func(events.Heard) error) error { return nil }
}

func routes() []api.Route {
	var c api.Config
	withMetrics(&c)
	return api.Routes(c)
}

// TestRoutes walks the table: a route without a good case fails, and so does a
// case without a route.
func TestRoutes(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, r := range routes() {
		name := r.Method + " " + r.Path
		known[name] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, routeCases, name, "the route has no cases")
			w := newWorld(t, withMetrics)
			shown, seen, statuses := w.golden(), map[string]bool{}, map[int]bool{}
			for _, c := range append(guards(w, r), routeCases[name](w)...) {
				if c.method == "" {
					c.method = r.Method
				}
				if c.path == "" {
					c.path = r.Path
				}
				a := w.verify(c)
				shown.add(c, a)
				if c.method == r.Method || c.method == http.MethodHead {
					seen[w.kindOf(c, a)], statuses[a.status] = true, true
				}
			}
			shown.verify(t, name)
			for _, kind := range kindsFor(t, r) {
				require.True(t, seen[kind], "the route has no case of: %s", kind)
			}
			for status := range operationOf(t, r).answers {
				require.True(t, statuses[status] || elsewhere[status], "the document says that it may be %d, and no case shows it", status)
			}
		})
	}
	for name := range routeCases {
		require.Contains(t, known, name, "these cases have no route")
	}
}

// TestEveryFileHasARoute: what a route that is gone has answered goes with it.
func TestEveryFileHasARoute(t *testing.T) {
	t.Parallel()
	var want []string
	for _, r := range routes() {
		want = append(want, goldenFile(r.Method+" "+r.Path))
	}
	files, err := filepath.Glob("testdata/routes/*")
	require.NoError(t, err)
	require.ElementsMatch(t, want, files)
}

// elsewhere are the statuses that tests of their own show, for all routes.
var elsewhere = map[int]bool{304: true, 402: true, 429: true, 500: true, 503: true}

// The kinds of cases that a route must have. What applies follows from the
// route and from the document, and conflicts are listed by hand.
const (
	good         = "good"
	noKey        = "no key"
	badKey       = "bad key"
	wrongScope   = "wrong scope"
	badBody      = "bad body"
	tooLarge     = "too large"
	notFound     = "not found"
	wrongTeam    = "wrong team"
	wrongProject = "wrong project"
	conflict     = "conflict"
)

// conflicting are the routes that a state may be in the way of.
var conflicting = []string{"POST /v1/jobs/:id/retry", "POST /v1/jobs/:id/cancel", "POST /v1/memories", "POST /v1/projects"}

func operationOf(t *testing.T, r api.Route) *operation {
	t.Helper()
	op := compiled(t).of(r.Method, strings.NewReplacer(":teamId", "x", ":projectId", "x", ":id", "x").Replace(r.Path))
	require.NotNil(t, op, r.Path)
	return op
}

func kindsFor(t *testing.T, r api.Route) []string {
	t.Helper()
	kinds := []string{good}
	if r.Scope != "" {
		kinds = append(kinds, noKey, badKey, wrongScope)
	}
	op := operationOf(t, r)
	if op.request != nil {
		kinds = append(kinds, badBody, tooLarge)
	}
	body := op.body
	if items := object(body["items"]); items != nil {
		body = items
	}
	body, _ = compiled(t).resolved(body, nil)
	_, named := object(body["properties"])["projectId"]
	switch {
	case strings.Contains(r.Path, ":teamId"):
		kinds = append(kinds, notFound, wrongTeam)
	case strings.Contains(r.Path, ":"):
		kinds = append(kinds, notFound, wrongTeam, wrongProject)
	case named:
		kinds = append(kinds, wrongTeam, wrongProject)
	}
	if slices.Contains(conflicting, r.Method+" "+r.Path) {
		kinds = append(kinds, conflict)
	}
	return kinds
}

// kindOf says what a case shows, by what was sent and what came.
func (w *world) kindOf(c check, a answer) string {
	key, said := w.keys[c.key], c.path+c.body
	hidden := a.status == http.StatusForbidden || a.status == http.StatusNotFound
	_, worthless := map[string]bool{"unknown": true, "odd": true, "expired": true, "revoked": true}[c.key]
	switch {
	case a.status < 300:
		return good
	case a.status == http.StatusUnauthorized:
		return noKey
	case a.status == http.StatusBadRequest:
		return badBody
	case a.status == http.StatusRequestEntityTooLarge:
		return tooLarge
	case a.status == http.StatusConflict:
		return conflict
	case a.status == http.StatusForbidden && worthless:
		return badKey
	case a.status == http.StatusForbidden && strings.Contains(a.text, "insufficient scope"):
		return wrongScope
	case hidden && (key.TeamID != w.team || strings.Contains(said, w.foreign) || strings.Contains(said, w.abroad)):
		return wrongTeam
	case hidden && key.ProjectID != "":
		return wrongProject
	case a.status == http.StatusNotFound:
		return notFound
	}
	return ""
}

// verify runs a check and gives the answer.
func (w *world) verify(c check) answer {
	w.t.Helper()
	before := w.rows()
	a := w.do(c.request)
	what := fmt.Sprintf("%s: %s %.100s: %.2000s", c.name, c.method, c.path, a.text)
	require.Equal(w.t, c.want, a.status, "%s\n%v", what, w.log.of(`"ERROR"`))
	require.NotEmpty(w.t, a.header.Get("X-Request-Id"), what)
	for path, want := range c.has {
		require.EqualValues(w.t, want, a.at(path), "%s in %s", path, what)
	}
	require.Contains(w.t, a.text, c.says, what)
	if c.want >= 400 {
		require.Equal(w.t, before, w.rows(), "%s changed a row", what)
		if a.header.Get("Content-Type") != "application/json" { // health's own 503
			a.problem()
		}
	}
	return a
}

// guards are the cases that every route with a key, a body or an id in its
// path has to pass.
func guards(w *world, r api.Route) []check {
	out := []check{{
		name: "a page of another machine", request: request{header: map[string]string{"Origin": "https://example.org"}}, want: 403,
		has: map[string]any{"error": "Forbidden", "message": "CORS not allowed"},
	}}
	path := strings.NewReplacer(":teamId", w.team, ":projectId", w.project, ":id", "nothing").Replace(r.Path)
	if r.Scope != "" {
		out = append(out, check{
			name: "no key", request: request{path: path, body: "{"}, want: 401,
			has: map[string]any{"error": "Unauthorized", "message": "Missing API key (Authorization: Bearer <key> or X-Api-Key: <key>)"},
		})
		w.revoke()
		wrong := []string{"unknown", "odd", "expired", "revoked"}
		for _, scope := range []string{observe.ScopeRead, observe.ScopeWrite, observe.ScopeAdmin} {
			if scope != r.Scope && r.Scope != api.AnyKey {
				wrong = append(wrong, scope)
			}
		}
		for _, key := range wrong {
			out = append(out, check{
				name: "key " + key, request: request{path: path, key: key, body: "{"}, want: 403,
				has: map[string]any{"error": "Forbidden", "message": "Invalid API key or insufficient scope"},
			})
		}
	}
	if strings.Contains(r.Path, "/:id") {
		notFound, body := "NotFound", ""
		switch r.Method + " " + r.Path {
		case "DELETE /v1/memories/:id":
			notFound = "not_found"
		case "PATCH /v1/memories/:id":
			body = `{"kind":"x"}`
		case "PATCH /v1/projects/:id":
			body = `{"policy":"per-event"}`
		}
		for _, id := range [][2]string{
			{"unknown", "nothing"},
			{"NUL", "a%00b"},
			{"not UTF-8", "%ff%fe"},
			{"5 kB", strings.Repeat("x", 5000)},
			{"quote", "x'%20OR%201=1--"},
			{"escaped path", "%2e%2e%2fjobs"},
			{"wildcard", "ev.*.%3e"},
			{"emoji", "%F0%9F%98%80"},
		} {
			out = append(out, check{
				name: id[0], request: request{path: strings.Replace(r.Path, ":id", id[1], 1), key: "star", body: body}, want: 404,
				has: map[string]any{"error": notFound},
			})
		}
	}
	return out
}

func (w *world) revoke() {
	w.t.Helper()
	w.issue("revoked", w.team, "", []string{observe.ScopeRead, observe.ScopeWrite}, inAnHour())
	_, err := w.svc.RevokeKey(w.t.Context(), w.caller("star"), w.keys["revoked"].ID)
	require.NoError(w.t, err)
}

// badBodies are what every route that reads an object must refuse. list is
// for the route that reads an array.
func badBodies(list bool) []check {
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	wrongType, received, expected := "[]", "array", "object"
	if list {
		wrongType, received, expected = "{}", "object", "array"
	}
	out := []check{
		{name: "no body", request: request{key: "team"}, want: 400, has: map[string]any{"error": "ValidationError", "issues.0.code": "invalid_type"}},
		{
			name: "wrong type", request: request{key: "team", body: wrongType}, want: 400,
			has: map[string]any{"error": "ValidationError", "issues.0.message": "Invalid input: expected " + expected + ", received " + received},
		},
		{name: "null", request: request{key: "team", body: "null"}, want: 400, has: map[string]any{"error": "ValidationError"}},
		{
			name: "gzip", request: request{key: "team", body: "\x1f\x8b\x08", header: map[string]string{"Content-Encoding": "gzip"}}, want: 415,
			has: map[string]any{"error": "UnsupportedMediaType"},
		},
		{name: "form", request: request{key: "team", body: "a=b", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}, want: 400},
		{name: "xml", request: request{key: "team", body: "<a/>", header: map[string]string{"Content-Type": "application/xml"}}, want: 415},
		{name: "latin 1", request: request{key: "team", body: "{}", header: map[string]string{"Content-Type": "application/json; charset=iso-8859-1"}}, want: 415},
		{
			name: "too large", request: request{key: "team", body: `{"a":"` + strings.Repeat("x", 1<<20) + `"}`}, want: 413,
			has: map[string]any{"error": "PayloadTooLargeError"},
		},
	}
	for _, body := range [][2]string{
		{"cut off", `{"projectId":`},
		{"bare word", "hello"},
		{"NaN", `{"a":NaN}`},
		{"trailing comma", `{"a":1,}`},
		{"garbage behind", `{} {}`},
		{"brackets behind", `{}]`},
		{"not UTF-8", "{\"a\":\"\xff\"}"},
		{"deep", deep},
		{"deep list", strings.Repeat("[", 10_000)},
		{"single quotes", `{'a':1}`},
		{"control character", "{\"a\":\"\x01\"}"},
		{"BOM", "\ufeff{}"},
	} {
		out = append(out, check{name: body[0], request: request{key: "team", body: body[1]}, want: 400, has: map[string]any{"error": "SyntaxError"}})
	}
	return out
}
