package search

import (
	"math"
	"strings"
)

// weights says what a word in a part of a note is worth, and how much of it
// is lost in a long text.
var weights = [fields]float64{
	inTitle: 3, inSubtitle: 1.5, inFacts: 1.2, inNarrative: 1, inConcepts: 0.6, inModified: 1.6, inRead: 1, inBody: 1,
}

const (
	saturation = 1.2 // how soon more of the same word adds nothing
	lengthPart = 0.4 // how much a long note's words count less
	usual      = 70  // words of a note
	partial    = 0.7 // what a word that was perhaps meant is worth
)

// Weigh tells the query how rare its terms are: in how many of n texts each
// was found.
func (q *Query) Weigh(n int, found []int) {
	for i := range q.Terms {
		f := float64(found[i])
		q.Terms[i].weight = math.Log(1 + (float64(max(n, found[i]))-f+0.5)/(f+0.5))
	}
}

// Weight is how much the terms of a set are worth.
func (q *Query) Weight(set uint32) float64 {
	sum := 0.0
	for i, t := range q.Terms {
		if set>>i&1 == 1 {
			sum += t.weight
		}
	}
	return sum
}

// match is how a lexeme answers to a term: 1 as typed, less where something
// else was perhaps meant, 0 not at all.
func (t Term) match(k token) float64 {
	switch {
	case t.Lexeme == k.lexeme, t.Prefix && strings.HasPrefix(k.word, t.Lexeme):
		return 1
	case t.Prefix && strings.HasPrefix(k.lexeme, t.Lexeme):
		return 1
	}
	for _, l := range t.Like {
		if l == k.lexeme {
			return partial
		}
	}
	return 0
}

// Score says how well a note answers: BM25 over its parts, times how much of
// what was asked it has at all.
func (q *Query) Score(n Note) float64 {
	var tf [MaxTerms]float64
	var near, length float64
	n.each(func(f field, text string) {
		before, end := -1, 0
		scan(text, func(k token) {
			if !k.whole {
				length++
			}
			for i := range q.Terms {
				m := q.Terms[i].match(k)
				if m == 0 {
					continue
				}
				tf[i] += m * weights[f]
				if before >= 0 && i == before+1 && k.start-end < 3 && !k.whole {
					near += min(q.Terms[i].weight, q.Terms[before].weight)
				}
				if !k.whole {
					before, end = i, k.end
				}
				break
			}
		})
	})
	long := 1 - lengthPart + lengthPart*length/usual
	score, have, asked := 0.0, 0.0, 0.0
	for _, i := range q.Positive() {
		t := q.Terms[i]
		worth := t.weight
		if t.Whole { // its parts are there as well: it adds to them
			worth *= 0.5
		} else {
			asked += worth
		}
		if tf[i] > 0 {
			score += worth * tf[i] / (tf[i] + saturation*long)
			if !t.Whole {
				have += worth
			}
		}
	}
	if asked > 0 {
		share := have / asked
		score *= 0.3 + 0.7*share*share
	}
	return score + 0.15*min(near, 3*maxWeight)/(1+long)
}

const maxWeight = 7
