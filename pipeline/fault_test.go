package pipeline_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// What Postgres says about itself is waited out and is never the job's
// failure: not one attempt is spent on it.
func TestLedgerAway(t *testing.T) {
	t.Parallel()
	away := map[string]error{
		"shutting down":      &pgconn.PgError{Code: "57P01"},
		"too many clients":   &pgconn.PgError{Code: "53300"},
		"serialization":      &pgconn.PgError{Code: "40001"},
		"connection is gone": io.ErrUnexpectedEOF,
		"timeout":            context.DeadlineExceeded,
		"anything else":      errors.New("closed pool"),
	}
	for name, err := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.ledger.seen.Store(times(1, err))
			b.ledger.begin.Store(times(2, err))
			b.ledger.settle.Store(times(4, err))
			ran, committed := 0, 0
			id := b.add(t, "a", "x")
			_, stop := b.start(t, func(w *pipeline.Worker) {
				pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
					ran++
					return func(context.Context, pgx.Tx) error { committed++; return nil }, nil
				})
			})
			b.wait(t, id, events.StatusCompleted)
			b.empty(t)
			require.NoError(t, stop())
			require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
			require.Equal(t, 1, ran)
			require.Equal(t, 1, committed)
		})
	}
}

// A commit that meets trouble of Postgres is tried again as well.
func TestCommitMeetsInfrastructure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.add(t, "a", "x")
	ran, tries := 0, 0
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
			ran++
			return func(context.Context, pgx.Tx) error {
				if tries++; tries <= 3 {
					return &pgconn.PgError{Code: "40P01", Message: "deadlock detected"}
				}
				return nil
			}, nil
		})
	})
	b.wait(t, id, events.StatusCompleted)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
	require.Equal(t, 1, ran)
	require.Equal(t, 4, tries)
}

// A transaction whose answer is lost may have been stored. Asking again tells.
func TestSettleWithUnknownOutcome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ledger.stored.Store(times(1, io.ErrUnexpectedEOF))
	id := b.add(t, "a", "x")
	committed := 0
	w, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
			return func(context.Context, pgx.Tx) error { committed++; return nil }, nil
		})
	})
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
	require.Equal(t, 1, committed)
	require.EqualValues(t, 1, w.State().Lanes[0].Lost)
}

// A claim whose answer is lost is ours: nobody else would ever run the job.
func TestBeginWithUnknownOutcome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.add(t, "a", "x")
	tries := 0
	f := func() error {
		switch tries++; tries {
		case 1:
		case 2: // after a migration; it says nothing about what was stored before
			return &pgconn.PgError{Code: "0A000", Message: "cached plan must not change result type"}
		default:
			return nil
		}
		_, err := b.mem.Begin(t.Context(), events.Holder{ID: "w1"}, []events.Envelope{b.job(t, id).Envelope()})
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	b.ledger.begin.Store(&f)
	_, stop := b.start(t, func(w *pipeline.Worker) { pipeline.Handle(w, "a", nothing) })
	b.wait(t, id, events.StatusCompleted)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
}

// An envelope that Postgres will not read must not hold up the others of its
// batch.
func TestPoisonousEnvelope(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refused := make(chan error, 10)
	b.cfg.Refused = func(_ context.Context, _ events.Envelope, _ []byte, err error) { refused <- err }
	id := b.add(t, "a", "x")
	poison := events.Envelope{Job: "poison", Kind: "a", Asked: 1, Scope: events.Scope{Team: "\x00", Project: "p"}}
	_, err := b.js.Publish(t.Context(), "jobs.a", poison.Marshal())
	require.NoError(t, err)
	require.NoError(t, b.publish(t.Context()))

	b.ledger.poison = func(e events.Envelope) error {
		if e.Job == "poison" {
			return &pgconn.PgError{Code: "22021", Message: "invalid byte sequence for encoding"}
		}
		return nil
	}
	_, stop := b.start(t, func(w *pipeline.Worker) { pipeline.Handle(w, "a", nothing, pipeline.Slots(10)) })
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	require.NoError(t, stop())
	require.ErrorContains(t, <-refused, "invalid byte sequence")
	require.Empty(t, refused)
}

// What Postgres says about the commit's own statements is the attempt's
// failure, also when it comes out only at the end of the transaction.
func TestCommitIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fromCommit, fromSettle error
		reason                 string
	}{
		"constraint":          {fromCommit: &pgconn.PgError{Code: "23505", Message: "duplicate key"}, reason: "commit: : duplicate key (SQLSTATE 23505)"},
		"data":                {fromCommit: &pgconn.PgError{Code: "22001", Message: "too long"}, reason: "commit: : too long (SQLSTATE 22001)"},
		"limit":               {fromCommit: &pgconn.PgError{Code: "54000", Message: "too large"}, reason: "commit: : too large (SQLSTATE 54000)"},
		"internal":            {fromCommit: &pgconn.PgError{Code: "XX000", Message: "bug"}, reason: "commit: : bug (SQLSTATE XX000)"},
		"program":             {fromCommit: errors.New("index out of range"), reason: "commit: index out of range"},
		"deferred constraint": {fromSettle: &pgconn.PgError{Code: "23503", Message: "no such row"}, reason: "commit: : no such row (SQLSTATE 23503)"},
		"hidden error":        {fromSettle: pgx.ErrTxCommitRollback, reason: "commit: " + pgx.ErrTxCommitRollback.Error()},
		"ended by itself":     {fromSettle: pgx.ErrTxClosed, reason: "commit: " + pgx.ErrTxClosed.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if tt.fromSettle != nil {
				b.ledger.settle.Store(times(1, tt.fromSettle))
			}
			id := b.add(t, "a", "x", func(j *events.Job) { j.MaxAttempts = 1 })
			_, stop := b.start(t, func(w *pipeline.Worker) {
				pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
					return func(context.Context, pgx.Tx) error { return tt.fromCommit }, nil
				})
			})
			j := b.wait(t, id, events.StatusFailed)
			require.Equal(t, tt.reason, j.LastError)
			require.NoError(t, stop())
		})
	}
}
