package llm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestWordLooksMissNothing: what the words leave out, the expression alone
// would not have matched either.
func TestWordLooksMissNothing(t *testing.T) {
	t.Parallel()
	parts := []string{
		"decide", "Decided", "deciding", "decision", "the", "we", "I", "'ll", "’ll", "will", "shall", "use", "keep", "go", "with", "stick", "take", "chose", "choose",
		"x", "over", "opted", "for", "to", "settled", "on", "agreed", "let's", "let’s", "because", "so", "that", "since", "otherwise", "reason", "instead", "of", "rather", "than",
		"in", "favour", "favor", "never", "must", "cannot", "only", "would", "always", "do", "not", "don't", "don’t", "ever", "returned", "took", "was", "flaky", "hung", "bug",
		":", ",", ".", "-", "was", "is", "going", "we're", "are", "picked", "dropped", "rejected", "adopt", "drop", "stay", "against", "ſo", "İ", "on\t",
	}
	for name, l := range map[string]wordLook{"decides": decides, "weighs": weighs, "reasons": reasons, "reports": reports, "orders": orders, "why": why} {
		rapid.Check(t, func(t *rapid.T) {
			s := strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 9).Draw(t, "words"), rapid.SampledFrom([]string{" ", "", "\n"}).Draw(t, "between"))
			if l.MatchString(s) != l.expr.MatchString(s) {
				t.Fatalf("%s: %q", name, s)
			}
		})
		require.False(t, l.MatchString(""))
	}
}
