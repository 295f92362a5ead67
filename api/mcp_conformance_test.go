//go:build conformance

package api_test

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// The scenarios of the protocol's own suite that need no session and no tools of its own. It
// wants Node 20 and npm, so it runs only when asked for:
//
//	go test -tags conformance -run Conformance ./api
func TestMCPConformance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+w.secrets[observe.ScopeRead]) // the suite has no keys
		w.http.ServeHTTP(out, r)
	}))
	t.Cleanup(server.Close)
	for _, scenario := range []string{"server-initialize", "ping", "tools-list", "dns-rebinding-protection"} {
		out, err := exec.CommandContext(t.Context(), "npx", "--yes", "@modelcontextprotocol/conformance@0.1.13",
			"server", "--url", server.URL+"/v1/mcp", "--scenario", scenario).CombinedOutput()
		require.NoError(t, err, "%s: %s", scenario, out)
		t.Logf("%s", out)
	}
}
