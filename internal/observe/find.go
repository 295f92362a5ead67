package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/sqlc"
)

// How a search stays quick on a million observations. A word that many of them
// have is not worth reading them all: what is ranked is what the newest ones
// have, and what the index has of words that few have.
const (
	newest     = 1000             // observations that are looked at one by one
	fromIndex  = 2000             // at most, by what the newest ones let expect
	ranked     = 120              // of both, by which words they have, are read and ranked
	countUpTo  = 100_000          // a project's observations; beyond, the table's size is the guess
	countAgain = 10 * time.Minute // it only has to be about right
)

// finder does one search.
type finder struct {
	s     *Service
	q     *sqlc.Queries
	scope events.Scope
	query Query
	terms *search.Query
	meant map[string][]string
	sum   string // the query's fingerprint, as it was asked

	on     sqlc.DBTX // the transaction
	vector []float32 // of the question; nil: it is ranked by text alone
}

// candidate is an observation that may answer.
type candidate struct {
	id    string
	at    time.Time
	terms uint32 // a bit for each that it has
	score float64
	row   Observation
	note  search.Note
}

// page finds what answers, and gives what comes after the cursor.
func (f *finder) page(ctx context.Context, after cursor) (Results, error) {
	if f.terms.Nothing() && f.vector == nil {
		return Results{}, nil
	}
	if f.vector != nil && after.near == 0 {
		after.near = time.Now().UnixMicro()
	}
	if after.asOf != 0 {
		f.query.Until = minTime(f.query.Until, time.UnixMicro(after.asOf))
	}
	if err := f.forgive(ctx); err != nil {
		return Results{}, err
	}
	var all []candidate
	var err error
	if !f.terms.Nothing() {
		if all, err = f.candidates(ctx); err != nil {
			return Results{}, err
		}
	}
	beside, err := f.near(ctx, time.UnixMicro(after.near))
	if err != nil {
		return Results{}, err
	}
	if after.asOf == 0 {
		for _, c := range slices.Concat(all, beside) {
			after.asOf = max(after.asOf, c.at.UnixMicro())
		}
	}
	if all, err = f.rank(ctx, all); err != nil {
		return Results{}, err
	}
	if f.vector != nil {
		if all, err = f.fuse(ctx, all, beside); err != nil {
			return Results{}, err
		}
	}
	begin := after.seen
	if i := slices.IndexFunc(all, func(c candidate) bool { return c.id == after.last }); i >= 0 {
		begin = i + 1
	}
	begin = min(begin, len(all))
	end := min(begin+f.query.Limit, len(all))
	r := Results{Meant: f.meant}
	for _, c := range all[begin:end] {
		r.Hits = append(r.Hits, Hit{c.row, f.terms.Highlights(c.note)})
	}
	if end < len(all) {
		r.Next = cursor{asOf: after.asOf, last: all[end-1].id, seen: end, near: after.near}.text(f.sum)
	}
	return r, nil
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// candidates gives what has some of the words, without those that cannot be
// among the best.
func (f *finder) candidates(ctx context.Context) ([]candidate, error) {
	positive := f.terms.Positive()
	p := sqlc.SearchNewestParams{
		SessionID: f.query.SessionID, TeamID: f.scope.Team, ProjectID: f.scope.Project,
		Since: f.query.Since, Until: f.query.Until, MaxRows: newest, Terms: int32(len(f.terms.Terms)), Query: f.terms.Any(positive...),
		Phrases: notNull(f.terms.Phrases), Without: notNull(f.terms.Without), Kinds: notNull(f.query.Kinds), Path: f.query.Path,
		Platform: plain(deref(platformOf(f.query.PlatformSource))),
	}
	if p.Query == "" { // only phrases that must not be there
		p.Query = search.Scope(f.scope.Team, f.scope.Project)
	}
	bits := []*string{&p.T1, &p.T2, &p.T3, &p.T4, &p.T5, &p.T6, &p.T7, &p.T8, &p.T9, &p.T10, &p.T11, &p.T12, &p.T13, &p.T14, &p.T15, &p.T16}
	for i, bit := range bits {
		*bit = "'@'" // that nothing has
		if i < len(f.terms.Terms) {
			*bit = f.terms.Terms[i].TSQuery()
		}
	}
	rows, err := f.q.SearchNewest(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("read the newest: %w", err)
	}
	size, err := f.s.size(ctx, f.q, f.scope)
	if err != nil {
		return nil, err
	}
	looked := min(size, newest)
	having, every := make([]int, len(f.terms.Terms)), 0
	var whole uint32 // the bits of all words
	for _, i := range positive {
		if !f.terms.Terms[i].Whole {
			whole |= 1 << i
		}
	}
	var all []candidate
	known := map[string]bool{}
	for _, r := range rows {
		for i := range having {
			having[i] += int(r.Having >> i & 1)
		}
		if uint32(r.Having)&whole == whole {
			every++
		}
		if r.Fits {
			known[r.ID] = true
			all = append(all, candidate{id: r.ID, at: r.CreatedAt, terms: uint32(r.Having)})
		}
	}
	f.terms.Weigh(looked, having)
	if size > newest && f.query.SessionID == "" && len(positive) > 0 {
		if query := f.affordable(positive, having, every, len(all), size); query != "" {
			more, err := f.q.SearchIndex(ctx, f.indexed(p, query))
			if err != nil {
				return nil, fmt.Errorf("read the index: %w", err)
			}
			for _, r := range more {
				if !known[r.ID] {
					all = append(all, candidate{id: r.ID, at: r.CreatedAt, terms: uint32(r.Having)})
				}
			}
		}
	}
	for i := range all {
		all[i].score = f.terms.Weight(all[i].terms)
	}
	slices.SortFunc(all, bestFirst)
	return all[:min(len(all), ranked)], nil
}

// notNull is a list that Postgres sees as an empty one.
func notNull(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func bestFirst(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.score, a.score), b.at.Compare(a.at), strings.Compare(a.id, b.id))
}

// affordable is what to ask the index for, of words that the newest
// observations have so often, so that it finds a few thousand at most: all
// that have one of the rare words; or else all that have every word; or
// nothing, since then the newest ones have enough of them.
func (f *finder) affordable(positive, having []int, every, fit, size int) string {
	expected := func(n int) float64 { return (float64(n) + 0.3) / newest * float64(size) }
	filtered := len(f.query.Kinds) > 0 || f.query.Path != ""
	if filtered && expected(fit) <= fromIndex {
		return f.terms.Any(positive...)
	}
	byRarity := slices.Clone(positive)
	slices.SortStableFunc(byRarity, func(a, b int) int { return having[a] - having[b] })
	sum, n := 0.0, 0
	for _, i := range byRarity {
		if sum += expected(having[i]); sum > fromIndex {
			break
		}
		n++
	}
	if n > 0 {
		return f.terms.Any(byRarity[:n]...)
	}
	if expected(every) <= fromIndex {
		return f.terms.All()
	}
	return ""
}

// indexed is the question of the newest put to the index.
func (f *finder) indexed(p sqlc.SearchNewestParams, query string) sqlc.SearchIndexParams {
	asked := search.Scope(f.scope.Team, f.scope.Project) + "&(" + query + ")"
	if len(p.Kinds) > 0 {
		kinds := make([]string, len(p.Kinds))
		for i, k := range p.Kinds {
			kinds[i] = "'" + search.Kind(k) + "'"
		}
		asked += "&(" + strings.Join(kinds, "|") + ")"
	}
	if path := search.Path(p.Path); path != "" {
		asked += "&(" + path + ")"
	}
	return sqlc.SearchIndexParams{
		T1: p.T1, T2: p.T2, T3: p.T3, T4: p.T4, T5: p.T5, T6: p.T6, T7: p.T7, T8: p.T8,
		T9: p.T9, T10: p.T10, T11: p.T11, T12: p.T12, T13: p.T13, T14: p.T14, T15: p.T15, T16: p.T16,
		Terms: p.Terms, Query: asked, TeamID: p.TeamID, ProjectID: p.ProjectID, Since: p.Since, Until: p.Until,
		Phrases: p.Phrases, Without: p.Without, Kinds: p.Kinds, Path: p.Path, Platform: p.Platform, MaxRows: fromIndex,
	}
}

// rank reads the candidates and puts the best first. One that has much less
// of what was asked than another is left out.
func (f *finder) rank(ctx context.Context, all []candidate) ([]candidate, error) {
	if len(all) == 0 {
		return nil, nil
	}
	rows, err := f.read(ctx, all)
	if err != nil {
		return nil, err
	}
	best := 0.0
	for _, c := range all {
		best = max(best, f.terms.Share(c.terms))
	}
	out := make([]candidate, 0, len(rows))
	of := make(map[string]candidate, len(all))
	for _, c := range all {
		of[c.id] = c
	}
	for _, r := range rows {
		c := of[r.ID]
		if f.terms.Share(c.terms) < best*tooLittle {
			continue
		}
		c.row, c.note = Observation(r), search.NoteOf(r.Content, r.Metadata)
		c.score = f.terms.Score(c.note)
		out = append(out, c)
	}
	slices.SortFunc(out, bestFirst)
	return out, nil
}

func (f *finder) read(ctx context.Context, all []candidate) ([]sqlc.GetObservationsRow, error) {
	ids := make([]string, len(all))
	for i, c := range all {
		ids[i] = c.id
	}
	rows, err := f.q.GetObservations(ctx, sqlc.GetObservationsParams{Ids: ids, TeamID: f.scope.Team, ProjectID: f.scope.Project})
	if err != nil {
		return nil, fmt.Errorf("read %d observations: %w", len(ids), err)
	}
	return rows, nil
}

// tooLittle is the part of what one candidate has of what was asked, below
// which another is no answer.
const tooLittle = 0.6

// size is about how many observations a project has.
func (s *Service) size(ctx context.Context, q *sqlc.Queries, scope events.Scope) (int, error) {
	if n, ok := s.sizes.get(scope); ok {
		return n, nil
	}
	n, err := q.CountObservations(ctx, sqlc.CountObservationsParams{TeamID: scope.Team, ProjectID: scope.Project, Most: countUpTo})
	if err != nil {
		return 0, fmt.Errorf("count observations: %w", err)
	}
	if n > newest { // a small one may grow the next moment, and is counted quickly
		s.sizes.put(scope, int(n), countAgain)
	}
	return int(n), nil
}
