package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	maxString   = 16 << 10 // bytes of one string that a provider is shown
	maxQuestion = 4 << 20  // bytes of payloads in one question
	maxAsked    = 100      // events in one question
	maxType     = 200      // bytes of an event's type
	muchLater   = 15 * time.Minute
)

// Register gives a worker the handlers of the four kinds.
func (s *Service) Register(w *pipeline.Worker) {
	for kind, do := range s.handlers() {
		pipeline.Handle(w, kind, do)
	}
}

type handler = func(ctx context.Context, job events.Job, a jobArgs) (pipeline.Commit, error)

// handlers has what does each kind of job, for as long as it is allowed to.
func (s *Service) handlers() map[events.Kind]handler {
	all := map[events.Kind]handler{
		KindEvent: s.generateForEvent, KindBatch: s.generateForBatch, KindSummary: s.generateSummary, KindReindex: s.reindex,
	}
	for kind, do := range all {
		all[kind] = func(ctx context.Context, job events.Job, a jobArgs) (pipeline.Commit, error) {
			if err := s.stillAsked(ctx, job, a); err != nil {
				return nil, err
			}
			return do(ctx, job, a)
		}
	}
	return all
}

// generateForEvent writes the observations of one agent event.
func (s *Service) generateForEvent(ctx context.Context, job events.Job, a jobArgs) (pipeline.Commit, error) {
	row, err := s.q.GetAgentEvent(ctx, sqlc.GetAgentEventParams{ID: job.SourceID, TeamID: job.Scope.Team, ProjectID: job.Scope.Project})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, pipeline.Permanent(notFound("Event"))
	}
	if err != nil {
		return nil, fmt.Errorf("read agent event: %w", err)
	}
	var m material
	if err := m.add([]sqlc.AgentEvent{row}); err != nil {
		return nil, err
	}
	return s.generate(ctx, job, a, m)
}

// generateForBatch writes the observations of a burst of one session. The
// batch is closed: its events joined while the job was queued.
func (s *Service) generateForBatch(ctx context.Context, job events.Job, a jobArgs) (pipeline.Commit, error) {
	const page = 50
	var m material
	p := sqlc.EventsOfBatchParams{JobID: new(string(job.ID)), TeamID: job.Scope.Team, ProjectID: job.Scope.Project, MaxRows: page}
	for {
		more, err := s.q.EventsOfBatch(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("read the batch: %w", err)
		}
		if err := m.add(more); err != nil {
			return nil, err
		}
		if len(more) < page {
			return s.generate(ctx, job, a, m)
		}
		p.AfterAt, p.AfterID = more[page-1].OccurredAt, more[page-1].ID
	}
}

// generate asks the provider about events and leaves what it wrote to be
// stored.
func (s *Service) generate(ctx context.Context, job events.Job, a jobArgs, m material) (pipeline.Commit, error) {
	project, err := s.projectName(ctx, job.Scope)
	if err != nil {
		return nil, permanentIfGone(err)
	}
	w := s.writing(job, a, actGenerated)
	w.outcome["events"], w.outcome["private"] = len(m.shown), m.private
	for _, question := range portions(m.shown) {
		answer, err := s.ask(ctx, llm.Question{Task: llm.TaskObserve, Project: project, Session: a.Session, Events: question})
		if err != nil {
			return nil, err
		}
		w.answered(answer)
		for _, note := range answer.Observations {
			w.note(render(note, s.cfg.Provider.Name(), answer.Model), sourcesOf(note, question), m.sessions)
		}
	}
	return w.done()
}

// material is what a provider may see of agent events.
type material struct {
	shown    []llm.Event
	sessions map[string]string // of each shown event, by its id
	private  int               // events that privacy left nothing of: they are not shown
}

// add shows some more events. Of their payloads only what is shown is kept.
func (m *material) add(rows []sqlc.AgentEvent) error {
	for _, r := range rows {
		payload, gone, err := stripDocument(r.Payload, maxString)
		if err != nil {
			return pipeline.Permanent(fmt.Errorf("payload of event %s: %w", r.ID, err))
		}
		if gone {
			m.private++
			continue
		}
		if m.sessions == nil {
			m.sessions = map[string]string{}
		}
		m.sessions[r.ID] = deref(r.ServerSessionID)
		m.shown = append(m.shown, llm.Event{
			ID: r.ID, Type: cut(strip(r.EventType), maxType), Source: source(r),
			At: r.OccurredAt, Payload: payload,
		})
	}
	return nil
}

// plainPlatform is what the name of a platform looks like. Normalising made
// others unrecognisable, tags among them.
var plainPlatform = regexp.MustCompile(`^[\pL\pN._-]{1,64}$`)

// source says who sent the event.
func source(r sqlc.AgentEvent) string {
	if p := deref(r.PlatformSource); plainPlatform.MatchString(p) {
		return p
	}
	return r.SourceAdapter
}

// portions cuts a list of events into what one question may hold. An event
// that is too large by itself is a question of its own.
func portions(shown []llm.Event) [][]llm.Event {
	var out [][]llm.Event
	size := 0
	for _, e := range shown {
		size += len(e.Payload)
		if n := len(out) - 1; n < 0 || len(out[n]) == maxAsked || size > maxQuestion {
			out, size = append(out, nil), len(e.Payload)
		}
		out[len(out)-1] = append(out[len(out)-1], e)
	}
	return out
}

// ask puts a question, with no transaction open, and says what to do about a
// question that got no answer.
func (s *Service) ask(ctx context.Context, q llm.Question) (llm.Answer, error) {
	fault.At("handler.asking")
	answer, err := s.cfg.Provider.Answer(ctx, q)
	fault, ok := errors.AsType[*llm.Error](err)
	if !ok {
		return answer, err // no error, or the context's
	}
	switch fault.Fault {
	case llm.FaultRefused:
		err = pipeline.Permanent(err)
	case llm.FaultExhausted:
		err = pipeline.Unavailable(max(fault.After, muchLater), err)
	case llm.FaultBusy:
		err = pipeline.Unavailable(fault.After, err)
	case llm.FaultBroken, llm.FaultDenied: // a wrong key fails no job: the lane rests until it is mended
		err = pipeline.Trouble(fault.After, err)
	case llm.FaultAnswer:
		if fault.After > 0 {
			err = pipeline.RetryAfter(fault.After, err)
		}
	}
	return answer, err
}

func permanentIfGone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return pipeline.Permanent(err)
	}
	return err
}

// sourcesOf gives the events that a note rests on: those it names, as far as
// they were asked about, otherwise all of them.
func sourcesOf(note llm.Observation, question []llm.Event) []string {
	var named, all []string
	for _, e := range question {
		all = append(all, e.ID)
		if slices.Contains(note.Events, e.ID) {
			named = append(named, e.ID)
		}
	}
	if len(named) > 0 {
		return named
	}
	return all
}

// writing collects what a job leaves to be stored.
type writing struct {
	s       *Service
	p       sqlc.InsertGeneratedParams
	job     events.Job
	index   int // of the next note among all that the provider answered
	outcome map[string]any
	in, out int // tokens
	before  func(ctx context.Context, q *sqlc.Queries, p *sqlc.InsertGeneratedParams, outcome map[string]any) error
}

// writing begins what a job leaves; action is what the audit log calls it.
func (s *Service) writing(job events.Job, a jobArgs, action string) *writing {
	w := &writing{s: s, job: job, outcome: map[string]any{}}
	w.p = sqlc.InsertGeneratedParams{
		TeamID: job.Scope.Team, ProjectID: job.Scope.Project, JobID: string(job.ID),
		Action: action, ActorID: a.Actor, ApiKeyID: a.Key, RequestID: job.RequestID,
	}
	return w
}

func (w *writing) answered(a llm.Answer) {
	w.in, w.out = w.in+a.TokensIn, w.out+a.TokensOut
	if w.in+w.out > 0 {
		w.outcome["tokens_in"], w.outcome["tokens_out"] = w.in, w.out
	}
	w.outcome["provider"], w.outcome["model"] = w.s.cfg.Provider.Name(), plain(a.Model)
}

// note adds an observation that rests on agent events.
func (w *writing) note(r rendered, eventIDs []string, sessions map[string]string) {
	session := ""
	if len(eventIDs) > 0 {
		session = sessions[eventIDs[0]]
	}
	if id := w.observation(r, session); id != "" {
		for _, event := range eventIDs {
			w.source(id, SourceEvent, event)
		}
	}
}

// observation adds one and gives its id, or "" when it says nothing. The
// place among the notes counts those as well: it is part of the identity.
func (w *writing) observation(r rendered, session string) string {
	index := w.index
	w.index++
	if r.content == "" {
		return ""
	}
	key := GenerationKey(w.job.ID, index, r.content)
	id := string(events.NewID("obs", w.job.Scope.Team, w.job.Scope.Project, key))
	w.p.Ids = append(w.p.Ids, id)
	w.p.Kinds = append(w.p.Kinds, r.kind)
	w.p.Contents = append(w.p.Contents, r.content)
	entry := r.note.Entry(search.Scope(w.job.Scope.Team, w.job.Scope.Project), r.kind)
	w.p.Searches = append(w.p.Searches, entry.Vector)
	for _, word := range w.s.words.fresh(w.job.Scope, entry.Words) {
		w.p.Lexemes, w.p.Words = append(w.p.Lexemes, word.Lexeme), append(w.p.Words, word.Word)
	}
	w.p.GenerationKeys = append(w.p.GenerationKeys, key)
	w.p.Metadatas = append(w.p.Metadatas, string(r.metadata))
	w.p.SessionIds = append(w.p.SessionIds, session)
	return id
}

func (w *writing) source(observation, sourceType, source string) {
	w.p.SourceIds = append(w.p.SourceIds,
		string(events.NewID("src", w.job.Scope.Team, w.job.Scope.Project, observation, sourceType, source)))
	w.p.SourceObservations = append(w.p.SourceObservations, observation)
	w.p.SourceTypes = append(w.p.SourceTypes, sourceType)
	w.p.SourceNames = append(w.p.SourceNames, source)
	w.p.SourceMetadatas = append(w.p.SourceMetadatas, "{}")
}

// done ends the attempt with what it leaves to be stored.
func (w *writing) done() (pipeline.Commit, error) {
	if w.s.cfg.Writing != nil {
		if err := w.s.cfg.Writing(w.job, w.p.GenerationKeys); err != nil {
			return nil, fmt.Errorf("tell what is to be stored: %w", err)
		}
	}
	return w.commit, nil
}

// commit is the pipeline.Commit: one statement stores everything, after before
// had its say. Said again it stores nothing twice.
func (w *writing) commit(ctx context.Context, tx pgx.Tx) error {
	p, outcome := w.p, maps.Clone(w.outcome)
	q := w.s.q.WithTx(tx)
	if w.before != nil {
		if err := w.before(ctx, q, &p, outcome); err != nil {
			return err
		}
	}
	outcome["observations"] = len(p.Ids)
	details, err := json.Marshal(outcome)
	if err != nil {
		return fmt.Errorf("outcome of job %s: %w", w.job.ID, err)
	}
	p.Details = details
	if _, err := q.InsertGenerated(ctx, p); err != nil {
		return fmt.Errorf("store %d observations: %w", len(p.Ids), err)
	}
	return w.meter(ctx, q)
}

// blank reports whether text says nothing.
func blank(s string) bool { return strings.TrimSpace(s) == "" }
