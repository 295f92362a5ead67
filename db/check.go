package db

import (
	"context"
	"errors"
	"fmt"
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
		histories, asksOf := make(map[string][]sqlc.JobEvent, n), make(map[string][]events.Ask)
		for _, e := range history {
			histories[e.JobID] = append(histories[e.JobID], e)
		}
		for _, a := range asks {
			asksOf[a.JobID] = append(asksOf[a.JobID], events.Ask{Row: a.ID, Envelope: events.Envelope{Asked: int(a.Asked)}})
		}
		alive := func(worker string) bool { return slices.Contains(live, worker) }
		for _, r := range rows {
			job := JobOf(r)
			history := make([]events.Event, len(histories[r.ID]))
			for i, e := range histories[r.ID] {
				if e.TeamID != r.TeamID || e.ProjectID != r.ProjectID {
					found = append(found, events.Finding{
						Invariant: "I9", Subject: "job " + r.ID, Text: fmt.Sprintf("event %d is another tenant's", e.Version),
					})
				}
				history[i] = eventOf(e)
			}
			found = append(found, events.Check(job, history, asksOf[r.ID], alive)...)
			if cfg.Job != nil {
				cfg.Job(job, history)
			}
		}
		return nil
	})
	return n, last, found, err
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
				add("I7", "job "+r.JobID, "row %d of the outbox asks for it, and it is not there or knows nothing of that", r.ID)
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
			each(ctx, q.CheckEventProjects, func(r sqlc.CheckEventProjectsRow) {
				add("I9", "agent event "+r.ID, "its team has no project %s", r.ProjectID)
			}),
			each(ctx, q.CheckEventSessions, func(r sqlc.CheckEventSessionsRow) {
				add("I9", "agent event "+r.ID, "its tenant has no session %s", r.SessionID)
			}),
			each(ctx, q.CheckStrayObservations, func(r sqlc.CheckStrayObservationsRow) {
				add("I9", "observation "+r.ID, "its team has no project %s, or that no session %s", r.ProjectID, textOf(r.ServerSessionID))
			}),
			each(ctx, q.CheckStraySources, func(r sqlc.CheckStraySourcesRow) {
				add("I9", "source "+r.ID, "its tenant has no observation %s", r.ObservationID)
			}),
			each(ctx, q.CheckStrayWords, func(project string) { add("I9", "project "+project, "it has words, and its team does not have it") }),
			each(ctx, q.CheckStrayAudit, func(r sqlc.CheckStrayAuditRow) {
				add("I9", fmt.Sprintf("audit row %d", r.ID), "there is no team %s, or it has no project %s", r.TeamID, textOf(r.ProjectID))
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

// PrunedBefore says which jobs somebody may have taken away: those that ended
// before. Zero-like, the epoch, where nobody did.
func (s *Jobs) PrunedBefore(ctx context.Context) (time.Time, error) {
	t, err := s.q.PrunedBefore(ctx)
	if err != nil {
		return t, fmt.Errorf("look for what was pruned: %w", err)
	}
	return t, nil
}

func textOf(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func each[R any](ctx context.Context, query func(context.Context) ([]R, error), fn func(R)) error {
	rows, err := query(ctx)
	for _, r := range rows {
		fn(r)
	}
	return err
}
