package db

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// CheckConfig says how strictly to check. The zero value suits live data.
type CheckConfig struct {
	Lease time.Duration                    // a worker not seen for twice as long holds nothing; zero means 30 s
	Page  int                              // jobs read at once; zero means 500
	Each  func(jobs, findings int)         // told after each page; nil: nobody
	Job   func(events.Job, []events.Event) // is given each job with its history, oldest first; nil: nobody
}

// Check reads every job with its history and verifies what must always hold:
// I1 to I9, I12 to I14 and I16 of docs/architecture.md. It may run on live
// data, since each page is one snapshot. What it finds wrong is in the answer;
// the error says that it could not look.
func (s *Jobs) Check(ctx context.Context, cfg CheckConfig) ([]events.Finding, error) {
	if cfg.Lease <= 0 {
		cfg.Lease = 30 * time.Second
	}
	if cfg.Page <= 0 {
		cfg.Page = 500
	}
	var found []events.Finding
	after, seen := "", 0
	for {
		n, last, fs, err := s.checkPage(ctx, cfg, after)
		if err != nil {
			return found, fmt.Errorf("check: %w", err)
		}
		found, seen, after = append(found, fs...), seen+n, last
		if cfg.Each != nil {
			cfg.Each(seen, len(found))
		}
		if n < cfg.Page {
			break
		}
	}
	fs, err := s.checkTables(ctx)
	if err != nil {
		return found, fmt.Errorf("check: %w", err)
	}
	return append(found, fs...), nil
}

var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

func (s *Jobs) checkPage(ctx context.Context, cfg CheckConfig, after string) (n int, last string, found []events.Finding, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, snapshot, func(tx pgx.Tx) error {
		q := s.q.WithTx(tx)
		rows, err := q.CheckJobs(ctx, sqlc.CheckJobsParams{After: after, MaxRows: int32(cfg.Page)})
		if err != nil || len(rows) == 0 {
			return err
		}
		n, last = len(rows), rows[len(rows)-1].ID
		ids := make([]string, n)
		for i, r := range rows {
			ids[i] = r.ID
		}
		history, err := q.CheckHistories(ctx, ids)
		if err != nil {
			return err
		}
		asks, err := q.CheckAsks(ctx, ids)
		if err != nil {
			return err
		}
		live, err := q.CheckLiveWorkers(ctx, (2 * cfg.Lease).Microseconds())
		if err != nil {
			return err
		}
		histories, asksOf := make(map[string][]sqlc.JobEvent, n), make(map[string][]sqlc.Outbox)
		for _, e := range history {
			histories[e.JobID] = append(histories[e.JobID], e)
		}
		for _, a := range asks {
			asksOf[a.JobID] = append(asksOf[a.JobID], a)
		}
		for _, r := range rows {
			job := JobOf(r)
			c := jobCheck{job: job, live: live, asks: asksOf[r.ID]}
			for _, e := range histories[r.ID] {
				if e.TeamID != r.TeamID || e.ProjectID != r.ProjectID {
					c.add("I9", "event %d is another tenant's", e.Version)
				}
				c.history = append(c.history, eventOf(e))
			}
			c.run()
			if cfg.Job != nil {
				cfg.Job(job, c.history)
			}
			found = append(found, c.found...)
		}
		return nil
	})
	return n, last, found, err
}

// jobCheck looks at one job, with its history oldest first.
type jobCheck struct {
	job     events.Job
	history []events.Event
	asks    []sqlc.Outbox
	live    []string
	found   []events.Finding
}

func (c *jobCheck) add(invariant, format string, args ...any) {
	c.found = append(c.found, events.Finding{Invariant: invariant, Subject: "job " + string(c.job.ID), Text: fmt.Sprintf(format, args...)})
}

func (c *jobCheck) run() {
	c.versions()
	c.fold()
	c.ends()
	c.place()
	if locked := c.job.LockedBy != ""; locked != (c.job.Status == events.StatusProcessing) {
		c.add("I12", "it is %s and locked by %q", c.job.Status, c.job.LockedBy)
	}
}

func (c *jobCheck) versions() {
	if len(c.history) == 0 {
		c.add("I2", "it has no history")
	}
	for i, e := range c.history {
		if e.Version != i+1 {
			c.add("I2", "event %d stands where event %d should", e.Version, i+1)
			break
		}
		if i > 0 && e.At.Before(c.history[i-1].At) {
			c.add("I13", "event %d is before event %d", e.Version, e.Version-1)
		}
	}
	if n := len(c.history); n > 0 && c.history[n-1].Version != c.job.Version {
		c.add("I2", "its row is at version %d, its history at %d", c.job.Version, c.history[n-1].Version)
	}
}

func (c *jobCheck) fold() {
	j := c.job.Unborn()
	for i, e := range c.history {
		e.Version = i + 1 // gaps are I2's
		up, err := events.Upcast(e)
		if err != nil {
			c.add("I3", "%v", err)
			return
		}
		next, err := j.Apply(up)
		if err != nil {
			c.add("I3", "%v", err)
			return
		}
		if e.Status != next.Status || e.Attempt != next.Attempts {
			c.add("I3", "event %d says %s at attempt %d, folded it is %s at attempt %d", e.Version, e.Status, e.Attempt, next.Status, next.Attempts)
		}
		j = next
	}
	for _, d := range differences(c.job, j) {
		c.add("I1", "its row differs from its history in %s", d)
	}
}

// differences names the fields in which two jobs differ.
func differences(a, b events.Job) []string {
	var names []string
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		x, y := va.Field(i).Interface(), vb.Field(i).Interface()
		if tx, ok := x.(time.Time); ok {
			if ty, _ := y.(time.Time); tx.Equal(ty) {
				continue
			}
		}
		if !reflect.DeepEqual(x, y) {
			names = append(names, va.Type().Field(i).Name)
		}
	}
	return names
}

func (c *jobCheck) ends() {
	completed, attempts := 0, 0
	for i, e := range c.history {
		if i > 0 && c.history[i-1].Status.Settled() && (e.Type != events.Queued || e.Actor == "") {
			c.add("I4", "%s follows %s", e.Type, c.history[i-1].Type)
		}
		switch e.Type {
		case events.Completed:
			completed++
		case events.Queued:
			attempts = 0
		case events.Processing:
			attempts++
		case events.Released:
			attempts--
		case events.Enqueued, events.RetryScheduled, events.Failed, events.Cancelled, events.Reclaimed:
		}
	}
	if completed > 1 {
		c.add("I4", "it was completed %d times", completed)
	}
	if c.job.Attempts != attempts || attempts > c.job.MaxAttempts {
		c.add("I5", "it counts %d attempts of %d, its history has %d", c.job.Attempts, c.job.MaxAttempts, attempts)
	}
}

// place verifies that somebody will move the job on: it waits in the outbox,
// or a live worker holds it.
func (c *jobCheck) place() {
	switch c.job.Status {
	case events.StatusQueued:
		if len(c.asks) == 0 {
			c.add("I6", "it is queued and nothing asks for it")
		}
	case events.StatusProcessing:
		if !slices.Contains(c.live, c.job.LockedBy) {
			c.add("I6", "it is processing under a worker that is gone")
		}
	case events.StatusCompleted, events.StatusFailed, events.StatusCancelled:
	}
	for _, a := range c.asks {
		if c.job.Status != events.StatusQueued {
			c.add("I7", "it is %s and row %d of the outbox asks for it", c.job.Status, a.ID)
		}
		if int(a.Asked) != c.job.Asked {
			c.add("I7", "row %d of the outbox asks for %d, the job for %d", a.ID, a.Asked, c.job.Asked)
		}
	}
}

// checkTables verifies what needs no fold.
func (s *Jobs) checkTables(ctx context.Context) (found []events.Finding, err error) {
	add := func(invariant, subject, format string, args ...any) {
		found = append(found, events.Finding{Invariant: invariant, Subject: subject, Text: fmt.Sprintf(format, args...)})
	}
	err = pgx.BeginTxFunc(ctx, s.pool, snapshot, func(tx pgx.Tx) error {
		q := s.q.WithTx(tx)
		return errors.Join(
			each(ctx, q.CheckStrayHistory, func(id string) { add("I1", "job "+id, "it has a history and no row") }),
			each(ctx, q.CheckStrayAsks, func(r sqlc.CheckStrayAsksRow) {
				add("I7", "job "+r.JobID, "row %d of the outbox asks for it, and it is not there", r.ID)
			}),
			each(ctx, q.CheckObservationJobs, func(r sqlc.CheckObservationJobsRow) {
				add("I8", "observation "+r.ID, "its job %s is %s", r.JobID, r.JobStatus)
			}),
			each(ctx, q.CheckObservationSources, func(r sqlc.CheckObservationSourcesRow) {
				add("I8", "observation "+r.ID, "it has %d sources, %d of them of another job", r.Sources, r.Strange)
			}),
			each(ctx, q.CheckGenerationKeys, func(r sqlc.CheckGenerationKeysRow) {
				add("I8", "generation key "+r.GenerationKey, "%d observations have it", r.Copies)
			}),
			each(ctx, q.CheckSourceEvents, func(r sqlc.CheckSourceEventsRow) {
				add("I9", "source "+r.ID, "its tenant has no agent event %s", r.SourceID)
			}),
			each(ctx, q.CheckJobScopes, func(r sqlc.CheckJobScopesRow) {
				add("I9", "job "+r.ID, "its tenant has no %s %s", r.SourceType, r.SourceID)
			}),
			each(ctx, q.CheckEventSessions, func(r sqlc.CheckEventSessionsRow) {
				add("I9", "agent event "+r.ID, "its session %s is another tenant's", r.SessionID)
			}),
			each(ctx, q.CheckAuditScopes, func(r sqlc.CheckAuditScopesRow) {
				add("I9", fmt.Sprintf("audit row %d", r.ID), "job %s is another tenant's", r.JobID)
			}),
			each(ctx, q.CheckEventKeys, func(r sqlc.CheckEventKeysRow) {
				add("I14", "idempotency key "+r.IdempotencyKey, "%d agent events have it", r.Copies)
			}),
			each(ctx, q.CheckJobKeys, func(r sqlc.CheckJobKeysRow) {
				add("I14", r.SourceType+" "+r.SourceID, "%d jobs of type %s are about it", r.Copies, r.JobType)
			}),
			each(ctx, q.CheckSummaries, func(r sqlc.CheckSummariesRow) {
				add("I8", "session "+r.SessionID, "it has %d summaries", r.Copies)
			}),
			each(ctx, q.CheckOperatorAudit, func(r sqlc.CheckOperatorAuditRow) {
				add("I16", "job "+r.JobID, "event %d, %s, is not in the audit log", r.Version, r.EventType)
			}),
		)
	})
	return found, err
}

func each[R any](ctx context.Context, query func(context.Context) ([]R, error), fn func(R)) error {
	rows, err := query(ctx)
	for _, r := range rows {
		fn(r)
	}
	return err
}
