package db

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// Asks reads queued jobs' asks; see outbox.Store.
func (s *Jobs) Asks(ctx context.Context, q events.AskQuery) (asks []events.Ask, err error) {
	limit := int32(max(q.Limit, 1))
	var late span
	switch {
	case q.Delayed:
		asks, late, err = asked(s.q.AsksDelayed(ctx, limit))
	case q.Tenant != nil:
		asks, late, err = asked(s.q.AsksOfTenant(ctx, sqlc.AsksOfTenantParams{
			After: q.After, JobType: string(q.Kind), TeamID: q.Tenant.Team, ProjectID: q.Tenant.Project, MaxRows: limit,
		}))
	default:
		asks, late, err = asked(s.floor.read(ctx, s.q, sqlc.AsksAfterParams{After: q.After, MaxRows: limit}))
		if err == nil && len(q.Rows) > 0 {
			var more []events.Ask
			var later span
			more, later, err = asked(s.q.AsksIn(ctx, q.Rows))
			asks = append(more, asks...)
			late.add(later)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read asks: %w", err)
	}
	s.untold.saw(late)
	return asks, nil
}

// asked is what was read, and in which rows jobs are of which nobody was told.
// The queries have the same columns.
func asked[R sqlc.AsksAfterRow | sqlc.AsksInRow | sqlc.AsksDelayedRow | sqlc.AsksOfTenantRow](rows []R, err error) ([]events.Ask, span, error) {
	asks := make([]events.Ask, len(rows))
	var late span
	for i := range rows {
		r := sqlc.AsksAfterRow(rows[i])
		asks[i] = events.Ask{
			Row: r.ID, Priority: int(r.Priority), DueAt: timeOf(r.DueAt),
			Envelope: events.Envelope{
				Job: events.ID(r.JobID), Kind: events.Kind(r.JobType), Asked: int(r.Asked),
				Scope: events.Scope{Team: r.TeamID, Project: r.ProjectID},
			},
		}
		if !r.Told {
			late.add(span{r.ID, r.ID})
		}
	}
	return asks, late, err
}

// Waiting tells which rows of the outbox are still there.
func (s *Jobs) Waiting(ctx context.Context, rows []int64) ([]int64, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	left, err := s.q.WaitingRows(ctx, rows)
	if err != nil {
		return nil, fmt.Errorf("look for %d asks: %w", len(rows), err)
	}
	return left, nil
}

// Enqueued notes in the history of the jobs whose ask is in these rows that
// the broker has them. A job that moves meanwhile needs no such note.
func (s *Jobs) Enqueued(ctx context.Context, rows []int64) error {
	_, err := s.moveAsks(ctx, rows, events.Event{Type: events.Enqueued, Actor: "relay"})
	return err
}

// Again asks anew for the jobs whose ask is in these rows.
func (s *Jobs) Again(ctx context.Context, rows []int64) (events.Lost, error) {
	n, err := s.moveAsks(ctx, rows, events.Event{Type: events.Reclaimed, Actor: "relay", Reason: "its message was lost"})
	return events.Lost{Reclaimed: n}, err
}

func (s *Jobs) moveAsks(ctx context.Context, rows []int64, e events.Event) (int, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	jobs, err := s.q.JobsOfAsks(ctx, rows)
	if err != nil {
		return 0, fmt.Errorf("read the jobs of %d asks: %w", len(rows), err)
	}
	steps := make([]events.Step, len(jobs))
	for i, r := range jobs {
		steps[i] = events.Step{Job: JobOf(r), Event: e}
	}
	n, _, err := s.moveAll(ctx, steps) // of one that is held the relay hears again
	return n, err
}

// moveAll stores what it can of the steps and counts it. A step whose job has
// moved on is no longer wanted. One whose job is in the midst of somebody's
// transaction is left for later: a process that was frozen in one would hold
// up the relay, and with it everybody, until Postgres ends its session.
func (s *Jobs) moveAll(ctx context.Context, steps []events.Step) (n int, held bool, err error) {
	steps, held, err = s.free(ctx, steps)
	if err != nil || len(steps) == 0 {
		return 0, held, err
	}
	moved, _, err := s.move(ctx, s.q, steps)
	if transient(err) {
		moved, _, err = s.move(ctx, s.q, steps)
	}
	if err != nil {
		return 0, held, err
	}
	for _, m := range moved {
		if m != nil {
			n++
		}
	}
	return n, held, nil
}

// free leaves out the steps whose job another transaction holds, and says
// whether there were any.
func (s *Jobs) free(ctx context.Context, steps []events.Step) (some []events.Step, held bool, err error) {
	if len(steps) == 0 {
		return nil, false, nil
	}
	var p sqlc.FreeJobsParams
	for _, st := range steps {
		p.Ids = append(p.Ids, string(st.Job.ID))
		p.TeamIds = append(p.TeamIds, st.Job.Scope.Team)
		p.ProjectIds = append(p.ProjectIds, st.Job.Scope.Project)
	}
	ids, err := s.q.FreeJobs(ctx, p)
	if err != nil {
		return nil, false, fmt.Errorf("look whether %d jobs are held: %w", len(steps), err)
	}
	can := make(map[string]bool, len(ids))
	for _, id := range ids {
		can[id] = true
	}
	for _, st := range steps {
		if can[string(st.Job.ID)] {
			some = append(some, st)
		}
	}
	return some, len(some) < len(steps), nil
}

// Slots adds up the slots of the workers that were seen within the lease.
func (s *Jobs) Slots(ctx context.Context, lease time.Duration) (map[events.Kind]int, error) {
	workers, err := s.q.LiveWorkers(ctx, lease.Microseconds())
	if err != nil {
		return nil, fmt.Errorf("read the workers: %w", err)
	}
	total := make(map[events.Kind]int)
	for _, w := range workers {
		var slots map[events.Kind]int
		if err := json.Unmarshal(w.Slots, &slots); err != nil {
			return nil, fmt.Errorf("slots of worker %s: %w", w.ID, err)
		}
		for k, n := range slots {
			total[k] += n
		}
	}
	return total, nil
}

// relayLock is the advisory lock of the relay that leads: a number nobody
// else is likely to use ("obsrelay" in ASCII).
const relayLock = 0x6f62_7372_656c_6179

// leaderPing is how often the leader looks whether its lock's connection
// still lives, and leaderPatience how long that may take.
const (
	leaderPing     = 2 * time.Second
	leaderPatience = 5 * time.Second
)

// leaderSilence ends the session of a leader that does not ping: its process
// is stopped or its host is gone, which the server would notice after hours.
const leaderSilence = "SET idle_session_timeout = '5s'"

// Lead makes the caller the leader for as long as one connection lives. It is
// an optimisation: two leaders at once cost duplicates, nothing else.
func (s *Jobs) Lead(ctx context.Context) (context.Context, func(), error) {
	// A connection of its own, outside the pool: the lock is the session's.
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig.Copy())
	if err != nil {
		return nil, nil, fmt.Errorf("lead: %w", err)
	}
	won, err := sqlc.New(conn).TryLead(ctx, relayLock)
	if err == nil && won {
		_, err = conn.Exec(ctx, leaderSilence) // not at the start: poolers refuse settings that they do not know
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, nil, fmt.Errorf("lead: %w", err)
	}
	if !won {
		_ = conn.Close(ctx)
		return nil, nil, events.ErrNotLeader
	}
	led, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close(context.WithoutCancel(ctx))
		tick := time.NewTicker(leaderPing)
		defer tick.Stop()
		for {
			select {
			case <-led.Done():
				return
			case <-tick.C:
			}
			ping, stop := context.WithTimeout(led, leaderPatience)
			err := conn.Ping(ping)
			stop()
			if err != nil {
				cancel(fmt.Errorf("the leader's connection is lost: %w", err))
				return
			}
		}
	}()
	return led, func() { cancel(context.Canceled); <-done }, nil
}
