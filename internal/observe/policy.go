package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// The policies of a project: when the events of a session are asked about.
// Events without a session have a job each, whatever the policy.
const (
	PolicyPerEvent     = "per-event"      // a job for each event, at once
	PolicyDebounce     = "debounce"       // one job for the events of a burst
	PolicyEndOfSession = "end-of-session" // one job for all of a session's events, when it ends
)

// Policies lists what a project may have.
func Policies() []string { return []string{PolicyPerEvent, PolicyDebounce, PolicyEndOfSession} }

const (
	// sessionWait is how long events wait for the end of a session, under
	// PolicyEndOfSession. An agent that died never tells of it.
	sessionWait = 24 * time.Hour
	// DefaultDebounce is that of a policy that names none.
	DefaultDebounce = 5 * time.Second
	maxDebounce     = time.Hour

	actPolicy = "project.policy"
)

// Policy is when a project's sessions are asked about. The zero value leaves
// it to the server: see Config.Policy.
type Policy struct {
	Name     string        `json:"policy,omitempty"`
	Debounce time.Duration `json:"-"` // of PolicyDebounce, and of what comes after the end of a session; 0 means 5 s
}

// policyDoc is a policy in projects.metadata.
type policyDoc struct {
	Policy     string `json:"policy,omitempty"`
	DebounceMS int64  `json:"debounceMs,omitempty"`
}

func (p Policy) check(wrong *issues) {
	if p.Name != "" && !slices.Contains(Policies(), p.Name) {
		wrong.add(CodeValue, fmt.Sprintf("one of %q", Policies()), "policy")
	}
	if p.Debounce < 0 || p.Debounce > maxDebounce {
		wrong.add(CodeTooBig, "from 0 to 3600000", "debounceMs")
	}
}

// SetPolicy chooses a project's policy. Jobs that wait already keep their
// time, and the end of their session asks for them whatever the policy is.
func (s *Service) SetPolicy(ctx context.Context, c Caller, project string, p Policy) error {
	return s.SetSettings(ctx, c, project, SettingsChange{Policy: &p})
}

// waits says how long the events of each project's sessions wait for others.
type waits struct {
	server   Policy
	projects map[string]Policy
}

// ownPolicy is the server's own way.
func (cfg Config) ownPolicy() Policy {
	switch {
	case cfg.Policy != "":
		return Policy{cfg.Policy, cmp.Or(cfg.Debounce, DefaultDebounce)}
	case cfg.Debounce > 0:
		return Policy{PolicyDebounce, cfg.Debounce}
	}
	return Policy{PolicyPerEvent, 0}
}

// waitsOf reads the policies of projects.
func (s *Service) waitsOf(ctx context.Context, q *sqlc.Queries, team string, projects ...string) (waits, error) {
	w := waits{server: s.cfg.ownPolicy(), projects: map[string]Policy{}}
	found, err := q.ProjectPolicies(ctx, sqlc.ProjectPoliciesParams{ProjectIds: projects, TeamID: team})
	if err != nil {
		return w, fmt.Errorf("read policies: %w", err)
	}
	for _, r := range found {
		if p, ok := policyIn(r.Metadata); ok {
			w.projects[r.ProjectID] = p
		}
	}
	return w, nil
}

// policyIn is the policy in a project's metadata. ok is false where there is
// none, or somebody else's word: then the server's way it is.
func policyIn(metadata json.RawMessage) (p Policy, ok bool) {
	var doc policyDoc
	if json.Unmarshal(metadata, &doc) != nil || !slices.Contains(Policies(), doc.Policy) {
		return Policy{}, false
	}
	d := time.Duration(min(max(doc.DebounceMS, 0), maxDebounce.Milliseconds())) * time.Millisecond
	return Policy{doc.Policy, cmp.Or(d, DefaultDebounce)}, true
}

// ProjectPolicy gives a project's policy, the zero one where it has none of
// its own.
func (s *Service) ProjectPolicy(ctx context.Context, c Caller, project string) (Policy, error) {
	var p Policy
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead, project)
		if err != nil {
			return err
		}
		found, err := q.ProjectPolicies(ctx, sqlc.ProjectPoliciesParams{ProjectIds: []string{scope.Project}, TeamID: scope.Team})
		if err != nil {
			return fmt.Errorf("read policy: %w", err)
		}
		p = Policy{}
		for _, r := range found {
			p, _ = policyIn(r.Metadata)
		}
		return nil
	})
	return p, err
}

// of is how long a project's events wait, while their session runs; 0 means
// a job each.
func (w waits) of(project string) time.Duration {
	switch p := w.policy(project); p.Name {
	case PolicyDebounce:
		return p.Debounce
	case PolicyEndOfSession:
		return sessionWait
	}
	return 0
}

// after is how long what comes after the end of a session waits.
func (w waits) after(project string) time.Duration {
	if p := w.policy(project); p.Name != PolicyPerEvent {
		return p.Debounce
	}
	return 0
}

func (w waits) policy(project string) Policy {
	if p, ok := w.projects[project]; ok {
		return p
	}
	return w.server
}

// bySession is how long a batch of each session that open has not waits. The
// sessions are held, so none of them ends meanwhile; what comes after the end
// does not wait for it.
func (w waits) bySession(ctx context.Context, q *sqlc.Queries, team string, bursts []*item) (map[sessionRef]time.Duration, error) {
	wait := map[sessionRef]time.Duration{}
	p := sqlc.EndedSessionsParams{TeamID: team}
	for _, it := range bursts {
		ref := it.ref()
		if _, ok := wait[ref]; ok {
			continue
		}
		wait[ref] = w.of(ref.project)
		if w.policy(ref.project).Name == PolicyEndOfSession {
			p.Ids, p.ProjectIds = append(p.Ids, ref.id), append(p.ProjectIds, ref.project)
		}
	}
	if len(p.Ids) == 0 {
		return wait, nil
	}
	ended, err := q.EndedSessions(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	for _, r := range ended {
		wait[sessionRef{team, r.ProjectID, r.ID}] = w.after(r.ProjectID)
	}
	return wait, nil
}

// askNow asks at once for the batches of a session that wait for their time,
// and says whether there were any. The caller holds the session, so no event
// joins a batch that has not been seen here.
func (s *Service) askNow(ctx context.Context, tx pgx.Tx, q *sqlc.Queries, c Caller, scope events.Scope, session string) (bool, error) {
	rows, err := q.LockWaitingBatches(ctx, sqlc.LockWaitingBatchesParams{SessionID: &session, TeamID: scope.Team, ProjectID: scope.Project})
	if err != nil {
		return false, fmt.Errorf("lock batches: %w", err)
	}
	if len(rows) == 0 {
		return false, nil
	}
	steps := make([]events.Step, len(rows))
	for i, r := range rows {
		steps[i] = events.Step{Job: db.JobOf(r), Event: events.Event{
			Type: events.Reclaimed, Actor: cmp.Or(c.KeyID, c.Actor), RequestID: plain(c.RequestID),
		}}
	}
	errs, err := s.jobs.Move(ctx, tx, steps)
	if err != nil {
		return false, err
	}
	for _, err := range errs {
		if err != nil {
			return false, fmt.Errorf("ask for a batch: %w", err) // they are held: nobody can have been first
		}
	}
	return true, nil
}
