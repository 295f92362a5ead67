package observe

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// group is the requests that share a transaction, in the order in which they
// are taken to have come one after the other.
type group struct {
	s       *Service
	tx      pgx.Tx
	q       *sqlc.Queries
	last    *sqlc.Queries // for the last statement, which may be sent with the commit
	patient bool          // waits for who holds a project
	recs    []*recording

	waits waits
	items []*item           // of all requests that are still in it
	asked bool              // some job is new
	due   []events.Envelope // all that are new, where they are few and none has to wait; see fewAsked
}

// item is an event of a request.
type item struct {
	*incoming
	rec     *recording
	event   AgentEvent
	created bool
	pruned  bool      // its job was done and taken away
	oldName events.ID // its job has a name of an earlier form
	job     *events.Job
}

func (it *item) team() string { return it.rec.c.Team }

// ref is the event's session.
func (it *item) ref() sessionRef {
	return sessionRef{it.team(), it.ProjectID, deref(it.event.ServerSessionID)}
}

// store sets each request's answer, or its own error. What it gives itself is
// everybody's.
func (g *group) store(ctx context.Context) error {
	for _, rec := range g.recs {
		rec.answer, rec.err, rec.held = nil, nil, ""
	}
	if err := g.admit(ctx); err != nil || len(g.items) == 0 {
		return err
	}
	if err := g.checkSessions(ctx); err != nil || len(g.items) == 0 {
		return err
	}
	if err := g.insert(ctx); err != nil {
		return err
	}
	if err := g.askAbout(ctx); err != nil {
		return err
	}
	for i := range g.items {
		it := g.items[i]
		it.rec.answer = append(it.rec.answer, Recorded{Event: it.event, Job: it.job, Created: it.created})
	}
	return g.audit(ctx)
}

// admit decides who may write where, and who has to wait for a project.
func (g *group) admit(ctx context.Context) error {
	var p sqlc.TryProjectsParams
	seen, presumed := map[events.Scope]bool{}, map[string]bool{}
	for _, rec := range g.recs {
		if rec.c.presumed && !presumed[rec.c.KeyID] {
			presumed[rec.c.KeyID] = true
			p.KeyIds, p.KeyTeamIds = append(p.KeyIds, rec.c.KeyID), append(p.KeyTeamIds, rec.c.Team)
		}
		for i := range rec.ready {
			if ref := (events.Scope{Team: rec.c.Team, Project: rec.ready[i].ProjectID}); !seen[ref] {
				seen[ref] = true
				p.Ids, p.TeamIds = append(p.Ids, plain(ref.Project)), append(p.TeamIds, ref.Team)
			}
		}
	}
	owned, err := g.projects(ctx, p)
	if err != nil {
		return fmt.Errorf("look up projects: %w", err)
	}
	free := map[events.Scope]bool{}
	g.waits = waits{server: g.s.cfg.ownPolicy(), projects: map[string]Policy{}}
	for _, r := range owned {
		for _, key := range r.GoodKeys {
			delete(presumed, key)
		}
		free[events.Scope{Team: r.TeamID, Project: r.ProjectID}] = r.Free
		if p, ok := policyIn(r.Metadata); ok {
			g.waits.projects[r.ProjectID] = p
		}
	}
	n := 0
	for _, rec := range g.recs {
		n += len(rec.ready)
	}
	g.items = make([]*item, 0, n)
	items := make([]item, n)
	for _, rec := range g.recs {
		rec.err = rec.c.granted(toWrite)
		if rec.c.presumed && presumed[rec.c.KeyID] && len(owned) > 0 { // where nothing is owned, nothing is stored
			rec.err = ErrBadKey
		}
		for i := range rec.ready {
			project := rec.ready[i].ProjectID
			isFree, ours := free[events.Scope{Team: rec.c.Team, Project: project}]
			if rec.err == nil {
				rec.err = rec.c.within(project, ours)
			}
			if ours && !isFree && rec.err == nil {
				rec.held = project
			}
		}
		if rec.err != nil || rec.held != "" {
			continue
		}
		for i := range rec.ready {
			it := &items[len(g.items)]
			it.incoming, it.rec = &rec.ready[i], rec
			g.items = append(g.items, it)
		}
	}
	return nil
}

func (g *group) projects(ctx context.Context, p sqlc.TryProjectsParams) ([]sqlc.TryProjectsRow, error) {
	if !g.patient {
		return g.q.TryProjects(ctx, p)
	}
	held, err := g.q.HoldProjects(ctx, sqlc.HoldProjectsParams(p))
	rows := make([]sqlc.TryProjectsRow, len(held))
	for i, r := range held {
		rows[i] = sqlc.TryProjectsRow(r)
	}
	return rows, err
}

// drop takes the requests out of the group that have an error of their own.
func (g *group) drop() {
	g.items = slices.DeleteFunc(g.items, func(it *item) bool { return it.rec.err != nil })
}

// checkSessions refuses events whose session is named by our id and is not of
// their project. One that is named by the client's own id may be missing.
func (g *group) checkSessions(ctx context.Context) error {
	var know sqlc.KnownSessionsParams
	for _, it := range g.items {
		if it.ServerSessionID != nil {
			know.Ids, know.TeamIds = append(know.Ids, *it.ServerSessionID), append(know.TeamIds, it.team())
			know.ProjectIds = append(know.ProjectIds, it.ProjectID)
		}
	}
	if len(know.Ids) == 0 {
		return nil
	}
	rows, err := g.q.KnownSessions(ctx, know)
	if err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	known := make(map[sessionRef]bool, len(rows))
	for _, r := range rows {
		known[sessionRef{r.TeamID, r.ProjectID, r.ID}] = true
	}
	for _, it := range g.items {
		if it.ServerSessionID == nil {
			continue
		}
		if !known[sessionRef{it.team(), it.ProjectID, *it.ServerSessionID}] {
			it.rec.err = forbidden("server_session_id must belong to project_id and team_id")
		}
	}
	g.drop()
	return nil
}

// insert stores the events that are not known, and reads those that are.
func (g *group) insert(ctx context.Context) error {
	if err := g.findHashed(ctx); err != nil {
		return err
	}
	first := make(map[string]*item, len(g.items))
	p := newInsert(len(g.items))
	for _, it := range g.items {
		if first[it.id] != nil {
			continue // an earlier request of the group has brought it
		}
		first[it.id] = it
		p.Ids = append(p.Ids, it.id)
		p.TeamIds = append(p.TeamIds, it.team())
		p.ProjectIds = append(p.ProjectIds, it.ProjectID)
		content := ""
		if it.ServerSessionID == nil {
			content = deref(it.ContentSessionID)
		}
		p.SessionIds, p.ContentIds = append(p.SessionIds, deref(it.ServerSessionID)), append(p.ContentIds, content)
		p.AnyPlatform = append(p.AnyPlatform, !it.HasPlatform)
		p.SourceAdapters = append(p.SourceAdapters, it.SourceType)
		p.SourceEventIds = append(p.SourceEventIds, deref(it.SourceEventID))
		p.IdempotencyKeys = append(p.IdempotencyKeys, it.key)
		p.EventTypes = append(p.EventTypes, it.EventType)
		p.Platforms = append(p.Platforms, deref(it.platform))
		p.Payloads = append(p.Payloads, string(it.Payload))
		p.Metadatas = append(p.Metadatas, string(it.Metadata))
		p.OccurredAts = append(p.OccurredAts, it.occurred)
	}
	made, err := g.q.InsertAgentEvents(ctx, p)
	if err != nil {
		return fmt.Errorf("insert %d agent events: %w", len(p.Ids), err)
	}
	for _, r := range made {
		it := first[r.ID]
		it.created = true
		it.event = AgentEvent{
			ID: it.id, ProjectID: it.ProjectID, TeamID: it.team(), ServerSessionID: r.ServerSessionID, SourceAdapter: it.SourceType,
			SourceEventID: it.SourceEventID, EventType: it.EventType, PlatformSource: it.platform, Payload: it.Payload,
			Metadata: it.Metadata, OccurredAt: it.occurred, ReceivedAt: r.ReceivedAt.UTC(), CreatedAt: r.CreatedAt.UTC(),
		}
	}
	if len(made) == len(g.items) {
		return nil
	}
	return g.readKnown(ctx, slices.DeleteFunc(slices.Clone(g.items), func(it *item) bool { return it.created }))
}

// lists gives lists of texts, each with room for n: one allocation for all.
func lists(n, of int) func() []string {
	texts := make([]string, of*n)
	return func() (part []string) {
		part, texts = texts[:0:n], texts[n:]
		return part
	}
}

func newInsert(n int) sqlc.InsertAgentEventsParams {
	list := lists(n, 12)
	return sqlc.InsertAgentEventsParams{
		Ids: list(), TeamIds: list(), ProjectIds: list(), SessionIds: list(), ContentIds: list(), AnyPlatform: make([]bool, 0, n), SourceAdapters: list(), SourceEventIds: list(),
		IdempotencyKeys: list(), EventTypes: list(), Platforms: list(), Payloads: list(), Metadatas: list(),
		OccurredAts: make([]time.Time, 0, n),
	}
}

// readKnown reads the events that were there before, with what their metadata
// gained. What is there several times is read once for each, in order: each
// request sees the metadata as it left it.
func (g *group) readKnown(ctx context.Context, known []*item) error {
	for len(known) > 0 {
		now := make(map[string]*item, len(known))
		var later []*item
		var merge sqlc.MergeAgentEventsParams
		var read sqlc.GetAgentEventsParams
		for _, it := range known {
			if now[it.id] != nil {
				later = append(later, it)
				continue
			}
			now[it.id] = it
			read.Ids, read.TeamIds = append(read.Ids, it.id), append(read.TeamIds, it.team())
			read.ProjectIds = append(read.ProjectIds, it.ProjectID)
			if string(it.Metadata) != "{}" {
				merge.Ids, merge.TeamIds = append(merge.Ids, it.id), append(merge.TeamIds, it.team())
				merge.ProjectIds, merge.Metadatas = append(merge.ProjectIds, it.ProjectID), append(merge.Metadatas, string(it.Metadata))
			}
		}
		if len(merge.Ids) > 0 {
			if err := g.q.MergeAgentEvents(ctx, merge); err != nil {
				return fmt.Errorf("merge metadata: %w", err)
			}
		}
		found, err := g.q.GetAgentEvents(ctx, read)
		if err != nil {
			return fmt.Errorf("read agent events: %w", err)
		}
		for _, r := range found {
			now[r.ID].event, now[r.ID].pruned = agentEventOf(r), r.PrunedAt != nil
		}
		if len(found) < len(now) {
			return fmt.Errorf("read agent events: %d of %d vanished: %w", len(now)-len(found), len(now), errPurged)
		}
		known = later
	}
	return nil
}

// audit writes one row for a request, not one for each event.
func (g *group) audit(ctx context.Context) error {
	list := lists(len(g.recs), 10)
	p := sqlc.InsertAuditsParams{
		TeamIds: list(), ProjectIds: list(), ActorIds: list(), ApiKeyIds: list(), Actions: list(), ResourceTypes: list(),
		ResourceIds: list(), RequestIds: list(), JobIds: list(), Details: list(),
	}
	for _, rec := range g.recs {
		if len(rec.answer) == 0 {
			continue
		}
		row, err := rec.c.auditRow(rec.entry())
		if err != nil {
			return err
		}
		p.TeamIds, p.ProjectIds = append(p.TeamIds, row.TeamID), append(p.ProjectIds, deref(row.ProjectID))
		p.ActorIds, p.ApiKeyIds = append(p.ActorIds, row.ActorID), append(p.ApiKeyIds, deref(row.ApiKeyID))
		p.Actions, p.ResourceTypes = append(p.Actions, row.Action), append(p.ResourceTypes, row.ResourceType)
		p.ResourceIds, p.RequestIds = append(p.ResourceIds, row.ResourceID), append(p.RequestIds, deref(row.RequestID))
		p.JobIds, p.Details = append(p.JobIds, deref(row.JobID)), append(p.Details, string(row.Details))
	}
	if err := g.last.InsertAudits(ctx, p); err != nil {
		return fmt.Errorf("audit %s: %w", actReceived, err)
	}
	return nil
}

func (rec *recording) entry() entry {
	created := 0
	scope := events.Scope{Team: rec.c.Team, Project: rec.answer[0].Event.ProjectID}
	for i := range rec.answer {
		if rec.answer[i].Created {
			created++
		}
		if rec.answer[i].Event.ProjectID != scope.Project {
			scope.Project = "" // several
		}
	}
	e := entry{scope: scope, action: actReceived, resource: resEvent, details: received{Created: created, Generate: rec.o.Generate}}
	if rec.o.Batch {
		e.action, e.details = actBatchReceived, received{created, rec.events, rec.o.Generate}
	} else {
		e.id = rec.answer[0].Event.ID
		if job := rec.answer[0].Job; job != nil {
			e.job = string(job.ID)
		}
	}
	return e
}

// received is what the audit tells of a request.
type received struct {
	Created  int  `json:"created"`
	Events   int  `json:"events,omitempty"`
	Generate bool `json:"generate"`
}
