package api_test

import (
	"encoding/xml"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func init() {
	routeCases["GET /"] = func(*world) []check {
		return []check{
			{name: "good", want: 200, says: `href="/docs"`},
			{name: "programs", want: 200, says: `href="/openapi.json"`},
			{name: "HEAD", request: request{method: "HEAD"}, want: 200},
		}
	}
	routeCases["GET /docs"] = func(*world) []check {
		return []check{{name: "good", want: 200, says: "/v1/events/{id}/observations"}}
	}
	routeCases["GET /openapi.json"] = func(*world) []check {
		return []check{{name: "good", want: 200, has: map[string]any{"openapi": "3.1.0"}}}
	}
	routeCases["GET /api/instructions"] = func(*world) []check {
		ask := func(query string) request { return request{path: "/api/instructions?" + query} }
		refused := func(query string, status int, name string) check {
			return check{name: query, request: ask(query), want: status, has: map[string]any{"error": name}}
		}
		return []check{
			{name: "good", want: 200, has: map[string]any{"content.0.type": "text", "content.1": missing{}}, says: "# Examples"},
			{name: "all", request: ask("topic=all&operation="), want: 200, says: "# How to use the memory"},
			{name: "workflow", request: ask("topic=workflow"), want: 200, says: "# How to use the memory"},
			{name: "search_params", request: ask("topic=search_params"), want: 200, says: "# What a search takes"},
			{name: "examples", request: ask("topic=examples"), want: 200, says: "# Examples"},
			{name: "a tool", request: ask("operation=observation_add"), want: 200, says: "- content (required): "},
			refused("topic=weather", 400, "Invalid topic"), refused("topic=%00", 400, "Invalid topic"),
			refused("operation=../etc/passwd", 400, "Invalid operation"), refused("operation=%ff", 400, "Invalid operation"),
			refused("operation=eat", 404, "Instruction not found"),
		}
	}
}

// TestReference: the page has every route with a command line, all its links
// lead somewhere in it or on this server, it is well formed, and it needs
// nothing from anywhere.
func TestReference(t *testing.T) {
	t.Parallel()
	w := bare(t, nil)
	for _, path := range []string{"/", "/docs"} {
		a := w.do(request{method: "GET", path: path})
		require.Equal(t, http.StatusOK, a.status)
		require.Equal(t, "text/html; charset=utf-8", a.header.Get("Content-Type"))
		require.Regexp(t, `^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$`, a.header.Get("Content-Security-Policy"))
		for _, word := range []string{"<script", "<img", "<iframe", "<link", "<form", " style=", "src=", "url(", "@import", "onclick", "https:", "ZgotmplZ"} {
			require.NotContains(t, a.text, word, path)
		}
		d := xml.NewDecoder(strings.NewReader(a.text))
		d.Entity = xml.HTMLEntity
		for {
			if _, err := d.Token(); err == io.EOF { //nolint:errorlint // a decoder gives it as it is
				break
			} else if err != nil && !strings.Contains(err.Error(), "invalid characters between <! and >") {
				require.NoError(t, err)
			}
		}
		ids := map[string]bool{}
		for _, id := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(a.text, -1) {
			require.False(t, ids[id[1]], id[1])
			ids[id[1]] = true
		}
		for _, link := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(a.text, -1) {
			if within, ok := strings.CutPrefix(link[1], "#"); ok {
				require.True(t, ids[within], link[1])
				continue
			}
			require.Less(t, w.do(request{method: "GET", path: link[1]}).status, 300, link[1])
		}
	}
	page := w.do(request{method: "GET", path: "/docs"}).text
	for _, r := range routes() {
		path := regexp.MustCompile(`:(\w+)`).ReplaceAllString(r.Path, "{$1}")
		require.Contains(t, page, `<h3><code><span class="verb `+r.Method+`">`+r.Method+`</span> `+path+`</code></h3>`)
	}
	require.Equal(t, len(routes()), strings.Count(page, "<pre>curl "))
	require.Contains(t, page, `<pre>curl -H &#34;Authorization: Bearer $OBS_KEY&#34; &#34;$OBS_URL/v1/search&#34; -d &#39;{&#34;projectId&#34;:&#34;prj_1&#34;,&#34;query&#34;:&#34;relay start&#34;,&#34;limit&#34;:5}&#39;</pre>`)
}

// TestETag: what is asked for again and has not changed is not sent again.
func TestETag(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, path := range []string{"/openapi.json", "/docs", "/", "/api/version", "/v1/projects", "/v1/connect"} {
		ask := func(method, known string) answer {
			return w.do(request{method: method, path: path, key: "team", header: map[string]string{"If-None-Match": known}})
		}
		first := ask("GET", `"something"`)
		require.Equal(t, http.StatusOK, first.status, path)
		tag := first.header.Get("ETag")
		require.Regexp(t, `^W/"[A-Za-z0-9_-]{16}"$`, tag, path)
		for _, known := range []string{tag, "*", `"a", ` + tag, strings.TrimPrefix(tag, "W/")} {
			for _, method := range []string{"GET", "HEAD"} {
				again := ask(method, known)
				require.Equal(t, http.StatusNotModified, again.status, "%s %s %s", method, path, known)
				require.Empty(t, again.text)
				require.Equal(t, tag, again.header.Get("ETag"))
			}
		}
	}
	tag := w.do(request{method: "GET", path: "/v1/projects", key: "team"}).header.Get("ETag")
	made := w.do(request{method: "POST", path: "/v1/projects", key: "star", body: `{"name":"three"}`, header: map[string]string{"If-None-Match": "*"}})
	require.Equal(t, http.StatusCreated, made.status, "a request that does something is done")
	require.NotEmpty(t, made.header.Get("ETag"))
	now := w.do(request{method: "GET", path: "/v1/projects", key: "team", header: map[string]string{"If-None-Match": tag}})
	require.Equal(t, http.StatusOK, now.status, "it has changed")
	require.Empty(t, w.do(request{method: "GET", path: "/v1/jobs/nothing", key: "team"}).header.Get("ETag"), "a problem is never the same")
}
