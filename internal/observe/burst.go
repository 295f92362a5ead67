package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// maxBurst is the size at which a batch takes no more events, so that one
// that waits long does not grow for ever.
const maxBurst = 200

// askAbout asks for the observations of events: by a job for each, or, when
// there is a debounce, by one job for the burst of a session. It gives each
// event's job by the event's id; asked says that some job is new.
func (s *Service) askAbout(ctx context.Context, tx pgx.Tx, q *sqlc.Queries, c Caller, rows map[string]sqlc.AgentEvent, created map[string]bool) (map[string]events.Job, bool, error) {
	jobOf := make(map[string]events.ID, len(rows)) // the event's job
	var steps []events.Step
	var bursts []sqlc.AgentEvent
	wait, err := s.waitsOf(ctx, q, c.Team, rows)
	if err != nil {
		return nil, false, err
	}
	old, err := oldNames(ctx, q, c.Team, rows, created)
	if err != nil {
		return nil, false, err
	}
	for _, r := range inOrder(rows) {
		if r.PrunedAt != nil {
			continue // its job was done and taken away
		}
		if wait.of(r.ProjectID) > 0 && r.ServerSessionID != nil && r.BatchJobID == nil {
			bursts = append(bursts, r)
			continue
		}
		if r.BatchJobID != nil {
			jobOf[r.ID] = events.ID(*r.BatchJobID)
			continue
		}
		step, err := s.eventStep(c, r, old[r.ID])
		if err != nil {
			return nil, false, err
		}
		steps, jobOf[r.ID] = append(steps, step), step.Job.ID
	}
	if len(bursts) > 0 {
		more, err := s.joinBursts(ctx, q, c, wait, bursts, created, old, jobOf)
		if err != nil {
			return nil, false, err
		}
		steps = append(steps, more...)
	}
	made, err := s.jobs.Enqueue(ctx, tx, steps...)
	if err != nil {
		return nil, false, err
	}
	if slices.Contains(made, true) || len(bursts) > 0 {
		if err := stillOpen(ctx, q, c.Team, rows, created); err != nil {
			return nil, false, err
		}
	}
	ids := make([]string, 0, len(jobOf))
	for _, id := range jobOf {
		ids = append(ids, string(id))
	}
	jobs, err := findJobs(ctx, q, events.Scope{Team: c.Team}, ids)
	if err != nil {
		return nil, false, err
	}
	byEvent := make(map[string]events.Job, len(rows))
	for event, id := range jobOf {
		job, ok := jobs[id]
		if !ok {
			return nil, false, fmt.Errorf("job %s of event %s vanished: %w", id, event, errPurged)
		}
		byEvent[event] = job
	}
	return byEvent, slices.Contains(made, true), nil
}

// stillOpen looks again at the events that were known: the job of one may have
// been pruned after its row was read, and just now been made anew. Whoever
// made it waited for the prune to end, so the mark is seen.
func stillOpen(ctx context.Context, q *sqlc.Queries, team string, rows map[string]sqlc.AgentEvent, created map[string]bool) error {
	p := sqlc.GetAgentEventsParams{TeamID: team}
	for id, r := range rows {
		if !created[id] && r.PrunedAt == nil {
			p.Ids, p.ProjectIds = append(p.Ids, id), append(p.ProjectIds, r.ProjectID)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	now, err := q.GetAgentEvents(ctx, p)
	if err != nil {
		return fmt.Errorf("read agent events: %w", err)
	}
	if slices.ContainsFunc(now, func(r sqlc.AgentEvent) bool { return r.PrunedAt != nil }) {
		return fmt.Errorf("a job is gone: %w", errPurged)
	}
	return nil
}

func (s *Service) eventStep(c Caller, r sqlc.AgentEvent, oldName bool) (events.Step, error) {
	a := jobArgs{Event: r.ID, Session: deref(r.ServerSessionID), Adapter: r.SourceAdapter, at: r.ReceivedAt}
	if oldName {
		a.at = time.Time{}
	}
	return s.step(c, events.Scope{Team: r.TeamID, Project: r.ProjectID}, KindEvent, SourceEvent, r.ID, a)
}

func inOrder(rows map[string]sqlc.AgentEvent) []sqlc.AgentEvent {
	list := make([]sqlc.AgentEvent, 0, len(rows))
	for _, r := range rows {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b sqlc.AgentEvent) int {
		return cmp.Or(a.OccurredAt.Compare(b.OccurredAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// joinBursts puts events into the open batches of their sessions, and gives
// the steps of the batches that have to be made. Who decides about a session
// holds its row, so two requests cannot open two batches, and holds the batch
// while it is queued: a worker about to begin it waits for our commit and
// then reads the events that joined. A batch that a worker was faster with
// takes no more, and a new one is made.
func (s *Service) joinBursts(ctx context.Context, q *sqlc.Queries, c Caller, wait waits, bursts []sqlc.AgentEvent, created, old map[string]bool, jobOf map[string]events.ID) ([]events.Step, error) {
	open, err := lockOpen(ctx, q, c.Team, bursts)
	if err != nil {
		return nil, err
	}
	bursts, err = s.withoutAsked(ctx, q, c, bursts, created, old, jobOf)
	if err != nil {
		return nil, err
	}
	waiting, err := wait.bySession(ctx, q, c.Team, bursts)
	if err != nil {
		return nil, err
	}
	var steps []events.Step
	join := sqlc.JoinBatchParams{TeamID: c.Team}
	announce := sqlc.OpenBatchesParams{TeamID: c.Team}
	for _, r := range bursts {
		session := sessionOfEvent(r)
		batch, ok := open[session]
		if !ok || batch.size >= maxBurst && batch.old {
			scope := events.Scope{Team: r.TeamID, Project: r.ProjectID}
			source := string(events.NewID("burst", scope.Team, scope.Project, session.id, r.ID))
			step, err := s.step(c, scope, KindBatch, SourceBatch, source, jobArgs{Session: session.id, Adapter: r.SourceAdapter, at: r.ReceivedAt})
			if err != nil {
				return nil, err
			}
			step.Delay = waiting[session]
			steps = append(steps, step)
			batch = openBatch{id: step.Job.ID}
			announce.Ids = append(announce.Ids, session.id)
			announce.ProjectIds = append(announce.ProjectIds, session.project)
			announce.JobIds = append(announce.JobIds, string(batch.id))
		}
		batch.size++
		open[session] = batch
		jobOf[r.ID] = batch.id
		join.Ids = append(join.Ids, r.ID)
		join.ProjectIds = append(join.ProjectIds, r.ProjectID)
		join.JobIds = append(join.JobIds, string(batch.id))
	}
	if len(join.Ids) == 0 {
		return nil, nil
	}
	if _, err := q.JoinBatch(ctx, join); err != nil {
		return nil, fmt.Errorf("join batches: %w", err)
	}
	if len(announce.Ids) > 0 {
		if err := q.OpenBatches(ctx, announce); err != nil {
			return nil, fmt.Errorf("open batches: %w", err)
		}
	}
	return steps, nil
}

type sessionRef struct{ project, id string }

func sessionOfEvent(r sqlc.AgentEvent) sessionRef {
	return sessionRef{r.ProjectID, deref(r.ServerSessionID)}
}

type openBatch struct {
	id   events.ID
	size int
	old  bool // made by an earlier request; a request's own events stay together
}

// lockOpen holds the sessions of the events, and those of their batches that
// are still queued.
func lockOpen(ctx context.Context, q *sqlc.Queries, team string, bursts []sqlc.AgentEvent) (map[sessionRef]openBatch, error) {
	p := sqlc.LockSessionsParams{TeamID: team}
	seen := map[sessionRef]bool{}
	for _, r := range bursts {
		if ref := sessionOfEvent(r); !seen[ref] {
			seen[ref] = true
			p.Ids, p.ProjectIds = append(p.Ids, ref.id), append(p.ProjectIds, ref.project)
		}
	}
	sessions, err := q.LockSessions(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("lock sessions: %w", err)
	}
	var ids []string
	for _, r := range sessions {
		if r.OpenBatchJobID != nil {
			ids = append(ids, *r.OpenBatchJobID)
		}
	}
	open := map[sessionRef]openBatch{}
	if len(ids) == 0 {
		return open, nil
	}
	batches, err := q.LockOpenBatches(ctx, sqlc.LockOpenBatchesParams{Ids: ids, TeamID: team, ProjectIds: p.ProjectIds})
	if err != nil {
		return nil, fmt.Errorf("lock batches: %w", err)
	}
	for _, r := range sessions {
		for _, b := range batches {
			if deref(r.OpenBatchJobID) == b.ID {
				open[sessionRef{r.ProjectID, r.ID}] = openBatch{id: events.ID(b.ID), size: int(b.Size), old: true}
			}
		}
	}
	return open, nil
}

// withoutAsked leaves out the events that have a job already: a batch that
// another request put them into before we held their session, or a job of
// their own from a time without a debounce.
func (s *Service) withoutAsked(ctx context.Context, q *sqlc.Queries, c Caller, bursts []sqlc.AgentEvent, created, old map[string]bool, jobOf map[string]events.ID) ([]sqlc.AgentEvent, error) {
	p := sqlc.GetAgentEventsParams{TeamID: c.Team}
	own := map[string]events.ID{}
	var ids []string
	for _, r := range bursts {
		if created[r.ID] {
			continue
		}
		step, err := s.eventStep(c, r, old[r.ID])
		if err != nil {
			return nil, err
		}
		p.Ids, p.ProjectIds = append(p.Ids, r.ID), append(p.ProjectIds, r.ProjectID)
		own[r.ID], ids = step.Job.ID, append(ids, string(step.Job.ID))
	}
	if len(ids) == 0 {
		return bursts, nil
	}
	jobs, err := findJobs(ctx, q, events.Scope{Team: c.Team}, ids)
	if err != nil {
		return nil, err
	}
	rows, err := q.GetAgentEvents(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("read agent events: %w", err)
	}
	for _, r := range rows {
		if _, ok := jobs[own[r.ID]]; ok {
			jobOf[r.ID] = own[r.ID]
		}
		if r.BatchJobID != nil {
			jobOf[r.ID] = events.ID(*r.BatchJobID)
		}
	}
	return slices.DeleteFunc(slices.Clone(bursts), func(r sqlc.AgentEvent) bool { return jobOf[r.ID] != "" }), nil
}
