package archtest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	link     = regexp.MustCompile(`\]\(([^)\s#]+)(?:#[^)]*)?\)`)
	decision = regexp.MustCompile(`^\d{4}-[a-z0-9-]+\.md$`)
)

func TestLinksBetweenDocumentsLead(t *testing.T) {
	t.Parallel()
	var documents, findings []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		documents = append(documents, found...)
	}
	require.NotEmpty(t, documents)
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(match[1], "://") || strings.HasPrefix(match[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(document), match[1])); err != nil {
				findings = append(findings, document+": "+match[1])
			}
		}
	}
	none(t, findings)
}

func TestDecisionsKeepTheirForm(t *testing.T) {
	t.Parallel()
	dir := os.DirFS(filepath.Join(root, "docs", "adr"))
	index, err := fs.ReadFile(dir, "README.md")
	require.NoError(t, err)
	entries, err := fs.ReadDir(dir, ".")
	require.NoError(t, err)
	for _, entry := range entries {
		name := entry.Name()
		if name == "README.md" {
			continue
		}
		require.Regexp(t, decision, name)
		text, err := fs.ReadFile(dir, name)
		require.NoError(t, err)
		require.LessOrEqual(t, strings.Count(string(text), "\n"), 40, "%s is longer than 40 lines", name)
		require.True(t, strings.HasPrefix(string(text), "# "+name[:4]+": "), "%s begins with its number and title", name)
		for _, heading := range []string{"Context", "Decision", "Consequences", "What would change our mind"} {
			require.Contains(t, string(text), "\n## "+heading+"\n", "%s", name)
		}
		require.Contains(t, string(index), "("+name+")", "%s is in the index", name)
	}
}

var testName = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)

// A promise in the threat model names the test that shows it, so the test is
// there.
func TestTheThreatModelNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for line := range strings.SplitSeq(string(text), "\n") {
			if name, ok := strings.CutPrefix(line, "func "); ok {
				there[testName.FindString(name)] = true
			}
		}
		return err
	}))
	model, err := os.ReadFile(filepath.Join(root, "docs", "threat-model.md"))
	require.NoError(t, err)
	named := testName.FindAllString(string(model), -1)
	require.NotEmpty(t, named)
	for _, name := range named {
		require.True(t, there[name], name)
	}
}
