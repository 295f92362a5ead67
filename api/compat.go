package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// The routes of clients that know nothing of projects: their key says which.

// maxMessage is how long the assistant's last message may be, in bytes; of
// one that is longer a part is kept.
const maxMessage = 4 << 20

type toolUseRequest struct{ use observe.ToolUse }

func (r *toolUseRequest) read(in *input) {
	o := in.object()
	r.use = observe.ToolUse{
		SessionID: o.name("contentSessionId"), Platform: o.optionalText("platformSource", maxName),
		AgentID: o.optionalName("agentId"), AgentType: o.optionalName("agentType"),
		ToolUseID: o.optionalName("tool_use_id"),
	}
	if r.use.ToolUseID == nil {
		r.use.ToolUseID = o.optionalName("toolUseId")
	}
	payload := map[string]any{"tool_name": o.name("tool_name"), "cwd": o.optionalText("cwd", 4096)}
	for _, name := range []string{"tool_input", "tool_response"} {
		payload[name] = o.anything(name)
	}
	payload["contentSessionId"], payload["toolUseId"] = r.use.SessionID, r.use.ToolUseID
	payload["platformSource"], payload["agentId"], payload["agentType"] = r.use.Platform, r.use.AgentID, r.use.AgentType
	r.use.Payload, _ = json.Marshal(payload) // strings, and JSON that was well formed when it came
}

type toolUseBody struct {
	Status           string    `json:"status"`
	ObservationCount int       `json:"observationCount"`
	SessionID        string    `json:"sessionId"`
	ServerSessionID  string    `json:"serverSessionId"`
	EventID          string    `json:"eventId"`
	JobID            events.ID `json:"generationJobId"`
	Transport        string    `json:"transport"`
}

func (s *server) postToolUse(ctx context.Context, c observe.Caller, r toolUseRequest) (toolUseBody, error) {
	if c.Project == "" {
		return toolUseBody{}, needsProject("/api/sessions/observations")
	}
	session, stored, err := s.cfg.Service.RecordToolUse(ctx, c, r.use)
	if err != nil {
		return toolUseBody{}, err
	}
	return toolUseBody{
		Status: "queued", ObservationCount: 1, SessionID: session.ID, ServerSessionID: session.ID,
		EventID: stored.Event.ID, JobID: stored.Job.ID, Transport: transport(*stored.Job),
	}, nil
}

type summarizeRequest struct {
	session  string
	platform *string
	message  string
	subagent bool
}

func (r *summarizeRequest) read(in *input) {
	o := in.object()
	r.session, r.platform = o.name("contentSessionId"), o.optionalText("platformSource", maxName)
	if m := o.optionalText("last_assistant_message", maxMessage); m != nil {
		r.message = *m
	}
	agent := o.optionalText("agentId", maxName)
	r.subagent = agent != nil && *agent != ""
}

type summarizedBody struct {
	Status          string    `json:"status"`
	Reason          string    `json:"reason,omitempty"`
	SessionID       string    `json:"sessionId,omitempty"`
	ServerSessionID string    `json:"serverSessionId,omitempty"`
	JobID           events.ID `json:"generationJobId,omitempty"`
	Transport       string    `json:"transport,omitempty"`
}

// summarize ends a session. A subagent that stops does not end it.
func (s *server) summarize(ctx context.Context, c observe.Caller, r summarizeRequest) (summarizedBody, error) {
	switch {
	case c.Project == "":
		return summarizedBody{}, needsProject("/api/sessions/summarize")
	case r.subagent:
		return summarizedBody{Status: "skipped", Reason: "subagent_context"}, nil
	}
	session, job, err := s.cfg.Service.Summarize(ctx, c, r.session, r.platform, r.message)
	if err != nil {
		return summarizedBody{}, err
	}
	return summarizedBody{
		Status: "queued", SessionID: session.ID, ServerSessionID: session.ID, JobID: job.ID, Transport: transport(*job),
	}, nil
}

func needsProject(path string) error {
	return called{"BadRequest", &refusal{http.StatusBadRequest, fmt.Sprintf("Legacy %s requires a project-scoped API key", path)}}
}
