package observe_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// Each pair is what node prints for
// JSON.stringify of the document rebuilt with sorted names.
func TestCanonicalIsWhatJavaScriptPrints(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"b":[3,{"z":1,"a":"é"}],"a":null}`:                   `{"a":null,"b":[3,{"a":"é","z":1}]}`,
		` [ 1 , true , false , null , "" ] `:                   `[1,true,false,null,""]`,
		`{"b":1,"10":2,"9":3,"a":4,"0":5,"01":6,"-1":7}`:       `{"0":5,"9":3,"10":2,"-1":7,"01":6,"a":4,"b":1}`,
		`{"4294967294":1,"4294967295":2,"4294967293":3,"5":4}`: `{"5":4,"4294967293":3,"4294967294":1,"4294967295":2}`,
		`{"a":1,"a":2,"b":{"c":1,"c":[]}}`:                     `{"a":2,"b":{"c":[]}}`,
		`{"__proto__":{"x":1},"a":1}`:                          `{"a":1}`,
		`{"__proto__":1}`:                                      `{}`,
		`{"a\u0062":1,"ab":2}`:                                 `{"ab":2}`,
		`{"ﬀ":1,"😀":2}`:                                        `{"😀":2,"ﬀ":1}`,
		`[1.0,1e2,-0,0.0,1e21,1e20,1e-6,1e-7,0.1e1]`:           `[1,100,0,0,1e+21,100000000000000000000,0.000001,1e-7,1]`,
		`[123456789012345680000,5e-324,1.7976931348623157e308,9007199254740993,1e400,-1e400,1e-400]`: `[123456789012345680000,5e-324,1.7976931348623157e+308,9007199254740992,null,null,0]`,
		`"<>&\u2028\u2029\/"`:                            "\"<>&\u2028\u2029/\"",
		`"\u0000\u0001\b\t\n\u000b\f\r\u001f\u007f\"\\"`: "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\\\"\\\\\"",
		`"\ud83d\ude00 \ud83d \ude00\ud83d"`:             `"😀 \ud83d \ude00\ud83d"`,
		`"\uD83D"`:                                       `"\ud83d"`,
		"\"\xff\"":                                       "\"\uFFFD\"",
		`{"\ud800":1,"a":2,"😀":3}`:                       `{"a":2,"\ud800":1,"😀":3}`,
	} {
		got, err := observe.Canonical([]byte(in))
		require.NoError(t, err, in)
		require.Equal(t, want, string(got), in)
	}
}

func TestCanonicalRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		``, ` `, `{`, `[1,]`, `{"a":1,}`, `{a:1}`, `'a'`, `01`, `1 2`, `[]x`, `"\u12"`, `"\x"`, "\"\n\"", `nul`, `{"a"}`, `+1`, `.5`,
		strings.Repeat("[", 1001) + strings.Repeat("]", 1001),
		strings.Repeat(`{"a":`, 1001) + "1" + strings.Repeat("}", 1001),
		strings.Repeat("[", 100000),
	} {
		_, err := observe.Canonical([]byte(in))
		require.Error(t, err, "%.40q", in)
	}
	deep := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	got, err := observe.Canonical([]byte(deep))
	require.NoError(t, err)
	require.Equal(t, deep, string(got))
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{
		`{"b":[3,{"z":1,"a":"é"}],"a":null}`, `{"10":1,"9":2,"__proto__":3}`, `["\ud800","\u0000",1e400,-0]`, "\"\xff\"", `{"a":1,"a":2}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := observe.Canonical(in)
		if err != nil {
			return
		}
		require.True(t, json.Valid(got), "%q", got)
		again, err := observe.Canonical(got)
		require.NoError(t, err)
		require.Equal(t, string(got), string(again), "it is its own canonical form")
	})
}
