package observe_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// documents are JSON texts in all their ways of writing.
func documents(t *rapid.T) string {
	blank := rapid.SampledFrom([]string{"", "", "", " ", "\n\t"})
	text := rapid.OneOf(
		rapid.SampledFrom([]string{
			`""`, `"a"`, `"b"`, `"aa"`, `"0"`, `"10"`, `"9"`, `"01"`, `"4294967294"`, `"4294967295"`, `"__proto__"`, `"__pr\u006fto__"`,
			`"a"`, `"é"`, `"é"`, `"ﬀ"`, `"😀"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00x"`, `"\u0000"`, "\"\xff\"", "\"\xf0\x9f\"",
			`"\n\t\b\f\r\"\\\/"`, `"\n\t\b\f\r\"\\"`, `"a\nb"`, `"é\n"`, `"\\/"`, `"\\u0041"`, `"\n\u0041"`, "\"\\n\xff\"", `"\u001f"`, "\"\x7f\"", `"<>&"`,
		}),
		rapid.Custom(func(t *rapid.T) string {
			b, err := json.Marshal(rapid.String().Draw(t, "text"))
			require.NoError(t, err)
			return string(b)
		}),
	)
	number := rapid.OneOf(
		rapid.SampledFrom([]string{
			"0", "-0", "-0.0", "0.10", "1.50e1", "1e3", "1E+3", "12.5e-3", "-1e-7", "0e5", "-0e-2", "1e400", "-1e400", "1e-400", "5e-324",
			"123456789012345678901234567890", "9007199254740993", "100000000000000", "999999999999999", "1234567890123456", "1e21", "1e-6",
			"0.000001e6", strings.Repeat("9", 308), strings.Repeat("9", 400), "0." + strings.Repeat("1", 400),
		}),
		rapid.Custom(func(t *rapid.T) string {
			b, err := json.Marshal(rapid.Float64().Filter(func(f float64) bool { return f == f && f-f == 0 }).Draw(t, "number"))
			require.NoError(t, err)
			return string(b)
		}),
	)
	var value func(depth int) string
	value = func(depth int) string {
		pad := func(s string) string { return blank.Draw(t, "before") + s + blank.Draw(t, "after") }
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		if depth > 4 {
			kind %= 4
		}
		switch kind {
		case 0:
			return pad(text.Draw(t, "text"))
		case 1:
			return pad(number.Draw(t, "number"))
		case 2, 3:
			return pad(rapid.SampledFrom([]string{"true", "false", "null", "{}", "[ ]"}).Draw(t, "word"))
		case 4:
			parts := make([]string, rapid.IntRange(0, 4).Draw(t, "length"))
			for i := range parts {
				parts[i] = value(depth + 1)
			}
			return pad("[" + strings.Join(parts, ",") + "]")
		default:
			parts := make([]string, rapid.IntRange(0, 6).Draw(t, "length"))
			for i := range parts {
				parts[i] = pad(text.Draw(t, "name")) + ":" + value(depth+1)
			}
			return pad("{" + strings.Join(parts, ",") + "}")
		}
	}
	return value(0)
}

// The two texts of a document are what the slow ways make of it, and the one
// that is stored is what Postgres makes of that: an answer need not be read.
func TestADocumentIsReadOnce(t *testing.T) {
	t.Parallel()
	pool := testenv.Pool(t)
	rapid.Check(t, func(rt *rapid.T) {
		var docs, slow, fast []string
		for range 30 {
			in := documents(rt)
			canonical, stored, err := observe.TextsOf([]byte(in))
			require.NoError(rt, err, in)
			want, err := observe.Canonical([]byte(in))
			require.NoError(rt, err, in)
			require.Equal(rt, string(want), string(canonical), in)
			storable, err := observe.Storable([]byte(in))
			require.NoError(rt, err, in)
			docs, slow, fast = append(docs, in), append(slow, string(storable)), append(fast, string(stored))
		}
		rows, err := pool.Query(t.Context(), "SELECT a::jsonb::text, b::jsonb::text FROM unnest($1::text[], $2::text[]) AS w(a, b)", slow, fast)
		require.NoError(rt, err)
		defer rows.Close()
		for i := 0; rows.Next(); i++ {
			var a, b string
			require.NoError(rt, rows.Scan(&a, &b))
			require.Equal(rt, a, fast[i], "%q", docs[i])
			require.Equal(rt, b, fast[i], "%q", docs[i])
		}
		require.NoError(rt, rows.Err())
	})
}

func FuzzDocument(f *testing.F) {
	for _, s := range []string{
		`{"b":[3,{"z":1,"a":"é"}],"a":null}`, `{"10":1,"9":2,"__proto__":3}`, `["\ud800","\u0000",1e400,-0]`, "\"\xff\"", `{"a":1,"a":2}`,
		``, ` `, `{`, `[1,]`, `{"a":1,}`, `{a:1}`, `01`, `1 2`, `[]x`, `"\u12"`, `"\x"`, "\"\n\"", `nul`, `{"a"}`, `+1`, `.5`, `-`, `1.`, `1e`, `tru`,
		strings.Repeat("[", 1001) + strings.Repeat("]", 1001), strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		want, wrong := observe.Canonical(in)
		canonical, stored, err := observe.TextsOf(in)
		require.Equal(t, fmt.Sprint(wrong), fmt.Sprint(err))
		if err != nil {
			return
		}
		require.Equal(t, string(want), string(canonical))
		again, stillStored, err := observe.TextsOf(stored)
		require.NoError(t, err)
		require.Equal(t, string(stored), string(stillStored), "what is stored is stored as it is")
		require.True(t, json.Valid(again))
	})
}
