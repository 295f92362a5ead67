package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-245eaa15/obs/sqlc"
)

// InTxSoon is [InTx] for what must not wait: a statement that would wait for
// somebody's lock for longer than 50 ms fails (lock_not_available). It takes
// two round trips less: the transaction begins with fn's first query, and what
// fn gives to last, which only executes, is sent with the commit. The first of
// fn's statements is a Query, a QueryRow or an Exec.
func InTxSoon(ctx context.Context, pool *pgxpool.Pool, fn func(tx pgx.Tx, last sqlc.DBTX) error) error {
	return inTx(ctx, pool, &soon{impatient: true}, fn)
}

// inTx runs fn in the transaction that tx is to be.
func inTx(ctx context.Context, pool *pgxpool.Pool, tx *soon, fn func(tx pgx.Tx, last sqlc.DBTX) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // one that is in a transaction still is closed
	tx.conn = conn.Conn()
	if err := fn(tx, (*lastWords)(tx)); err != nil {
		if tx.Tx != nil {
			_ = tx.Rollback(ctx) // there is an error already
		}
		return err
	}
	return tx.end(ctx)
}

// soon is a transaction that begins with its first query.
type soon struct {
	pgx.Tx    // nil before
	conn      *pgx.Conn
	impatient bool // waits for no lock
	last      pgx.Batch
}

func (t *soon) begin() *pgx.Batch {
	var b pgx.Batch
	b.BeginTx(pgx.TxOptions{})
	if t.impatient {
		b.Queue("SET LOCAL lock_timeout = '50ms'")
	}
	return &b
}

// Query also begins the transaction.
func (t *soon) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if t.Tx != nil {
		return t.Tx.Query(ctx, sql, args...)
	}
	b := t.begin()
	b.Queue(sql, args...)
	results := t.conn.SendBatch(ctx, b)
	t.Tx = results.Tx()
	for range b.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			return nil, errors.Join(err, results.Close())
		}
	}
	rows, err := results.Query()
	if err != nil {
		return nil, errors.Join(err, results.Close())
	}
	return firstRows{rows, results}, nil
}

// Exec also begins the transaction.
func (t *soon) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if t.Tx == nil {
		results := t.conn.SendBatch(ctx, t.begin())
		t.Tx = results.Tx()
		if err := results.Close(); err != nil {
			return pgconn.CommandTag{}, err
		}
	}
	return t.Tx.Exec(ctx, sql, args...)
}

// QueryRow also begins the transaction.
func (t *soon) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := t.Query(ctx, sql, args...)
	return oneRow{rows, err}
}

// end commits, and sends what was to be last along.
func (t *soon) end(ctx context.Context) error {
	switch {
	case t.Tx == nil:
		return nil
	case t.last.Len() == 0:
		return t.Commit(ctx)
	}
	t.last.Queue("commit")
	results := t.conn.SendBatch(ctx, &t.last)
	var tag pgconn.CommandTag
	var err error
	for range t.last.Len() {
		if tag, err = results.Exec(); err != nil {
			break // what comes behind it Postgres passes over
		}
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	switch {
	case err != nil:
		_ = t.Rollback(ctx) // there is an error already
		return err
	case tag.String() != "COMMIT":
		return fmt.Errorf("commit: %w", pgx.ErrTxCommitRollback)
	}
	return nil
}

// lastWords keeps what it is given until the commit.
type lastWords soon

// Exec keeps the statement. It tells of no rows.
func (t *lastWords) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	t.last.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

var errLast = errors.New("what is sent with the commit has no answer")

// Query is an error.
func (t *lastWords) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, errLast }

// QueryRow is an error.
func (t *lastWords) QueryRow(context.Context, string, ...any) pgx.Row { return oneRow{err: errLast} }

// firstRows are those of the first query. With them its batch is closed.
type firstRows struct {
	pgx.Rows
	of pgx.BatchResults
}

func (r firstRows) Close() {
	r.Rows.Close()
	_ = r.of.Close() // the rows have the error
}

// oneRow is the first of rows.
type oneRow struct {
	rows pgx.Rows
	err  error
}

func (r oneRow) Scan(to ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(to...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}
