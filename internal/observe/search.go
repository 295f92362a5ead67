package observe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	maxQuery = 10_000 // bytes that are worth parsing
	maxKinds = 20     // in one query
)

// Search finds the observations of a project that answer a query, the best
// first, then the newest: those that have all of its words, and below them
// those that have most.
func (s *Service) Search(ctx context.Context, c Caller, query Query) (Results, error) {
	return s.search(ctx, c, query, "search", 20, 100)
}

func (s *Service) search(ctx context.Context, c Caller, query Query, mode string, usual, most int) (Results, error) {
	if err := c.granted(toRead); err != nil {
		return Results{}, err
	}
	if query.Limit == 0 {
		query.Limit = usual
	}
	after, err := query.check(most)
	if err != nil {
		return Results{}, err
	}
	var found Results
	question, ranking, err := s.question(ctx, c, query, after)
	if err != nil {
		return found, err
	}
	err = s.inTx(ctx, func(tx pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead, query.ProjectID)
		if err != nil {
			return err
		}
		if err := q.InOrderOfIndex(ctx); err != nil {
			return fmt.Errorf("search: %w", err)
		}
		f := finder{s: s, q: q, scope: scope, query: query, terms: search.Parse(plain(query.Query)), sum: query.fingerprint(), on: tx, vector: question}
		if found, err = f.page(ctx, after); err != nil {
			return fmt.Errorf("search: %w", err)
		}
		found.Ranking = ranking
		return c.audit(ctx, q, entry{
			scope: scope, action: actRead, resource: resObservation, details: map[string]any{"mode": mode, "found": len(found.Hits)},
		})
	})
	return found, err
}

// check makes the query fit to be asked, and reads its cursor.
func (query *Query) check(most int) (cursor, error) {
	var wrong issues
	if query.ProjectID == "" {
		wrong.add(CodeTooSmall, "at least 1 character", "projectId")
	}
	if query.Query == "" {
		wrong.add(CodeTooSmall, "at least 1 character", "query")
	}
	if len(query.Query) > maxQuery {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxQuery), "query")
	}
	if query.Limit < 1 {
		wrong.add(CodeTooSmall, "at least 1", "limit")
	}
	if query.Limit > most {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d", most), "limit")
	}
	if len(query.Kinds) > maxKinds {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d", maxKinds), "types")
	}
	query.Kinds = slices.Clone(query.Kinds)
	for i := range query.Kinds {
		query.Kinds[i] = plain(query.Kinds[i])
	}
	query.SessionID, query.Path = plain(query.SessionID), strings.Trim(plain(query.Path), "/")
	if query.Until.IsZero() {
		query.Until = endOfTime
	}
	after, ok := readCursor(query.Cursor, query.fingerprint())
	if !ok {
		wrong.add(CodeCustom, "not nextCursor of a page of this query", "cursor")
	}
	return after, wrong.err()
}

// endOfTime is later than all that is stored, and Postgres can read it.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
