package search_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/search"
)

// seen is an observation of the corpus.
type seen struct {
	ID      string
	Session string
	At      int64
	Kind    string
	Note    search.Note
}

func corpus(tb testing.TB) []seen {
	tb.Helper()
	text, err := os.ReadFile("testdata/observations.jsonl")
	require.NoError(tb, err)
	var all []seen
	for line := range strings.Lines(string(text)) {
		var s seen
		require.NoError(tb, json.Unmarshal([]byte(line), &s))
		all = append(all, s)
	}
	return all
}

func BenchmarkEntry(b *testing.B) {
	all := corpus(b)
	n, bytes := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		bytes += len(all[n%len(all)].Note.Entry("@abc", "change").Vector)
		n++
	}
	b.ReportMetric(float64(bytes)/float64(n), "B/vector")
}
