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

// TestLineLooksMissNothing: what lacks the text, the expression alone would not
// have matched either.
func TestLineLooksMissNothing(t *testing.T) {
	t.Parallel()
	parts := []string{
		"--- FAIL:", "FAIL", "FAILED", "fail", "failed", "a/b", "a_test.go:1:", "a.go:1:2:", "./a.ts(1,2):", "a.tsx(1,2): error TS2:", "error", "Error:", "ERROR:", "fatal!",
		"E", "✕", "×", "not ok", "1", "-", "test", "...", "Messages:", "Test:", "hint:", "HELP:", "note", "vet:", ":", "!", "[", "panic:", "traceback", "aborted",
		"command not found", "No such file or directory", "cannot", "can't", "not found", "cannot be run as root", "Cannot Be Run As Root", "AS ROOT", "ſ", "\t", "x",
	}
	looks := map[string]struct{ quick, slow func(string) bool }{"generic": {isGeneric, generic.MatchString}}
	for name, l := range map[string]lineLook{
		"goFail": goFail, "goFailPkg": goFailPkg, "goTestLine": goTestLine, "compileLine": compileLine, "tscLine": tscLine, "pyFail": pyFail,
		"pyError": pyError, "tapFail": tapFail, "cargoFail": cargoFail, "testifyErr": testifyErr, "testifySays": testifySays, "hint": hint,
	} {
		looks[name] = struct{ quick, slow func(string) bool }{l.MatchString, l.Regexp.MatchString}
	}
	for name, l := range looks {
		rapid.Check(t, func(t *rapid.T) {
			s := rapid.SampledFrom([]string{"", " ", "  "}).Draw(t, "before") +
				strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 6).Draw(t, "parts"), rapid.SampledFrom([]string{" ", "", "  "}).Draw(t, "between"))
			if l.quick(s) != l.slow(s) {
				t.Fatalf("%s: %q", name, s)
			}
		})
	}
}
