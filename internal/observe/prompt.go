package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/sqlc"
)

// JobPrompts is what a provider is sent for a job, as of now: for one that was
// done, what it would be sent if it were asked again.
type JobPrompts struct {
	Job     events.Job
	Task    llm.Task
	Private int          // events that privacy left nothing of: they are not shown
	Told    int          // events that are not shown either, because another one tells the same tool use
	Prompts []llm.Prompt // one for each question; none where there is nothing to ask
}

// JobPrompts gives the prompts of a job. structured says in which of the two
// forms, see [llm.Question.Prompt]. A job that asks nobody is an ErrConflict.
func (s *Service) JobPrompts(ctx context.Context, c Caller, id events.ID, structured bool) (JobPrompts, error) {
	p := JobPrompts{Task: llm.TaskObserve}
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		if p.Job, err = findJob(ctx, q, scope, id); err != nil {
			return err
		}
		return c.audit(ctx, q, entry{scope: p.Job.Scope, action: actRead, resource: resJob, id: string(id), job: string(id), details: map[string]any{"mode": "prompt"}})
	})
	if err != nil {
		return JobPrompts{}, err
	}
	var a jobArgs
	if err := json.Unmarshal(p.Job.Args, &a); err != nil {
		return JobPrompts{}, fmt.Errorf("arguments of job %s: %w", id, err)
	}
	var questions []llm.Question
	switch p.Job.Kind {
	case KindEvent, KindBatch:
		material := s.eventMaterial
		if p.Job.Kind == KindBatch {
			material = s.batchMaterial
		}
		m, err := material(ctx, p.Job)
		if err != nil {
			return JobPrompts{}, err
		}
		// A tool use that another job has begun to tell is shown: that one may fail.
		told, _, err := s.othersUses(ctx, s.q, p.Job, m.uses())
		if err != nil {
			return JobPrompts{}, err
		}
		m.leaveOut(told)
		p.Private, p.Told = m.private, m.toldTwice()
		questions, err = s.observing(ctx, p.Job, a, m)
		if err != nil {
			return JobPrompts{}, err
		}
	case KindSummary:
		p.Task = llm.TaskSummarize
		session, err := s.q.GetSession(ctx, sqlc.GetSessionParams{ID: p.Job.SourceID, TeamID: p.Job.Scope.Team, ProjectID: p.Job.Scope.Project})
		if errors.Is(err, pgx.ErrNoRows) {
			return JobPrompts{}, notFound("Session")
		}
		if err != nil {
			return JobPrompts{}, fmt.Errorf("read session: %w", err)
		}
		question, err := s.sessionStory(ctx, p.Job.Scope, session)
		if err != nil {
			return JobPrompts{}, err
		}
		if !nothingToTell(question) {
			questions = append(questions, question)
		}
	default:
		return JobPrompts{}, conflict("a job of kind %s asks no provider", p.Job.Kind)
	}
	for _, q := range questions {
		p.Prompts = append(p.Prompts, q.Prompt(structured))
	}
	return p, nil
}
