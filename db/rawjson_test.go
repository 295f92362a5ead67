package db_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// A jsonb is the same however it is asked for, and nobody else's memory.
func TestJSONIsHandedOverAsItIs(t *testing.T) {
	t.Parallel()
	pool, err := db.Open(t.Context(), db.Config{URL: testenv.Postgres(t)})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	rows, err := pool.Query(t.Context(), `SELECT x, x, x, NULLIF(x, 'null') FROM unnest($1::jsonb[]) x`,
		[]json.RawMessage{json.RawMessage(`{"a": [1, "é\n", null]}`), json.RawMessage(`null`), json.RawMessage(` "s" `)})
	require.NoError(t, err)
	var raws, nulls []json.RawMessage
	for rows.Next() {
		var raw, null json.RawMessage
		var value any
		var text string
		require.NoError(t, rows.Scan(&raw, &value, &text, &null))
		want, err := json.Marshal(value)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(raw))
		require.Equal(t, text, string(raw))
		raws, nulls = append(raws, raw), append(nulls, null)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, []string{`{"a": [1, "é\n", null]}`, `null`, `"s"`}, []string{string(raws[0]), string(raws[1]), string(raws[2])})
	require.Equal(t, raws[0], nulls[0])
	require.Nil(t, nulls[1], "NULL")
	var o struct{ A []any }
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT '{"a": [1]}'::jsonb`).Scan(&o))
	require.Equal(t, []any{1.0}, o.A)
}
