package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	// MaxBatch is how many events one request may bring.
	MaxBatch = 500
	// maxEpoch is the last millisecond that a JavaScript date holds.
	maxEpoch = 8_640_000_000_000_000
)

// SourceTypes lists what NewEvent.SourceType may be over HTTP.
func SourceTypes() []string { return slices.Clone(sourceTypes) }

var sourceTypes = []string{"hook", "worker", "provider", "server", "api"}

// Record stores agent events and asks for the observations of each: all of
// them in one transaction, or none. An event that is known already changes
// nothing but its metadata; it and its job come back as they are. The answer
// is in the order of evs; an event that is there twice comes back twice.
//
// Calls that come at the same time share a transaction, whosever they are, and
// are answered after its commit; see recorder.
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
	r := &recording{c: c, o: o, ready: ready, events: len(evs)}
	if err := s.recorder.do(ctx, r); err != nil {
		return nil, err
	}
	if len(places) == len(ready) { // none was there twice
		return r.answer, nil
	}
	answer := make([]Recorded, len(places))
	for i, at := range places {
		answer[i] = r.answer[at]
	}
	return answer, nil
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
// once; places says where each of evs is.
func prepare(team string, evs []NewEvent, batch bool) (ready []incoming, places []int, err error) {
	var wrong issues
	switch {
	case len(evs) == 0:
		wrong.add(CodeTooSmall, "at least 1 event")
	case len(evs) > MaxBatch:
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d events", MaxBatch))
		evs = nil
	}
	ready, places = make([]incoming, 0, len(evs)), make([]int, len(evs))
	var seen map[string]int
	if len(evs) > 1 {
		seen = make(map[string]int, len(evs))
	}
	for i, e := range evs {
		var path []any
		if batch {
			path = []any{i}
		}
		in := e.prepare(team, &wrong, path)
		at, known := seen[in.id]
		if !known {
			at = len(ready)
			if seen != nil {
				seen[in.id] = at
			}
			ready = append(ready, in)
		}
		places[i] = at
	}
	return ready, places, wrong.err()
}

func (e NewEvent) prepare(team string, wrong *issues, path []any) incoming {
	at := func(name string) []any { return append(slices.Clone(path), name) } // of what is wrong: most is not
	needed := func(s, name string) {
		if s == "" {
			wrong.add(CodeTooSmall, "at least 1 character", at(name)...)
		} else if len(s) > maxID {
			wrong.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxID), at(name)...)
		}
	}
	needed(e.ProjectID, "projectId")
	needed(e.EventType, "eventType")
	if !slices.Contains(sourceTypes, e.SourceType) && e.SourceType != sourceCompat {
		wrong.add(CodeValue, fmt.Sprintf("one of %q", SourceTypes()), at("sourceType")...)
	}
	if e.OccurredAtEpoch < 0 {
		wrong.add(CodeTooSmall, "not before 1970", at("occurredAtEpoch")...)
	}
	if e.OccurredAtEpoch > maxEpoch {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d", int64(maxEpoch)), at("occurredAtEpoch")...)
	}
	id := func(s *string, name string) {
		if s != nil && (*s == "" || len(*s) > maxID) {
			wrong.id(s, at(name)...)
		}
	}
	id(e.ServerSessionID, "serverSessionId")
	id(e.ContentSessionID, "contentSessionId")
	id(e.SourceEventID, "sourceEventId")
	id(e.PlatformSource, "platformSource")

	in := incoming{NewEvent: e, platform: platformOf(e.PlatformSource), occurred: time.UnixMilli(e.OccurredAtEpoch).UTC()}
	canonical, stored, err := textsOf(orEmpty(e.Payload), e.SourceEventID == nil)
	if err != nil {
		wrong.add(CodeCustom, err.Error(), at("payload")...)
	}
	in.Payload, in.Metadata = stored, orEmpty(e.Metadata)
	if string(in.Metadata) != "{}" {
		in.Metadata = wrong.object(in.Metadata, at("metadata")...)
	}
	if len(*wrong) > 0 {
		return in
	}

	// The identity is that of what was sent, before anything is made storable.
	in.key = AgentEventKey(team, e, in.platform, canonical)
	in.id = agentEventID(team, e, in.key)
	in.EventType, in.platform = plain(e.EventType), plainPtr(in.platform)
	in.ContentSessionID, in.SourceEventID = plainPtr(e.ContentSessionID), plainPtr(e.SourceEventID)
	in.ServerSessionID = plainPtr(e.ServerSessionID)
	return in
}

func agentEventOf(r sqlc.AgentEvent) AgentEvent {
	return AgentEvent{
		ID: r.ID, ProjectID: r.ProjectID, TeamID: r.TeamID, ServerSessionID: r.ServerSessionID, SourceAdapter: r.SourceAdapter,
		SourceEventID: r.SourceEventID, EventType: r.EventType, PlatformSource: r.PlatformSource, Payload: r.Payload,
		Metadata: r.Metadata, BatchJobID: r.BatchJobID, OccurredAt: r.OccurredAt.UTC(), ReceivedAt: r.ReceivedAt.UTC(), CreatedAt: r.CreatedAt.UTC(),
	}
}

// orEmpty is {} for a document that is missing or null.
func orEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return json.RawMessage("{}")
	}
	return raw
}
