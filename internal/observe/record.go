package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	// MaxBatch is how many events one request may bring.
	MaxBatch = 500
	// maxEpoch is the last millisecond that a JavaScript date holds.
	maxEpoch = 8_640_000_000_000_000
)

// SourceTypes lists what NewEvent.SourceType may be over HTTP.
func SourceTypes() []string { return []string{"hook", "worker", "provider", "server", "api"} }

// Record stores agent events and asks for the observations of each: all of
// them in one transaction, or none. An event that is known already changes
// nothing but its metadata; it and its job come back as they are. The answer
// is in the order of evs; an event that is there twice comes back twice.
func (s *Service) Record(ctx context.Context, c Caller, evs []NewEvent, o RecordOptions) ([]Recorded, error) {
	if err := c.granted(toWrite); err != nil {
		return nil, err
	}
	ready, places, err := prepare(c.Team, evs, o.Batch)
	if err != nil {
		return nil, err
	}
	if err := s.forStorage(ctx, c.Team, ready); err != nil {
		return nil, err
	}
	var answer []Recorded
	var asked bool
	err = s.inTx(ctx, func(tx pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite, projects(evs)...)
		if err != nil {
			return err
		}
		rows, created, err := insertEvents(ctx, q, scope.Team, ready)
		if err != nil {
			return err
		}
		jobs := map[string]events.Job{}
		if o.Generate {
			if jobs, asked, err = s.askAbout(ctx, tx, q, c, rows, created); err != nil {
				return err
			}
		}
		answer = make([]Recorded, len(evs))
		for i, id := range places {
			answer[i] = Recorded{Event: agentEventOf(rows[id]), Created: created[id]}
			if job, ok := jobs[id]; ok {
				answer[i].Job = &job
			}
		}
		err = c.auditReceived(ctx, q, scope, answer, o, len(created))
		fault.At("record.stored")
		return err
	})
	if err != nil {
		return nil, err
	}
	fault.At("record.committed")
	s.ring(asked)
	return answer, nil
}

// auditReceived writes one row for a request, not one for each event.
func (c Caller) auditReceived(ctx context.Context, q *sqlc.Queries, scope events.Scope, answer []Recorded, o RecordOptions, created int) error {
	e := entry{scope: scope, action: actReceived, resource: resEvent, details: map[string]any{"created": created, "generate": o.Generate}}
	if o.Batch {
		e.action, e.details["events"] = actBatchReceived, len(answer)
	} else {
		e.id = answer[0].Event.ID
		if job := answer[0].Job; job != nil {
			e.job = string(job.ID)
		}
	}
	return c.audit(ctx, q, e)
}

func projects(evs []NewEvent) []string {
	list := make([]string, len(evs))
	for i, e := range evs {
		list[i] = e.ProjectID
	}
	return list
}

// incoming is an event that is ready to be stored.
type incoming struct {
	NewEvent // texts are storable, as is the payload
	id, key  string
	platform *string
	occurred time.Time
}

// prepare checks events and computes their identities, over what the client
// sent; what is stored comes after. An event that is there twice is ready
// once; places has the id for each of evs.
func prepare(team string, evs []NewEvent, batch bool) (ready []incoming, places []string, err error) {
	var wrong issues
	switch {
	case len(evs) == 0:
		wrong.add(CodeTooSmall, "at least 1 event")
	case len(evs) > MaxBatch:
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d events", MaxBatch))
		evs = nil
	}
	seen := make(map[string]bool, len(evs))
	for i, e := range evs {
		var path []any
		if batch {
			path = []any{i}
		}
		in := e.prepare(team, &wrong, path)
		places = append(places, in.id)
		if !seen[in.id] {
			seen[in.id] = true
			ready = append(ready, in)
		}
	}
	return ready, places, wrong.err()
}

func (e NewEvent) prepare(team string, wrong *issues, path []any) incoming {
	at := func(name string) []any { return append(slices.Clone(path), name) }
	needed := func(s, name string) {
		if s == "" {
			wrong.add(CodeTooSmall, "at least 1 character", at(name)...)
		} else if len(s) > maxID {
			wrong.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxID), at(name)...)
		}
	}
	needed(e.ProjectID, "projectId")
	needed(e.EventType, "eventType")
	if !slices.Contains(SourceTypes(), e.SourceType) && e.SourceType != sourceCompat {
		wrong.add(CodeValue, fmt.Sprintf("one of %q", SourceTypes()), at("sourceType")...)
	}
	if e.OccurredAtEpoch < 0 {
		wrong.add(CodeTooSmall, "not before 1970", at("occurredAtEpoch")...)
	}
	if e.OccurredAtEpoch > maxEpoch {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d", int64(maxEpoch)), at("occurredAtEpoch")...)
	}
	wrong.id(e.ServerSessionID, at("serverSessionId")...)
	wrong.id(e.ContentSessionID, at("contentSessionId")...)
	wrong.id(e.SourceEventID, at("sourceEventId")...)
	wrong.id(e.PlatformSource, at("platformSource")...)

	in := incoming{NewEvent: e, platform: platformOf(e.PlatformSource), occurred: time.UnixMilli(e.OccurredAtEpoch).UTC()}
	in.Payload = orEmpty(e.Payload)
	if _, err := Canonical(in.Payload); err != nil {
		wrong.add(CodeCustom, err.Error(), at("payload")...)
	}
	in.Metadata = wrong.object(e.Metadata, at("metadata")...)
	if len(*wrong) > 0 {
		return in
	}

	// The identity is that of what was sent, before anything is made storable.
	key, err := AgentEventKey(team, e, in.platform)
	if err == nil {
		in.Payload, err = storable(in.Payload)
	}
	if err != nil {
		wrong.add(CodeCustom, err.Error(), at("payload")...)
		return in
	}
	in.key = key
	in.id = string(events.NewID("ae", team, e.ProjectID, key))
	in.EventType, in.platform = plain(e.EventType), plainPtr(in.platform)
	in.ContentSessionID, in.SourceEventID = plainPtr(e.ContentSessionID), plainPtr(e.SourceEventID)
	in.ServerSessionID = plainPtr(e.ServerSessionID)
	return in
}

// insertEvents stores the events that are not known, and gives all of them,
// by id; created has those that are new.
func insertEvents(ctx context.Context, q *sqlc.Queries, team string, ready []incoming) (rows map[string]sqlc.AgentEvent, created map[string]bool, err error) {
	sessions, err := linkSessions(ctx, q, team, ready)
	if err != nil {
		return nil, nil, err
	}
	p := sqlc.InsertAgentEventsParams{TeamID: team}
	for i, e := range ready {
		p.Ids = append(p.Ids, e.id)
		p.ProjectIds = append(p.ProjectIds, e.ProjectID)
		p.SessionIds = append(p.SessionIds, sessions[i])
		p.SourceAdapters = append(p.SourceAdapters, e.SourceType)
		p.SourceEventIds = append(p.SourceEventIds, deref(e.SourceEventID))
		p.IdempotencyKeys = append(p.IdempotencyKeys, e.key)
		p.EventTypes = append(p.EventTypes, e.EventType)
		p.Platforms = append(p.Platforms, deref(e.platform))
		p.Payloads = append(p.Payloads, string(e.Payload))
		p.Metadatas = append(p.Metadatas, string(e.Metadata))
		p.OccurredAts = append(p.OccurredAts, e.occurred)
	}
	made, err := q.InsertAgentEvents(ctx, p)
	if err != nil {
		return nil, nil, fmt.Errorf("insert %d agent events: %w", len(ready), err)
	}
	rows, created = make(map[string]sqlc.AgentEvent, len(ready)), make(map[string]bool, len(made))
	for _, r := range made {
		rows[r.ID], created[r.ID] = r, true
	}
	known := slices.DeleteFunc(slices.Clone(ready), func(e incoming) bool { return created[e.id] })
	return rows, created, readKnown(ctx, q, team, known, rows)
}

// readKnown reads the events that were there before, with what their
// metadata gained.
func readKnown(ctx context.Context, q *sqlc.Queries, team string, known []incoming, rows map[string]sqlc.AgentEvent) error {
	if len(known) == 0 {
		return nil
	}
	merge := sqlc.MergeAgentEventsParams{TeamID: team}
	read := sqlc.GetAgentEventsParams{TeamID: team}
	for _, e := range known {
		read.Ids, read.ProjectIds = append(read.Ids, e.id), append(read.ProjectIds, e.ProjectID)
		if string(e.Metadata) != "{}" {
			merge.Ids, merge.ProjectIds = append(merge.Ids, e.id), append(merge.ProjectIds, e.ProjectID)
			merge.Metadatas = append(merge.Metadatas, string(e.Metadata))
		}
	}
	if len(merge.Ids) > 0 {
		if err := q.MergeAgentEvents(ctx, merge); err != nil {
			return fmt.Errorf("merge metadata: %w", err)
		}
	}
	found, err := q.GetAgentEvents(ctx, read)
	if err != nil {
		return fmt.Errorf("read agent events: %w", err)
	}
	for _, r := range found {
		rows[r.ID] = r
	}
	if len(found) < len(known) {
		return fmt.Errorf("read agent events: %d of %d vanished: %w", len(known)-len(found), len(known), errPurged)
	}
	return nil
}

// linkSessions finds each event's session, "" where it has none. One that is
// named by our id must be of the event's project; one that is named by the
// client's own may be missing.
func linkSessions(ctx context.Context, q *sqlc.Queries, team string, ready []incoming) ([]string, error) {
	find := sqlc.FindSessionsParams{TeamID: team}
	know := sqlc.KnownSessionsParams{TeamID: team}
	for i, e := range ready {
		switch {
		case e.ServerSessionID != nil:
			know.Ids, know.ProjectIds = append(know.Ids, *e.ServerSessionID), append(know.ProjectIds, e.ProjectID)
		case e.ContentSessionID != nil:
			find.Places = append(find.Places, int32(i))
			find.ProjectIds = append(find.ProjectIds, e.ProjectID)
			find.ContentIds = append(find.ContentIds, *e.ContentSessionID)
			find.AnyPlatform = append(find.AnyPlatform, !e.HasPlatform)
			find.Platforms = append(find.Platforms, deref(e.platform))
		}
	}
	sessions := make([]string, len(ready))
	if len(know.Ids) > 0 {
		known, err := q.KnownSessions(ctx, know)
		if err != nil {
			return nil, fmt.Errorf("read sessions: %w", err)
		}
		for i, e := range ready {
			if e.ServerSessionID == nil {
				continue
			}
			sessions[i] = *e.ServerSessionID
			if !slices.Contains(known, sqlc.KnownSessionsRow{ID: sessions[i], ProjectID: e.ProjectID}) {
				return nil, forbidden("server_session_id must belong to project_id and team_id")
			}
		}
	}
	if len(find.Places) > 0 {
		found, err := q.FindSessions(ctx, find)
		if err != nil {
			return nil, fmt.Errorf("find sessions: %w", err)
		}
		for _, r := range found {
			sessions[r.Place] = r.ID
		}
	}
	return sessions, nil
}

func agentEventOf(r sqlc.AgentEvent) AgentEvent {
	return AgentEvent{
		ID: r.ID, ProjectID: r.ProjectID, TeamID: r.TeamID, ServerSessionID: r.ServerSessionID, SourceAdapter: r.SourceAdapter,
		SourceEventID: r.SourceEventID, EventType: r.EventType, PlatformSource: r.PlatformSource, Payload: r.Payload,
		Metadata: r.Metadata, BatchJobID: r.BatchJobID, OccurredAt: r.OccurredAt, ReceivedAt: r.ReceivedAt, CreatedAt: r.CreatedAt,
	}
}

// orEmpty is {} for a document that is missing or null.
func orEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return json.RawMessage("{}")
	}
	return raw
}
