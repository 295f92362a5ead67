package observe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// agentEventID names an agent event: the same key has the same name. Names that
// are in no order cost a page of an index for each event, so what is a part of
// the key and has an order comes before the hash (docs/adr/0046): the time where
// the source has no id of the event's, else what its id begins with, up to the
// last slash. Our hooks have the session there.
func agentEventID(team string, e NewEvent, key string) string {
	if e.SourceEventID == nil {
		return string(events.NewIDAt(agentEvent, time.UnixMilli(e.OccurredAtEpoch), team, e.ProjectID, key))
	}
	id := hashedEventID(team, e.ProjectID, key)
	if at := strings.LastIndexByte(*e.SourceEventID, '/'); at > 0 {
		group := hashedEventID(team, e.ProjectID, (*e.SourceEventID)[:at])
		const word, before = len(agentEvent) + 1, 7 // characters, as of a time
		return group[:word+before] + id[word:len(id)-before]
	}
	return id
}

const agentEvent = "ae"

// hashedEventID is the name that all events had once.
func hashedEventID(team, project, key string) string {
	return string(events.NewID(agentEvent, team, project, key))
}

// findHashed gives the events the names under which they are stored, where that
// was when all names were hashes.
func (g *group) findHashed(ctx context.Context) error {
	until, err := g.s.hashedUntil(ctx, g.q)
	if err != nil || until.IsZero() {
		return err
	}
	var p sqlc.KnownAgentEventsParams
	of := map[string][]*item{}
	for _, it := range g.items {
		if name := hashedEventID(it.team(), it.ProjectID, it.key); name != it.id && (it.SourceEventID != nil || !it.occurred.After(until)) {
			p.Ids, p.TeamIds, p.ProjectIds = append(p.Ids, name), append(p.TeamIds, it.team()), append(p.ProjectIds, it.ProjectID)
			of[name] = append(of[name], it)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	known, err := g.q.KnownAgentEvents(ctx, p)
	if err != nil {
		return fmt.Errorf("look for events under their old names: %w", err)
	}
	for _, name := range known {
		for _, it := range of[name] {
			it.id = name
		}
	}
	return nil
}

// hashedUntil is until when events have names that are nothing but a hash; the
// zero time where none has. No program makes any more of them.
func (s *Service) hashedUntil(ctx context.Context, q *sqlc.Queries) (time.Time, error) {
	if until := s.hashed.Load(); until != nil {
		return *until, nil
	}
	until, err := q.HashedEvents(ctx)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, fmt.Errorf("read until when events have old names: %w", err)
	}
	s.hashed.Store(&until)
	return until, nil
}
