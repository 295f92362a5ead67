package api

import (
	"context"
	"encoding/json"
	"strconv"

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
	if s := q.Get("cursor"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 1 {
			in.issue([]any{"cursor"}, observe.CodeValue, "Invalid cursor: expected the nextCursor of an answer")
		}
		r.filter.Before = n
	}
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
			ID: strconv.FormatInt(e.ID, 10), TeamID: e.TeamID, ProjectID: e.ProjectID, ActorID: e.ActorID, KeyID: e.KeyID,
			Action: e.Action, ResourceType: e.ResourceType, ResourceID: e.ResourceID, RequestID: e.RequestID, JobID: e.JobID,
			Details: e.Details, CreatedEpoch: epoch(e.CreatedAt),
		})
	}
	if n := len(body.Audit); n == r.filter.Limit {
		body.Next = &body.Audit[n-1].ID
	}
	return body, err
}
