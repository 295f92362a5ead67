package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// jobArgs is what a job's Args hold: ids only. The handlers read the rows.
type jobArgs struct {
	Session     string `json:"server_session_id,omitempty"`
	Event       string `json:"agent_event_id,omitempty"`
	Observation string `json:"observation_id,omitempty"` // of a reindex; empty means all of the project's
	Adapter     string `json:"source_adapter,omitempty"`
	Actor       string `json:"actor_id,omitempty"`
	Key         string `json:"api_key_id,omitempty"`
	Nth         int    `json:"summary,omitempty"`   // of a session's summaries, from the second on
	Vectors     string `json:"vectors,omitempty"`   // of a reindex: it is about them alone; see place
	BeforeAt    int64  `json:"before_at,omitempty"` // where one of those goes on: µs since 1970, and the id
	BeforeID    string `json:"before_id,omitempty"`

	// at is a part of the job's name, see events.NewIDAt: the time that is
	// stored with what the job is about. Or the name is an old one.
	at   time.Time
	name events.ID
}

// JobSession is the session that the job is about, or "".
func JobSession(j events.Job) string {
	if j.SourceType == SourceSummary {
		return j.SourceID
	}
	var a jobArgs
	if json.Unmarshal(j.Args, &a) != nil {
		return ""
	}
	return a.Session
}

// JobAgentEvent is the agent event that the job is about, or "".
func JobAgentEvent(j events.Job) string {
	if j.SourceType == SourceEvent {
		return j.SourceID
	}
	return ""
}

// step is the asking for a job. The same work has the same id; a session that
// went on after its end is summarized by another job each time.
func (s *Service) step(c Caller, scope events.Scope, kind events.Kind, sourceType, sourceID string, a jobArgs) (events.Step, error) {
	a.Actor, a.Key = c.Actor, c.KeyID
	args, err := json.Marshal(a)
	if err != nil {
		return events.Step{}, fmt.Errorf("ask for a %s job: %w", kind, err)
	}
	work := []string{scope.Team, scope.Project, sourceType, sourceID}
	if a.Nth > 1 {
		work = append(work, strconv.Itoa(a.Nth))
	}
	name := a.name
	switch {
	case name != "":
	case kind == KindEvent || kind == KindBatch: // they come by the thousand
		name = events.NewIDAtMilli(kind, a.at, work...)
	default:
		name = events.NewIDAt(kind, a.at, work...)
	}
	return events.New(events.Job{
		ID: name, Kind: kind, Scope: scope, SourceType: sourceType, SourceID: sourceID, Args: args,
		MaxAttempts: s.cfg.MaxAttempts, RequestID: plain(c.RequestID),
	}, events.Event{Actor: cmp.Or(c.KeyID, c.Actor), RequestID: plain(c.RequestID)})
}

// enqueue adds the jobs that are not there yet, and reads them all, by id.
// added says that some were new. All are of one team.
func (s *Service) enqueue(ctx context.Context, tx pgx.Tx, q *sqlc.Queries, team string, steps ...events.Step) (jobs map[events.ID]events.Job, added bool, err error) {
	made, err := s.jobs.Enqueue(ctx, tx, steps...)
	if err != nil {
		return nil, false, err
	}
	ids := make([]string, len(steps))
	for i, st := range steps {
		ids[i] = string(st.Job.ID)
		added = added || made[i]
	}
	jobs, err = findJobs(ctx, q, events.Scope{Team: team}, ids)
	return jobs, added, err
}

func findJobs(ctx context.Context, q *sqlc.Queries, scope events.Scope, ids []string) (map[events.ID]events.Job, error) {
	jobs := make(map[events.ID]events.Job, len(ids))
	if len(ids) == 0 {
		return jobs, nil
	}
	rows, err := q.FindJobs(ctx, sqlc.FindJobsParams{Ids: ids, TeamID: scope.Team, ProjectID: scope.Project})
	if err != nil {
		return nil, fmt.Errorf("read jobs: %w", err)
	}
	for _, r := range rows {
		jobs[events.ID(r.ID)] = db.JobOf(r)
	}
	return jobs, nil
}

// ring tells the relay, after the commit, that something was queued, and what,
// where all of it is known and due. The hint may be lost: the relay looks by
// itself as well.
func (s *Service) ring(queued bool, what ...events.Envelope) {
	if queued {
		s.cfg.Ring(what...)
	}
}
