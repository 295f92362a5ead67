package pipeline

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
)

// Commit is what a handler leaves to be written: it runs in the transaction
// that records the job as completed, and only if this worker still holds the
// job. It may run more than once, each time in a new transaction.
type Commit = func(ctx context.Context, tx pgx.Tx) error

// Ledger is where attempts are claimed and settled. Both take batches, for
// one transaction a job would cost seven eighths of the rate. db.Jobs and
// eventstest.Memory are Ledgers.
type Ledger interface {
	// Begin claims, for the worker, the jobs that the envelopes name, and
	// appends processing. The claims come in the envelopes' order. The claim
	// compares everything in the envelope with the job. A job that this worker
	// already holds for the same ask is claimed again without a new event.
	Begin(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error)
	// Look gives the jobs that the envelopes name as Begin would give them now,
	// and stores nothing: for those who settle them with steps that Begin. It
	// gives an error for whatever does not simply wait for that attempt; ask
	// Begin then what it means.
	Look(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error)
	// Settle appends each step's event and runs its commit (nil: none) in one
	// transaction for all, and there, if any step was stored, last. An error in the slice says that this step was not
	// stored: ErrHeld when the attempt is no longer ours, or, of one that
	// Begins, when the job does not wait for it any more. An error of the
	// second kind says that nothing of the batch was stored, or that its
	// outcome is unknown: settle the steps again, each by itself where a commit
	// may be to blame.
	Settle(ctx context.Context, steps []events.Step, commits []Commit, last ...Commit) ([]error, error)
	// Seen says that the worker lives. It must be repeated well within the lease.
	Seen(ctx context.Context, worker events.Holder) error
	// Gone says that the worker ends and holds nothing any more.
	Gone(ctx context.Context, worker events.Holder) error
}
