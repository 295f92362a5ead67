package api_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// What goes wrong with Postgres is 503, so that clients send again; only what
// goes wrong here is 500.
func TestTroubleWithPostgresIsNotOurs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := testenv.EmptyPostgres(t)
	open := func() *pgx.Conn {
		conn, err := pgx.Connect(ctx, url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	closed := open()
	require.NoError(t, closed.Close(ctx))
	_, whenClosed := closed.Exec(ctx, "SELECT 1")
	require.ErrorContains(t, whenClosed, "conn closed")

	ended := open()
	other := open()
	_, err := other.Exec(ctx, "SELECT pg_terminate_backend($1)", ended.PgConn().PID())
	require.NoError(t, err)
	_, whenEnded := ended.Exec(ctx, "SELECT 1")
	require.Error(t, whenEnded)
	_, afterThat := ended.Exec(ctx, "SELECT 1")
	require.Error(t, afterThat)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, whenAway := pgx.Connect(ctx, "postgres://u@"+l.Addr().String()+"/d?sslmode=disable")

	for name, err := range map[string]error{
		"closed": whenClosed, "ended": whenEnded, "after that": afterThat, "away": whenAway,
		"late": context.DeadlineExceeded, "full": &pgconn.PgError{Code: "53300"},
	} {
		require.Equal(t, 503, api.StatusOf(fmt.Errorf("read: %w", err)), "%s: %v", name, err)
	}
	for name, err := range map[string]error{"ours": errors.New("no"), "a constraint": &pgconn.PgError{Code: "23514"}} {
		require.Equal(t, 500, api.StatusOf(err), name)
	}
}
