package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// The actions that are nowhere written as such: a step of a job is in its
// history, an observation says which job made it. So the work itself pays
// nothing for them.
const (
	actStep       = "generation_job." // and the type of the event
	actStalled    = "generation_job.stalled"
	actRevokedKey = "generation_job.revoked_key"
	actCreated    = "observation.created"
)

// AuditFilter says which actions to read. Empty fields filter nothing.
type AuditFilter struct {
	Action string    // as api_key.create
	Since  time.Time // done at this time or later
	Limit  int       // 0 means 50; held within 1 and 500
	Before string    // only older ones: the Cursor of the last one of the page before; "" means the newest
}

// AuditEntry is something that somebody did, or had done by a job: ids and
// counts, never text of a tenant's.
type AuditEntry struct {
	ID           string
	Cursor       string // where the entry stands, for AuditFilter.Before
	TeamID       string
	ProjectID    *string // nil when it is about all of the team's
	ActorID      string  // of what a job did: who asked for it
	KeyID        *string
	Action       string
	ResourceType string
	ResourceID   string
	RequestID    *string
	JobID        *string
	Details      json.RawMessage
	CreatedAt    time.Time
}

// Audit reads what was done in the caller's team, or in its key's project,
// newest first. Whoever pages through it is told everything that was there at
// the first page, once, whatever is added meanwhile.
func (s *Service) Audit(ctx context.Context, c Caller, f AuditFilter) ([]AuditEntry, error) {
	if err := c.granted(toAdmin); err != nil {
		return nil, err
	}
	p := sqlc.ListAuditParams{
		Action: plain(f.Action), Since: f.Since, MaxRows: int32(min(max(cmp.Or(f.Limit, 50), 1), 500)),
		BeforeAt: time.UnixMilli(maxEpoch),
	}
	if f.Before != "" {
		var err error
		if p.BeforeAt, p.BeforePlace, err = parseAuditCursor(f.Before); err != nil {
			return nil, err
		}
	}
	p.InLog, p.Created, p.Steps = told(p.Action)
	var entries []AuditEntry
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toAdmin)
		if err != nil {
			return err
		}
		p.TeamID, p.ProjectID = scope.Team, scope.Project
		rows, err := q.ListAudit(ctx, p)
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		entries = make([]AuditEntry, len(rows))
		for i, r := range rows {
			entries[i] = entryOf(scope.Team, r)
		}
		return nil
	})
	return entries, err
}

// told says where an action, or with "" every one, is to be looked for: in the
// log, among the observations, in these steps of jobs. What an operator did to
// a job is a step as well, and told from the log.
func told(action string) (inLog, created bool, steps []string) {
	step, isStep := strings.CutPrefix(action, actStep)
	switch action {
	case actStalled:
		step = string(events.Reclaimed)
	case actRevokedKey:
		step = string(events.Failed)
	}
	for _, t := range events.Types() {
		if t != events.Cancelled && (action == "" || isStep && step == string(t)) {
			steps = append(steps, string(t))
		}
	}
	return len(steps) == 0 && action != actCreated || action == "", action == "" || action == actCreated, steps
}

func entryOf(team string, r sqlc.ListAuditRow) AuditEntry {
	e := AuditEntry{
		ID: strings.TrimLeft(r.Place, "0"), Cursor: strconv.FormatInt(r.At.UnixMicro(), 10) + "-" + r.Place,
		TeamID: team, ProjectID: orNil(r.ProjectID), ActorID: r.ActorID, KeyID: orNil(r.ApiKeyID), Action: r.Action,
		ResourceType: r.ResourceType, ResourceID: r.ResourceID, RequestID: orNil(r.RequestID), JobID: orNil(r.JobID),
		Details: r.Details, CreatedAt: r.At,
	}
	switch {
	case r.LogID > 0:
	case r.Version > 0:
		e.ID = r.JobID + "." + strconv.Itoa(int(r.Version))
		e.Action, e.ResourceType = stepAction(r), resJob
		d := stepDetails{Kind: r.JobType, Version: r.Version, Attempt: r.Attempt, Process: r.Process, Reason: r.Reason}
		if r.StepActor != r.ApiKeyID && r.StepActor != r.ActorID {
			d.By = r.StepActor
		}
		e.Details = marshal(d)
	default:
		e.ID, e.Action, e.ResourceType = r.ResourceID, actCreated, resObservation
		e.Details = marshal(map[string]string{"kind": r.Kind})
	}
	return e
}

func stepAction(r sqlc.ListAuditRow) string {
	switch t := events.Type(r.EventType); {
	case t == events.Reclaimed && r.StepActor == byRelay:
		return actStalled
	case t == events.Failed && r.Reason == errRevokedKey.Error():
		return actRevokedKey
	}
	return actStep + r.EventType
}

// byRelay is how the relay signs what it does to a job.
const byRelay = "relay"

// stepDetails is what an entry says of a job's step.
type stepDetails struct {
	Kind    string `json:"kind"`
	Version int32  `json:"version"`
	Attempt int32  `json:"attempt,omitempty"`
	By      string `json:"by,omitempty"` // where it was not who asked
	Process string `json:"process,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

var auditCursor = regexp.MustCompile(`^([0-9]{1,17})-([A-Za-z0-9_.-]{1,200})$`)

// parseAuditCursor reads what entryOf writes.
func parseAuditCursor(s string) (at time.Time, place string, err error) {
	m := auditCursor.FindStringSubmatch(s)
	if m == nil {
		return time.Time{}, "", issues{{Path: []any{"cursor"}, Code: CodeValue, Message: "Invalid cursor: expected the nextCursor of an answer"}}.err()
	}
	us, _ := strconv.ParseInt(m[1], 10, 64) // 17 digits fit, here and into Postgres' times
	return time.UnixMicro(us), m[2], nil
}
