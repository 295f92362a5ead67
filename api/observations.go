package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// maxQuery is how long a search may be, in bytes.
const maxQuery = 4096

type observationBody struct {
	ID              string          `json:"id"`
	ProjectID       string          `json:"projectId"`
	TeamID          string          `json:"teamId"`
	ServerSessionID *string         `json:"serverSessionId"`
	Kind            string          `json:"kind"`
	Content         string          `json:"content"`
	Metadata        json.RawMessage `json:"metadata"`
	CreatedEpoch    int64           `json:"createdAtEpoch"`
	UpdatedEpoch    int64           `json:"updatedAtEpoch"`
}

func asObservation(o observe.Observation) observationBody {
	return observationBody{
		ID: o.ID, ProjectID: o.ProjectID, TeamID: o.TeamID, ServerSessionID: o.ServerSessionID, Kind: o.Kind,
		Content: o.Content, Metadata: o.Metadata, CreatedEpoch: epoch(o.CreatedAt), UpdatedEpoch: epoch(o.UpdatedAt),
	}
}

// sourcedObservationBody is an observation and what it rests on.
type sourcedObservationBody struct {
	observationBody
	GenerationKey  *string    `json:"generationKey"`
	CreatedByJobID *string    `json:"createdByJobId"`
	Source         sourceBody `json:"source"`
}

type sourceBody struct {
	ID              string  `json:"id"`
	SourceType      string  `json:"sourceType"`
	SourceID        string  `json:"sourceId"`
	GenerationJobID *string `json:"generationJobId"`
	CreatedEpoch    int64   `json:"createdAtEpoch"`
}

func asSourced(o observe.SourcedObservation) sourcedObservationBody {
	return sourcedObservationBody{
		observationBody: asObservation(o.Observation), GenerationKey: o.GenerationKey, CreatedByJobID: o.CreatedByJobID,
		Source: sourceBody{
			ID: o.Source.ID, SourceType: o.Source.SourceType, SourceID: o.Source.SourceID,
			GenerationJobID: o.Source.GenerationJobID, CreatedEpoch: epoch(o.Source.CreatedAt),
		},
	}
}

type searchRequest struct{ query observe.Query }

func (r *searchRequest) read(in *input) { r.query = query(in.object(), 20, 100) }

type contextRequest struct{ query observe.Query }

func (r *contextRequest) read(in *input) { r.query = query(in.object(), 10, 50) }

func query(o object, usual, most int64) observe.Query {
	return observe.Query{
		ProjectID:      o.name("projectId"),
		Query:          o.text("query", maxQuery),
		Limit:          int(o.optionalInteger("limit", usual, 1, most)),
		PlatformSource: o.optionalText("platformSource", maxName),
	}
}

type searchBody struct {
	Observations []observationBody `json:"observations"`
}

func (s *server) search(ctx context.Context, c observe.Caller, r searchRequest) (searchBody, error) {
	found, err := s.cfg.Service.Search(ctx, c, r.query)
	return searchBody{asObservations(found)}, err
}

func asObservations(found []observe.Observation) []observationBody {
	bodies := []observationBody{}
	for _, o := range found {
		bodies = append(bodies, asObservation(o))
	}
	return bodies
}

type contextBody struct {
	Observations []observationBody `json:"observations"`
	Context      string            `json:"context"`
}

func (s *server) context(ctx context.Context, c observe.Caller, r contextRequest) (contextBody, error) {
	found, text, err := s.cfg.Service.Context(ctx, c, r.query)
	return contextBody{asObservations(found), text}, err
}

type reindexRequest struct{ project, observation string }

func (r *reindexRequest) read(in *input) {
	o := in.object()
	r.project = o.name("projectId")
	if o.has("observationId") {
		r.observation = o.name("observationId")
	}
}

type reindexBody struct {
	GenerationJob briefJobBody `json:"generationJob"`
}

func (reindexBody) status() int { return http.StatusAccepted }

func (s *server) reindex(ctx context.Context, c observe.Caller, r reindexRequest) (reindexBody, error) {
	job, err := s.cfg.Service.Reindex(ctx, c, r.project, r.observation)
	return reindexBody{asBrief(job)}, err
}
