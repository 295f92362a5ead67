package observe

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// maxBurst is the size at which a batch takes no more events, so that one
// that waits long does not grow for ever.
const maxBurst = 200

// askAbout asks for the observations of events: by a job for each, or, where
// the project has events wait, by one job for the burst of a session.
func (g *group) askAbout(ctx context.Context) error {
	if err := g.findOldNames(ctx); err != nil {
		return err
	}
	jobOf := make(map[string]events.ID, len(g.items)) // by the event's id
	steps := make([]events.Step, 0, len(g.items))
	bursts := map[string][]*item{} // by team
	waiting := map[string]bool{}   // the same, by the event's id
	for _, it := range g.items {
		e := &it.event
		if _, known := jobOf[e.ID]; known || waiting[e.ID] || !it.rec.o.Generate || it.pruned {
			continue
		}
		switch {
		case e.BatchJobID != nil:
			jobOf[e.ID] = events.ID(*e.BatchJobID)
		case e.ServerSessionID != nil && g.waits.of(e.ProjectID) > 0:
			bursts[e.TeamID], waiting[e.ID] = append(bursts[e.TeamID], it), true
		default:
			step, err := g.eventStep(it)
			if err != nil {
				return err
			}
			steps, jobOf[e.ID] = append(steps, step), step.Job.ID
		}
	}
	for _, team := range slices.Sorted(maps.Keys(bursts)) { // in one order for everybody who locks
		more, err := g.joinBursts(ctx, team, bursts[team], jobOf)
		if err != nil {
			return err
		}
		steps = append(steps, more...)
	}
	made, err := g.s.jobs.Add(ctx, g.tx, steps...)
	if err != nil {
		return err
	}
	jobs := make(map[events.ID]*events.Job, len(jobOf))
	few := len(made) <= fewAsked
	for _, job := range made {
		if job != nil {
			jobs[job.ID], g.asked = job, true
			if few = few && job.NextAt.IsZero(); few {
				g.due = append(g.due, job.Envelope())
			}
		}
	}
	if !few {
		g.due = nil
	}
	if err := g.stillOpen(ctx, func(id string) bool { return waiting[id] || jobs[jobOf[id]] != nil }); err != nil {
		return err
	}
	if err := g.findJobs(ctx, jobOf, jobs); err != nil {
		return err
	}
	for _, it := range g.items {
		if it.rec.o.Generate {
			it.job = jobs[jobOf[it.event.ID]]
		}
	}
	return nil
}

// findOldNames gives the known events the name of their job where that is as it
// was once, without a time or with the second alone.
func (g *group) findOldNames(ctx context.Context) error {
	ids := map[string][]string{} // by team
	of := map[events.ID][]*item{}
	for _, it := range g.items {
		if it.created || it.pruned || !it.rec.o.Generate {
			continue
		}
		for _, at := range []time.Time{{}, it.event.ReceivedAt} {
			name := events.NewIDAt(KindEvent, at, it.team(), it.ProjectID, SourceEvent, it.id)
			ids[it.team()], of[name] = append(ids[it.team()], string(name)), append(of[name], it)
		}
	}
	for team, ids := range ids {
		found, err := findJobs(ctx, g.q, events.Scope{Team: team}, ids)
		if err != nil {
			return err
		}
		for name := range found {
			for _, it := range of[name] {
				it.oldName = name
			}
		}
	}
	return nil
}

// stillOpen looks again at the events that were known and that something was
// asked for: the job of one may have been pruned after its row was read, and
// just now been made anew. Whoever made it waited for the prune to end, so the
// mark is seen.
func (g *group) stillOpen(ctx context.Context, asked func(event string) bool) error {
	var p sqlc.GetAgentEventsParams
	for _, it := range g.items {
		if !it.created && !it.pruned && it.rec.o.Generate && asked(it.id) {
			p.Ids, p.TeamIds, p.ProjectIds = append(p.Ids, it.id), append(p.TeamIds, it.team()), append(p.ProjectIds, it.ProjectID)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	now, err := g.q.GetAgentEvents(ctx, p)
	if err != nil {
		return fmt.Errorf("read agent events: %w", err)
	}
	if slices.ContainsFunc(now, func(r sqlc.AgentEvent) bool { return r.PrunedAt != nil }) {
		return fmt.Errorf("a job is gone: %w", errPurged)
	}
	return nil
}

// findJobs adds the jobs that were there before.
func (g *group) findJobs(ctx context.Context, jobOf map[string]events.ID, jobs map[events.ID]*events.Job) error {
	missing := map[string][]string{} // by team
	for _, it := range g.items {
		if id := jobOf[it.event.ID]; id != "" && jobs[id] == nil {
			missing[it.team()] = append(missing[it.team()], string(id))
		}
	}
	for team, ids := range missing {
		found, err := findJobs(ctx, g.q, events.Scope{Team: team}, ids)
		if err != nil {
			return err
		}
		for _, id := range ids {
			job, ok := found[events.ID(id)]
			if !ok {
				return fmt.Errorf("job %s vanished: %w", id, errPurged)
			}
			jobs[job.ID] = &job
		}
	}
	return nil
}

func (g *group) eventStep(it *item) (events.Step, error) {
	e := &it.event
	a := jobArgs{Event: e.ID, Session: deref(e.ServerSessionID), Adapter: e.SourceAdapter, at: e.ReceivedAt, name: it.oldName}
	return g.s.step(it.rec.c, events.Scope{Team: e.TeamID, Project: e.ProjectID}, KindEvent, SourceEvent, e.ID, a)
}

// joinBursts puts events of a team into the open batches of their sessions,
// and gives the steps of the batches that have to be made. Who decides about a
// session holds its row, so two requests cannot open two batches, and holds
// the batch while it is queued: a worker about to begin it waits for our
// commit and then reads the events that joined. A batch that a worker was
// faster with takes no more, and a new one is made.
func (g *group) joinBursts(ctx context.Context, team string, bursts []*item, jobOf map[string]events.ID) ([]events.Step, error) {
	open, err := lockOpen(ctx, g.q, team, bursts)
	if err != nil {
		return nil, err
	}
	bursts, err = g.withoutAsked(ctx, bursts, jobOf)
	if err != nil {
		return nil, err
	}
	waiting, err := g.waits.bySession(ctx, g.q, team, bursts)
	if err != nil {
		return nil, err
	}
	var steps []events.Step
	join := sqlc.JoinBatchParams{TeamID: team}
	opened := map[sessionRef]events.ID{} // the last one of each session
	for _, it := range g.inOrder(bursts) {
		ref := it.ref()
		batch, ok := open[ref]
		if !ok || batch.size >= maxBurst && batch.by != it.rec {
			scope := events.Scope{Team: team, Project: ref.project}
			source := string(events.NewID("burst", scope.Team, scope.Project, ref.id, it.event.ID))
			a := jobArgs{Session: ref.id, Adapter: it.event.SourceAdapter, at: it.event.ReceivedAt}
			step, err := g.s.step(it.rec.c, scope, KindBatch, SourceBatch, source, a)
			if err != nil {
				return nil, err
			}
			step.Delay = waiting[ref]
			steps = append(steps, step)
			batch = openBatch{id: step.Job.ID, by: it.rec}
			opened[ref] = batch.id
		}
		batch.size++
		open[ref] = batch
		jobOf[it.event.ID] = batch.id
		join.Ids = append(join.Ids, it.event.ID)
		join.ProjectIds = append(join.ProjectIds, ref.project)
		join.JobIds = append(join.JobIds, string(batch.id))
	}
	if len(join.Ids) == 0 {
		return nil, nil
	}
	if _, err := g.q.JoinBatch(ctx, join); err != nil {
		return nil, fmt.Errorf("join batches: %w", err)
	}
	if len(opened) == 0 {
		return steps, nil
	}
	announce := sqlc.OpenBatchesParams{TeamID: team}
	for ref, id := range opened {
		announce.Ids = append(announce.Ids, ref.id)
		announce.ProjectIds = append(announce.ProjectIds, ref.project)
		announce.JobIds = append(announce.JobIds, string(id))
	}
	if err := g.q.OpenBatches(ctx, announce); err != nil {
		return nil, fmt.Errorf("open batches: %w", err)
	}
	return steps, nil
}

// inOrder has the requests one after the other, and the events of each as they
// happened.
func (g *group) inOrder(list []*item) []*item {
	at := make(map[*recording]int, len(g.recs))
	for i, rec := range g.recs {
		at[rec] = i
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *item) int {
		return cmp.Or(cmp.Compare(at[a.rec], at[b.rec]), a.event.OccurredAt.Compare(b.event.OccurredAt), cmp.Compare(a.event.ID, b.event.ID))
	})
	return list
}

type sessionRef struct{ team, project, id string }

type openBatch struct {
	id   events.ID
	size int
	by   *recording // made for this one; a request's own events stay together
}

// lockOpen holds the sessions of the events, and those of their batches that
// are still queued.
func lockOpen(ctx context.Context, q *sqlc.Queries, team string, bursts []*item) (map[sessionRef]openBatch, error) {
	p := sqlc.LockSessionsParams{TeamID: team}
	seen := map[sessionRef]bool{}
	for _, it := range bursts {
		if ref := it.ref(); !seen[ref] {
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
				open[sessionRef{team, r.ProjectID, r.ID}] = openBatch{id: events.ID(b.ID), size: int(b.Size)}
			}
		}
	}
	return open, nil
}

// withoutAsked leaves out the events that have a job already: a batch that
// another request put them into before we held their session, or a job of
// their own from a time without a debounce.
func (g *group) withoutAsked(ctx context.Context, bursts []*item, jobOf map[string]events.ID) ([]*item, error) {
	var p sqlc.GetAgentEventsParams
	own := map[string]events.ID{}
	var ids []string
	for _, it := range bursts {
		if it.created {
			continue
		}
		step, err := g.eventStep(it)
		if err != nil {
			return nil, err
		}
		p.Ids, p.TeamIds, p.ProjectIds = append(p.Ids, it.id), append(p.TeamIds, it.team()), append(p.ProjectIds, it.ProjectID)
		own[it.id], ids = step.Job.ID, append(ids, string(step.Job.ID))
	}
	if len(ids) == 0 {
		return bursts, nil
	}
	jobs, err := findJobs(ctx, g.q, events.Scope{Team: p.TeamIds[0]}, ids)
	if err != nil {
		return nil, err
	}
	rows, err := g.q.GetAgentEvents(ctx, p)
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
	return slices.DeleteFunc(slices.Clone(bursts), func(it *item) bool { return jobOf[it.id] != "" }), nil
}
