package archtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/archtest"
)

const (
	module = "github.com/seed-245eaa15/obs"
	root   = "../.."
)

// rules are the four of docs/architecture.md, as far as the map can break them.
var rules = []archtest.Rule{
	{Allow: "outbox", Only: []string{"cmd/...", "internal/..."}, Why: "db, outbox and pipeline are siblings"},
	{Allow: "pipeline", Only: []string{"cmd/...", "internal/..."}, Why: "db, outbox and pipeline are siblings"},
	{Allow: "db", Only: []string{"cmd/...", "internal/..."}, Why: "the libraries know no table"},
	{Allow: "internal/...", But: "internal/fault", Only: []string{"api", "cmd/...", "internal/..."}, Why: "the libraries stand alone"},
	{Allow: "sqlc", Only: []string{"db", "internal/observe"}, Why: "only db and internal/observe speak SQL"},
	{Allow: "api", Only: []string{"cmd/..."}, Why: "arrows point down"},
	{Allow: "cmd/...", Only: []string{"cmd/..."}, Why: "cmd is known by nobody"},
	{
		Allow: "env", Only: []string{"cmd/internal/boot", "internal/testenv", "internal/embedded"},
		Why: "only cmd/internal/boot reads the environment",
	},
	{Allow: "testing", Only: []string{"events/eventstest", "internal/testenv", "internal/llm/llmtest"}, Why: "tests stay in tests"},
	{Allow: "testify", Only: []string{"events/eventstest", "internal/testenv", "internal/llm/llmtest"}, Why: "tests stay in tests"},
}

func house(t *testing.T) (archtest.Map, []archtest.Package) {
	t.Helper()
	document, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	require.NoError(t, err)
	m, err := archtest.ParseMap(module, string(document))
	require.NoError(t, err)
	packages, err := archtest.Scan(root)
	require.NoError(t, err)
	require.NotEmpty(t, packages)
	return m, packages
}

// none wants no findings, and shows each on a line of its own.
func none(t *testing.T, findings []string) {
	t.Helper()
	require.Empty(t, strings.Join(findings, "\n"))
}

// A failure here means: either the arrow is wrong, or docs/architecture.md
// gets a new one, which the reviewer then sees.
func TestImportsFollowTheMap(t *testing.T) {
	t.Parallel()
	m, packages := house(t)
	none(t, archtest.Imports(m, packages))
}

func TestMapKeepsTheRules(t *testing.T) {
	t.Parallel()
	m, _ := house(t)
	none(t, archtest.Rules(m, rules))
	require.Equal(t, []string{archtest.Std}, m.Lines["events"], "events knows only the standard library")
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	_, packages := house(t)
	none(t, archtest.Comments(packages))
}

func TestOnlyBootReadsTheEnvironment(t *testing.T) {
	t.Parallel()
	m, packages := house(t)
	none(t, archtest.Environment(m, packages))
}
