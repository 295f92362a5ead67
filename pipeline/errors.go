package pipeline

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The causes that a handler's context ends with (see context.Cause).
var (
	ErrTimeout    = errors.New("the handler took too long")
	ErrDraining   = errors.New("the worker is stopping")
	ErrLeaseLost  = errors.New("the worker could not tell the ledger that it lives")
	ErrSuperseded = errors.New("the attempt was asked for again")
	ErrTaken      = errors.New("the job was settled, or begun by someone else, before it was claimed") // only of brief ones
)

// errWrongLane says that a message is not of the kind that its lane handles.
var errWrongLane = errors.New("no handler here does jobs of this kind")

// Permanent marks an error that trying again cannot mend: the job fails now.
// A nil error stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// RetryAfter marks an error that is worth another attempt, but not before d
// has passed. A nil error stays nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryError{d, err}
}

type retryError struct {
	after time.Duration
	err   error
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// Unavailable marks an error that says nothing about the job: what the handler
// depends on refuses work for now, or is not set up. The job is given back, the
// attempt does not count, and the next one is not before after has passed. Too
// many such errors in a row make the lane rest; see [Breaker]. A nil error
// stays nil.
func Unavailable(after time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &awayError{after, true, err}
}

// Trouble marks an error that may lie in what the handler depends on, or in
// this job. It counts towards the lane's rest as [Unavailable] does. The attempt
// counts as well, unless the lane rests by then. A nil error stays nil.
func Trouble(after time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &awayError{after, false, err}
}

// Hold marks an error that says that the job may not be done yet, for a reason
// of its own or of its tenant's: it is given back until after has passed, and
// the attempt does not count. The lane goes on with others. Its history tells
// such a release by [events.Held]. A nil error stays nil.
func Hold(after time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &holdError{after, err}
}

// Done is no failure: a handler returns it, beside its commit, when the job is
// completed in another way than usual, and the job's completed event says why.
type Done string

func (d Done) Error() string { return string(d) }

type holdError struct {
	after time.Duration
	err   error
}

func (e *holdError) Error() string { return e.err.Error() }
func (e *holdError) Unwrap() error { return e.err }

type awayError struct {
	after time.Duration
	free  bool
	err   error
}

func (e *awayError) Error() string { return e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// infrastructure reports whether err says something about the way to
// Postgres, or about what else goes on in it, rather than about what was
// asked of it. Such a transaction is worth repeating as it is.
func infrastructure(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08", "40", "53", "57", "58": // connection, rollback, resources, operator, system
			return true
		}
		switch pg.Code {
		case "55P03", // lock not available
			"25006",          // read only: we talk to what is no longer the primary
			"25P03", "25P04": // idle or transaction timeout
			return true
		}
		return false
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) || pgconn.Timeout(err)
}

// ownFault reports whether a transaction failed because of the commit in it:
// fromCommit is what the commit itself returned, err what became of the whole.
func ownFault(fromCommit, err error) bool {
	if fromCommit != nil {
		return !infrastructure(fromCommit)
	}
	// A commit can pass and still spoil the transaction: a deferred constraint,
	// an error that it hid, a transaction that it ended itself.
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return !infrastructure(err)
	}
	return errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed)
}

// unreadable reports whether Postgres cannot read what it was given, and so
// has stored nothing of it, now or before. Anything else that it says to a
// claim is waited out: an earlier try, whose answer got lost, may have been
// stored, and a job that we hold and have forgotten would be held for as long
// as we live.
func unreadable(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pg.Code, "22") // data exception
}

// maxReason bounds what of an error goes into history, in characters.
const maxReason = 500

// reason makes a short text of valid UTF-8 without control characters, which
// Postgres would not take or a terminal would obey.
func reason(s string) string {
	if len(s) > 4*maxReason {
		s = s[:4*maxReason]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, unicode.IsControl(r) && r != '\n' && r != '\t':
			return -1
		default:
			return r
		}
	}, s)
	if utf8.RuneCountInString(s) <= maxReason {
		return s
	}
	return string([]rune(s)[:maxReason-1]) + "…"
}
