package api

import (
	"context"
	"encoding/json"

	"github.com/seed-245eaa15/obs/internal/observe"
)

type auditRequest struct{ filter observe.AuditFilter }

// read refuses what it cannot read: who looks into an audit log should not be
// shown other rows than they asked for.
func (r *auditRequest) read(in *input) {
	q := in.c.QueryParams()
	r.filter.Limit = in.clamped("limit", 50, 1, 500)
	r.filter.Action = q.Get("action")
	if s := q.Get("since"); s != "" {
		if r.filter.Since = date(s); r.filter.Since.IsZero() {
			in.issue([]any{"since"}, observe.CodeValue, "Invalid time: expected RFC 3339, a date, or milliseconds")
		}
	}
	r.filter.Before = q.Get("cursor")
}

type auditBody struct {
	Audit []auditEntryBody `json:"audit"`
	Limit int              `json:"limit"`
	Next  *string          `json:"nextCursor"`
}

type auditEntryBody struct {
	ID           string          `json:"id"`
	TeamID       string          `json:"teamId"`
	ProjectID    *string         `json:"projectId"`
	ActorID      string          `json:"actorId"`
	KeyID        *string         `json:"apiKeyId"`
	Action       string          `json:"action"`
	ResourceType string          `json:"resourceType"`
	ResourceID   string          `json:"resourceId"`
	RequestID    *string         `json:"requestId"`
	JobID        *string         `json:"jobId"`
	Details      json.RawMessage `json:"details"`
	CreatedEpoch int64           `json:"createdAtEpoch"`
}

func (s *server) audit(ctx context.Context, c observe.Caller, r auditRequest) (auditBody, error) {
	entries, err := s.cfg.Service.Audit(ctx, c, r.filter)
	body := auditBody{Audit: []auditEntryBody{}, Limit: r.filter.Limit}
	for _, e := range entries {
		body.Audit = append(body.Audit, auditEntryBody{
			ID: e.ID, TeamID: e.TeamID, ProjectID: e.ProjectID, ActorID: e.ActorID, KeyID: e.KeyID,
			Action: e.Action, ResourceType: e.ResourceType, ResourceID: e.ResourceID, RequestID: e.RequestID, JobID: e.JobID,
			Details: e.Details, CreatedEpoch: epoch(e.CreatedAt),
		})
	}
	if n := len(entries); n > 0 && n == r.filter.Limit {
		body.Next = &entries[n-1].Cursor
	}
	return body, err
}
