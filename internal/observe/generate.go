package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
	"github.com/seed-245eaa15/obs/internal/llm"
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
	slots, offline := slotsForModel, s.cfg.Provider.Name() == llm.NameOffline
	if offline {
		slots = slotsOffline
	}
	for kind, do := range s.handlers() {
		opts := []pipeline.Option{pipeline.Slots(slots[kind])}
		if offline && kind == KindEvent {
			opts = append(opts, pipeline.Brief())
		}
		pipeline.Handle(w, kind, do, opts...)
	}
}

// How many jobs of a kind a worker does at once, unless it is told. A model
// takes seconds and its service counts the calls. The offline extractor takes
// microseconds, so what counts is how many jobs share a transaction, and an
// event's job is not claimed before it runs. That of a batch or a session is:
// what joins it, or asks for another one, has to see that it has begun.
var (
	slotsForModel = map[events.Kind]int{KindEvent: 4, KindBatch: 2, KindSummary: 2, KindReindex: 1}
	slotsOffline  = map[events.Kind]int{KindEvent: 200, KindBatch: 50, KindSummary: 10, KindReindex: 1}
)

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
			if kind != KindReindex { // which asks nobody
				if err := s.withinBudget(ctx, job); err != nil {
					return nil, err
				}
			}
			return do(ctx, job, a)
		}
	}
	return all
}

// generateForEvent writes the observations of one agent event.
func (s *Service) generateForEvent(ctx context.Context, job events.Job, a jobArgs) (pipeline.Commit, error) {
	m, err := s.eventMaterial(ctx, job)
	if err != nil {
		return nil, err
	}
	return s.generate(ctx, job, a, m)
}

func (s *Service) eventMaterial(ctx context.Context, job events.Job) (m material, err error) {
	row, ok := pipeline.Beside(ctx).(sqlc.AgentEvent)
	if !ok {
		if row, ok, err = s.sources.get(ctx, eventRef{job.Scope, job.SourceID}); err != nil {
			return m, fmt.Errorf("read agent event: %w", err)
		}
		if !ok {
			return m, pipeline.Permanent(notFound("Event"))
		}
	}
	if m.once = s.asksModel(); m.once {
		m.twin = twinOf(row)
	} else {
		// The extractor says the same of the same, and no statement is needed for
		// that. Two hooks that tell of one use may tell it in other words.
		m.once = namesUse(row.Payload) && isNamed(twinOf(row))
	}
	return m, m.add([]sqlc.AgentEvent{row})
}

// asksModel says that answers cost money and time, so that no question is put
// twice. Who only shows prompts has no provider, and shows those of a model.
func (s *Service) asksModel() bool {
	return s.cfg.Provider == nil || s.cfg.Provider.Name() != llm.NameOffline
}

// eventRef is an agent event as a job names it.
type eventRef struct {
	scope events.Scope
	id    string
}

// loadEvents gives what of agent events is shown, and what tells twins.
func (s *Service) loadEvents(ctx context.Context, refs []eventRef) (map[eventRef]sqlc.AgentEvent, error) {
	var p sqlc.EventsOfJobsParams
	for _, r := range refs {
		p.Ids, p.TeamIds, p.ProjectIds = append(p.Ids, r.id), append(p.TeamIds, r.scope.Team), append(p.ProjectIds, r.scope.Project)
	}
	rows, err := s.q.EventsOfJobs(ctx, p)
	return byRef(rows), err
}

// Beside reads, for [db.JobsConfig], the agent events of the jobs that a worker
// looks at, of one job by a statement that is cheaper to begin. What it does not
// find is found out by the job's handler.
func Beside(es []events.Envelope) (ask func(ctx context.Context, q *sqlc.Queries) error, found func(events.Job) any) {
	var rows map[eventRef]sqlc.AgentEvent
	found = func(j events.Job) any {
		if row, ok := rows[eventRef{j.Scope, j.SourceID}]; ok && j.SourceType == SourceEvent {
			return row
		}
		return nil
	}
	if len(es) == 1 {
		e := &es[0]
		p := sqlc.EventOfAskedParams{JobID: string(e.Job), SourceType: SourceEvent, TeamID: e.Scope.Team, ProjectID: e.Scope.Project}
		return func(ctx context.Context, q *sqlc.Queries) error {
			one, err := q.EventOfAsked(ctx, p)
			rows = byRef(one)
			return err
		}, found
	}
	p := sqlc.EventsOfAskedParams{SourceType: SourceEvent}
	for _, e := range es {
		p.JobIds, p.TeamIds, p.ProjectIds = append(p.JobIds, string(e.Job)), append(p.TeamIds, e.Scope.Team), append(p.ProjectIds, e.Scope.Project)
	}
	return func(ctx context.Context, q *sqlc.Queries) error {
		all, err := q.EventsOfAsked(ctx, p)
		rows = byRef(all)
		return err
	}, found
}

// byRef finds the events of one of the queries, which have the same columns.
func byRef[R sqlc.EventsOfJobsRow | sqlc.EventsOfAskedRow | sqlc.EventOfAskedRow](rows []R) map[eventRef]sqlc.AgentEvent {
	found := make(map[eventRef]sqlc.AgentEvent, len(rows))
	for i := range rows {
		r := sqlc.EventsOfJobsRow(rows[i])
		found[eventRef{events.Scope{Team: r.TeamID, Project: r.ProjectID}, r.ID}] = sqlc.AgentEvent{
			ID: r.ID, TeamID: r.TeamID, ProjectID: r.ProjectID, ServerSessionID: r.ServerSessionID, SourceAdapter: r.SourceAdapter,
			SourceEventID: r.SourceEventID, EventType: r.EventType, PlatformSource: r.PlatformSource, Payload: r.Payload, OccurredAt: r.OccurredAt,
		}
	}
	return found
}

// generateForBatch writes the observations of a burst of one session. The
// batch is closed: its events joined while the job was queued.
func (s *Service) generateForBatch(ctx context.Context, job events.Job, a jobArgs) (pipeline.Commit, error) {
	m, err := s.batchMaterial(ctx, job)
	if err != nil {
		return nil, err
	}
	return s.generate(ctx, job, a, m)
}

func (s *Service) batchMaterial(ctx context.Context, job events.Job) (m material, err error) {
	const page = 50
	m.once = true
	p := sqlc.EventsOfBatchParams{JobID: new(string(job.ID)), TeamID: job.Scope.Team, ProjectID: job.Scope.Project, MaxRows: page}
	for {
		more, err := s.q.EventsOfBatch(ctx, p)
		if err != nil {
			return m, fmt.Errorf("read the batch: %w", err)
		}
		if err := m.add(more); err != nil || len(more) < page {
			return m, err
		}
		p.AfterAt, p.AfterID = more[page-1].OccurredAt, more[page-1].ID
	}
}

// generate asks the provider about events and leaves what it wrote to be
// stored.
func (s *Service) generate(ctx context.Context, job events.Job, a jobArgs, m material) (pipeline.Commit, error) {
	told, err := s.toldBefore(ctx, job, m.uses())
	if err != nil {
		return nil, err
	}
	m.leaveOut(told)
	questions, err := s.observing(ctx, job, a, m)
	if err != nil {
		return nil, err
	}
	w := s.writing(job, a, actGenerated)
	w.twin = m.twin
	w.outcome["events"], w.outcome["private"] = len(m.shown), m.private
	if err := w.linkTold(ctx, m); err != nil {
		return nil, err
	}
	for _, question := range questions {
		answer, err := s.ask(ctx, job, question)
		if err != nil {
			return nil, err
		}
		w.answered(answer)
		for _, note := range answer.Observations {
			w.note(render(note, s.author(question, answer)), m.withTwins(sourcesOf(note, question.Events)), m.sessions)
		}
	}
	if s.asksModel() && len(w.notes) > 0 {
		return w.doneAfter(func(ctx context.Context, q *sqlc.Queries, w *writing) error { return w.mergeAlike(ctx, q) }, m.why())
	}
	return w.done(m.why())
}

// observing gives the questions about events.
func (s *Service) observing(ctx context.Context, job events.Job, a jobArgs, m material) ([]llm.Question, error) {
	project, err := s.project(ctx, job.Scope)
	if err != nil {
		return nil, permanentIfGone(err)
	}
	var questions []llm.Question
	for _, portion := range portions(m.shown) {
		questions = append(questions, llm.Question{
			Task: llm.TaskObserve, Project: project.name, Session: a.Session, Events: portion, Mode: project.mode,
		})
	}
	return questions, nil
}

// author says who answered.
func (s *Service) author(q llm.Question, a llm.Answer) author {
	name := cmp.Or(a.Provider, s.cfg.Provider.Name())
	return author{provider: name, model: a.Model, prompt: q.AskedIn(name)}
}

// material is what a provider may see of agent events.
type material struct {
	shown    []llm.Event
	sessions map[string]string   // of each shown event, by its id
	private  int                 // events that privacy left nothing of: they are not shown
	twin     string              // what the one event has in common with another report of it
	once     bool                // show of two reports of a tool use only the first
	twins    map[string]toolUse  // those that are shown, and ...
	same     map[string][]string // ... the reports that are not shown, by the first one's id
	told     map[string]earlier  // events that are not shown either: other jobs have told the same
}

// uses are the tool uses that are shown.
func (m *material) uses() []toolUse {
	uses := make([]toolUse, 0, len(m.twins))
	for _, u := range m.twins {
		uses = append(uses, u)
	}
	return uses
}

// withTwins adds the reports that were not shown.
func (m *material) withTwins(ids []string) []string {
	for _, id := range slices.Clone(ids) {
		ids = append(ids, m.same[id]...)
	}
	return ids
}

// twinShown notes an event that another one is the report of already.
func (m *material) twinShown(r sqlc.AgentEvent) bool {
	twin := ""
	if m.once {
		twin = twinOf(r)
	}
	if twin == "" {
		return false
	}
	use := toolUse{deref(r.ServerSessionID), twin, r.ID}
	key := use.session + " " + twin
	if first, there := m.twins[key]; there {
		m.same[first.event] = append(m.same[first.event], r.ID)
		return true
	}
	if m.twins == nil {
		m.twins, m.same = map[string]toolUse{}, map[string][]string{}
	}
	m.twins[key] = use
	return false
}

// add shows some more events. Of their payloads only what is shown is kept.
func (m *material) add(rows []sqlc.AgentEvent) error {
	for _, r := range rows {
		payload, quiet, gone, err := showable(r.Payload)
		if err != nil {
			return pipeline.Permanent(fmt.Errorf("payload of event %s: %w", r.ID, err))
		}
		if gone {
			m.private++
			continue
		}
		if m.twinShown(r) {
			continue
		}
		if m.sessions == nil {
			m.sessions = map[string]string{}
		}
		m.sessions[r.ID] = deref(r.ServerSessionID)
		m.shown = append(m.shown, llm.Event{
			ID: r.ID, Type: cut(hide(r.EventType), maxType), Source: source(r),
			At: r.OccurredAt, Payload: payload, Clear: quiet,
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

// ask puts a question, with no transaction open.
func (s *Service) ask(ctx context.Context, job events.Job, q llm.Question) (llm.Answer, error) {
	fault.At("handler.asking")
	answer, err := s.cfg.Provider.Answer(ctx, q)
	answer.Provider = cmp.Or(answer.Provider, s.cfg.Provider.Name())
	s.spend(ctx, job.Scope, answer.Uses())
	return answer, jobError(err)
}

// jobError says what to do about a question that got no answer.
func jobError(err error) error {
	fault, ok := errors.AsType[*llm.Error](err)
	if !ok {
		return err // no error, or the context's
	}
	switch fault.Fault {
	case llm.FaultRefused:
		return pipeline.Permanent(err)
	case llm.FaultExhausted:
		return pipeline.Unavailable(max(fault.After, muchLater), err)
	case llm.FaultBusy:
		return pipeline.Unavailable(fault.After, err)
	case llm.FaultBroken, llm.FaultDenied: // a wrong key fails no job: the lane rests until it is mended
		return pipeline.Trouble(fault.After, err)
	case llm.FaultAnswer:
		if fault.After > 0 {
			return pipeline.RetryAfter(fault.After, err)
		}
	}
	return err
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

// blank reports whether text says nothing.
func blank(s string) bool { return strings.TrimSpace(s) == "" }
