package observe

import (
	"strings"
	"unicode"
)

// searchWords gives what the index should know about names of files and of
// concepts: each as it is, and its parts, so that a search for one word of
// `internal/eventStore/open_batch.go` finds it, and one for batch finds Batch2.
// Postgres' parser keeps a path whole.
func searchWords(names []string) string {
	var words []string
	seen := map[string]bool{}
	add := func(w string) {
		if w != "" && !seen[w] {
			seen[w] = true
			words = append(words, w)
		}
	}
	for _, name := range names {
		add(name)
		for segment := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '/' || r == '\\' || unicode.IsSpace(r) }) {
			add(segment)
			for word := range strings.FieldsFuncSeq(segment, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
				add(word)
				for _, part := range camelParts(word) {
					add(part)
					add(strings.TrimRightFunc(part, unicode.IsDigit))
				}
			}
		}
	}
	return strings.Join(words, " ")
}

// camelParts splits a word where a capital begins a new one: HTTPServer is
// HTTP and Server.
func camelParts(word string) []string {
	runes := []rune(word)
	var parts []string
	start := 0
	for i := 1; i < len(runes); i++ {
		up := unicode.IsUpper(runes[i])
		begins := up && !unicode.IsUpper(runes[i-1]) ||
			up && i+1 < len(runes) && unicode.IsLower(runes[i+1])
		if begins {
			parts = append(parts, string(runes[start:i]))
			start = i
		}
	}
	return append(parts, string(runes[start:]))
}
