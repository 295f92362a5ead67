package search

import (
	"cmp"
	"slices"
)

// Nearest gives those of some words that a word was perhaps mistyped from, the
// nearest first: one wrong, missing, doubled or swapped letter, or two in a
// longer word.
func Nearest(mistyped string, words []string, most int) []string {
	type guess struct {
		word string
		far  int
	}
	allowed := 1
	if len(mistyped) > 6 {
		allowed = 2
	}
	var all []guess
	for _, w := range words {
		if d := distance(mistyped, w); d <= allowed {
			all = append(all, guess{w, d})
		}
	}
	slices.SortStableFunc(all, func(a, b guess) int { return cmp.Compare(a.far, b.far) })
	var out []string
	for _, g := range all[:min(len(all), most)] {
		if g.far == all[0].far {
			out = append(out, g.word)
		}
	}
	return out
}

// Stems gives the lexemes of words.
func Stems(words []string) []string {
	var out []string
	for _, w := range words {
		if s := stem(w); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// distance counts the letters to change, add, leave out or swap with the next
// one, in words of the letters a to z.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
