package api_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func init() {
	routeCases["GET /live"] = func(*world) []check {
		return []check{{name: "good", want: 200, says: `src="/live.js"`}, {name: "HEAD", request: request{method: "HEAD"}, want: 200}}
	}
	routeCases["GET /live.css"] = func(*world) []check { return []check{{name: "good", want: 200, says: "color-scheme"}} }
	routeCases["GET /live.js"] = func(*world) []check { return []check{{name: "good", want: 200, says: "/v1/stream"}} }
}

// TestLivePage: the page needs nothing from elsewhere, can run nothing but its
// own script, makes no HTML of what it is told, and finds what it looks for.
func TestLivePage(t *testing.T) {
	t.Parallel()
	w := bare(t, nil)
	page := w.do(request{method: "GET", path: "/live"})
	require.Contains(t, page.header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
	for _, word := range []string{"https:", "http:", " style=", " onclick", "<script>"} {
		require.NotContains(t, page.text, word)
	}
	for _, link := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page.text, -1) {
		require.Equal(t, http.StatusOK, w.do(request{method: "GET", path: link[1]}).status, link[1])
	}
	script, err := os.ReadFile("web/live.js")
	require.NoError(t, err)
	for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"} {
		require.NotContains(t, string(script), word)
	}
	for _, id := range regexp.MustCompile(`\bat\("([^"]+)"\)|\bon\("([^"]+)"`).FindAllStringSubmatch(string(script), -1) {
		require.Contains(t, page.text, ` id="`+id[1]+id[2]+`"`)
	}
}

// TestOwnOrigin: the server's own pages may call it by whatever name their
// reader calls it, and no page of another name, or of another port of it, may.
func TestOwnOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for origin, want := range map[string]int{
		"http://obs.example.com:8080": 200, "https://obs.example.com:8080": 200,
		"http://obs.example.com": 403, "http://obs.example.com:8081": 403, "http://evil.example.com:8080": 403,
		"http://obs.example.com:8080.evil.example": 403, "null": 403, "http://": 403, "obs.example.com:8080": 403,
	} {
		a := w.do(request{
			method: "POST", path: "/v1/search", key: "team", body: `{"projectId":"` + w.project + `","query":"a"}`,
			header: map[string]string{"Origin": origin, "Host": "obs.example.com:8080"},
		})
		require.Equal(t, want, a.status, origin)
		if strings.HasPrefix(origin, "http") && want == 200 {
			require.Equal(t, origin, a.header.Get("Access-Control-Allow-Origin"))
		}
	}
}
