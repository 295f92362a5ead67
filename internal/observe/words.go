package observe

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	maxKnownWords = 1 << 18         // kept at once, some 10 MB
	wordAgain     = 5 * time.Second // longer than a transaction that settles
	wordLasts     = time.Hour
)

// vocabulary knows which words of the projects are written down already, so
// that a note costs no row for each of its words. The transaction that a word
// was first seen in may have been undone: it is written once more when it
// comes again, and then once an hour, because a project can be emptied. The
// zero value is empty.
type vocabulary struct {
	mu   sync.Mutex
	seed maphash.Seed
	due  map[uint64]time.Duration // when a word is to be written again, since from
	from time.Time
}

// fresh gives those of the words that are to be written.
func (v *vocabulary) fresh(scope events.Scope, words []search.Word) []search.Word {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.begin()
	now, of := time.Since(v.from), maphash.Comparable(v.seed, scope)
	var out []search.Word
	for _, w := range words {
		key := of ^ maphash.String(v.seed, w.Lexeme)
		switch due, seen := v.due[key]; {
		case !seen:
			v.due[key] = now + wordAgain
		case now > due:
			v.due[key] = now + wordLasts
		default:
			continue
		}
		out = append(out, w)
	}
	return out
}

// wanted gives what says which lexemes may have to be written; [vocabulary.fresh]
// decides.
func (v *vocabulary) wanted(scope events.Scope) func(lexeme string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.begin()
	now, of := time.Since(v.from), maphash.Comparable(v.seed, scope)
	return func(lexeme string) bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		due, seen := v.due[of^maphash.String(v.seed, lexeme)]
		return !seen || now > due
	}
}

func (v *vocabulary) begin() {
	if v.due == nil {
		v.seed, v.due, v.from = maphash.MakeSeed(), map[uint64]time.Duration{}, time.Now()
	}
	if len(v.due) > maxKnownWords {
		clear(v.due)
	}
}

// learn writes down the words that a project may not have yet.
func (s *Service) learn(ctx context.Context, q *sqlc.Queries, scope events.Scope, words []search.Word) error {
	p := sqlc.InsertWordsParams{TeamID: scope.Team, ProjectID: scope.Project}
	for _, w := range s.words.fresh(scope, words) {
		p.Lexemes, p.Words = append(p.Lexemes, w.Lexeme), append(p.Words, w.Word)
	}
	if len(p.Lexemes) == 0 {
		return nil
	}
	if err := q.InsertWords(ctx, p); err != nil {
		return fmt.Errorf("store %d words: %w", len(p.Lexemes), err)
	}
	return nil
}

// index writes anew what an observation is found by.
func (s *Service) index(ctx context.Context, q *sqlc.Queries, o Observation) error {
	scope := events.Scope{Team: o.TeamID, Project: o.ProjectID}
	entry := search.NoteOf(o.Content, o.Metadata).Entry(search.Scope(scope.Team, scope.Project), o.Kind)
	err := q.IndexMemory(ctx, sqlc.IndexMemoryParams{ID: o.ID, TeamID: scope.Team, ProjectID: scope.Project, Search: entry.Vector})
	if err != nil {
		return fmt.Errorf("index memory: %w", err)
	}
	return s.learn(ctx, q, scope, entry.Words)
}
