package db_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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

// A connection writes its lists where it wrote those of statements before:
// larger and smaller ones, between texts, and in batches.
func TestListsOfOneConnectionDoNotMeet(t *testing.T) {
	t.Parallel()
	pool, err := db.Open(t.Context(), db.Config{URL: testenv.Postgres(t), MaxConns: 1})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	const sql = `SELECT md5($1::text[]::text), md5($2::text), md5($3::text[]::text), md5($4::int[]::text), md5($5::text[]::text),
		md5(array_fill($6::text, ARRAY[$7::int])::text)`
	list := rapid.Custom(func(t *rapid.T) []string {
		return slices.Repeat([]string{rapid.StringMatching(`[a-z]{1,3}`).Draw(t, "element")}, rapid.IntRange(0, 20_000).Draw(t, "elements"))
	})
	// Each statement has Postgres make its last list itself, which shows what the lists before it have to be.
	same := func(rows pgx.Rows, args []any) error {
		defer rows.Close()
		for rows.Next() {
			var sums [6]string
			if err := rows.Scan(&sums[0], &sums[1], &sums[2], &sums[3], &sums[4], &sums[5]); err != nil {
				return err
			}
			require.Equal(t, sums[5], sums[4])
			if slices.Equal(args[0].([]string), args[4].([]string)) {
				require.Equal(t, sums[5], sums[0])
			}
			if slices.Equal(args[2].([]string), args[4].([]string)) {
				require.Equal(t, sums[5], sums[2])
			}
		}
		return rows.Err()
	}
	rapid.Check(t, func(r *rapid.T) {
		var batch pgx.Batch
		var asked [][]any
		for range rapid.IntRange(1, 3).Draw(r, "statements") {
			last := append([]string{"x"}, list.Draw(r, "last")...)
			last = slices.Repeat(last[len(last)-1:], len(last))
			first, third := last, list.Draw(r, "third")
			if rapid.Bool().Draw(r, "swap") {
				first, third = third, first
			}
			args := []any{
				first, strings.Repeat("t", rapid.IntRange(0, 50_000).Draw(r, "text")), third,
				slices.Repeat([]int32{7}, rapid.IntRange(0, 20_000).Draw(r, "fours")), last, last[0], len(last),
			}
			asked = append(asked, args)
			batch.Queue(sql, args...)
		}
		err := pgx.BeginFunc(context.Background(), pool, func(tx pgx.Tx) error {
			for _, args := range asked {
				rows, err := tx.Query(context.Background(), sql, args...)
				if err != nil {
					return err
				}
				if err := same(rows, args); err != nil {
					return err
				}
			}
			results := tx.SendBatch(context.Background(), &batch)
			for _, args := range asked {
				rows, err := results.Query()
				if err != nil {
					return err
				}
				if err := same(rows, args); err != nil {
					return err
				}
			}
			return results.Close()
		})
		require.NoError(r, err)
	})
}
