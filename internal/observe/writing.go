package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

// writing collects what a job leaves to be stored.
type writing struct {
	s       *Service
	job     events.Job
	action  string // what the audit log calls it
	by      jobArgs
	notes   []written
	links   []link // observations that were there, and what is one more source of them
	index   int    // of the next note among all that the provider answered
	outcome map[string]any
	in, out int    // tokens
	twin    string // see observationID
}

// written is an observation on its way into the table.
type written struct {
	id, key, session string
	rendered
	entry   search.Entry
	sources []restsOn
}

type link struct {
	observation string
	source      restsOn
}

// restsOn is what an observation rests on.
type restsOn struct{ kind, id string }

// writing begins what a job leaves; action is what the audit log calls it.
func (s *Service) writing(job events.Job, a jobArgs, action string) *writing {
	return &writing{s: s, job: job, action: action, by: a, outcome: map[string]any{}}
}

func (w *writing) answered(a llm.Answer) {
	w.in, w.out = w.in+a.TokensIn, w.out+a.TokensOut
	if w.in+w.out > 0 {
		w.outcome["tokens_in"], w.outcome["tokens_out"] = w.in, w.out
	}
	w.outcome["provider"], w.outcome["model"] = plain(a.Provider), plain(a.Model)
}

// note adds an observation that rests on agent events.
func (w *writing) note(r rendered, eventIDs []string, sessions map[string]string) {
	session := ""
	if len(eventIDs) > 0 {
		session = sessions[eventIDs[0]]
	}
	sources := make([]restsOn, len(eventIDs))
	for i, id := range eventIDs {
		sources[i] = restsOn{SourceEvent, id}
	}
	w.observation(r, session, sources...)
}

// observation adds one, unless it says nothing. The place among the notes
// counts those as well: it is part of the identity.
func (w *writing) observation(r rendered, session string, sources ...restsOn) {
	index := w.index
	w.index++
	if r.content == "" {
		return
	}
	key := GenerationKey(w.job.ID, index, r.content)
	w.notes = append(w.notes, written{
		id: w.observationID(r, session, key, w.twin, index), key: key, session: session, rendered: r,
		entry: r.note.EntryFor(search.Scope(w.job.Scope.Team, w.job.Scope.Project), r.kind, w.s.words.wanted(w.job.Scope)), sources: sources,
	})
}

// tell says what the attempt is about to store.
func (w *writing) tell() error {
	if w.s.cfg.Writing == nil {
		return nil
	}
	keys := make([]string, len(w.notes))
	for i, n := range w.notes {
		keys[i] = n.key
	}
	if err := w.s.cfg.Writing(w.job, keys); err != nil {
		return fmt.Errorf("tell what is to be stored: %w", err)
	}
	return nil
}

// done ends the attempt with what it leaves to be stored, together with what
// other jobs leave. why is nil, or a [pipeline.Done].
func (w *writing) done(why error) (pipeline.Commit, error) { return w.s.join(w), cmp.Or(w.tell(), why) }

// doneAfter is done for a job that has something to say to the transaction
// first: before may change the writing that it is given.
func (w *writing) doneAfter(before func(ctx context.Context, q *sqlc.Queries, w *writing) error, why error) (pipeline.Commit, error) {
	return func(ctx context.Context, tx pgx.Tx) error {
		again := *w // it may be said in several transactions
		again.outcome = maps.Clone(w.outcome)
		if err := before(ctx, w.s.q.WithTx(tx), &again); err != nil {
			return err
		}
		return w.s.write(ctx, tx, []*writing{&again})
	}, cmp.Or(w.tell(), why)
}

// write stores what jobs leave: one statement for everything of all of them.
// Said again it stores nothing twice.
func (s *Service) write(ctx context.Context, tx pgx.Tx, all []*writing) error {
	var p sqlc.InsertGeneratedParams
	for _, w := range all {
		w.outcome["observations"] = len(w.notes) + len(w.links)
		details, err := json.Marshal(w.outcome)
		if err != nil {
			return fmt.Errorf("outcome of job %s: %w", w.job.ID, err)
		}
		p.JobIds = append(p.JobIds, string(w.job.ID))
		p.JobTeamIds = append(p.JobTeamIds, w.job.Scope.Team)
		p.JobProjectIds = append(p.JobProjectIds, w.job.Scope.Project)
		p.Actions = append(p.Actions, w.action)
		p.ActorIds = append(p.ActorIds, w.by.Actor)
		p.ApiKeyIds = append(p.ApiKeyIds, w.by.Key)
		p.RequestIds = append(p.RequestIds, w.job.RequestID)
		p.Details = append(p.Details, string(details))
		w.meter(&p)
		if s.cfg.Near.Embeddings != nil && len(w.notes) > 0 {
			s.unplaced.add(w.job.Scope)
		}
		for _, n := range w.notes {
			w.store(n, &p)
		}
		for _, l := range w.links {
			w.rest(l.observation, l.source, &p)
		}
	}
	q := s.q.WithTx(tx)
	made, err := q.InsertGenerated(ctx, p)
	if err == nil && len(made) < len(p.Ids) {
		err = s.holdTwins(ctx, q, all, made)
	}
	if err != nil {
		return fmt.Errorf("store %d observations of %d jobs: %w", len(p.Ids), len(all), err)
	}
	return nil
}

// holdTwins sees to it that the observations that were there before, and now
// rest on what these jobs were about as well, stay until the commit. What
// somebody has just taken away is stored anew.
func (s *Service) holdTwins(ctx context.Context, q *sqlc.Queries, all []*writing, made []string) error {
	there := map[string]bool{}
	rest := func(ids []string) (p sqlc.InsertGeneratedParams) {
		for _, id := range ids {
			there[id] = true
		}
		for _, w := range all {
			for _, n := range w.notes {
				if !there[n.id] {
					w.store(n, &p)
				}
			}
		}
		return p
	}
	for range txTries {
		p := rest(made)
		if len(p.Ids) == 0 { // they were twins of each other
			return nil
		}
		held, err := q.HoldObservations(ctx, sqlc.HoldObservationsParams{Ids: p.Ids, TeamIds: p.TeamIds, ProjectIds: p.ProjectIds})
		if err != nil {
			return err
		}
		if p = rest(held); len(p.Ids) == 0 {
			return nil
		}
		if made, err = q.InsertGenerated(ctx, p); err != nil {
			return err
		}
	}
	return errPurged
}

func (w *writing) store(n written, p *sqlc.InsertGeneratedParams) {
	team, project := w.job.Scope.Team, w.job.Scope.Project
	p.Ids = append(p.Ids, n.id)
	p.TeamIds = append(p.TeamIds, team)
	p.ProjectIds = append(p.ProjectIds, project)
	p.CreatedByJobIds = append(p.CreatedByJobIds, string(w.job.ID))
	p.Kinds = append(p.Kinds, n.kind)
	p.Contents = append(p.Contents, n.content)
	p.Searches = append(p.Searches, n.entry.Vector)
	p.GenerationKeys = append(p.GenerationKeys, n.key)
	p.Metadatas = append(p.Metadatas, string(n.metadata))
	p.SessionIds = append(p.SessionIds, n.session)
	for _, word := range w.s.words.fresh(w.job.Scope, n.entry.Words) {
		p.WordTeamIds, p.WordProjectIds = append(p.WordTeamIds, team), append(p.WordProjectIds, project)
		p.Lexemes, p.Words = append(p.Lexemes, word.Lexeme), append(p.Words, word.Word)
	}
	for _, src := range n.sources {
		w.rest(n.id, src, p)
	}
}

// rest stores what an observation rests on.
func (w *writing) rest(observation string, src restsOn, p *sqlc.InsertGeneratedParams) {
	team, project := w.job.Scope.Team, w.job.Scope.Project
	p.SourceTeamIds, p.SourceProjectIds = append(p.SourceTeamIds, team), append(p.SourceProjectIds, project)
	p.SourceJobIds = append(p.SourceJobIds, string(w.job.ID))
	p.SourceIds = append(p.SourceIds, string(events.NewIDAt("src", w.job.CreatedAt, team, project, observation, src.kind, src.id)))
	p.SourceObservations = append(p.SourceObservations, observation)
	p.SourceTypes = append(p.SourceTypes, src.kind)
	p.SourceNames = append(p.SourceNames, src.id)
}

// meter notes what the job leaves, in the transaction that stores it. What the
// provider was paid for is noted apart; see [Service.spend].
func (w *writing) meter(p *sqlc.InsertGeneratedParams) {
	if !w.s.cfg.Limits.metering() {
		return
	}
	p.UsageTeamIds = append(p.UsageTeamIds, w.job.Scope.Team)
	p.UsageProjectIds = append(p.UsageProjectIds, w.job.Scope.Project)
	p.UsageKinds = append(p.UsageKinds, UsageObservation)
	p.UsageQuantities = append(p.UsageQuantities, int64(len(w.notes)))
}
