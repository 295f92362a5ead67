package db_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// What our own way of writing lists sends is what pgx sends.
func TestListsArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pool, err := db.Open(t.Context(), db.Config{URL: url, MaxConns: 1})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	plain, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(plain.Close)
	const sql = `SELECT $1::text[]::text, $2::int[]::text, $3::bigint[]::text, $4::timestamptz[]::text, $1::text[], $2::int[], $3::bigint[], $4::timestamptz[]`
	type got struct {
		Shown   [4]*string
		Texts   []string
		Fours   []int32
		Eights  []int64
		Moments []time.Time
	}
	read := func(t require.TestingT, p *pgxpool.Pool, args ...any) (g got) {
		rows := p.QueryRow(context.Background(), sql, args...)
		require.NoError(t, rows.Scan(&g.Shown[0], &g.Shown[1], &g.Shown[2], &g.Shown[3], &g.Texts, &g.Fours, &g.Eights, &g.Moments))
		return g
	}
	require.Equal(t, read(t, plain, []string(nil), []int32(nil), []int64(nil), []time.Time(nil)), read(t, pool, []string(nil), []int32(nil), []int64(nil), []time.Time(nil)))
	rapid.Check(t, func(t *rapid.T) {
		args := []any{
			rapid.SliceOfN(rapid.StringMatching(`[^\x00]{0,20}`), 0, 5).Draw(t, "texts"),
			rapid.SliceOfN(rapid.Int32(), 0, 5).Draw(t, "fours"),
			rapid.SliceOfN(rapid.Int64(), 0, 5).Draw(t, "eights"),
			rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Time {
				return time.Unix(rapid.Int64Range(-60_000_000_000, 200_000_000_000).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
			}), 0, 5).Draw(t, "moments"),
		}
		require.Equal(t, read(t, plain, args...), read(t, pool, args...))
	})
}
