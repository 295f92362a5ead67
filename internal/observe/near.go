package observe

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	nearMost     = 50               // observations that a search finds by their vectors
	fittingMost  = 20_000           // observations that filters let through, and vectors are looked for among
	maxAskedFor  = 2000             // bytes of a query that are asked for the vector of
	questionFor  = 10 * time.Minute // how long a question's vector is kept: for its next pages
	endpointRest = 10 * time.Second // how long nobody is asked for the vector of a question, after one who did not get it
)

// question is the vector of a query, or nil and why there is none. It is asked
// for with no transaction open, and only of those who may search. A page that
// follows one that was ranked by text alone is, too.
func (s *Service) question(ctx context.Context, c Caller, query Query, after cursor) ([]float32, Ranking, error) {
	e := s.cfg.Near.Embeddings
	byText := func(why string) ([]float32, Ranking, error) { return nil, Ranking{RankedByText, why}, nil }
	switch {
	case e == nil:
		return nil, Ranking{}, nil
	case after.asOf != 0 && after.near == 0:
		return byText("so was the first page")
	}
	text := cut(plain(hide(query.Query)), maxAskedFor)
	if blank(text) {
		return byText("the query has nothing that may be sent")
	}
	key := digest(new(e.Space()), &text)
	if v, ok := s.askedOf.get(key); ok {
		return v, Ranking{RankedBy: RankedByBoth}, nil
	}
	if time.Now().UnixMicro() < s.resting.Load() {
		return byText(awayForNow)
	}
	var scope events.Scope
	var over string
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) (err error) {
		scope, err = s.allow(ctx, q, c, toRead, query.ProjectID)
		return err
	})
	if err != nil {
		return nil, Ranking{}, err
	}
	if over, _, err = s.overdrawn(ctx, scope.Team); err != nil || over != "" {
		return byText(cmp.Or(over, "it is not known what the team has used"))
	}
	asking, cancel := context.WithTimeout(ctx, cmp.Or(s.cfg.Near.Patience, time.Second))
	defer cancel()
	vectors, err := s.embed(asking, scope, text)
	switch {
	case ctx.Err() != nil:
		return nil, Ranking{}, ctx.Err()
	case isRefused(err):
		return byText("the model does not take the query")
	case err != nil:
		s.resting.Store(time.Now().Add(endpointRest).UnixMicro())
		s.log.LogAttrs(ctx, slog.LevelWarn, "a search is ranked by text alone, and so are those of the next seconds", slog.Any("err", err))
		return byText(awayForNow)
	}
	s.askedOf.put(key, vectors[0], questionFor)
	return vectors[0], Ranking{RankedBy: RankedByBoth}, nil
}

const awayForNow = "who makes the vectors does not answer for now"

// near finds what lies near the question, as far as it fits the filters.
func (f *finder) near(ctx context.Context, asOf time.Time) ([]candidate, error) {
	if f.vector == nil {
		return nil, nil
	}
	store, err := f.s.vectors(ctx, f.on)
	if err != nil {
		return nil, err
	}
	a := around{
		scope: f.scope, space: f.s.cfg.Near.Embeddings.Space(), vector: f.vector, since: f.query.Since, until: f.query.Until, asOf: asOf,
		floor: f.s.cfg.Near.Floor, most: nearMost,
	}
	if a.size, err = f.s.size(ctx, f.q, f.scope); err != nil {
		return nil, err
	}
	p := sqlc.SearchFittingParams{
		TeamID: f.scope.Team, ProjectID: f.scope.Project, SessionID: f.query.SessionID, Since: f.query.Since, Until: f.query.Until,
		But: f.terms.But(), Phrases: notNull(f.terms.Phrases), Without: notNull(f.terms.Without), Kinds: notNull(f.query.Kinds), Path: f.query.Path,
		Platform: plain(deref(platformOf(f.query.PlatformSource))), MaxRows: fittingMost,
	}
	if p.SessionID != "" || p.But != "" || len(p.Phrases)+len(p.Without)+len(p.Kinds) > 0 || p.Path != "" || p.Platform != "" {
		if a.among, err = f.q.SearchFitting(ctx, p); err != nil || len(a.among) == 0 {
			return nil, err
		}
	}
	found, err := store.nearest(ctx, f.on, a)
	all := make([]candidate, len(found))
	for i, n := range found {
		all[i] = candidate{id: n.id, at: n.at}
	}
	return all, err
}

// fuse makes one list of the two, see [search.Fuse].
func (f *finder) fuse(ctx context.Context, ranked, beside []candidate) ([]candidate, error) {
	ids := func(list []candidate) (ids []string) {
		for _, c := range list {
			ids = append(ids, c.id)
		}
		return ids
	}
	scores := search.Fuse(ids(ranked), ids(beside))
	all := slices.Clone(ranked)
	beside = slices.DeleteFunc(beside, func(c candidate) bool {
		return slices.ContainsFunc(ranked, func(r candidate) bool { return r.id == c.id })
	})
	if len(beside) > 0 {
		rows, err := f.read(ctx, beside)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			all = append(all, candidate{id: r.ID, at: r.CreatedAt, row: Observation(r), note: search.NoteOf(r.Content, r.Metadata)})
		}
	}
	for i := range all {
		all[i].score = scores[all[i].id]
	}
	slices.SortFunc(all, bestFirst)
	return all, nil
}
