package api_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/observe"
)

var (
	hammerFor  = flag.Duration("hammer", 0, "how long TestHammer goes on; zero: one round")
	hammerSeed = flag.Uint64("hammerseed", 0, "the seed of TestHammer; zero: a new one")
)

// TestHammer changes the good requests of every route at random and sends them
// to the door on a database. Nothing may fail here that is the client's fault.
func TestHammer(t *testing.T) {
	t.Parallel()
	began, seed := time.Now(), *hammerSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for round := uint64(0); round == 0 || time.Since(began) < *hammerFor; round++ {
		ok := t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			for i, r := range routes() {
				t.Run(r.Method+" "+r.Path, func(t *testing.T) {
					t.Parallel()
					t.Logf("to see it again: -hammerseed=%d", seed)
					hammer(t, r, mutator{rand.New(rand.NewPCG(seed+round, uint64(i)))})
				})
			}
		})
		if !ok {
			return
		}
	}
}

// hammer sends many requests to one route, in a world of their own.
func hammer(t *testing.T, r api.Route, m mutator) {
	w := newWorld(t, func(c *api.Config) {
		withMetrics(c)
		c.WaitLimit = 5 * time.Millisecond
	})
	name := r.Method + " " + r.Path
	var from []request
	for _, c := range slices.Concat(routeCases[name](w), mcpCases(w, name)) {
		if c.method == "" {
			c.method = r.Method
		}
		if c.path == "" {
			c.path = r.Path
		}
		if c.want < 300 || len(c.body) < 1000 && m.IntN(8) == 0 {
			from = append(from, c.request)
		}
	}
	keys := []string{"", "team", "project", "sibling", "foreign", "star", observe.ScopeRead, observe.ScopeWrite, observe.ScopeAdmin, "expired", "unknown", "odd"}
	for n := range 30 {
		w.harmless(m.request(pick(m, from), keys), n%4 == 0)
	}
	w.clean()
}

// mcpCases call every tool: a route of its own each, behind one path.
func mcpCases(w *world, name string) []check {
	if name != "POST /v1/mcp" {
		return nil
	}
	var out []check
	for tool, args := range map[string]string{
		"search": `"query":"parser","limit":5`, "context": `"query":"parser"`, "recent": `"limit":3`,
		"observation_add": `"content":"we use tabs","kind":"decision","metadata":{"a":[1,2]}`, "observation_search": `"query":"\"a b\" or -c","platformSource":"claude"`,
		"observation_context": `"query":"x"`, "observation_record_event": `"eventType":"decision","payload":{"a":{"b":null}},"occurredAtEpoch":1700000000000,"generate":true`,
		"observation_generation_status": fmt.Sprintf(`"jobId":%q`, w.posted("for mcp").str("generationJob.id")),
	} {
		out = append(out, check{want: 200, request: request{
			key: "team", header: map[string]string{"Accept": bothTypes},
			body: fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":{"projectId":%q,%s}}}`, tool, w.project, args),
		}})
	}
	return out
}

// harmless sends what may be a bad request. The answer is whole, is no fault
// of ours, and if it is a refusal nothing has changed, where rows is true.
func (w *world) harmless(r request, rows bool) (a answer, logged string) {
	w.t.Helper()
	if target, err := url.ParseRequestURI(r.path); err != nil || !strings.HasPrefix(target.Path, "/") || strings.ContainsAny(r.path, " \t") {
		return answer{t: w.t}, "" // net/http answers that by itself
	}
	for name, value := range r.header {
		r.header[name] = strings.Map(func(c rune) rune {
			if c < ' ' && c != '\t' || c == 0x7f {
				return -1 // no server hears it
			}
			return c
		}, value)
	}
	var before map[string]string
	if rows {
		before = w.rows()
	}
	// The answer to this one does not end by itself.
	a = w.doUntil(r, strings.HasPrefix(r.path, "/v1/mcp") && r.method == http.MethodGet)
	what := fmt.Sprintf("%s %.300q key %s header %.600q body %.2000q: %d %.1000s", r.method, r.path, r.key, r.header, r.body, a.status, a.text)
	logged = w.log.take()
	require.Less(w.t, a.status, 500, "%s\n%s", what, logged)
	require.NotContains(w.t, logged, `"level":"ERROR"`, what)
	require.NotContains(w.t, logged, "panic", what)
	require.NotEmpty(w.t, a.header.Get("X-Request-Id"), what)
	kind := a.header.Get("Content-Type")
	switch {
	case a.status >= 400 && kind == "application/json" && strings.HasPrefix(r.path, "/v1/mcp"):
		require.Equal(w.t, "2.0", a.at("jsonrpc"), what)
		require.NotEmpty(w.t, a.at("error.message"), what)
	case a.status >= 400:
		a.problem()
	case kind == "application/json":
		require.True(w.t, json.Valid([]byte(a.text)), what)
	}
	if rows && a.status >= 400 {
		require.Equal(w.t, before, w.rows(), "%s changed a row", what)
	}
	return a, logged
}

// clean is the house's own word on what the requests have left.
func (w *world) clean() {
	w.t.Helper()
	found, err := w.jobs.Check(w.t.Context(), db.CheckConfig{})
	require.NoError(w.t, err)
	require.Empty(w.t, found)
}
