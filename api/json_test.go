package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
)

func TestWellFormed(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		`{}`, ` [1, -2.5e-3, "\"[[[{", true, null] `, `"` + strings.Repeat("[", 10_000) + `"`, `1e400`,
		strings.Repeat("[", 500) + strings.Repeat("]", 500), `123456789012345678901234567890`, `{"a":"\u0000\ud800"}`,
	} {
		require.NoError(t, api.WellFormed([]byte(good)), "%.60s", good)
	}
	for bad, says := range map[string]string{
		`{`:        "unexpected end of JSON input",
		`{"a":1}}`: "invalid character '}' after top-level value, at byte 8",
		"\xff":     "not UTF-8",
		`NaN`:      "invalid character 'N'",
		`-`:        "invalid character",
		`01`:       "invalid character '1'",
		strings.Repeat("[", 501) + strings.Repeat("]", 501): "nested deeper than 500, at byte 501",
	} {
		require.ErrorContains(t, api.WellFormed([]byte(bad)), says, "%.60s", bad)
	}
}

// FuzzWellFormed: what is let through is JSON, and shallow, and nothing of
// that is refused.
func FuzzWellFormed(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,2,{"b":"\\\""}]}`, `1e400`, `[[[[]]]]`, `"\`, `{"a":-0.0e-999}`, "\"\xff\"", `[1,]`,
		`{"a long name with \u00e9 and é in it":[true, false ,null],"b":{} }`, "\"0123456\t\"", `[[],{},[ ],{ }]`, `{"a" : 1 , "b":2,}`, ` 1 2`, `[1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		require.Equal(t, utf8.Valid(body) && api.TooDeep(body) == 0 && json.Valid(body), api.IsJSON(body), "%q", body)
		if api.WellFormed(body) != nil {
			return
		}
		require.True(t, utf8.Valid(body))
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var v any
		require.NoError(t, d.Decode(&v), "%q", body)
		shallow(t, v, 0)
	})
}

func shallow(t *testing.T, v any, depth int) {
	t.Helper()
	require.LessOrEqual(t, depth, 500)
	switch x := v.(type) {
	case map[string]any:
		for _, member := range x {
			shallow(t, member, depth+1)
		}
	case []any:
		for _, element := range x {
			shallow(t, element, depth+1)
		}
	}
}

// FuzzEvent: no body makes the decoder fail in any other way than by a 400.
func FuzzEvent(f *testing.F) {
	for _, seed := range []string{
		eventOf("p", "e"), `{"projectId":null}`, `{"projectId":{},"occurredAtEpoch":1e3}`, `[]`, `null`, ``, `{"metadata":[[]]}`,
		`{"occurredAtEpoch":9223372036854775808}`, `{"projectId":"\u0000"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, decode := range []func(*http.Request, http.ResponseWriter) (int, error){api.DecodeEvent, api.DecodeBatch} {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
			n, err := decode(req, httptest.NewRecorder())
			if err != nil {
				require.Equal(t, http.StatusBadRequest, api.StatusOf(err), "%v", err)
				continue
			}
			require.Positive(t, n)
		}
	})
}
