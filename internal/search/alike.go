package search

import (
	"fmt"
	"slices"
	"strings"
)

// Sketch is what two notes are compared by: their lexemes, in order, and what
// of them is a name or a number, which makes another note of the same words.
type Sketch struct{ lexemes, facts []string }

// Sketch of the note. Its lists of concepts and files do not count.
func (n Note) Sketch() Sketch {
	var s Sketch
	denials := 0
	n.each(func(f field, text string) {
		if f == inConcepts || f == inModified || f == inRead {
			return
		}
		for word := range strings.FieldsSeq(strings.ToLower(text)) {
			if deny[strings.Trim(word, "`'\".,;:!?()")] || strings.HasSuffix(word, "n't") {
				denials++
			}
		}
		scan(text, func(t token) {
			s.lexemes = append(s.lexemes, t.lexeme)
			if t.whole || strings.ContainsAny(t.lexeme, "0123456789") {
				s.facts = append(s.facts, t.lexeme)
			}
		})
	})
	s.facts = append(s.facts, fmt.Sprint("not ", denials))
	slices.Sort(s.lexemes)
	slices.Sort(s.facts)
	s.lexemes, s.facts = slices.Compact(s.lexemes), slices.Compact(s.facts)
	return s
}

// deny has words that turn a sentence round. The index leaves them out.
var deny = map[string]bool{"not": true, "no": true, "never": true, "without": true, "cannot": true, "none": true, "nor": true}

// Alike is how much of what two notes say is the same, from 0 to 1.
func Alike(a, b Sketch) float64 { return jaccard(a.lexemes, b.lexemes) }

// SameNote reports that two notes say the same in other words, if that: they
// have the same names and numbers, and hardly another word.
func SameNote(a, b Sketch) bool {
	return len(a.lexemes) > 0 && slices.Equal(a.facts, b.facts) && Alike(a, b) >= sameNote
}

// sameNote is how alike two notes are that are one: of twenty words, one may
// be another.
const sameNote = 0.9

// jaccard is what two sorted lists share of what they have.
func jaccard(a, b []string) float64 {
	shared, i, j := 0, 0, 0
	for i < len(a) && j < len(b) {
		switch c := strings.Compare(a[i], b[j]); {
		case c == 0:
			shared, i, j = shared+1, i+1, j+1
		case c < 0:
			i++
		default:
			j++
		}
	}
	if all := len(a) + len(b) - shared; all > 0 {
		return float64(shared) / float64(all)
	}
	return 1
}
