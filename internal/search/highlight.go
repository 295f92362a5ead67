package search

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxFragments = 3
	maxFragment  = 200 // runes, without the marks
)

// Highlights are the places of a note that answer best, a few, each a line of
// it or a piece of one, with two asterisks around what was asked for. A note
// whose words only stand in its list of concepts has none.
func (q *Query) Highlights(n Note) []string {
	type place struct {
		text  string
		at    []token
		worth float64
		nth   int
	}
	var all []place
	n.each(func(f field, text string) {
		if f == inConcepts {
			return
		}
		for line := range strings.Lines(text) {
			p := place{text: strings.TrimSpace(line), nth: len(all)}
			said := map[int]bool{}
			scan(p.text, func(k token) {
				for i, t := range q.Terms {
					if t.match(k) == 0 {
						continue
					}
					if !said[i] {
						p.worth += t.weight * weights[f]
						said[i] = true
					}
					if n := len(p.at); n == 0 || k.start >= p.at[n-1].end {
						p.at = append(p.at, k)
					} else {
						p.at[n-1].end = max(p.at[n-1].end, k.end) // pairs of letters overlap
					}
					break
				}
			})
			if len(p.at) > 0 {
				all = append(all, p)
			}
		}
	})
	slices.SortStableFunc(all, func(a, b place) int { return cmp.Compare(b.worth, a.worth) })
	all = all[:min(len(all), maxFragments)]
	slices.SortFunc(all, func(a, b place) int { return cmp.Compare(a.nth, b.nth) })
	out := []string{}
	for _, p := range all {
		out = append(out, mark(p.text, p.at))
	}
	return out
}

// mark puts asterisks around the tokens, in a piece of the text that is not
// too long.
func mark(text string, at []token) string {
	from, to := 0, len(text)
	if utf8.RuneCountInString(text) > maxFragment {
		from = back(text, at[0].start, maxFragment/4)
		to = forth(text, from, maxFragment)
	}
	var b strings.Builder
	if from > 0 {
		b.WriteString("…")
	}
	done := from
	for i := 0; i < len(at) && at[i].end <= to; i++ {
		t := at[i]
		for i+1 < len(at) && at[i+1].start == t.end && at[i+1].end <= to { // the parts of a name
			i++
			t.end = at[i].end
		}
		b.WriteString(text[done:t.start] + "**" + text[t.start:t.end] + "**")
		done = t.end
	}
	b.WriteString(text[done:to])
	if to < len(text) {
		b.WriteString("…")
	}
	return b.String()
}

// back is n runes before a place, and a word's beginning where one is near.
func back(text string, at, n int) int {
	for ; n > 0 && at > 0; n-- {
		_, size := utf8.DecodeLastRuneInString(text[:at])
		at -= size
	}
	if at > 0 {
		if i := strings.IndexByte(text[at:], ' '); i >= 0 && i < 20 {
			at += i + 1
		}
	}
	return at
}

// forth is n runes behind a place, and a word's end where one is near.
func forth(text string, at, n int) int {
	for ; n > 0 && at < len(text); n-- {
		_, size := utf8.DecodeRuneInString(text[at:])
		at += size
	}
	if at < len(text) {
		if i := strings.LastIndexByte(text[:at], ' '); i > at-20 && i > 0 {
			at = i
		}
	}
	return at
}
