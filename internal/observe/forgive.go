package observe

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	similarWords = 20 // that Postgres may offer for one
	maxMeant     = 3  // of them are looked for
)

// forgive finds the words that the project does not have. One that begins a
// word of the project stands for what begins so; otherwise those are looked
// for as well that it was perhaps mistyped from.
func (f *finder) forgive(ctx context.Context) error {
	unsure := f.terms.Unsure()
	if len(unsure) == 0 {
		return nil
	}
	lexemes := make([]string, len(unsure))
	for n, i := range unsure {
		lexemes[n] = f.terms.Terms[i].Lexeme
	}
	known, err := f.q.KnownWords(ctx, sqlc.KnownWordsParams{TeamID: f.scope.Team, ProjectID: f.scope.Project, Lexemes: lexemes})
	if err != nil {
		return fmt.Errorf("read words: %w", err)
	}
	for _, i := range unsure {
		term := &f.terms.Terms[i]
		if slices.Contains(known, term.Lexeme) {
			continue
		}
		begun, err := f.q.WordsThatBegin(ctx, sqlc.WordsThatBeginParams{TeamID: f.scope.Team, ProjectID: f.scope.Project, Beginning: term.Word})
		if err != nil {
			return fmt.Errorf("read words that begin so: %w", err)
		}
		if len(begun) > 0 {
			term.Lexeme, term.Prefix = term.Word, true
			continue
		}
		similar, err := f.q.SimilarWords(ctx, sqlc.SimilarWordsParams{
			TeamID: f.scope.Team, ProjectID: f.scope.Project, Mistyped: term.Word, MaxRows: similarWords,
		})
		if err != nil {
			return fmt.Errorf("read similar words: %w", err)
		}
		meant := search.Nearest(term.Word, similar, maxMeant)
		if len(meant) == 0 {
			continue
		}
		term.Like = search.Stems(meant)
		if f.meant == nil {
			f.meant = map[string][]string{}
		}
		f.meant[term.Word] = meant
	}
	return nil
}
