package observe

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	maxSummaryEvents = 2000 // the newest ones
	maxSummaryBytes  = 8 << 20
	maxSummaryNotes  = 500 // the newest ones
)

// generateSummary writes what a session came to: from its prompts, all its
// events, whether their own jobs are done or not, the notes on them, and the
// assistant's last message.
func (s *Service) generateSummary(ctx context.Context, job events.Job, a jobArgs) (pipeline.Commit, error) {
	session, err := s.q.GetSession(ctx, sqlc.GetSessionParams{ID: job.SourceID, TeamID: job.Scope.Team, ProjectID: job.Scope.Project})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, pipeline.Permanent(notFound("Session"))
	}
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	w := s.writing(job, a, actSummarized)
	done := func() (pipeline.Commit, error) {
		return w.doneAfter(func(ctx context.Context, q *sqlc.Queries, w *writing) error {
			return w.replaceSummary(ctx, q, session.ID, max(a.Nth, 1))
		}, nil)
	}
	if int(session.Summarized) > max(a.Nth, 1) {
		w.outcome["superseded"] = true // by one that knew more: not worth a question
		return done()
	}
	question, err := s.sessionStory(ctx, job.Scope, session)
	if err != nil {
		return nil, permanentIfGone(err)
	}
	w.outcome["events"] = len(question.Events)
	if nothingToTell(question) {
		return done() // nothing happened, or nothing that may be told
	}
	answer, err := s.ask(ctx, job, question)
	if err != nil {
		return nil, err
	}
	w.answered(answer)
	if answer.Summary != nil {
		r := renderSummary(*answer.Summary, s.author(question, answer))
		w.observation(r, session.ID, restsOn{SourceSummary, session.ID})
	}
	return done()
}

func nothingToTell(q llm.Question) bool {
	return len(q.Events) == 0 && len(q.Notes) == 0 && blank(q.LastMessage)
}

// askSummary asks for the summary of a session that the caller holds. Nothing
// is asked for when there is nothing new since the last time, or when the job
// of that time has not begun: it will see what is new. Otherwise it is another
// job, and a summary that follows another one waits as the session's events
// do, so that a conversation is not summarized at its every turn.
func (s *Service) askSummary(ctx context.Context, tx pgx.Tx, q *sqlc.Queries, c Caller, scope events.Scope, row sqlc.ServerSession) (job events.Job, added bool, err error) {
	n, err := q.CountSessionEvents(ctx, sqlc.CountSessionEventsParams{SessionID: &row.ID, TeamID: scope.Team, ProjectID: scope.Project})
	if err != nil {
		return events.Job{}, false, fmt.Errorf("count the session's events: %w", err)
	}
	last := sha256.Sum256([]byte(deref(row.LastMessage)))
	of := fmt.Sprintf("%d %x", n, last[:8])
	if row.SummaryJobID != nil {
		same := deref(row.SummaryOf) == of
		if !same {
			waits, err := q.LockQueuedJob(ctx, sqlc.LockQueuedJobParams{ID: *row.SummaryJobID, TeamID: scope.Team, ProjectID: scope.Project})
			if err != nil {
				return events.Job{}, false, fmt.Errorf("lock the summary's job: %w", err)
			}
			if len(waits) == 0 {
				return s.askNextSummary(ctx, tx, q, c, scope, row, of)
			}
			if err := askedForSummary(ctx, q, scope, row, *row.SummaryJobID, int(row.Summaries), of); err != nil {
				return events.Job{}, false, err
			}
		}
		job, err = findJob(ctx, q, scope, events.ID(*row.SummaryJobID))
		return job, false, err
	}
	return s.askNextSummary(ctx, tx, q, c, scope, row, of)
}

func (s *Service) askNextSummary(ctx context.Context, tx pgx.Tx, q *sqlc.Queries, c Caller, scope events.Scope, row sqlc.ServerSession, of string) (events.Job, bool, error) {
	nth := int(row.Summaries) + 1
	a := jobArgs{Session: row.ID, at: row.CreatedAt}
	if nth > 1 {
		a.Nth = nth
	}
	step, err := s.step(c, scope, KindSummary, SourceSummary, row.ID, a)
	if err != nil {
		return events.Job{}, false, err
	}
	if nth > 1 {
		wait, err := s.waitsOf(ctx, q, scope.Team, scope.Project)
		if err != nil {
			return events.Job{}, false, err
		}
		step.Delay = wait.after(scope.Project)
	}
	jobs, added, err := s.enqueue(ctx, tx, q, scope.Team, step)
	if err != nil {
		return events.Job{}, false, err
	}
	return jobs[step.Job.ID], added, askedForSummary(ctx, q, scope, row, string(step.Job.ID), nth, of)
}

func askedForSummary(ctx context.Context, q *sqlc.Queries, scope events.Scope, row sqlc.ServerSession, job string, nth int, of string) error {
	err := q.AskedForSummary(ctx, sqlc.AskedForSummaryParams{
		JobID: &job, Summaries: int32(nth), SummaryOf: &of, ID: row.ID, TeamID: scope.Team, ProjectID: scope.Project,
	})
	if err != nil {
		return fmt.Errorf("note the summary's job: %w", err)
	}
	return nil
}

// replaceSummary makes the nth summary of a session the one it has: the one
// before goes, unless somebody edited it, or the nth is dropped where a later
// one was first. A job that had nothing to say replaces nothing.
func (w *writing) replaceSummary(ctx context.Context, q *sqlc.Queries, session string, nth int) error {
	team, project := w.job.Scope.Team, w.job.Scope.Project
	if len(w.notes) == 0 {
		err := q.SessionGenerated(ctx, sqlc.SessionGeneratedParams{ID: session, TeamID: team, ProjectID: project})
		if err != nil {
			return fmt.Errorf("session %s: %w", session, err)
		}
		return nil
	}
	n, err := q.Summarized(ctx, sqlc.SummarizedParams{Nth: int32(nth), ID: session, TeamID: team, ProjectID: project})
	if err != nil {
		return fmt.Errorf("session %s: %w", session, err)
	}
	if n == 0 {
		w.notes = nil
		w.outcome["superseded"] = true
		return nil
	}
	gone, err := q.DropOldSummaries(ctx, sqlc.DropOldSummariesParams{TeamID: team, ProjectID: project, SessionID: session, JobID: string(w.job.ID)})
	if err != nil {
		return fmt.Errorf("session %s: replace its summary: %w", session, err)
	}
	if len(gone) > 0 {
		w.outcome["replaces"] = gone
	}
	return nil
}

// sessionStory is the question about a session.
func (s *Service) sessionStory(ctx context.Context, scope events.Scope, session sqlc.ServerSession) (llm.Question, error) {
	q := llm.Question{Task: llm.TaskSummarize, Session: session.ID}
	project, err := s.project(ctx, scope)
	if err != nil {
		return q, err
	}
	q.Project, q.Mode = project.name, project.mode
	shown, last, err := s.sessionEvents(ctx, scope, session.ID)
	if err != nil {
		return q, err
	}
	q.Events = append(promptEvents(session, shown), shown...)
	q.LastMessage = cutMiddle(hide(deref(session.LastMessage)), maxString)
	if blank(q.LastMessage) {
		q.LastMessage = last
	}
	notes, err := s.q.ObservationsOfSession(ctx, sqlc.ObservationsOfSessionParams{
		SessionID: &session.ID, TeamID: scope.Team, ProjectID: scope.Project, MaxRows: maxSummaryNotes,
	})
	if err != nil {
		return q, fmt.Errorf("read the session's notes: %w", err)
	}
	for _, r := range slices.Backward(notes) {
		if r.Kind != kindSummaryNote {
			q.Notes = append(q.Notes, noteOf(r))
		}
	}
	return q, nil
}

// sessionEvents gives what may be shown of a session's newest events, oldest
// first, and the last message of the assistant among them.
func (s *Service) sessionEvents(ctx context.Context, scope events.Scope, session string) (shown []llm.Event, last string, err error) {
	const page = 50
	p := sqlc.EventsOfSessionParams{
		SessionID: &session, TeamID: scope.Team, ProjectID: scope.Project,
		BeforeAt: time.UnixMilli(maxEpoch + 1), MaxRows: page,
	}
	var m material
	for size := 0; len(m.shown) < maxSummaryEvents && size < maxSummaryBytes; {
		rows, err := s.q.EventsOfSession(ctx, p)
		if err != nil {
			return nil, "", fmt.Errorf("read the session's events: %w", err)
		}
		before := len(m.shown)
		if err := m.add(rows); err != nil {
			return nil, "", err
		}
		for _, e := range m.shown[before:] {
			size += len(e.Payload)
			if last == "" {
				last = lastMessage(e.Payload)
			}
		}
		if len(rows) < page {
			break
		}
		p.BeforeAt, p.BeforeID = rows[page-1].OccurredAt, rows[page-1].ID
	}
	slices.Reverse(m.shown)
	return m.shown, last, nil
}

func lastMessage(payload json.RawMessage) string {
	var p struct {
		Message any `json:"last_assistant_message"`
	}
	if json.Unmarshal(payload, &p) != nil {
		return ""
	}
	message, _ := p.Message.(string)
	return message
}

// promptEvents tells of the prompts that came with the starts of the session,
// and not as events of their own.
func promptEvents(session sqlc.ServerSession, shown []llm.Event) []llm.Event {
	told := map[string]bool{}
	for _, e := range shown {
		told[promptOf(e.Payload)] = true
	}
	var out []llm.Event
	for _, prompt := range session.Prompts {
		prompt = hide(prompt)
		if !blank(prompt) && !told[prompt] {
			told[prompt] = true
			out = append(out, llm.Event{Type: "user_prompt", At: session.StartedAt, Payload: marshal(map[string]string{"prompt": prompt})})
		}
	}
	return out
}

// noteOf is a stored observation as a provider is shown it.
func noteOf(r sqlc.ObservationsOfSessionRow) llm.Observation {
	var m noteMeta
	if json.Unmarshal(r.Metadata, &m) != nil || blank(m.Title) {
		m = noteMeta{Title: cut(r.Content, maxTitle), Narrative: r.Content} // written by hand
	}
	return llm.Observation{
		Type: r.Kind, Title: clean(m.Title, maxTitle), Subtitle: clean(m.Subtitle, maxSubtitle), Narrative: clean(m.Narrative, maxNarrative),
		Facts: cleanAll(m.Facts, maxFact), Concepts: cleanAll(m.Concepts, maxConcept),
		FilesRead: cleanAll(m.FilesRead, maxPath), FilesModified: cleanAll(m.FilesModified, maxPath),
	}
}
