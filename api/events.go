package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func epoch(t time.Time) int64 { return t.UnixMilli() }

// epochOrNull is nil for the zero time.
func epochOrNull(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(t.UnixMilli())
}

// epochOf is nil for no time.
func epochOf(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	return new(t.UnixMilli())
}

type eventBody struct {
	ID              string          `json:"id"`
	ProjectID       string          `json:"projectId"`
	TeamID          string          `json:"teamId"`
	ServerSessionID *string         `json:"serverSessionId"`
	SourceAdapter   string          `json:"sourceAdapter"`
	SourceEventID   *string         `json:"sourceEventId"`
	EventType       string          `json:"eventType"`
	PlatformSource  *string         `json:"platformSource"`
	Payload         json.RawMessage `json:"payload"`
	Metadata        json.RawMessage `json:"metadata"`
	OccurredEpoch   int64           `json:"occurredAtEpoch"`
	ReceivedEpoch   int64           `json:"receivedAtEpoch"`
	CreatedEpoch    int64           `json:"createdAtEpoch"`
}

func asEvent(e observe.AgentEvent) eventBody {
	return eventBody{
		ID: e.ID, ProjectID: e.ProjectID, TeamID: e.TeamID, ServerSessionID: e.ServerSessionID,
		SourceAdapter: e.SourceAdapter, SourceEventID: e.SourceEventID, EventType: e.EventType,
		PlatformSource: e.PlatformSource, Payload: e.Payload, Metadata: e.Metadata,
		OccurredEpoch: epoch(e.OccurredAt), ReceivedEpoch: epoch(e.ReceivedAt), CreatedEpoch: epoch(e.CreatedAt),
	}
}

// recordedBody is what became of one event. GenerationJob is absent where no
// job was asked for, and null where the caller waited for it all the same.
type recordedBody struct {
	Event         eventBody `json:"event"`
	GenerationJob any       `json:"generationJob,omitempty"`
	WaitTimedOut  bool      `json:"waitTimedOut,omitempty"`
}

func (recordedBody) status() int { return http.StatusCreated }

type recordedBatchBody struct {
	Events       []recordedBody `json:"events"`
	WaitTimedOut bool           `json:"waitTimedOut,omitempty"`
}

func (recordedBatchBody) status() int { return http.StatusCreated }

// recordRequest is one event or many, and what to do with them.
type recordRequest struct {
	events                []observe.NewEvent
	generate, wait, batch bool
}

func (r *recordRequest) flags(in *input) {
	r.generate = in.flag("generate", true)
	r.wait = in.flag("wait", false)
}

type eventRequest struct{ recordRequest }

func (r *eventRequest) read(in *input) {
	r.flags(in)
	r.events = []observe.NewEvent{newEvent(in.object())}
}

type batchRequest struct{ recordRequest }

func (r *batchRequest) read(in *input) {
	r.flags(in)
	r.batch = true
	for _, o := range in.objects(1, observe.MaxBatch) {
		r.events = append(r.events, newEvent(o))
	}
}

func newEvent(o object) observe.NewEvent {
	return observe.NewEvent{
		ProjectID:        o.name("projectId"),
		SourceType:       o.oneOf("sourceType", observe.SourceTypes()...),
		EventType:        o.name("eventType"),
		OccurredAtEpoch:  o.integer("occurredAtEpoch", 0, maxEpoch),
		Payload:          o.anything("payload"),
		ServerSessionID:  o.optionalName("serverSessionId"),
		ContentSessionID: o.optionalName("contentSessionId"),
		MemorySessionID:  o.optionalName("memorySessionId"),
		PlatformSource:   o.optionalText("platformSource", maxName),
		HasPlatform:      o.members.has("platformSource"),
		SourceEventID:    o.optionalName("sourceEventId"),
		Metadata:         o.record("metadata"),
	}
}

func (s *server) postEvent(ctx context.Context, c observe.Caller, r eventRequest) (recordedBody, error) {
	bodies, timedOut, err := s.record(ctx, c, r.recordRequest)
	if err != nil {
		return recordedBody{}, err
	}
	bodies[0].WaitTimedOut = timedOut
	return bodies[0], nil
}

func (s *server) postEvents(ctx context.Context, c observe.Caller, r batchRequest) (recordedBatchBody, error) {
	bodies, timedOut, err := s.record(ctx, c, r.recordRequest)
	return recordedBatchBody{bodies, timedOut}, err
}

// record stores the events, all or none, and waits for their jobs if that is
// wanted: one budget for all of them.
func (s *server) record(ctx context.Context, c observe.Caller, r recordRequest) (bodies []recordedBody, timedOut bool, err error) {
	stored, err := s.cfg.Service.Record(ctx, c, r.events, observe.RecordOptions{Generate: r.generate, Batch: r.batch})
	if err != nil {
		return nil, false, err
	}
	var settled map[events.ID]events.Job
	if r.wait {
		var ids []events.ID
		for _, one := range stored {
			if one.Job != nil {
				ids = append(ids, one.Job.ID)
			}
		}
		settled, timedOut, err = s.cfg.Service.WaitJobs(ctx, c, ids, s.cfg.WaitLimit)
		if err != nil { // the events are stored for all that, and that is the answer
			timedOut = true
			if ctx.Err() == nil {
				s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "wait broken off", slog.String("request_id", c.RequestID), slog.Any("err", err))
			}
		}
	}
	for _, one := range stored {
		body := recordedBody{Event: asEvent(one.Event)}
		switch {
		case one.Job != nil && r.wait:
			now, ok := settled[one.Job.ID]
			if !ok {
				now = *one.Job
			}
			body.GenerationJob = asWaited(now, transport(*one.Job))
			body.WaitTimedOut = !now.Status.Settled()
		case one.Job != nil:
			body.GenerationJob = asBrief(*one.Job)
		case r.wait:
			body.GenerationJob = json.RawMessage("null")
		}
		bodies = append(bodies, body)
	}
	return bodies, timedOut, nil
}

// named is a request for one thing by its id in the path.
type named struct{ id string }

func (r *named) read(in *input) { r.id = in.id("id") }

type oneEventBody struct {
	Event eventBody `json:"event"`
}

func (s *server) getEvent(ctx context.Context, c observe.Caller, r named) (oneEventBody, error) {
	e, err := s.cfg.Service.Event(ctx, c, r.id)
	return oneEventBody{asEvent(e)}, err
}

type eventObservationsBody struct {
	EventID      string                   `json:"eventId"`
	Observations []sourcedObservationBody `json:"observations"`
}

func (s *server) getEventObservations(ctx context.Context, c observe.Caller, r named) (eventObservationsBody, error) {
	found, err := s.cfg.Service.EventObservations(ctx, c, r.id)
	body := eventObservationsBody{EventID: r.id, Observations: []sourcedObservationBody{}}
	for _, o := range found {
		body.Observations = append(body.Observations, asSourced(o))
	}
	return body, err
}
