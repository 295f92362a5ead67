package observe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	sourceManual = "manual" // the source type of what a client wrote itself
	kindManual   = "manual" // the kind of a memory that names none
	maxMeta      = 64 << 10 // bytes of a memory's metadata
)

// NewMemory is an observation that a client writes itself.
type NewMemory struct {
	ProjectID       string          // needed
	ServerSessionID *string         // must be of the same project
	Kind            string          // "" means manual
	Content         string          // at most 64 KiB; what is private is taken out
	Metadata        json.RawMessage // a JSON object of at most 64 KiB; nil and null become {}
	IdempotencyKey  string          // the same one in a project is the same memory; "" means a new one each time
}

// MemoryEdit is what to change of a memory; nil leaves it as it is. The
// metadata is replaced as a whole.
type MemoryEdit struct {
	Kind     *string
	Content  *string
	Metadata json.RawMessage
}

// AddMemory stores an observation. With an idempotency key it may be said
// again, and gives the memory as it is now; the key with other words is an
// ErrConflict.
func (s *Service) AddMemory(ctx context.Context, c Caller, n NewMemory) (Observation, error) {
	if err := c.granted(toWrite); err != nil {
		return Observation{}, err
	}
	sent := n.fingerprint()
	if err := n.check(); err != nil {
		return Observation{}, err
	}
	var memory Observation
	err := s.inTx(ctx, func(tx pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite, n.ProjectID)
		if err != nil {
			return err
		}
		scope.Project = n.ProjectID
		held, err := q.HoldProjects(ctx, sqlc.HoldProjectsParams{Ids: []string{scope.Project}, TeamIds: []string{scope.Team}})
		if err == nil && len(held) == 0 {
			err = errPurged // since we were allowed to
		}
		if err != nil {
			return fmt.Errorf("hold project: %w", err)
		}
		if n.ServerSessionID != nil {
			known, err := q.KnownSessions(ctx, sqlc.KnownSessionsParams{
				Ids: []string{*n.ServerSessionID}, TeamIds: []string{scope.Team}, ProjectIds: []string{scope.Project},
			})
			if err != nil {
				return fmt.Errorf("read session: %w", err)
			}
			if len(known) == 0 {
				return forbidden("server_session_id must belong to project_id and team_id")
			}
		}
		var created bool
		if memory, created, err = s.insertMemory(ctx, q, scope, n, sent); err != nil {
			return err
		}
		if created {
			if err := s.memoryToPlace(ctx, tx, c, memory); err != nil {
				return err
			}
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actMemoryWrite, resource: resObservation, id: memory.ID, details: map[string]any{"created": created},
		})
	})
	s.ring(err == nil && s.cfg.Near.Embeddings != nil)
	return memory, err
}

// insertMemory stores the memory, or reads the one that its key already made.
func (s *Service) insertMemory(ctx context.Context, q *sqlc.Queries, scope events.Scope, n NewMemory, sent string) (memory Observation, created bool, err error) {
	entry := search.NoteOf(n.Content, n.Metadata).Entry(search.Scope(scope.Team, scope.Project), n.Kind)
	p := sqlc.InsertMemoryParams{
		ID: newUUID(), TeamID: scope.Team, ProjectID: scope.Project, SessionID: n.ServerSessionID, Kind: n.Kind,
		Content: n.Content, Metadata: n.Metadata, Search: entry.Vector, SourceRowID: newUUID(), SourceMetadata: json.RawMessage("{}"),
	}
	if n.IdempotencyKey != "" {
		p.GenerationKey = new("memory:v1:" + digest(&scope.Team, &scope.Project, &n.IdempotencyKey))
		p.SourceMetadata = marshal(map[string]string{"request": sent})
	}
	made, err := q.InsertMemory(ctx, p)
	if err != nil {
		return Observation{}, false, fmt.Errorf("store memory: %w", err)
	}
	if len(made) > 0 {
		return Observation(made[0]), true, s.learn(ctx, q, scope, entry.Words)
	}
	known, err := q.MemoryByKey(ctx, sqlc.MemoryByKeyParams{TeamID: scope.Team, ProjectID: scope.Project, GenerationKey: p.GenerationKey})
	if errors.Is(err, pgx.ErrNoRows) {
		return Observation{}, false, justDeleted()
	}
	if err != nil {
		return Observation{}, false, fmt.Errorf("read memory: %w", err)
	}
	var first struct {
		Request string `json:"request"`
	}
	if err := json.Unmarshal(known.SourceMetadata, &first); err != nil {
		return Observation{}, false, fmt.Errorf("read memory %s: %w", known.ID, err)
	}
	if first.Request != sent {
		return Observation{}, false, conflict("this Idempotency-Key was used for another memory")
	}
	row, err := q.GetObservation(ctx, sqlc.GetObservationParams{ID: known.ID, TeamID: scope.Team, ProjectID: scope.Project})
	if errors.Is(err, pgx.ErrNoRows) { // between the two reads
		return Observation{}, false, justDeleted()
	}
	if err != nil {
		return Observation{}, false, fmt.Errorf("read memory: %w", err)
	}
	return Observation(row), false, nil
}

func justDeleted() error {
	return conflict("the memory of this Idempotency-Key was just deleted, try again")
}

// fingerprint tells two requests apart without keeping what they said.
func (n NewMemory) fingerprint() string {
	metadata, err := Canonical(orEmpty(n.Metadata))
	if err != nil {
		return "" // check refuses it
	}
	kind := n.Kind
	if kind == "" {
		kind = kindManual
	}
	sum := sha256.Sum256([]byte(digest(n.ServerSessionID, &kind, &n.Content, new(string(metadata)))))
	return hex.EncodeToString(sum[:])
}

// check makes the memory storable, and says what is wrong with it.
func (n *NewMemory) check() error {
	var wrong issues
	if n.ProjectID == "" {
		wrong.add(CodeTooSmall, "at least 1 character", "projectId")
	}
	if n.Kind == "" {
		n.Kind = kindManual
	}
	wrong.id(n.ServerSessionID, "serverSessionId")
	n.Kind = wrong.kind(n.Kind)
	n.Content = wrong.content(n.Content)
	n.Metadata = wrong.metadata(n.Metadata)
	n.ServerSessionID = plainPtr(n.ServerSessionID)
	return wrong.err()
}

func (l *issues) kind(kind string) string {
	l.id(&kind, "kind")
	return plain(kind)
}

// content is a memory's text without what is private. Unlike a provider's it
// is not cut: who wrote it is there to be told.
func (l *issues) content(text string) string {
	text = plain(hide(text))
	switch {
	case blank(text):
		l.add(CodeTooSmall, "at least 1 character that is not private", "content")
	case len(text) > maxContent:
		l.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxContent), "content")
	}
	return text
}

func (l *issues) metadata(raw json.RawMessage) json.RawMessage {
	before := len(*l)
	raw = l.object(raw, "metadata")
	if len(*l) > before {
		return nil
	}
	if len(raw) > maxMeta {
		l.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxMeta), "metadata")
		return nil
	}
	raw, _, err := hideDocument(raw, maxMeta)
	if err != nil {
		l.add(CodeCustom, err.Error(), "metadata")
	}
	return raw
}

// Memory gives one observation, whoever wrote it.
func (s *Service) Memory(ctx context.Context, c Caller, id string) (Observation, error) {
	var memory Observation
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		row, err := q.GetObservation(ctx, sqlc.GetObservationParams{ID: plain(id), TeamID: scope.Team, ProjectID: scope.Project})
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound("Memory")
		}
		if err != nil {
			return fmt.Errorf("read memory: %w", err)
		}
		memory = Observation(row)
		scope.Project = row.ProjectID
		return c.audit(ctx, q, entry{
			scope: scope, action: actRead, resource: resObservation, id: row.ID, details: map[string]any{"mode": "memory"},
		})
	})
	return memory, err
}

// EditMemory changes an observation, also one that a job wrote. Rendering its
// project anew leaves it alone from then on.
func (s *Service) EditMemory(ctx context.Context, c Caller, id string, e MemoryEdit) (Observation, error) {
	if err := c.granted(toWrite); err != nil {
		return Observation{}, err
	}
	if err := e.check(); err != nil {
		return Observation{}, err
	}
	var memory Observation
	err := s.inTx(ctx, func(tx pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite)
		if err != nil {
			return err
		}
		row, err := q.EditMemory(ctx, sqlc.EditMemoryParams{
			Kind: e.Kind, Content: e.Content, Metadata: e.Metadata, ID: plain(id), TeamID: scope.Team, ProjectID: scope.Project,
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound("Memory")
		}
		if err != nil {
			return fmt.Errorf("edit memory: %w", err)
		}
		memory = Observation(row)
		scope.Project = row.ProjectID
		if err := s.index(ctx, q, memory); err != nil {
			return err
		}
		if err := s.memoryToPlace(ctx, tx, c, memory); err != nil {
			return err
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actMemoryWrite, resource: resObservation, id: row.ID,
			details: map[string]any{"edited": true, "content": e.Content != nil, "kind": e.Kind != nil, "metadata": e.Metadata != nil},
		})
	})
	s.ring(err == nil && s.cfg.Near.Embeddings != nil)
	return memory, err
}

func (e *MemoryEdit) check() error {
	var wrong issues
	if e.Kind == nil && e.Content == nil && e.Metadata == nil {
		wrong.add(CodeTooSmall, "one of kind, content and metadata")
	}
	if e.Kind != nil {
		e.Kind = new(wrong.kind(*e.Kind))
	}
	if e.Content != nil {
		e.Content = new(wrong.content(*e.Content))
	}
	if e.Metadata != nil {
		e.Metadata = wrong.metadata(e.Metadata)
	}
	return wrong.err()
}

// DeleteMemory takes an observation away, with what it says it rests on.
func (s *Service) DeleteMemory(ctx context.Context, c Caller, id string) error {
	return s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite)
		if err != nil {
			return err
		}
		gone, err := q.DeleteMemory(ctx, sqlc.DeleteMemoryParams{ID: plain(id), TeamID: scope.Team, ProjectID: scope.Project})
		if err != nil {
			return fmt.Errorf("delete memory: %w", err)
		}
		if len(gone) == 0 {
			return notFound("Memory")
		}
		scope.Project = gone[0].ProjectID
		return c.audit(ctx, q, entry{
			scope: scope, action: actMemoryDelete, resource: resObservation, id: gone[0].ID, job: deref(gone[0].CreatedByJobID),
			details: map[string]any{"kind": gone[0].Kind},
		})
	})
}
