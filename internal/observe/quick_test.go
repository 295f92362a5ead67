package observe

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
)

// What is said to hold no tag has none, and a tag is seen in any case and
// however its < is written.
func TestQuicklySeenTags(t *testing.T) {
	t.Parallel()
	const opening = `<|&lt;|&amp;lt;|&#60;|%3c|%26lt;|\\u003C|\\\\u0026lt;|\\x3c`
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`([a-z3 &%<\\0]{0,4}(`+opening+`)?/?(PRIVATE|private|System-Reminder|system_instruction|persisted-outpu|claude-mem-context)?[> "]?){1,3}`).Draw(t, "text")
		holds := mayHoldTag(s)
		require.Equal(t, holds, mayHoldTag([]byte(s)))
		if privateTag.MatchString(s) {
			require.True(t, holds, "%q", s)
		}
		if holds {
			low := strings.ToLower(s)
			require.True(t, slices.ContainsFunc(privateTags[:], func(t string) bool { return strings.Contains(low, t) }), "%q", s)
		}
	})
}

// A word that is known is not collected, and one that is not known is, until
// it was written.
func TestOnlyWantedWordsAreCollected(t *testing.T) {
	t.Parallel()
	var v vocabulary
	scope := events.Scope{Team: "t", Project: "p"}
	note := search.Note{Title: "the relay published messages", Narrative: "the worker settled messages"}
	entry := note.EntryFor("@", "x", v.wanted(scope))
	require.Equal(t, note.Entry("@", "x"), entry)
	require.Equal(t, entry.Words, v.fresh(scope, entry.Words))
	again := note.EntryFor("@", "x", v.wanted(scope))
	require.Empty(t, again.Words)
	require.Equal(t, entry.Vector, again.Vector)
	require.Equal(t, entry.Words, note.EntryFor("@", "x", v.wanted(events.Scope{Team: "t", Project: "q"})).Words, "another's are another's")
}
