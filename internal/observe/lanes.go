package observe

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	lanesFor   = time.Second // how long counts are good
	lanesCosts = 20          // or this many times as long as they took to count
)

// laneCache holds the last counts. The zero value is empty.
type laneCache struct {
	mu    sync.Mutex
	lanes []Lane
	until time.Time
}

// Lanes counts the jobs of each kind over all tenants, for those who look
// after the service. Counting reads the whole job table, so an answer is kept
// for a second, or for twenty times as long as it took to count.
func (s *Service) Lanes(ctx context.Context) ([]Lane, error) {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	start := time.Now()
	if start.Before(s.lanes.until) {
		return slices.Clone(s.lanes.lanes), nil
	}
	lanes, err := s.countLanes(ctx)
	if err != nil {
		return nil, fmt.Errorf("count lanes: %w", err)
	}
	took := time.Since(start)
	s.lanes.lanes, s.lanes.until = lanes, start.Add(max(lanesFor, lanesCosts*took))
	return slices.Clone(lanes), nil
}

func (s *Service) countLanes(ctx context.Context) ([]Lane, error) {
	lanes := make([]Lane, 0, len(Kinds()))
	for _, kind := range Kinds() {
		lanes = append(lanes, Lane{Kind: kind})
	}
	lane := func(kind string) *Lane {
		i := slices.IndexFunc(lanes, func(l Lane) bool { return string(l.Kind) == kind })
		if i < 0 { // a kind of another program on the same database
			i, lanes = len(lanes), append(lanes, Lane{Kind: events.Kind(kind)})
		}
		return &lanes[i]
	}
	var asks []sqlc.LaneAsksRow
	var jobs []sqlc.LaneJobsRow
	err := db.ReadAll(ctx, s.pool, func(tx pgx.Tx) (err error) {
		q := s.q.WithTx(tx)
		if asks, err = q.LaneAsks(ctx); err == nil {
			jobs, err = q.LaneJobs(ctx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, a := range asks {
		l := lane(a.JobType)
		l.Waiting, l.Delayed = a.Waiting, a.Delayed
		l.Oldest = max(0, time.Duration(a.OldestUs)*time.Microsecond)
	}
	for _, j := range jobs {
		switch l := lane(j.JobType); events.Status(j.Status) {
		case events.StatusProcessing:
			l.Active = j.Jobs
		case events.StatusCompleted:
			l.Completed = j.Jobs
		case events.StatusFailed:
			l.Failed = j.Jobs
		default: // the query leaves out the others
		}
	}
	return lanes, nil
}
