package db

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-245eaa15/obs/sqlc"
)

// together asks several questions, each one query, in one round trip. Each is
// called twice: what it asks is noted first, and it is told that nothing was
// found; then it asks again, and has its answer.
func together(ctx context.Context, pool *pgxpool.Pool, questions ...func(ctx context.Context, q *sqlc.Queries) error) error {
	var b pgx.Batch
	for _, ask := range questions {
		if err := ask(ctx, sqlc.New((*notes)(&b))); err != nil {
			return err
		}
	}
	all := pool.SendBatch(ctx, &b)
	for _, ask := range questions {
		if err := ask(ctx, sqlc.New(answers{all})); err != nil {
			return errors.Join(err, all.Close())
		}
	}
	return all.Close()
}

var errNoQuestion = errors.New("what is asked together with others is a query for rows")

// notes keeps what it is asked.
type notes pgx.Batch

// Query keeps the question. It finds nothing.
func (n *notes) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	(*pgx.Batch)(n).Queue(sql, args...)
	return noRows{}, nil
}

// Exec is an error.
func (n *notes) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, errNoQuestion
}

// QueryRow is an error.
func (n *notes) QueryRow(context.Context, string, ...any) pgx.Row { return oneRow{err: errNoQuestion} }

// answers gives what was found, in the order of the questions.
type answers struct{ pgx.BatchResults }

func (a answers) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return a.BatchResults.Query()
}

func (a answers) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, errNoQuestion
}

func (a answers) QueryRow(context.Context, string, ...any) pgx.Row {
	return oneRow{err: errNoQuestion}
}

// noRows are none. Nobody asks them for more than the next one.
type noRows struct{ pgx.Rows }

func (noRows) Next() bool { return false }
func (noRows) Err() error { return nil }
func (noRows) Close()     {}
