package llm

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSentences(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"One. Two! Three?", []string{"One.", "Two!", "Three?"}},
		{"See e.g. the README. It has it.", []string{"See e.g. the README.", "It has it."}},
		{"Go 1.26 is used in ./... and job.go. Good.", []string{"Go 1.26 is used in ./... and job.go.", "Good."}},
		{"Call `a. B` now. Then stop.", []string{"Call `a. B` now.", "Then stop."}},
		{"It failed (see log. It is long.) again. Fixed.", []string{"It failed (see log. It is long.) again.", "Fixed."}},
		{"It is at https://x.io/a.b. Read it.", []string{"It is at https://x.io/a.b.", "Read it."}},
		{"# Title\n\nA line\nbroken in two.\n\n- one\n- **two**\n\n```\ncode. Here.\n```\n1. last", []string{"A line broken in two.", "one", "two", "last"}},
		{"| a | b |\n\nText.", []string{"Text."}},
		{"", nil},
	} {
		require.Equal(t, tc.want, sentences(tc.text), tc.text)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	require.Equal(t, "short", clip("short", 5))
	require.Equal(t, "one two…", clip("one two three", 10))
	require.Equal(t, "ééé…", clip("éééééé", 4))
	require.Equal(t, "a `b…`", clip("a `bcdefgh` x", 6))
	for n := 2; n < 40; n++ {
		require.LessOrEqual(t, utf8.RuneCountInString(clip("a `b c` d `e f g` ü ü ü ü (x, y), z", n)), n)
	}
}

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"cd /w && nice go test ./db 2>&1 | tail -5":   "go test ./db",
		"FOO=1 timeout 60 go run . > /tmp/out":        "go run .",
		"git add -A && git commit -m 'a; b && c | d'": "git commit -m 'a; b && c | d'",
		"make build; ls":               "make build",
		"cat <<EOF > a\nrm -rf /\nEOF": "cat",
		"echo \"a | b\" | grep a":      "echo \"a | b\"",
		"sudo -n true":                 "-n true",
		"":                             "",
		"'":                            "'",
		"psql -c \"select 1; select 2\" 2>/dev/null":    "psql -c \"select 1; select 2\"",
		"go tool -modfile=t/go.mod sqlc generate && ls": "go tool -modfile=t/go.mod sqlc generate",
	} {
		require.Equal(t, want, telling(parse(line)).raw, line)
	}
	require.Equal(t, "sqlc generate", telling(parse("go tool -modfile=t/go.mod sqlc generate")).verb())
	require.Equal(t, "git status", telling(parse("git -C /w status")).verb())
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	require.Nil(t, summarize(Question{}, nil))
	sum := summarize(Question{
		Notes: []Observation{
			{Type: typeDiscovery, Title: "Read db/lease.go: Reclaim", Concepts: []string{howItWorks}},
			{Type: typeDiscovery, Title: "Two clocks drift", Concepts: []string{gotcha}},
			{Type: typeDecision, Title: "One clock decides"},
			{Type: typeBugfix, Title: "Fixed TestReclaim", FilesModified: []string{"db/lease.go"}},
		},
		LastMessage: "All is done. Next steps: measure the sweep. Still to do: the README.",
	}, []step{{kind: kindPrompt, words: "Good. Find out why TestReclaim is flaky. Then fix it. Thanks."}})
	require.Equal(t, &Summary{
		Request:      "Find out why TestReclaim is flaky. Then fix it.",
		Investigated: "Read db/lease.go: Reclaim.",
		Learned:      "One clock decides. Two clocks drift.",
		Completed:    "Fixed TestReclaim.",
		NextSteps:    "Measure the sweep. Still to do: the README.",
		Notes:        "1 file changed: db/lease.go",
	}, sum)
}

// What is one line already is taken as it is.
func TestOneLine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[ a~\t\nä\x{85}\x{a0}\x{2003}\x00]{0,6}`).Draw(t, "text")
		require.Equal(t, strings.Join(strings.Fields(s), " "), oneLine(s))
	})
}
