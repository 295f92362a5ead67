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

// The actions that are written into the audit log. What happens to jobs and
// what they make is written elsewhere anyway; see audit_read.go.
const (
	actReceived      = "event.received"
	actBatchReceived = "event.batch_received"
	actSessionStart  = "session.start" // a new one
	actSessionWrite  = "session.write" // one that was there
	actSessionEnd    = "session.end"
	actRead          = "observation.read"      // details.mode says how
	actGenerated     = "observation.generated" // what a job came to
	actSummarized    = "session_summary.generated"
	actReindex       = "observation.reindexed"
	actViolation     = "generation_job.scope_violation"
	actRetried       = "generation_job.retried_by_operator"
	actCancelled     = "generation_job.cancelled_by_operator"
	actKeyCreate     = "api_key.create"
	actKeyRevoke     = "api_key.revoke"
	actKeyRotate     = "api_key.rotate"
	actMemoryWrite   = "memory.write"
	actMemoryDelete  = "observation.deleted"
	actPurge         = "project.memory_purged"
	actPruning       = "project.prune" // before the first job went
	actPruned        = "project.pruned"
)

const (
	resEvent       = "agent_event"
	resSession     = "server_session"
	resObservation = "observation"
	resJob         = "observation_generation_job"
	resKey         = "api_key"
	resProject     = "project"
)

// entry is a row of the audit log. It holds ids and counts, never text of a
// tenant's.
type entry struct {
	scope    events.Scope // Project "" when it is about all of the team's
	action   string
	resource string
	id       string
	job      string
	details  any // an object, or nil
}

// audit writes the entry in the transaction of what it tells of.
func (c Caller) audit(ctx context.Context, q *sqlc.Queries, e entry) error {
	row, err := c.auditRow(e)
	if err != nil {
		return err
	}
	n, err := q.InsertAudit(ctx, row)
	if err == nil && n == 0 {
		err = errPurged
	}
	if err != nil {
		return fmt.Errorf("audit %s: %w", e.action, err)
	}
	return nil
}

func (c Caller) auditRow(e entry) (sqlc.InsertAuditParams, error) {
	details := []byte("{}")
	if e.details != nil {
		var err error
		if details, err = json.Marshal(e.details); err != nil {
			return sqlc.InsertAuditParams{}, fmt.Errorf("audit %s: %w", e.action, err)
		}
	}
	if c.Via != "" {
		if len(details) > len("{}") {
			details = append(details[:len(details)-1], ',')
		} else {
			details = details[:1]
		}
		details = append(appendText(append(details, `"via":`...), c.Via), '}')
	}
	return sqlc.InsertAuditParams{
		TeamID: e.scope.Team, ProjectID: orNil(e.scope.Project), ActorID: c.Actor, ApiKeyID: orNil(c.KeyID),
		Action: e.action, ResourceType: e.resource, ResourceID: e.id,
		RequestID: orNil(plain(c.RequestID)), JobID: orNil(e.job), Details: details,
	}, nil
}

// Refused records a message that is not the job it claims to be: it fits
// pipeline.Config.Refused. One that claims another tenant's job is put into
// the audit log of the job's real tenant; of any other there is a line in the
// log. The message itself is written nowhere.
func (s *Service) Refused(ctx context.Context, e events.Envelope, body []byte, why error) {
	log := s.log.With("job", e.Job, "kind", e.Kind, "size", len(body), "err", why)
	if !errors.Is(why, events.ErrScope) {
		log.WarnContext(ctx, "message refused")
		return
	}
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		jobs, err := q.KnownJobs(ctx, []string{string(e.Job)})
		if err != nil {
			return err
		}
		for _, j := range jobs {
			scope := events.Scope{Team: j.TeamID, Project: j.ProjectID}
			err := Caller{Actor: "worker"}.audit(ctx, q, entry{
				scope: scope, action: actViolation, resource: resJob, id: j.ID, job: j.ID,
				details: map[string]any{
					"claimed_team":    events.Token(e.Scope.Team),
					"claimed_project": events.Token(e.Scope.Project),
					"claimed_kind":    e.Kind,
				},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.ErrorContext(ctx, "scope violation not recorded", "cause", err)
		return
	}
	log.WarnContext(ctx, "scope violation")
}
