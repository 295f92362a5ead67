package db_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/sqlc"
)

// However a transaction begins and ends, it is committed exactly when nothing
// of it fails, and its connection is good for the next one.
func TestInTxSoon(t *testing.T) {
	t.Parallel()
	pool := testenv.Pool(t)
	ctx := t.Context()
	team := func(id string) string { return "INSERT INTO teams (id, name) VALUES ('" + id + "', 'x')" }
	exec := func(q interface {
		Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	}, sql string,
	) error {
		_, err := q.Exec(ctx, sql)
		return err
	}
	first := map[string]func(tx pgx.Tx) error{
		"query": func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "SELECT setting FROM pg_settings WHERE name = $1", "lock_timeout")
			if err != nil {
				return err
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.Equal(t, []string{"50"}, got)
			return err
		},
		"row":     func(tx pgx.Tx) error { var n int; return tx.QueryRow(ctx, "SELECT 1").Scan(&n) },
		"exec":    func(tx pgx.Tx) error { return exec(tx, "SELECT 1") },
		"nothing": func(pgx.Tx) error { return nil },
		"bad query": func(tx pgx.Tx) error {
			_, err := sqlc.New(tx).TryProjects(ctx, sqlc.TryProjectsParams{Ids: []string{"\x00"}})
			return err
		},
		"bad row": func(tx pgx.Tx) error { var n int; return tx.QueryRow(ctx, "SELECT 1/0").Scan(&n) },
		"no such": func(tx pgx.Tx) error { return exec(tx, "SELECT FROM nowhere") },
	}
	for name, begin := range first {
		id := "by " + name
		err := db.InTxSoon(ctx, pool, func(tx pgx.Tx, last sqlc.DBTX) error {
			if err := begin(tx); err != nil {
				return err
			}
			if err := exec(tx, team(id)); err != nil {
				return err
			}
			return exec(last, team(id+" at last"))
		})
		want := 2
		if name == "bad query" || name == "bad row" || name == "no such" {
			pg, ok := errors.AsType[*pgconn.PgError](err)
			require.True(t, ok, "%s: %v", name, err)
			require.NotEmpty(t, pg.Code)
			want = 0
		} else {
			require.NoError(t, err, name)
		}
		var n int
		require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM teams WHERE id LIKE $1 || '%'", id).Scan(&n))
		require.Equal(t, want, n, name)
	}

	ouch := errors.New("ouch")
	for name, run := range map[string]func(tx pgx.Tx, last sqlc.DBTX) error{
		"fn fails": func(tx pgx.Tx, last sqlc.DBTX) error {
			return errors.Join(exec(tx, team("a")), exec(last, team("b")), ouch)
		},
		"the last one fails": func(tx pgx.Tx, last sqlc.DBTX) error { return errors.Join(exec(tx, team("a")), exec(last, team("a"))) },
		"only the last one": func(tx pgx.Tx, last sqlc.DBTX) error {
			return errors.Join(exec(tx, "SELECT 1"), exec(last, "SELECT 1/0"))
		},
		"asks at last": func(tx pgx.Tx, last sqlc.DBTX) error {
			_, err := last.Query(ctx, "SELECT 1")
			return errors.Join(exec(tx, team("a")), err, last.QueryRow(ctx, "SELECT 1").Scan())
		},
	} {
		require.Error(t, db.InTxSoon(ctx, pool, run), name)
		var n int
		require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM teams WHERE id IN ('a', 'b')").Scan(&n))
		require.Zero(t, n, name)
	}

	gone, cancel := context.WithCancel(ctx)
	err := db.InTxSoon(gone, pool, func(tx pgx.Tx, last sqlc.DBTX) error {
		defer cancel()
		return errors.Join(exec(tx, team("a")), exec(last, team("b")))
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, time.Minute, time.Millisecond)
	var n int
	require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM teams WHERE id IN ('a', 'b')").Scan(&n))
	require.Zero(t, n)
}
