package db_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// What is written at once is what pgx writes, and Postgres reads it so.
func TestTextsAreWrittenAsPgxWritesThem(t *testing.T) {
	t.Parallel()
	pool, err := db.Open(t.Context(), db.Config{URL: testenv.EmptyPostgres(t), MaxConns: 1})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	ours, theirs := conn.Conn().TypeMap(), pgtype.NewMap()
	before, ctx := []byte("what was there"), t.Context()
	same := func(t require.TestingT, texts []string) {
		want, err := theirs.Encode(pgtype.TextArrayOID, pgtype.BinaryFormatCode, texts, before)
		require.NoError(t, err)
		got, err := ours.Encode(pgtype.TextArrayOID, pgtype.BinaryFormatCode, texts, before)
		require.NoError(t, err)
		require.Equal(t, want, got)
		var back []string
		require.NoError(t, conn.QueryRow(ctx, "SELECT $1::text[]", texts).Scan(&back))
		require.Equal(t, texts, back)
	}
	same(t, nil)
	same(t, []string{})
	storable := rapid.String().Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
	rapid.Check(t, func(rt *rapid.T) { same(rt, rapid.SliceOfN(storable, 0, 9).Draw(rt, "texts")) })
}
