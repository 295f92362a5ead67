package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

// Reindex asks that observations are rendered anew by today's rules: one, or
// with observation "" all of the project's. Each request is a job of its own.
func (s *Service) Reindex(ctx context.Context, c Caller, project, observation string) (events.Job, error) {
	if err := c.granted(toWrite); err != nil {
		return events.Job{}, err
	}
	if project == "" {
		return events.Job{}, issues{{Path: []any{"projectId"}, Code: CodeTooSmall, Message: "at least 1 character"}}.err()
	}
	source := newUUID()
	var job events.Job
	err := s.inTx(ctx, func(tx pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite, project)
		if err != nil {
			return err
		}
		if observation != "" {
			_, err := q.HasObservation(ctx, sqlc.HasObservationParams{ID: plain(observation), TeamID: scope.Team, ProjectID: scope.Project})
			if errors.Is(err, pgx.ErrNoRows) {
				return notFound("Observation")
			}
			if err != nil {
				return fmt.Errorf("read observation: %w", err)
			}
		}
		step, err := s.step(c, scope, KindReindex, SourceReindex, source, jobArgs{Observation: observation, at: time.Now()})
		if err != nil {
			return err
		}
		jobs, _, err := s.enqueue(ctx, tx, q, scope.Team, step)
		if err != nil {
			return err
		}
		job = jobs[step.Job.ID]
		return c.audit(ctx, q, entry{scope: scope, action: actReindex, resource: resObservation, id: observation, job: string(job.ID)})
	})
	if err != nil {
		return events.Job{}, err
	}
	s.ring(true)
	return job, nil
}

// reindexPage is how many observations are read and written at once.
const reindexPage = 200

// reindex renders observations anew: content, words for the search, and
// privacy. A project can have more of them than one transaction should
// change, so each page is written by itself; each row is guarded by the time
// of its last change, and doing it twice does nothing. What is left to the
// commit is the job's own audit row. Then it gives those their vectors that
// have none, where somebody makes them.
func (s *Service) reindex(ctx context.Context, job events.Job, a jobArgs) (pipeline.Commit, error) {
	w := s.writing(job, a, actReindex)
	seen, changed := 0, 0
	mark := search.Scope(job.Scope.Team, job.Scope.Project)
	p := sqlc.PageObservationsParams{TeamID: job.Scope.Team, ProjectID: job.Scope.Project, ID: a.Observation, MaxRows: reindexPage}
	for a.Vectors == "" {
		rows, err := s.q.PageObservations(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("read observations: %w", err)
		}
		if len(rows) == 0 {
			break
		}
		out := sqlc.RenderObservationsParams{TeamID: job.Scope.Team, ProjectID: job.Scope.Project}
		var words []search.Word
		for _, r := range rows {
			next, err := renderAgain(r)
			if err != nil {
				return nil, pipeline.Permanent(fmt.Errorf("observation %s: %w", r.ID, err))
			}
			out.Ids = append(out.Ids, r.ID)
			out.Contents = append(out.Contents, next.content)
			entry := next.note.Entry(mark, next.kind)
			out.Searches = append(out.Searches, entry.Vector)
			words = append(words, entry.Words...)
			out.Metadatas = append(out.Metadatas, string(next.metadata))
			out.UpdatedAts = append(out.UpdatedAts, r.UpdatedAt)
		}
		ids, err := s.q.RenderObservations(ctx, out)
		if err != nil {
			return nil, fmt.Errorf("render %d observations: %w", len(rows), err)
		}
		if err := s.learn(ctx, s.q, job.Scope, words); err != nil {
			return nil, err
		}
		seen, changed = seen+len(rows), changed+len(ids)
		p.After = rows[len(rows)-1].ID
	}
	if a.Vectors == "" {
		w.outcome["seen"], w.outcome["changed"] = seen, changed
	}
	if s.cfg.Near.Embeddings != nil {
		n, refused, err := s.place(ctx, job, a)
		if err != nil {
			return nil, err
		}
		if w.outcome["placed"] = n; refused > 0 {
			w.outcome["unplaceable"] = refused
		}
	}
	return w.done(nil)
}

// renderAgain makes the observation from its metadata. One that was written
// or edited by hand, or by a program that kept other metadata, keeps its text, without
// what is private.
func renderAgain(r sqlc.PageObservationsRow) (rendered, error) {
	if r.CreatedByJobID != nil && r.EditedAt == nil {
		var next rendered
		if r.Kind == kindSummaryNote {
			var m summaryMeta
			if err := json.Unmarshal(r.Metadata, &m); err == nil {
				next = m.render()
			}
		} else {
			var m noteMeta
			if err := json.Unmarshal(r.Metadata, &m); err == nil {
				next = m.render(r.Kind)
			}
		}
		if next.content != "" {
			return next, nil
		}
	}
	metadata, _, err := hideDocument(r.Metadata, maxNarrative)
	content := clean(r.Content, maxContent)
	return rendered{kind: r.Kind, content: content, note: search.NoteOf(content, metadata), metadata: metadata}, err
}
