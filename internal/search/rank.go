package search

import (
	"math"
	"slices"
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

// Share is how much of what was asked a text has that has these terms, from 0
// to 1: each word counts by its weight, and one of two that stand for each
// other is enough.
func (q *Query) Share(set uint32) float64 {
	have, asked := 0.0, 0.0
	for _, clause := range q.all {
		best, worth := 0.0, 0.0
		for _, o := range clause {
			parts, there := 0.0, 0.0
			for _, p := range o.parts {
				parts += q.Terms[p].weight
				if set>>p&1 == 1 {
					there += q.Terms[p].weight
				}
			}
			if o.whole >= 0 && set>>o.whole&1 == 1 || parts == 0 && o.whole >= 0 {
				parts = max(parts, q.Terms[o.whole].weight)
				there = parts
				if set>>o.whole&1 == 0 {
					there = 0
				}
			}
			worth = max(worth, parts)
			if parts > 0 {
				best = max(best, there/parts)
			}
		}
		have, asked = have+best*worth, asked+worth
	}
	if asked == 0 {
		return 1
	}
	return have / asked
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
	if slices.Contains(t.Like, k.lexeme) {
		return partial
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
	score := 0.0
	var set uint32
	for _, i := range q.Positive() {
		t := q.Terms[i]
		if tf[i] == 0 {
			continue
		}
		set |= 1 << i
		worth := t.weight
		if t.Whole { // its parts are there as well: it adds to them
			worth *= 0.5
		}
		score += worth * tf[i] / (tf[i] + saturation*long)
	}
	share := q.Share(set)
	return score*(0.3+0.7*share*share) + 0.15*min(near, 3*maxWeight)/(1+long)
}

const maxWeight = 7

// fuseK keeps the first places of a list from counting for all: the constant
// that Cormack, Clarke and Büttcher found good (Reciprocal Rank Fusion
// outperforms Condorcet and individual Rank Learning Methods, SIGIR 2009).
const fuseK = 60

// Fuse ranks what lists have that are in order, the best first: each adds
// 1/(60+rank) to what it has. It says nothing of what no list has.
func Fuse(lists ...[]string) map[string]float64 {
	scores := map[string]float64{}
	for _, list := range lists {
		for i, id := range list {
			scores[id] += 1 / float64(fuseK+i+1)
		}
	}
	return scores
}
