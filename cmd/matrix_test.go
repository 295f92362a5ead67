package cmd_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// matrix are the rows of docs/reliability.md, and how many there are of each
// kind: F1 to F30, and those that have no number elsewhere.
const (
	lastF = 30
	lastX = 7
)

var (
	mark    = regexp.MustCompile(`fault\.At\("([a-z.]+)"\)`)
	rowTest = regexp.MustCompile(`^Test([FX]\d\d)[A-Z]\w*$`)
	rowLine = regexp.MustCompile(`(?m)^\| ([FX]\d\d) \|.*\|([^|]*)\|$`)
	named   = regexp.MustCompile("`(Test\\w+)`")
)

// sources reads our Go files, tests or not.
func sources(t *testing.T, tests bool) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") != tests {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	require.NoError(t, err)
	return files
}

// A mark that no row of the matrix uses is a place where nobody has died yet.
func TestEveryMarkIsUsedByARow(t *testing.T) {
	t.Parallel()
	marks := map[string]string{}
	for path, text := range sources(t, false) {
		for _, m := range mark.FindAllStringSubmatch(text, -1) {
			require.NotContains(t, marks, m[1], "the mark stands in %s as well", path)
			marks[m[1]] = path
		}
	}
	require.NotEmpty(t, marks)
	used := map[string]bool{}
	for name, body := range rowTests(t) {
		for m := range marks {
			if strings.Contains(body, `"`+m) {
				used[m] = true
				t.Logf("%s uses %s", name, m)
			}
		}
	}
	for m, path := range marks {
		require.True(t, used[m], "no row of the fault matrix uses the mark %s in %s", m, path)
	}
}

// rowTests are the tests of the matrix in this package, with their source.
func rowTests(t *testing.T) map[string]string {
	t.Helper()
	tests := map[string]string{}
	paths, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, 0)
		require.NoError(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && rowTest.MatchString(f.Name.Name) {
				tests[f.Name.Name] = string(text[set.Position(f.Pos()).Offset:set.Position(f.End()).Offset])
			}
		}
	}
	return tests
}

// The document, the tests and the numbers name each other.
func TestEveryRowHasItsTest(t *testing.T) {
	t.Parallel()
	tests := rowTests(t)
	document, err := os.ReadFile("../docs/reliability.md")
	require.NoError(t, err)
	rows := map[string][]string{} // :: row → the tests that it names
	for _, m := range rowLine.FindAllStringSubmatch(string(document), -1) {
		require.NotContains(t, rows, m[1], "the row is there twice")
		for _, n := range named.FindAllStringSubmatch(m[2], -1) {
			rows[m[1]] = append(rows[m[1]], n[1])
		}
	}
	want := append(numbered("F", lastF), numbered("X", lastX)...)
	for _, row := range want {
		require.NotEmpty(t, rows[row], "%s has no test in docs/reliability.md", row)
		for _, name := range rows[row] {
			require.Contains(t, tests, name, "docs/reliability.md names it for %s", row)
			require.Equal(t, row, rowTest.FindStringSubmatch(name)[1], name)
		}
	}
	require.Len(t, rows, len(want))
	for name := range tests {
		require.True(t, slices.ContainsFunc(want, func(row string) bool { return slices.Contains(rows[row], name) }),
			"docs/reliability.md does not name %s", name)
	}
}

// What the fault tests put into programs is in no other program.
func TestReleasesHaveNoMarks(t *testing.T) {
	t.Parallel()
	traces := []string{"OBS_FAULTS", "internal/fault.Arm", "relay.published", "worker.settled", "record.committed", "handler.asking"}
	for _, program := range []string{"obs", "obs-relay", "obs-worker"} {
		release, err := os.ReadFile(filepath.Join(bin, program))
		require.NoError(t, err)
		faulty, err := os.ReadFile(filepath.Join(bin, "faults", program))
		require.NoError(t, err)
		found := 0
		for _, trace := range traces {
			require.False(t, bytes.Contains(release, []byte(trace)), "%s has %s", program, trace)
			if bytes.Contains(faulty, []byte(trace)) {
				found++
			}
		}
		require.Equal(t, len(traces), found, "the traces are such that one would find them")
	}
}

func numbered(letter string, last int) (names []string) {
	for n := 1; n <= last; n++ {
		names = append(names, fmt.Sprintf("%s%02d", letter, n))
	}
	return names
}
