package observe

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	usualTokens = 2000 // of a context that nobody asked a question for
	maxTokens   = 32_000
	recentNotes = 200  // that it is chosen from
	foldAlike   = 0.75 // how alike two notes are of which one is told
)

// ContextQuery asks for what an agent should read. With a Query it is a
// search, without one the project's latest.
type ContextQuery struct {
	Query
	MaxTokens int // of the text, by our guess; 0 means 2000 without a query, and no bound with one
}

// ContextResult is what an agent should read.
type ContextResult struct {
	Observations []Observation // that are in the text
	Text         string
	Tokens       int // of the text: a guess, a token for each four bytes
	Folded       int // observations that say what another one does
	Left         int // that there was no room for
	Ranking          // where there was a query
}

// Context gives what an agent should read before it begins, as one text: what
// answers a query, the best first; or, without one, what the latest sessions
// left, a summary and the notes of each, as Markdown.
func (s *Service) Context(ctx context.Context, c Caller, query ContextQuery) (ContextResult, error) {
	if err := query.checkTokens(); err != nil {
		return ContextResult{}, err
	}
	if query.Query.Query == "" {
		return s.recentContext(ctx, c, query)
	}
	found, err := s.search(ctx, c, query.Query, "context", 10, 50)
	if err != nil {
		return ContextResult{}, err
	}
	r := ContextResult{Ranking: found.Ranking}
	var text strings.Builder
	var told []search.Sketch
	for _, hit := range found.Hits {
		sketch := search.NoteOf(hit.Content, hit.Metadata).Sketch()
		if alike(told, sketch) >= 0 {
			r.Folded++
			continue
		}
		more := hit.Content
		if text.Len() > 0 {
			more = "\n\n" + more
		}
		if query.MaxTokens > 0 && tokens(text.Len()+len(more)) > query.MaxTokens {
			r.Left++
			continue
		}
		told = append(told, sketch)
		text.WriteString(more)
		r.Observations = append(r.Observations, hit.Observation)
	}
	r.Text, r.Tokens = text.String(), tokens(text.Len())
	return r, nil
}

func (query *ContextQuery) checkTokens() error {
	var wrong issues
	if query.MaxTokens < 0 {
		wrong.add(CodeTooSmall, "at least 1", "maxTokens")
	}
	if query.MaxTokens > maxTokens {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d", maxTokens), "maxTokens")
	}
	return wrong.err()
}

// tokens guesses how many a text of so many bytes is.
func tokens(bytes int) int { return (bytes + 3) / 4 }

// alike is the place of one that says the same, or -1.
func alike(told []search.Sketch, s search.Sketch) int {
	for i, t := range told {
		if search.Alike(t, s) >= foldAlike {
			return i
		}
	}
	return -1
}

func (s *Service) recentContext(ctx context.Context, c Caller, query ContextQuery) (ContextResult, error) {
	if err := c.granted(toRead); err != nil {
		return ContextResult{}, err
	}
	if query.Limit == 0 {
		query.Limit = 50
	}
	query.Query.Query = "-" // so that what is checked is all else
	if _, err := query.check(50); err != nil {
		return ContextResult{}, err
	}
	if query.MaxTokens == 0 {
		query.MaxTokens = usualTokens
	}
	var r ContextResult
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead, query.ProjectID)
		if err != nil {
			return err
		}
		if err := q.InOrderOfIndex(ctx); err != nil {
			return fmt.Errorf("read the latest observations: %w", err)
		}
		rows, err := q.RecentWithSessions(ctx, sqlc.RecentWithSessionsParams{
			TeamID: scope.Team, ProjectID: scope.Project,
			Platform: plain(deref(platformOf(query.PlatformSource))), MaxRows: recentNotes,
		})
		if err != nil {
			return fmt.Errorf("read the latest observations: %w", err)
		}
		r = tell(rows, query.MaxTokens, query.Limit)
		return c.audit(ctx, q, entry{
			scope: scope, action: actRead, resource: resObservation, details: map[string]any{"mode": "context", "found": len(r.Observations)},
		})
	})
	return r, err
}
