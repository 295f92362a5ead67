package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// maxContent is how long a memory may be, in bytes.
const maxContent = 64 << 10

// maxFacts is how many facts a memory that comes in parts may have.
const maxFacts = 100

// idempotencyKey is the header by which a client may send a request again.
const idempotencyKey = "Idempotency-Key"

type memoryBody struct {
	Memory observationBody `json:"memory"`
}

type madeMemoryBody struct{ memoryBody }

func (madeMemoryBody) status() int { return http.StatusCreated }

type memoryRequest struct{ memory observe.NewMemory }

func (r *memoryRequest) read(in *input) {
	o := in.object()
	r.memory = observe.NewMemory{
		ProjectID:       o.name("projectId"),
		ServerSessionID: o.optionalName("serverSessionId"),
		Content:         memoryContent(o),
		Metadata:        o.record("metadata"),
		IdempotencyKey:  in.idempotencyKey(),
	}
	if kind := o.optionalName("kind"); kind != nil {
		r.memory.Kind = *kind
	}
}

// memoryContent is what a memory says. The published client of claude-mem sends
// the parts of a note in place of content; they are put together as those of
// a note that a job wrote.
func memoryContent(o object) string {
	part := func(name string) string {
		text := o.optionalText(name, maxContent)
		if text == nil {
			return ""
		}
		return *text
	}
	note := observe.NoteText(part("title"), part("subtitle"), part("narrative"), o.texts("facts", maxFacts, maxContent))
	if o.has("content") || note == "" {
		return o.text("content", maxContent)
	}
	if len(note) > maxContent {
		o.found("content", tooBig("string", maxContent, " bytes, of all parts together"))
	}
	return note
}

// idempotencyKey is the header's value; "" when it is not there.
func (in *input) idempotencyKey() string {
	values := in.c.Request().Header.Values(idempotencyKey)
	if len(values) == 0 {
		return ""
	}
	key := strings.TrimSpace(values[0])
	if len(values) > 1 || key == "" || len(key) > maxName || !utf8.ValidString(key) {
		in.issue([]any{idempotencyKey}, observe.CodeCustom, "Invalid header: expected one value of 1 to %d bytes", maxName)
	}
	return key
}

func (s *server) createMemory(ctx context.Context, c observe.Caller, r memoryRequest) (madeMemoryBody, error) {
	o, err := s.cfg.Service.AddMemory(ctx, c, r.memory)
	return madeMemoryBody{memoryBody{asObservation(o)}}, err
}

func (s *server) getMemory(ctx context.Context, c observe.Caller, r named) (memoryBody, error) {
	o, err := s.cfg.Service.Memory(ctx, c, r.id)
	return memoryBody{asObservation(o)}, err
}

type editRequest struct {
	named
	edit observe.MemoryEdit
}

func (r *editRequest) read(in *input) {
	r.named.read(in)
	o := in.object()
	r.edit.Kind = o.optionalName("kind")
	if o.has("content") {
		r.edit.Content = new(o.text("content", maxContent))
	}
	r.edit.Metadata = o.record("metadata")
}

func (s *server) editMemory(ctx context.Context, c observe.Caller, r editRequest) (memoryBody, error) {
	o, err := s.cfg.Service.EditMemory(ctx, c, r.id, r.edit)
	return memoryBody{asObservation(o)}, err
}

type deletedBody struct {
	Deleted bool   `json:"deleted"`
	ID      string `json:"id"`
}

func (s *server) deleteMemory(ctx context.Context, c observe.Caller, r named) (deletedBody, error) {
	err := s.cfg.Service.DeleteMemory(ctx, c, r.id)
	return deletedBody{true, r.id}, asGone(err)
}

type inProject struct{ project string }

func (r *inProject) read(in *input) { r.project = in.id("projectId") }

type purgedBody struct {
	Purged    bool          `json:"purged"`
	ProjectID string        `json:"projectId"`
	Counts    purgedNumbers `json:"counts"`
}

type purgedNumbers struct {
	Observations int64 `json:"observations"`
	AgentEvents  int64 `json:"agentEvents"`
	Sessions     int64 `json:"sessions"`
	Jobs         int64 `json:"jobs"`
}

func (s *server) purgeProject(ctx context.Context, c observe.Caller, r inProject) (purgedBody, error) {
	p, err := s.cfg.Service.Purge(ctx, c, r.project)
	return purgedBody{true, r.project, purgedNumbers(p)}, asGone(err)
}

func asGone(err error) error {
	if errors.Is(err, observe.ErrNotFound) {
		return called{"not_found", err}
	}
	return err
}
