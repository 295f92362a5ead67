package search

import (
	"strconv"
	"strings"
	"sync"
)

// maxEntry bounds the lexemes of one note. Postgres' limit is a megabyte.
const maxEntry = 4000

// Word is a word as it was written, with what the index calls it.
type Word struct{ Word, Lexeme string }

// Entry is what the index has of a note.
type Entry struct {
	Vector string // a tsvector's text, without positions
	Words  []Word // that a later query may have meant, each once
}

// marks begin lexemes that no text has.
const (
	markScope = "@" // whose it is
	markKind  = "#" // what sort of note it is
)

// Scope is the lexeme that all notes of a project have. It keeps a word that
// others use much from slowing down those who hardly do; that a row is the
// project's is decided by its columns.
func Scope(team, project string) string {
	const prime = 1099511628211 // FNV-1a
	h := uint64(14695981039346656037)
	for _, s := range [...]string{team, "\x00", project} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
	}
	return markScope + strconv.FormatUint(h, 36)
}

// Kind is the lexeme that all notes of a kind have.
func Kind(kind string) string { return markKind + squeeze(clip(kind)) }

// pool has the sets of lexemes of earlier notes, emptied.
var pool = sync.Pool{New: func() any { return make(map[string]struct{}, 256) }}

// Entry is what the index has of the note in the project of that scope.
func (n Note) Entry(scope, kind string) Entry {
	return n.EntryFor(scope, kind, func(string) bool { return true })
}

// EntryFor is Entry with those words only whose lexemes are wanted: mostly all
// of a note's are known.
func (n Note) EntryFor(scope, kind string, wanted func(lexeme string) bool) Entry {
	seen := pool.Get().(map[string]struct{})
	defer func() {
		clear(seen)
		pool.Put(seen)
	}()
	var e Entry
	var b strings.Builder
	b.Grow(512)
	add := func(lexeme string) bool {
		if _, there := seen[lexeme]; there || len(seen) == maxEntry {
			return false
		}
		seen[lexeme] = struct{}{}
		b.WriteByte(' ')
		b.WriteString(lexeme)
		return true
	}
	b.WriteString(scope)
	add(Kind(kind))
	n.each(func(_ field, text string) {
		scan(text, func(t token) {
			if add(t.lexeme) && !t.whole && plausible(t.word) && wanted(t.lexeme) {
				e.Words = append(e.Words, Word{t.word, t.lexeme})
			}
		})
	})
	e.Vector = b.String()
	return e
}

// plausible tells words that somebody may have meant and mistyped from
// numbers, hashes and scraps.
func plausible(word string) bool {
	if len(word) < 3 || len(word) > 32 {
		return false
	}
	for i := range len(word) {
		if c := word[i]; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// field is a part of a note, by what a word in it weighs.
type field int

const (
	inTitle field = iota
	inSubtitle
	inFacts
	inNarrative
	inConcepts
	inModified
	inRead
	inBody
	fields
)

// each hands over the texts of the note.
func (n Note) each(do func(field, string)) {
	do(inTitle, n.Title)
	do(inSubtitle, n.Subtitle)
	for _, f := range n.Facts {
		do(inFacts, f)
	}
	do(inNarrative, n.Narrative)
	for _, c := range n.Concepts {
		do(inConcepts, c)
	}
	for _, f := range n.Modified {
		do(inModified, f)
	}
	for _, f := range n.Read {
		do(inRead, f)
	}
	do(inBody, n.Body)
}
