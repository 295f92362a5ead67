package db

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// Jobs is the job table with its history, outbox and feed. Every change of a
// job goes through events.Job.Apply and one statement. It is safe for
// concurrent use; the zero value is not usable, see [NewJobs].
type Jobs struct {
	pool *pgxpool.Pool
	q    *sqlc.Queries
	cfg  JobsConfig

	reclaims reclaims
	fed      feedMark
	untold   untold
	floor    askFloor
}

// JobsConfig says who writes. The zero value works.
type JobsConfig struct {
	Process string // stands in the events that name no process; empty is kept empty
	Build   string // the program's version
	// Beside gives one query that is asked in the same round trip as a look at
	// jobs, for what their handlers are going to need, and what it has found for
	// a job, which is in its claim. The query is called twice for each look; the
	// first time it finds nothing. Nil: nothing.
	Beside func(es []events.Envelope) (ask func(ctx context.Context, q *sqlc.Queries) error, found func(events.Job) any)
}

// NewJobs gives the job table behind the pool, which stays the caller's.
func NewJobs(pool *pgxpool.Pool, cfg JobsConfig) *Jobs {
	return &Jobs{pool: pool, q: sqlc.New(pool), cfg: cfg}
}

// ErrNoProject says that a job was to be made in a project that is not there,
// or not the team's.
var ErrNoProject = errors.New("no such project")

// Enqueue adds jobs in the caller's transaction, or in one of its own when tx
// is nil, which is one round trip to Postgres instead of three: each gets its
// row, its queued event and its place in the outbox, or none of them if the job
// exists already (added is then false: the work has been asked for before).
// Make the steps with events.New. Ring the relay's bell after the commit.
// ErrNoProject spoils the transaction's purpose, not the transaction.
func (s *Jobs) Enqueue(ctx context.Context, tx pgx.Tx, steps ...events.Step) (added []bool, err error) {
	if len(steps) == 0 {
		return nil, nil
	}
	added = make([]bool, len(steps))
	if len(steps) == 1 {
		made, err := s.Add(ctx, tx, steps...)
		if err != nil {
			return nil, err
		}
		added[0] = made[0] != nil
		return added, nil
	}
	err = s.addMany(ctx, tx, steps, func(i int, _ *sqlc.EnqueueJobsRow) error {
		added[i] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return added, nil
}

// Add is [Jobs.Enqueue] for those who want to see the jobs: those that were
// added, as they are now, and nil for those that exist already.
func (s *Jobs) Add(ctx context.Context, tx pgx.Tx, steps ...events.Step) ([]*events.Job, error) {
	switch {
	case len(steps) == 0:
		return nil, nil
	case len(steps) == 1 && steps[0].Delay <= 0 && steps[0].Event.Reason == "":
		job, err := s.addOne(ctx, tx, &steps[0])
		if err != nil {
			return nil, err
		}
		return []*events.Job{job}, nil
	}
	made := make([]*events.Job, len(steps))
	err := s.addMany(ctx, tx, steps, func(i int, r *sqlc.EnqueueJobsRow) (err error) {
		made[i], err = madeOf(&steps[i], r.CreatedAt, r.NextAttemptAt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// addMany stores new jobs and tells of those that were not there yet.
func (s *Jobs) addMany(ctx context.Context, tx pgx.Tx, steps []events.Step, made func(i int, r *sqlc.EnqueueJobsRow) error) error {
	n := len(steps)
	p := sqlc.EnqueueJobsParams{
		Ids: make([]string, 0, n), TeamIds: make([]string, 0, n), ProjectIds: make([]string, 0, n), JobTypes: make([]string, 0, n),
		SourceTypes: make([]string, 0, n), SourceIds: make([]string, 0, n), Payloads: make([]string, 0, n), RequestIds: make([]string, 0, n),
		Priorities: make([]int32, 0, n), MaxAttempts: make([]int32, 0, n), DelaysUs: make([]int64, 0, n),
		Actor: steps[0].Event.Actor, Reason: steps[0].Event.Reason, RequestID: steps[0].Job.RequestID,
		Process: s.cfg.Process, Build: s.cfg.Build, Schema: events.Schema,
	}
	place := make(map[string]int, n)                              // the same job twice in one call is added once
	actorOf, reasonOf := map[string]string{}, map[string]string{} // where they differ from the first
	for i := range steps {
		st := &steps[i]
		j, err := newJob(st)
		if err != nil {
			return err
		}
		if _, twice := place[string(j.ID)]; twice {
			continue
		}
		place[string(j.ID)] = i
		p.Ids = append(p.Ids, string(j.ID))
		p.TeamIds = append(p.TeamIds, j.Scope.Team)
		p.ProjectIds = append(p.ProjectIds, j.Scope.Project)
		if !slices.Contains(p.Projects, j.Scope.Project) {
			p.Projects = append(p.Projects, j.Scope.Project)
		}
		p.JobTypes = append(p.JobTypes, string(j.Kind))
		p.SourceTypes = append(p.SourceTypes, j.SourceType)
		p.SourceIds = append(p.SourceIds, j.SourceID)
		p.Payloads = append(p.Payloads, arguments(&j))
		p.Escapes = p.Escapes || escaped(j.Args)
		p.RequestIds = append(p.RequestIds, j.RequestID)
		p.Requests = p.Requests || j.RequestID != p.RequestID
		p.Priorities = append(p.Priorities, int32(j.Priority))
		p.MaxAttempts = append(p.MaxAttempts, int32(j.MaxAttempts))
		p.DelaysUs = append(p.DelaysUs, st.Delay.Microseconds())
		p.Delayed = p.Delayed || st.Delay > 0
		if st.Event.Actor != p.Actor {
			actorOf[string(j.ID)] = st.Event.Actor
		}
		if st.Event.Reason != p.Reason {
			reasonOf[string(j.ID)], p.Reasons = st.Event.Reason, true
		}
	}
	var err error
	if p.ActorOf, err = json.Marshal(actorOf); err == nil {
		p.ReasonOf, err = json.Marshal(reasonOf)
	}
	if err != nil {
		return fmt.Errorf("enqueue %d jobs: %w", n, err)
	}
	q := s.in(tx)
	rows, err := q.EnqueueJobs(ctx, p)
	if err == nil && len(rows) < len(p.Ids) {
		err = knownProjects(ctx, q, steps)
	}
	if err != nil {
		return fmt.Errorf("enqueue %d jobs: %w", len(steps), err)
	}
	for i := range rows {
		if err := made(place[rows[i].ID], &rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// in gives the queries in the transaction, or, without one, each by itself.
func (s *Jobs) in(tx pgx.Tx) *sqlc.Queries {
	if tx == nil {
		return s.q
	}
	return s.q.WithTx(tx)
}

// newJob is the job that a step is to make.
func newJob(st *events.Step) (events.Job, error) {
	j, _, err := st.Next()
	if err == nil && (j.SourceType == "" || j.SourceID == "") {
		err = errors.New("want what the job is about: a source's type and id")
	}
	if err != nil {
		return events.Job{}, fmt.Errorf("enqueue job %s: %w", st.Job.ID, err)
	}
	return j, nil
}

// arguments are a job's as a text: the same bytes, which nobody changes while
// they are sent, for to copy them was a twentieth of all garbage.
func arguments(j *events.Job) string {
	return cmp.Or(unsafe.String(unsafe.SliceData(j.Args), len(j.Args)), "{}") //nolint:gosec // as said above
}

// escaped reports whether arguments may say what no text of Postgres can be: NUL,
// or half a surrogate pair.
func escaped(args []byte) bool { return bytes.Contains(args, []byte(`\u`)) }

// addOne is Add for one job that is due at once and asked for without a
// reason, by a statement that is cheaper to begin.
func (s *Jobs) addOne(ctx context.Context, tx pgx.Tx, st *events.Step) (*events.Job, error) {
	j, err := newJob(st)
	if err != nil {
		return nil, err
	}
	q := s.in(tx)
	at, err := q.EnqueueJob(ctx, sqlc.EnqueueJobParams{
		ID: string(j.ID), TeamID: j.Scope.Team, ProjectID: j.Scope.Project, JobType: string(j.Kind), SourceType: j.SourceType, SourceID: j.SourceID,
		Payload: arguments(&j), Escapes: escaped(j.Args), RequestID: j.RequestID, Priority: int32(j.Priority), MaxAttempts: int32(j.MaxAttempts),
		Actor: st.Event.Actor, Process: s.cfg.Process, Build: s.cfg.Build, Schema: events.Schema,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = knownProjects(ctx, q, []events.Step{*st})
		if err == nil {
			return nil, nil // it is there already
		}
	}
	if err != nil {
		return nil, fmt.Errorf("enqueue job %s: %w", j.ID, err)
	}
	return madeOf(st, at, nil)
}

// madeOf is the job that a step has made, at a time that Postgres gave.
func madeOf(st *events.Step, at time.Time, next *time.Time) (*events.Job, error) {
	e := st.Event
	e.At, e.NextAt = at.UTC(), timeOf(next)
	j, err := st.Job.Apply(e)
	if err != nil {
		return nil, fmt.Errorf("enqueue job %s: %w", st.Job.ID, err)
	}
	return &j, nil
}

// knownProjects looks whether jobs were not made because their project is not
// there, rather than because the jobs are.
func knownProjects(ctx context.Context, q *sqlc.Queries, steps []events.Step) error {
	var p sqlc.KnownProjectsParams
	for _, st := range steps {
		p.ProjectIds, p.TeamIds = append(p.ProjectIds, st.Job.Scope.Project), append(p.TeamIds, st.Job.Scope.Team)
	}
	known, err := q.KnownProjects(ctx, p)
	if err != nil {
		return err
	}
	for _, st := range steps {
		want := sqlc.KnownProjectsRow{ID: st.Job.Scope.Project, TeamID: st.Job.Scope.Team}
		if !slices.Contains(known, want) {
			return fmt.Errorf("job %s: project %s of team %s: %w", st.Job.ID, want.ID, want.TeamID, ErrNoProject)
		}
	}
	return nil
}

// Get reads a job and its history. A job of another scope is ErrUnknownJob.
func (s *Jobs) Get(ctx context.Context, scope events.Scope, id events.ID) (events.Job, []events.Event, error) {
	var job events.Job
	var history []events.Event
	// One snapshot for both, or the row could be newer than the history.
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		q := s.q.WithTx(tx)
		row, err := q.GetJob(ctx, sqlc.GetJobParams{ID: string(id), TeamID: scope.Team, ProjectID: scope.Project})
		if errors.Is(err, pgx.ErrNoRows) {
			return events.ErrUnknownJob
		}
		if err != nil {
			return err
		}
		job = JobOf(row)
		rows, err := q.JobHistory(ctx, sqlc.JobHistoryParams{JobID: string(id), TeamID: scope.Team, ProjectID: scope.Project})
		for _, r := range rows {
			history = append(history, eventOf(r))
		}
		return err
	})
	if err != nil {
		return events.Job{}, nil, fmt.Errorf("get job %s: %w", id, err)
	}
	return job, history, nil
}

// Find tells whose job it is, for operators who know only its id. It is not
// for a tenant's requests.
func (s *Jobs) Find(ctx context.Context, id events.ID) (events.Scope, error) {
	rows, err := s.q.KnownJobs(ctx, []string{string(id)})
	if err != nil {
		return events.Scope{}, fmt.Errorf("find job %s: %w", id, err)
	}
	if len(rows) == 0 {
		return events.Scope{}, fmt.Errorf("find job %s: %w", id, events.ErrUnknownJob)
	}
	return events.Scope{Team: rows[0].TeamID, Project: rows[0].ProjectID}, nil
}

// Move stores steps in the caller's transaction, or in one of its own when tx
// is nil. The answer has an error for each step that was not stored: what the
// state machine says, or ErrHeld when the job is no longer at the version the
// step was computed from; read the job again then. At most one step a job.
func (s *Jobs) Move(ctx context.Context, tx pgx.Tx, steps []events.Step) ([]error, error) {
	moved, errs, err := s.move(ctx, s.in(tx), steps)
	if err != nil {
		return nil, err
	}
	for i := range steps {
		if errs[i] == nil && moved[i] == nil {
			errs[i] = events.ErrHeld
		}
	}
	return errs, nil
}

// move stores steps and gives the jobs as they are now; nil where the step's
// error is set or the row has moved on.
func (s *Jobs) move(ctx context.Context, q *sqlc.Queries, steps []events.Step) ([]*events.Job, []error, error) {
	moved, errs := make([]*events.Job, len(steps)), make([]error, len(steps))
	order := make([]int, 0, len(steps))
	for i := range steps {
		order = append(order, i)
	}
	// One order for everybody who locks several rows: no deadlocks.
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(steps[a].Job.ID, steps[b].Job.ID) })

	p := newMoves(len(steps))
	at := make(map[string]int, len(steps))
	var first sqlc.TellQueuedParams // those whose first event may be told from the outbox only
	for _, i := range order {
		st := &steps[i]
		st.Event.Process, st.Event.Build = cmp.Or(st.Event.Process, s.cfg.Process), cmp.Or(st.Event.Build, s.cfg.Build)
		next, e, err := st.Next()
		if err != nil {
			errs[i] = err
			continue
		}
		if _, twice := at[string(next.ID)]; twice {
			errs[i] = events.ErrHeld
			continue
		}
		at[string(next.ID)] = i
		appendMove(&p, st, next, e)
		if st.Job.Status == events.StatusQueued && st.Job.Version == 1 {
			first.Ids = append(first.Ids, string(next.ID))
			first.TeamIds = append(first.TeamIds, next.Scope.Team)
			first.ProjectIds = append(first.ProjectIds, next.Scope.Project)
		}
	}
	if len(p.Ids) == 0 {
		return moved, errs, nil
	}
	var rows []sqlc.MoveJobsRow
	var err error
	if len(first.Ids) > 0 {
		err = q.TellQueued(ctx, first)
	}
	if err == nil {
		rows, err = q.MoveJobs(ctx, p)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("move %d jobs: %w", len(p.Ids), err)
	}
	for _, r := range rows {
		i := at[r.ID]
		e := steps[i].Event
		e.At, e.NextAt = r.UpdatedAt.UTC(), timeOf(r.NextAttemptAt)
		next, err := steps[i].Job.Apply(e)
		if err != nil {
			return nil, nil, fmt.Errorf("move job %s: %w", r.ID, err)
		}
		moved[i] = &next
	}
	return moved, errs, nil
}

func newMoves(n int) sqlc.MoveJobsParams {
	return sqlc.MoveJobsParams{
		Ids: make([]string, 0, n), TeamIds: make([]string, 0, n), ProjectIds: make([]string, 0, n),
		Versions: make([]int32, 0, n), Types: make([]string, 0, n), Asks: make([]bool, 0, n), Waited: make([]bool, 0, n),
		Statuses: make([]string, 0, n), Asked: make([]int32, 0, n), Attempts: make([]int32, 0, n),
		LockedBy: make([]string, 0, n), LastErrors: make([]string, 0, n), DelaysUs: make([]int64, 0, n),
		Actors: make([]string, 0, n), Processes: make([]string, 0, n), Builds: make([]string, 0, n),
		RequestIds: make([]string, 0, n), Reasons: make([]string, 0, n), Details: make([]string, 0, n),
		Schema: events.Schema,
	}
}

func appendMove(p *sqlc.MoveJobsParams, st *events.Step, next events.Job, e events.Event) {
	p.Ids = append(p.Ids, string(next.ID))
	p.TeamIds = append(p.TeamIds, next.Scope.Team)
	p.ProjectIds = append(p.ProjectIds, next.Scope.Project)
	p.Versions = append(p.Versions, int32(st.Job.Version))
	p.Types = append(p.Types, string(e.Type))
	p.Asks = append(p.Asks, e.Type.Asks())
	p.Waited = append(p.Waited, st.Job.Status == events.StatusQueued) // so it has a row in the outbox
	p.Statuses = append(p.Statuses, string(next.Status))
	p.Asked = append(p.Asked, int32(next.Asked))
	p.Attempts = append(p.Attempts, int32(next.Attempts))
	p.LockedBy = append(p.LockedBy, next.LockedBy)
	p.LastErrors = append(p.LastErrors, next.LastError)
	delay := st.Delay
	if !e.Type.Asks() { // nothing waits for what asks for nothing
		delay = 0
	}
	p.DelaysUs = append(p.DelaysUs, delay.Microseconds())
	p.Actors = append(p.Actors, e.Actor)
	p.Processes = append(p.Processes, e.Process)
	p.Builds = append(p.Builds, e.Build)
	p.RequestIds = append(p.RequestIds, cmp.Or(e.RequestID, next.RequestID))
	p.Reasons = append(p.Reasons, e.Reason)
	p.Details = append(p.Details, string(e.Details))
}

// JobOf reads a row of the job table in the words of package events.
func JobOf(r sqlc.Job) events.Job {
	j := events.Job{
		ID: events.ID(r.ID), Kind: events.Kind(r.JobType), Scope: events.Scope{Team: r.TeamID, Project: r.ProjectID},
		SourceType: r.SourceType, SourceID: r.SourceID, Args: r.Payload, Priority: int(r.Priority),
		MaxAttempts: int(r.MaxAttempts), RequestID: r.RequestID,
		Status: events.Status(r.Status), Version: int(r.Version), Asked: int(r.Asked), Attempts: int(r.Attempts),
		NextAt: timeOf(r.NextAttemptAt), LockedAt: timeOf(r.LockedAt),
		CompletedAt: timeOf(r.CompletedAt), FailedAt: timeOf(r.FailedAt), CancelledAt: timeOf(r.CancelledAt),
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	if r.LockedBy != nil {
		j.LockedBy = *r.LockedBy
	}
	if r.LastError != nil {
		j.LastError = *r.LastError
	}
	return j
}

// eventOf reads a row of the history in the words of package events.
func eventOf(r sqlc.JobEvent) events.Event {
	return events.Event{
		Job: events.ID(r.JobID), Version: int(r.Version), Type: events.Type(r.EventType),
		Attempt: int(r.Attempt), Status: events.Status(r.StatusAfter), At: r.At.UTC(), NextAt: timeOf(r.NextAt),
		Actor: r.Actor, Process: r.Process, Build: r.Build, RequestID: r.RequestID, Reason: r.Reason,
		Details: r.Details, Schema: int(r.Schema),
	}
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// transient reports whether the statement may succeed when it is run again
// as it is: a deadlock or a serialization failure.
func transient(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "40P01" || pg.Code == "40001")
}
