package outbox

import (
	"context"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// ErrNotLeader says that another process leads.
var ErrNotLeader = events.ErrNotLeader

// Store is where queued jobs wait. An ask is there exactly while its job is
// queued: the store adds it in the statement that queues the job, and takes
// it away in the one that begins the attempt, cancels or fails the job. The
// relay only reads it. db.Jobs and eventstest.Memory are Stores.
type Store interface {
	// Asks reads the asks that q describes. Those that are not due are left out.
	Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error)
	// Waiting tells which of these rows are still there.
	Waiting(ctx context.Context, rows []int64) ([]int64, error)
	// Enqueued appends a note to the history of those jobs whose ask is still
	// there: the broker has them and no worker took them yet.
	Enqueued(ctx context.Context, rows []int64) error
	// Again asks anew, under a new message id, for the jobs whose ask is still
	// in one of these rows: they were published and their message is lost.
	Again(ctx context.Context, rows []int64) (events.Lost, error)
	// Reclaim asks anew for the jobs held by workers that were not seen for
	// the lease, by the store's clock; those whose attempts are spent it fails.
	// A large store may look at a part each time, and say that there is More.
	Reclaim(ctx context.Context, lease time.Duration) (events.Lost, error)
	// Slots adds up the slots of the workers seen within the lease.
	Slots(ctx context.Context, lease time.Duration) (map[events.Kind]int, error)
	// Lead makes the caller the leader until release is called, or the
	// returned context ends because leadership was lost. ErrNotLeader when
	// another process leads.
	Lead(ctx context.Context) (led context.Context, release func(), err error)
}

// Feed is the events that followers have not been told yet.
type Feed interface {
	// Fresh reads the oldest rows, in their order: whole ones, until they have
	// limit events. A row may have one event of each of several jobs, and rows of
	// one place are told and taken away together. That a job is queued may be left
	// out for a while, at most until it moves on.
	Fresh(ctx context.Context, limit int) ([]events.FeedRow, error)
	// Told takes these rows away: the stream has confirmed all that is in them. It may be
	// forgotten in a crash, the events are then told again.
	Told(ctx context.Context, rows []int64) error
}
