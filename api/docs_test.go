package api_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// TestDocs holds docs/api.md and the table together: the same routes, and
// behind each the scope that it needs.
func TestDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/api.md")
	require.NoError(t, err)
	want := map[string]string{"": "none", observe.ScopeRead: "`memories:read`", observe.ScopeWrite: "`memories:write`", observe.ScopeAdmin: "`memories:admin`", observe.ScopeAll: "`*`", api.AnyKey: "`memories:admin`, or any for the key itself"}
	var table []string
	for _, r := range routes() {
		table = append(table, r.Method+" "+r.Path+": "+want[r.Scope])
	}
	var told []string
	sections := regexp.MustCompile("(?m)^### `([A-Z]+ /[^`]*)`\n\nKey: ([^.\n]+)\\.").FindAllStringSubmatch(string(text), -1)
	for _, s := range sections {
		told = append(told, s[1]+": "+s[2])
	}
	require.ElementsMatch(t, table, told)
	require.Equal(t, len(told), strings.Count(string(text), "\n### `"), "a section says what key it needs")
}
