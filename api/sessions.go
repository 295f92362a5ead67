package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/seed-245eaa15/obs/internal/observe"
)

type sessionBody struct {
	ID                string          `json:"id"`
	ProjectID         string          `json:"projectId"`
	TeamID            string          `json:"teamId"`
	ExternalSessionID *string         `json:"externalSessionId"`
	ContentSessionID  *string         `json:"contentSessionId"`
	AgentID           *string         `json:"agentId"`
	AgentType         *string         `json:"agentType"`
	PlatformSource    *string         `json:"platformSource"`
	GenerationStatus  string          `json:"generationStatus"`
	Metadata          json.RawMessage `json:"metadata"`
	StartedEpoch      int64           `json:"startedAtEpoch"`
	EndedEpoch        *int64          `json:"endedAtEpoch"`
	LastGenerated     *int64          `json:"lastGeneratedAtEpoch"`
	CreatedEpoch      int64           `json:"createdAtEpoch"`
	UpdatedEpoch      int64           `json:"updatedAtEpoch"`
}

func asSession(s observe.Session) sessionBody {
	return sessionBody{
		ID: s.ID, ProjectID: s.ProjectID, TeamID: s.TeamID, ExternalSessionID: s.ExternalSessionID,
		ContentSessionID: s.ContentSessionID, AgentID: s.AgentID, AgentType: s.AgentType,
		PlatformSource: s.PlatformSource, GenerationStatus: s.GenerationStatus, Metadata: s.Metadata,
		StartedEpoch: epoch(s.StartedAt), EndedEpoch: epochOf(s.EndedAt), LastGenerated: epochOf(s.LastGeneratedAt),
		CreatedEpoch: epoch(s.CreatedAt), UpdatedEpoch: epoch(s.UpdatedAt),
	}
}

type startRequest struct{ session observe.NewSession }

func (r *startRequest) read(in *input) {
	o := in.object()
	r.session = observe.NewSession{
		ProjectID:        o.name("projectId"),
		ContentSessionID: o.optionalName("contentSessionId"),
		AgentID:          o.optionalName("agentId"),
		AgentType:        o.optionalName("agentType"),
		PlatformSource:   o.optionalName("platformSource"),
		Metadata:         o.record("metadata"),
	}
	if o.members.has("externalSessionId") { // unlike the others it may not be null
		r.session.ExternalSessionID = new(o.name("externalSessionId"))
	}
}

type startedBody struct {
	Session sessionBody `json:"session"`
	created bool
}

func (b startedBody) status() int {
	if b.created {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (s *server) startSession(ctx context.Context, c observe.Caller, r startRequest) (startedBody, error) {
	session, created, err := s.cfg.Service.StartSession(ctx, c, r.session)
	return startedBody{asSession(session), created}, err
}

type oneSessionBody struct {
	Session sessionBody `json:"session"`
}

func (s *server) getSession(ctx context.Context, c observe.Caller, r named) (oneSessionBody, error) {
	session, err := s.cfg.Service.Session(ctx, c, r.id)
	return oneSessionBody{asSession(session)}, err
}

type endedBody struct {
	Session       sessionBody   `json:"session"`
	GenerationJob *briefJobBody `json:"generationJob,omitempty"`
}

func (s *server) endSession(ctx context.Context, c observe.Caller, r named) (endedBody, error) {
	session, job, err := s.cfg.Service.EndSession(ctx, c, r.id)
	if err != nil {
		return endedBody{}, err
	}
	body := endedBody{Session: asSession(session)}
	if job != nil {
		body.GenerationJob = new(asBrief(*job))
	}
	return body, nil
}
