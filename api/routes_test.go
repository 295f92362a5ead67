package api_test

import (
	"context"
	"fmt"
	"net/http"
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
	c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "obs_up 1\n") })
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
			good := false
			for _, c := range append(guards(w, r), routeCases[name](w)...) {
				if c.method == "" {
					c.method = r.Method
				}
				if c.path == "" {
					c.path = r.Path
				}
				good = w.verify(c) || good
			}
			require.True(t, good, "the route has no good case")
		})
	}
	for name := range routeCases {
		require.Contains(t, known, name, "these cases have no route")
	}
}

// verify runs a check, and reports whether it is a good case.
func (w *world) verify(c check) bool {
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
	return c.want < 300
}

// guards are the cases that every route with a key, a body or an id in its
// path has to pass.
func guards(w *world, r api.Route) []check {
	var out []check
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
		}
		for name, id := range map[string]string{
			"unknown": "nothing", "NUL": "a%00b", "not UTF-8": "%ff%fe", "5 kB": strings.Repeat("x", 5000),
			"quote": "x'%20OR%201=1--", "escaped path": "%2e%2e%2fjobs", "wildcard": "ev.*.%3e", "emoji": "%F0%9F%98%80",
		} {
			out = append(out, check{
				name: name, request: request{path: strings.Replace(r.Path, ":id", id, 1), key: "star", body: body}, want: 404,
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
	for name, body := range map[string]string{
		"cut off": `{"projectId":`, "bare word": "hello", "NaN": `{"a":NaN}`, "trailing comma": `{"a":1,}`,
		"garbage behind": `{} {}`, "brackets behind": `{}]`, "not UTF-8": "{\"a\":\"\xff\"}", "deep": deep, "deep list": strings.Repeat("[", 10_000),
		"single quotes": `{'a':1}`, "control character": "{\"a\":\"\x01\"}",
		"BOM": "\ufeff{}",
	} {
		out = append(out, check{name: name, request: request{key: "team", body: body}, want: 400, has: map[string]any{"error": "SyntaxError"}})
	}
	return out
}
