package archtest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/archtest"
)

const document = "# A house\n\n```imports\n" + `
pgx    = example.org/pgx/v5   # words come first
events : std
db     : std pgx events
kit    : std testing events
cmd    : env std db
` + "```\n\nand so on\n"

func TestParseMap(t *testing.T) {
	t.Parallel()
	m, err := archtest.ParseMap("our.org/house", document)
	require.NoError(t, err)
	require.Equal(t, archtest.Map{
		Module: "our.org/house",
		Words:  map[string]string{"pgx": "example.org/pgx/v5"},
		Lines: map[string][]string{
			"events": {"std"},
			"db":     {"std", "pgx", "events"},
			"kit":    {"std", "testing", "events"},
			"cmd":    {"env", "std", "db"},
		},
	}, m)
}

func TestParseMapRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ markdown, message string }{
		"no block":          {"# nothing here\n", "the document has no ```imports block"},
		"a block left open": {"```imports\nevents : std\n", "the ```imports block is never closed"},
		"no separator":      {"```imports\nevents std\n```\n", "map line \"events std\": want `package : imports`"},
		"no package":        {"```imports\n : std\n```\n", "map line \": std\": want `package : imports`"},
		"a package twice":   {"```imports\na : std\na : std\n```\n", `map line "a : std": the package is there twice`},
		"a word twice":      {"```imports\na = b.c\na = b.d\n```\n", `map line "a = b.d": the word is there twice`},
		"a word of ours":    {"```imports\nstd = b.c\n```\n", `map line "std = b.c": the word has a meaning of its own`},
		"a word of nothing": {"```imports\na =\n```\n", "map line \"a =\": want `word = import/path`"},
		"an unknown import": {"```imports\na : std b\n```\n", `map line of a: "b" is neither a package nor a word of the map`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := archtest.ParseMap("our.org/house", test.markdown)
			require.EqualError(t, err, test.message)
		})
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	m, err := archtest.ParseMap("our.org/house", document)
	require.NoError(t, err)
	whole := func() []archtest.Package {
		return []archtest.Package{
			{Path: "cmd", Imports: []string{"our.org/house/db"}},
			{Path: "db", Imports: []string{"context", "example.org/pgx/v5/pgxpool", "our.org/house/events"}},
			{Path: "events", Imports: []string{"encoding/json", "iter"}},
			{Path: "kit", Imports: []string{"our.org/house/events", "testing/fstest"}},
		}
	}
	require.Empty(t, archtest.Imports(m, whole()))

	for name, test := range map[string]struct {
		change  func([]archtest.Package) []archtest.Package
		finding string
	}{
		"a package without a line": {
			func(p []archtest.Package) []archtest.Package { return append(p, archtest.Package{Path: "util"}) },
			"util has no line on the map",
		},
		"a line without a package": {
			func(p []archtest.Package) []archtest.Package { return p[:3] },
			"kit is on the map and not in the tree",
		},
		"an arrow that points up": {
			func(p []archtest.Package) []archtest.Package { p[2].Imports = []string{"our.org/house/db"}; return p },
			"events imports our.org/house/db, and its line does not list db",
		},
		"somebody else's module": {
			func(p []archtest.Package) []archtest.Package { p[0].Imports = []string{"example.org/pgx/v5"}; return p },
			"cmd imports example.org/pgx/v5, and its line does not list pgx",
		},
		"a module that has no word": {
			func(p []archtest.Package) []archtest.Package { p[1].Imports = []string{"example.org/pgx"}; return p },
			"db imports example.org/pgx, and its line does not list example.org/pgx",
		},
		"testing in production": {
			func(p []archtest.Package) []archtest.Package { p[1].Imports = []string{"testing"}; return p },
			"db imports testing, and its line does not list testing",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, []string{test.finding}, archtest.Imports(m, test.change(whole())))
		})
	}
}

func TestImportsKeepsTestKitsToTests(t *testing.T) {
	t.Parallel()
	m, err := archtest.ParseMap("our.org/house", "```imports\nkit : testing\nother : testing kit\napi : kit\n```\n")
	require.NoError(t, err)
	require.Equal(t, []string{"api imports our.org/house/kit, which is for tests only"},
		archtest.Imports(m, []archtest.Package{
			{Path: "api", Imports: []string{"our.org/house/kit"}},
			{Path: "kit"},
			{Path: "other", Imports: []string{"our.org/house/kit"}},
		}))
}

func TestRules(t *testing.T) {
	t.Parallel()
	m, err := archtest.ParseMap("our.org/house",
		"```imports\nsqlc : std\ndb : sqlc\napi : sqlc\ninternal/llm : std\ncmd/obs : internal/llm\nevents : internal/llm\n```\n")
	require.NoError(t, err)
	require.Equal(t, []string{
		"the line of api lists sqlc: only db speaks SQL",
		"the line of events lists internal/llm: libraries stand alone",
	}, archtest.Rules(m, []archtest.Rule{
		{Allow: "sqlc", Only: []string{"db"}, Why: "only db speaks SQL"},
		{Allow: "internal/...", Only: []string{"cmd/..."}, Why: "libraries stand alone"},
	}))
}

func TestComments(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{
		`cmd/obs: its package comment should begin with "Command obs "`,
		`db: its package comment should begin with "Package db "`,
	}, archtest.Comments([]archtest.Package{
		{Path: "cmd"}, // nothing but tests
		{Path: "cmd/obs", Name: "main", Doc: "Package main starts it."},
		{Path: "cmd/obs-relay", Name: "main", Doc: "Command obs-relay publishes."},
		{Path: "db", Name: "db"},
		{Path: "events", Name: "events", Doc: "Package events is the vocabulary."},
	}))
}

func TestScan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, text := range map[string]string{
		"go.mod": "module our.org/house\n",
		"boot/boot.go": `// Package boot reads.
package boot

import (
	"context"
	env "os"
	"syscall"
)

func load(context.Context) (string, bool) { env.Exit(0); return env.LookupEnv("A") }

var get = syscall.Getenv
`,
		"boot/boot_plan9.go":      "package boot\n\nimport \"our.org/house/plan9\"\n",
		"boot/boot_test.go":       "package boot\n\nimport _ \"testing\"\n",
		"boot/testdata/x.go":      "package x\n",
		"boot/_draft/x.go":        "package x\n",
		"boot/.hidden/x.go":       "package x\n",
		"tools/go.mod":            "module our.org/house/tools\n",
		"tools/x.go":              "package tools\n",
		"cmd/e2e_test.go":         "package cmd_test\n",
		"docs/architecture.md":    document,
		"internal/ours/shadow.go": "package ours\n\nfunc f(os interface{ Getenv(string) string }) string { return os.Getenv(\"A\") }\n",
	} {
		path = filepath.Join(dir, filepath.FromSlash(path))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}

	packages, err := archtest.Scan(dir)
	require.NoError(t, err)
	require.Equal(t, []archtest.Package{
		{
			Path: "boot", Name: "boot", Doc: "Package boot reads.\n",
			Imports:     []string{"context", "os", "our.org/house/plan9", "syscall"},
			Environment: []string{"boot.go:10: os.LookupEnv", "boot.go:12: syscall.Getenv"},
		},
		{Path: "cmd"},
		{Path: "internal/ours", Name: "ours"},
	}, packages)

	m, err := archtest.ParseMap("our.org/house", "```imports\nboot : std\n```\n")
	require.NoError(t, err)
	require.Equal(t, []string{"boot/boot.go:10: os.LookupEnv", "boot/boot.go:12: syscall.Getenv"},
		archtest.Environment(m, packages))
	m.Lines["boot"] = append(m.Lines["boot"], archtest.Env)
	require.Empty(t, archtest.Environment(m, packages))
}

func TestScanNamesTheFileThatItCannotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "broken.go"), []byte("package\n"), 0o600))
	_, err := archtest.Scan(dir)
	require.ErrorContains(t, err, "broken.go:1")
}
