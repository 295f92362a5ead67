package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	maxID     = 500      // bytes of an id or a name that a client gives: some are indexed
	maxPrompt = 16 << 10 // bytes of a prompt that a session keeps
)

// StartSession finds or makes a session. created says whether it is new. A
// session that is known by its external id keeps what it was started with,
// and an ended one stays ended; any other takes on the new metadata. Each
// start's prompt, metadata.prompt, is kept for the summary.
func (s *Service) StartSession(ctx context.Context, c Caller, n NewSession) (session Session, created bool, err error) {
	if err := c.granted(toWrite); err != nil {
		return Session{}, false, err
	}
	metadata, err := n.check()
	if err != nil {
		return Session{}, false, err
	}
	platform := plainPtr(platformOf(n.PlatformSource))
	key := SessionKey(c.Team, n, platform)
	keep, err := s.keeps(ctx, events.Scope{Team: c.Team, Project: n.ProjectID})
	if err != nil {
		return Session{}, false, err
	}
	if metadata, err = keep.document(metadata); err != nil {
		return Session{}, false, fmt.Errorf("strip metadata: %w", err)
	}
	prompt := promptOf(metadata)
	err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite, n.ProjectID)
		if err != nil {
			return err
		}
		row, err := startSession(ctx, q, scope, sqlc.InsertSessionParams{
			ID: sessionID(scope, key), TeamID: scope.Team, ProjectID: scope.Project,
			ExternalSessionID: plainPtr(n.ExternalSessionID), ContentSessionID: plainPtr(n.ContentSessionID),
			IdempotencyKey: key, AgentID: plainPtr(n.AgentID), AgentType: plainPtr(n.AgentType),
			PlatformSource: platform, Metadata: metadata,
		}, prompt, &created)
		if err != nil {
			return fmt.Errorf("start session: %w", err)
		}
		session = sessionOf(row)
		action := actSessionWrite
		if created {
			action = actSessionStart
		}
		return c.audit(ctx, q, entry{scope: scope, action: action, resource: resSession, id: session.ID})
	})
	return session, created, err
}

func startSession(ctx context.Context, q *sqlc.Queries, scope events.Scope, p sqlc.InsertSessionParams, prompt string, created *bool) (sqlc.ServerSession, error) {
	p.Prompts = []string{}
	if prompt != "" {
		p.Prompts = append(p.Prompts, prompt)
	}
	rows, err := q.InsertSession(ctx, p)
	if *created = len(rows) > 0; *created || err != nil {
		return first(rows), err
	}
	row, err := q.RestartSession(ctx, sqlc.RestartSessionParams{
		Overwrite: p.ExternalSessionID == nil, Metadata: p.Metadata, AgentType: p.AgentType, Prompt: prompt,
		TeamID: scope.Team, ProjectID: scope.Project, IdempotencyKey: p.IdempotencyKey,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = errPurged
	}
	return row, err
}

// sessionID follows from the key, so that the same session has one id even
// after it was purged and comes again.
func sessionID(scope events.Scope, key *string) string {
	if key == nil {
		return newUUID()
	}
	return string(events.NewID("ses", scope.Team, scope.Project, *key))
}

func (n NewSession) check() (json.RawMessage, error) {
	var wrong issues
	if n.ProjectID == "" {
		wrong.add(CodeTooSmall, "at least 1 character", "projectId")
	}
	wrong.id(n.ExternalSessionID, "externalSessionId")
	wrong.id(n.ContentSessionID, "contentSessionId")
	wrong.id(n.AgentID, "agentId")
	wrong.id(n.AgentType, "agentType")
	wrong.id(n.PlatformSource, "platformSource")
	metadata := wrong.object(n.Metadata, "metadata")
	return metadata, wrong.err()
}

// id checks an id or a short name that may be missing.
func (l *issues) id(s *string, path ...any) {
	switch {
	case s == nil:
	case *s == "" && path[len(path)-1] != "platformSource": // a blank platform is the usual one
		l.add(CodeTooSmall, "at least 1 character", path...)
	case len(*s) > maxID:
		l.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxID), path...)
	}
}

// object checks a JSON object that may be missing, and makes it storable.
func (l *issues) object(raw json.RawMessage, path ...any) json.RawMessage {
	raw = orEmpty(raw)
	canonical, stored, err := texts(raw)
	if err != nil {
		l.add(CodeCustom, err.Error(), path...)
		return nil
	}
	if canonical[0] != '{' {
		l.add(CodeType, "want an object", path...)
		return nil
	}
	return stored
}

// promptOf reads metadata.prompt, if that is a string.
func promptOf(metadata json.RawMessage) string {
	var m struct {
		Prompt any `json:"prompt"`
	}
	if json.Unmarshal(metadata, &m) != nil {
		return ""
	}
	prompt, _ := m.Prompt.(string)
	return cut(prompt, maxPrompt)
}

// Session gives one session.
func (s *Service) Session(ctx context.Context, c Caller, id string) (Session, error) {
	var session Session
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		row, err := q.GetSession(ctx, sqlc.GetSessionParams{ID: plain(id), TeamID: scope.Team, ProjectID: scope.Project})
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound("Session")
		}
		if err != nil {
			return fmt.Errorf("read session: %w", err)
		}
		session = sessionOf(row)
		return nil
	})
	return session, err
}

// EndSession notes that a session is over and asks for its summary, and at
// once for what its events have waited for. It may be said again: when nothing
// came since, it is the same job and nothing is asked for.
func (s *Service) EndSession(ctx context.Context, c Caller, id string) (Session, *events.Job, error) {
	var session Session
	var job events.Job
	var asked bool
	err := s.inTx(ctx, func(tx pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite)
		if err != nil {
			return err
		}
		row, err := q.EndSession(ctx, sqlc.EndSessionParams{ID: plain(id), TeamID: scope.Team, ProjectID: scope.Project})
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound("Session")
		}
		if err != nil {
			return fmt.Errorf("end session: %w", err)
		}
		session = sessionOf(row)
		scope.Project = row.ProjectID
		var added bool
		if job, added, err = s.askSummary(ctx, tx, q, c, scope, row); err != nil {
			return err
		}
		released, err := s.askNow(ctx, tx, q, c, scope, row.ID)
		if err != nil {
			return err
		}
		asked = added || released
		return c.audit(ctx, q, entry{
			scope: scope, action: actSessionEnd, resource: resSession, id: row.ID, job: string(job.ID),
		})
	})
	if err != nil {
		return Session{}, nil, err
	}
	s.ring(asked)
	return session, &job, nil
}

func sessionOf(r sqlc.ServerSession) Session {
	return Session{
		ID: r.ID, ProjectID: r.ProjectID, TeamID: r.TeamID, ExternalSessionID: r.ExternalSessionID,
		ContentSessionID: r.ContentSessionID, AgentID: r.AgentID, AgentType: r.AgentType, PlatformSource: r.PlatformSource,
		GenerationStatus: r.GenerationStatus, Metadata: r.Metadata, StartedAt: r.StartedAt, EndedAt: r.EndedAt,
		LastGeneratedAt: r.LastGeneratedAt, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

func first[T any](list []T) T {
	var zero T
	if len(list) > 0 {
		return list[0]
	}
	return zero
}
