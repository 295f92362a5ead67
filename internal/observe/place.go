package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/sqlc"
)

// Near says who makes vectors of texts, so that a search also finds what says
// the same in other words. The zero value is nobody, and costs nothing.
type Near struct {
	Embeddings *llm.Embeddings
	Patience   time.Duration // how long a search waits for the vector of its question; 0: 1 s
	Floor      float64       // the least likeness of an answer, by the cosine; 0 is any that is not opposed
	Within     time.Duration // how long one job makes vectors before another goes on; 0: 2 min
}

// Vectors are made by jobs of the kind reindex, apart from those that store
// observations: nobody waits for a vector, and what a search needs besides is
// there at once. A worker remembers which projects it stored something for,
// and asks for one job for each, for whatever is new in it by then. What that
// misses, after a crash or a change of the model, is found by looking over all
// projects now and then.
const (
	vectorsOfNew = "new" // a job looks as far back as placeAmong
	vectorsOfAll = "all"

	placeEvery = 5 * time.Second
	placeAmong = 2000 // of the newest observations of a project
	placePage  = 500  // that are looked at at once
	sweepEvery = 10 * time.Minute
	sweepAmong = 200 // of the newest of each project
	sweepPage  = 200 // projects

	maxPlaced   = 6000 // bytes of a text
	shortPlaced = 1200 // where the model takes no more
)

// unplaced remembers the projects that were written to. The zero value is
// empty.
type unplaced struct {
	mu  sync.Mutex
	all map[events.Scope]bool
}

func (u *unplaced) add(scope events.Scope) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = map[events.Scope]bool{}
	}
	u.all[scope] = true
}

func (u *unplaced) take() map[events.Scope]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.all
	u.all = nil
	return all
}

// place gives the project's observations that have none their vectors, the
// newest first, and says how many, and of how many the model does not take the
// text. Each page is stored by itself.
func (s *Service) place(ctx context.Context, job events.Job, a jobArgs) (placedNow, refused int, err error) {
	store, err := s.vectors(ctx, s.pool)
	if err != nil {
		return 0, 0, err
	}
	p := sqlc.NotInSpaceParams{
		TeamID: job.Scope.Team, ProjectID: job.Scope.Project, Model: s.cfg.Near.Embeddings.Space(), ID: a.Observation,
		BeforeAt: endOfTime, MaxRows: placePage, Exact: store.exact(),
	}
	if a.BeforeAt > 0 {
		p.BeforeAt, p.BeforeID = time.UnixMicro(a.BeforeAt), a.BeforeID
	}
	began := time.Now()
	for looked := 0; ; {
		rows, err := s.q.NotInSpace(ctx, p)
		if err != nil {
			return placedNow, refused, fmt.Errorf("read observations without vectors: %w", err)
		}
		looked += len(rows)
		missing := slices.DeleteFunc(slices.Clone(rows), func(r sqlc.NotInSpaceRow) bool { return !r.Missing })
		for some := range slices.Chunk(missing, llm.MaxEmbedded) {
			n, err := s.placeSome(ctx, job, store, p.Model, some)
			placedNow, refused = placedNow+len(some), refused+n
			if err != nil {
				return placedNow, refused, err
			}
		}
		if len(rows) < placePage || a.Vectors == vectorsOfNew && looked >= placeAmong && len(missing) == 0 {
			return placedNow, refused, nil
		}
		p.BeforeAt, p.BeforeID = rows[len(rows)-1].CreatedAt, rows[len(rows)-1].ID
		if time.Since(began) > cmp.Or(s.cfg.Near.Within, 2*time.Minute) {
			next := jobArgs{Vectors: vectorsOfAll, BeforeAt: p.BeforeAt.UnixMicro(), BeforeID: p.BeforeID, at: job.CreatedAt}
			return placedNow, refused, s.askToPlace(ctx, next, 0, "after "+string(job.ID), job.Scope)
		}
	}
}

// placeSome gives some observations their vectors, and says how many the model
// does not take.
func (s *Service) placeSome(ctx context.Context, job events.Job, store vectorStore, space string, some []sqlc.NotInSpaceRow) (refused int, err error) {
	if err := s.withinBudget(ctx, job); err != nil {
		return 0, err
	}
	all, err := s.placesOf(ctx, job.Scope, some)
	if err != nil {
		return 0, jobError(err)
	}
	dimensions := 0
	for _, one := range all {
		if one.vector == nil {
			refused++
		}
		dimensions = max(dimensions, len(one.vector))
	}
	if !store.exact() {
		if err := indexVectors(ctx, s.pool, dimensions); err != nil {
			return refused, fmt.Errorf("index vectors: %w", err)
		}
	}
	return refused, store.put(ctx, s.pool, job.Scope, space, all)
}

// placesOf asks for the vectors of observations. A text that the model does not
// take is tried by itself, then shorter, then given up.
func (s *Service) placesOf(ctx context.Context, scope events.Scope, rows []sqlc.NotInSpaceRow) ([]placed, error) {
	all, texts := make([]placed, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		all[i], texts[i] = placed{id: r.ID, seen: r.UpdatedAt}, toPlace(r.Content, maxPlaced)
	}
	vectors, err := s.embed(ctx, scope, texts...)
	if err == nil {
		for i := range all {
			all[i].vector = vectors[i]
		}
		return all, nil
	}
	if !isRefused(err) {
		return nil, err
	}
	for i, r := range rows {
		for _, most := range []int{maxPlaced, shortPlaced} {
			vectors, err := s.embed(ctx, scope, toPlace(r.Content, most))
			if err == nil {
				all[i].vector = vectors[0]
				break
			}
			if !isRefused(err) {
				return nil, err
			}
		}
	}
	return all, nil
}

func isRefused(err error) bool {
	fault, ok := errors.AsType[*llm.Error](err)
	return ok && fault.Fault == llm.FaultRefused
}

// toPlace is the text that stands for an observation: without what is private
// or a secret, whoever wrote it.
func toPlace(content string, most int) string {
	if text := cut(plain(hide(content)), most); !blank(text) {
		return text
	}
	return "-"
}

// embed asks for vectors, and notes what they cost.
func (s *Service) embed(ctx context.Context, scope events.Scope, texts ...string) ([][]float32, error) {
	vectors, use, err := s.cfg.Near.Embeddings.Embed(ctx, texts...)
	if use.TokensIn > 0 {
		s.spend(ctx, scope, []llm.Use{use})
	}
	return vectors, err
}

// memoryToPlace asks for the vector of an observation that a client wrote or
// changed, in the transaction in which it did.
func (s *Service) memoryToPlace(ctx context.Context, tx pgx.Tx, c Caller, o Observation) error {
	if s.cfg.Near.Embeddings == nil {
		return nil
	}
	scope := events.Scope{Team: o.TeamID, Project: o.ProjectID}
	return s.askToPlaceIn(ctx, tx, c, scope, jobArgs{Observation: o.ID, Vectors: vectorsOfNew, at: time.Now()}, o.ID+" "+fmt.Sprint(o.UpdatedAt.UnixMicro()), 0)
}

// askToPlace asks for a job for each of the projects. Its time and why are a
// part of its name: who asks for the same at the same time asks for one job.
func (s *Service) askToPlace(ctx context.Context, a jobArgs, delay time.Duration, why string, scopes ...events.Scope) error {
	var failed error
	for _, scope := range scopes {
		err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			return s.askToPlaceIn(ctx, tx, Caller{Actor: "worker"}, scope, a, why, delay)
		})
		if err != nil && !errors.Is(err, db.ErrNoProject) && failed == nil { // of a project that is gone, there is nothing to do
			failed = fmt.Errorf("ask for vectors of project %s: %w", scope.Project, err)
		}
	}
	s.ring(len(scopes) > 0)
	return failed
}

func (s *Service) askToPlaceIn(ctx context.Context, tx pgx.Tx, c Caller, scope events.Scope, a jobArgs, why string, delay time.Duration) error {
	step, err := s.step(c, scope, KindReindex, SourceReindex, fmt.Sprintf("vectors %s %s", a.Vectors, why), a)
	if err != nil {
		return err
	}
	step.Delay = delay
	_, err = s.jobs.Enqueue(ctx, tx, step)
	return err
}

// KeepVectors has what is stored given its vectors, until ctx ends. It is a
// part of a worker, and does nothing where nobody makes them.
func (s *Service) KeepVectors(ctx context.Context) error {
	if s.cfg.Near.Embeddings == nil {
		<-ctx.Done()
		return nil
	}
	warn := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "vectors", slog.String("what", what), slog.Any("err", err))
		}
	}
	why, err := s.prepareVectors(ctx)
	warn("pgvector is there and may not be used: vectors are compared without it", why)
	warn("vectors not prepared for", err)
	tick := time.NewTicker(placeEvery)
	defer tick.Stop()
	for swept := (time.Time{}); ; {
		if time.Since(swept) > sweepEvery {
			swept = time.Now()
			warn("observations without vectors not looked for", s.sweepVectors(ctx))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			warn("vectors not asked for", s.placeNew(ctx, time.Now()))
		}
	}
}

// placeNew asks for the vectors of what was stored since it was called last.
// The job begins when a transaction that is under way now has ended, as a
// rule.
func (s *Service) placeNew(ctx context.Context, now time.Time) error {
	var scopes []events.Scope
	for scope := range s.unplaced.take() {
		scopes = append(scopes, scope)
	}
	if len(scopes) == 0 {
		return nil
	}
	at := now.Truncate(placeEvery).Add(placeEvery)
	return s.askToPlace(ctx, jobArgs{Vectors: vectorsOfNew, at: at}, at.Sub(now)+time.Second, fmt.Sprint(at.Unix()), scopes...)
}

// sweepVectors looks over all projects.
func (s *Service) sweepVectors(ctx context.Context) error {
	store, err := s.vectors(ctx, s.pool)
	if err != nil {
		return err
	}
	p := sqlc.ProjectsNotInSpaceParams{LookedAt: sweepAmong, Model: s.cfg.Near.Embeddings.Space(), Exact: store.exact(), MaxRows: sweepPage}
	at := time.Now().Truncate(sweepEvery)
	for {
		rows, err := s.q.ProjectsNotInSpace(ctx, p)
		if err != nil {
			return fmt.Errorf("look for observations without vectors: %w", err)
		}
		var scopes []events.Scope
		for _, r := range rows {
			scopes = append(scopes, events.Scope{Team: r.TeamID, Project: r.ID})
		}
		if err := s.askToPlace(ctx, jobArgs{Vectors: vectorsOfAll, at: at}, 0, p.Model+" "+fmt.Sprint(at.Unix()), scopes...); err != nil {
			return err
		}
		if len(rows) < sweepPage {
			return nil
		}
		p.AfterTeam, p.AfterProject = rows[len(rows)-1].TeamID, rows[len(rows)-1].ID
	}
}
