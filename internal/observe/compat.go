package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	sourceCompat   = "claude-code-compat" // the adapter of events from the older routes; no other route may name it
	eventToolUse   = "tool_use"
	maxLastMessage = 64 << 10 // bytes of the assistant's last message that a session keeps
)

// ToolUse is a tool use as the hooks of older clients report it, for the
// project of their key.
type ToolUse struct {
	SessionID string          // the agent's own id of the session
	Platform  *string         // nil means claude
	AgentID   *string         // of a subagent
	AgentType *string         // and what it is
	ToolUseID *string         // the same one is the same event; nil is always a new one
	Payload   json.RawMessage // a JSON object
}

// RecordToolUse finds or makes the session and records the event in it.
func (s *Service) RecordToolUse(ctx context.Context, c Caller, use ToolUse) (Session, Recorded, error) {
	session, err := s.compatSession(ctx, c, use.SessionID, use.Platform, use.AgentID, use.AgentType)
	if err != nil {
		return Session{}, Recorded{}, err
	}
	stored, err := s.Record(ctx, c, []NewEvent{{
		ProjectID: c.Project, SourceType: sourceCompat, EventType: eventToolUse, OccurredAtEpoch: time.Now().UnixMilli(),
		Payload: use.Payload, ServerSessionID: &session.ID, PlatformSource: session.PlatformSource, HasPlatform: true,
		SourceEventID: use.ToolUseID, Metadata: json.RawMessage(`{"compat":"sessions/observations"}`),
	}}, RecordOptions{Generate: true})
	if err != nil {
		return Session{}, Recorded{}, err
	}
	return session, stored[0], nil
}

// Summarize keeps the assistant's last message, ends the session, which need
// not have been started, and asks for its summary.
func (s *Service) Summarize(ctx context.Context, c Caller, sessionID string, platform *string, message string) (Session, *events.Job, error) {
	session, err := s.compatSession(ctx, c, sessionID, platform, nil, nil)
	if err != nil {
		return Session{}, nil, err
	}
	if !blank(message) {
		keep, err := s.keeps(ctx, events.Scope{Team: c.Team, Project: c.Project})
		if err != nil {
			return Session{}, nil, err
		}
		err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
			scope, err := s.allow(ctx, q, c, toWrite)
			if err != nil {
				return err
			}
			// Like the events, it is kept as the project wants it; the summary is never shown what is private.
			return q.KeepLastMessage(ctx, sqlc.KeepLastMessageParams{
				LastMessage: cut(keep.text(plain(message)), maxLastMessage), ID: session.ID, TeamID: scope.Team, ProjectID: scope.Project,
			})
		})
		if err != nil {
			return Session{}, nil, fmt.Errorf("keep the last message: %w", err)
		}
	}
	return s.EndSession(ctx, c, session.ID)
}

func (s *Service) compatSession(ctx context.Context, c Caller, id string, platform, agentID, agentType *string) (Session, error) {
	if err := c.granted(toWrite); err != nil {
		return Session{}, err
	}
	if c.Project == "" {
		return Session{}, forbidden("API key is not scoped to a project")
	}
	if platform == nil {
		platform = new("claude")
	}
	session, _, err := s.StartSession(ctx, c, NewSession{
		ProjectID: c.Project, ExternalSessionID: &id, ContentSessionID: &id, AgentID: agentID, AgentType: agentType, PlatformSource: platform,
	})
	return session, err
}
