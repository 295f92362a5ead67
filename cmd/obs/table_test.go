package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A table has lines of 80 columns of a terminal, whoever wrote what is in it.
func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	table(&out, [][]string{
		{"ID", "NAME", "ERROR"},
		{"event_" + strings.Repeat("x", 32), "プロジェクト😀", strings.Repeat("日本語", 20)},
		{"e\u0301", "\x1b[31mred\x1b[0m\a\u202e", strings.Repeat("long ", 40) + "\nnew line"},
		{"1", "2", ""},
	})
	want := "ID                                      NAME            ERROR\n" +
		"event_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx  プロジェクト😀  日本語日本語日本語日本…\n" +
		"e\u0301                                       [31mred[0m      long long long long lon…\n" +
		"1                                       2\n"
	require.Equal(t, want, out.String())
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, columns(strings.TrimSuffix(line, "\n")), wide, line)
	}
	require.Equal(t, "日本…", cut("日本語日本語", 6))
	require.Equal(t, "日本語", cut("日本語", 6))
	require.Equal(t, "a…", cut("abc", 2))
}
