package llm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

func embeddings(t testing.TB, s *llmtest.Server, change ...func(*llm.EmbedConfig)) *llm.Embeddings {
	t.Helper()
	cfg := llm.EmbedConfig{Config: llm.Config{URL: s.URL, Key: aKey, Model: "m1", Timeout: 30 * time.Second}}
	for _, fn := range change {
		fn(&cfg)
	}
	e, err := llm.NewEmbeddings(cfg)
	require.NoError(t, err)
	return e
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	e := embeddings(t, s)
	require.Equal(t, "m1", e.Space())
	vectors, use, err := e.Embed(t.Context(), "the relay", "a lease")
	require.NoError(t, err)
	require.Equal(t, llm.Use{Provider: "embeddings", Model: "m1", TokensIn: 5}, use)
	require.Len(t, vectors, 2)
	for _, v := range vectors {
		sum := 0.0
		for _, x := range v {
			sum += float64(x) * float64(x)
		}
		require.Len(t, v, llmtest.Dimensions)
		require.InDelta(t, 1, sum, 1e-5)
	}
	asked := s.Asked()
	require.Len(t, asked, 1)
	require.Equal(t, "/v1/embeddings", asked[0].URL)
	require.Equal(t, "Bearer "+aKey, asked[0].Header.Get("Authorization"))
	require.JSONEq(t, `{"model":"m1","input":["the relay","a lease"],"encoding_format":"float"}`, asked[0].Raw)

	// The answer may come in any order: the index says whose a vector is.
	s.Always(llmtest.Edited(func(all []map[string]any) []map[string]any { slices.Reverse(all); return all }))
	again, _, err := e.Embed(t.Context(), "the relay", "a lease")
	require.NoError(t, err)
	require.Equal(t, vectors, again)

	few := embeddings(t, s, func(c *llm.EmbedConfig) { c.Dimensions = 8 })
	require.Equal(t, "m1@8", few.Space())
	vectors, _, err = few.Embed(t.Context(), "the relay")
	require.NoError(t, err)
	require.Len(t, vectors[0], 8)
}

// An exchange in the form that the API documents.
func TestARecordedEmbedding(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/embeddings.json")
	require.NoError(t, err)
	var said struct{ Request, Response json.RawMessage }
	require.NoError(t, json.Unmarshal(text, &said))
	s := llmtest.New(t)
	s.Always(func(w http.ResponseWriter, _ *http.Request, _ llmtest.Question) { _, _ = w.Write(said.Response) })
	e := embeddings(t, s, func(c *llm.EmbedConfig) { c.Model, c.Dimensions = "text-embedding-3-small", 4 })
	vectors, use, err := e.Embed(t.Context(), "The relay lost its lease.", "One clock decides.")
	require.NoError(t, err)
	require.JSONEq(t, string(said.Request), s.Asked()[0].Raw)
	require.Equal(t, 11, use.TokensIn)
	require.InDelta(t, 0.5, vectors[0][0], 1e-6)
	require.InDelta(t, -1, vectors[1][2], 1e-6)
}

func TestTheFaultsOfEmbeddings(t *testing.T) {
	t.Parallel()
	with := llmtest.Edited
	says := func(body string) llmtest.Answer {
		return func(w http.ResponseWriter, _ *http.Request, _ llmtest.Question) { fmt.Fprint(w, body) }
	}
	for name, tt := range map[string]struct {
		answer llmtest.Answer
		fault  llm.Fault
		status int
		after  time.Duration
		says   string
	}{
		"429":            {llmtest.TooMany("17"), llm.FaultBusy, 429, 17 * time.Second, "rate_limit_exceeded"},
		"a quota":        {llmtest.Status(429, "insufficient_quota"), llm.FaultExhausted, 429, 0, "insufficient_quota"},
		"401":            {llmtest.Status(401, "invalid_api_key"), llm.FaultDenied, 401, 0, "invalid_api_key"},
		"404":            {llmtest.Status(404, "model_not_found"), llm.FaultDenied, 404, 0, "model_not_found"},
		"too long":       {llmtest.TooLong(3), llm.FaultRefused, 400, 0, "context_length_exceeded"},
		"500":            {llmtest.Status(500, ""), llm.FaultBroken, 500, 0, ""},
		"hang":           {llmtest.Hang, llm.FaultBroken, 0, 0, "no answer in time"},
		"truncated":      {llmtest.Truncated, llm.FaultBroken, 200, 0, "broke off"},
		"cut JSON":       {says(`{"data":[{"index":0,"embedding":[0.1,`), llm.FaultBroken, 200, 0, "not JSON"},
		"a page":         {llmtest.WrongType, llm.FaultBroken, 200, 0, "text/html"},
		"other JSON":     {says(`{"data":"none"}`), llm.FaultBroken, 200, 0, "no list of vectors"},
		"too large":      {says(`{"data":[{"index":0,"embedding":[1e99]}]}`), llm.FaultBroken, 200, 0, "no list of vectors"},
		"error with 200": {says(`{"error":{"message":"no","type":"server_error"}}`), llm.FaultBroken, 200, 0, "an error in place"},
		"one too few":    {with(func(all []map[string]any) []map[string]any { return all[:1] }), llm.FaultAnswer, 0, 0, "1 vectors for 2 texts"},
		"one twice":      {with(func(all []map[string]any) []map[string]any { all[1]["index"] = 0; return all }), llm.FaultAnswer, 0, 0, "not asked about"},
		"one too many":   {with(func(all []map[string]any) []map[string]any { all[1]["index"] = 2; return all }), llm.FaultAnswer, 0, 0, "not asked about"},
		"dimensions": {with(func(all []map[string]any) []map[string]any {
			all[1]["embedding"] = []float32{1, 2}
			return all
		}), llm.FaultAnswer, 0, 0, "a vector of 2 dimensions among such of 256"},
		"no direction": {with(func(all []map[string]any) []map[string]any {
			all[0]["embedding"] = make([]float32, 256)
			return all
		}), llm.FaultAnswer, 0, 0, "without a direction"},
		"nothing": {with(func(all []map[string]any) []map[string]any { all[0]["embedding"] = nil; return all }), llm.FaultAnswer, 0, 0, "of 0 dimensions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := llmtest.New(t)
			s.Always(tt.answer)
			e := embeddings(t, s, func(c *llm.EmbedConfig) {
				if name == "hang" {
					c.Timeout = 300 * time.Millisecond
				}
			})
			_, _, err := e.Embed(t.Context(), "the payload", "another")
			fault, ok := errors.AsType[*llm.Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, tt.fault, fault.Fault, "%v", err)
			require.Equal(t, tt.status, fault.Status)
			require.Equal(t, tt.after, fault.After)
			require.Contains(t, err.Error(), tt.says)
			for _, secret := range []string{aKey, s.URL, "127.0.0.1", "the payload"} {
				require.NotContains(t, err.Error(), secret)
			}
		})
	}
}

func TestEmbeddingsThatCannotBe(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]llm.EmbedConfig{
		"needs a key":        {Config: llm.Config{Model: "m"}},
		"name of a model":    {Config: llm.Config{URL: "http://127.0.0.1/v1"}},
		"dimensions are":     {Config: llm.Config{URL: "http://127.0.0.1/v1", Model: "m"}, Dimensions: -1},
		"nothing secret":     {Config: llm.Config{URL: "http://u:secret@h/v1", Model: "m"}},
		"characters that no": {Config: llm.Config{URL: "http://127.0.0.1/v1", Model: "m", Key: "sk secret"}},
	} {
		_, err := llm.NewEmbeddings(cfg)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret@")
		require.NotContains(t, err.Error(), "sk secret")
	}
	require.False(t, llm.EmbedConfig{}.On())
}

// FuzzEmbeddings lets a server answer anything: vectors of length 1 and of one
// number of dimensions, or an error that tells nothing secret.
func FuzzEmbeddings(f *testing.F) {
	text, err := os.ReadFile("testdata/embeddings.json")
	require.NoError(f, err)
	var said struct{ Response json.RawMessage }
	require.NoError(f, json.Unmarshal(text, &said))
	f.Add(200, string(said.Response))
	f.Add(200, `{"data":[{"index":0,"embedding":[1e-45]},{"index":1,"embedding":[-3e38]}],"usage":{"prompt_tokens":-4,"total_tokens":1e3}}`)
	f.Add(200, `{"data":[{"index":1,"embedding":[]},{"index":0}]}`)
	f.Add(413, `{"error":{"code":7}}`)
	s := llmtest.New(f)
	e := embeddings(f, s)
	f.Fuzz(func(t *testing.T, status int, body string) {
		s.Always(func(w http.ResponseWriter, _ *http.Request, _ llmtest.Question) {
			w.WriteHeader(200 + (status%400+400)%400)
			fmt.Fprint(w, body)
		})
		vectors, use, err := e.Embed(t.Context(), "one", "two")
		require.GreaterOrEqual(t, use.TokensIn, 0)
		if err != nil {
			fault, ok := errors.AsType[*llm.Error](err)
			require.True(t, ok, "%v", err)
			require.NotEmpty(t, fault.Fault)
			require.NotContains(t, err.Error(), aKey)
			require.Less(t, len(err.Error()), 300)
			return
		}
		require.Len(t, vectors, 2)
		require.Len(t, vectors[1], len(vectors[0]))
		for _, v := range vectors {
			sum := 0.0
			for _, x := range v {
				sum += float64(x) * float64(x)
			}
			require.InDelta(t, 1, sum, 1e-3)
			require.False(t, math.IsNaN(sum))
		}
	})
}

// The stand-in of the tests finds what looks alike, and says so.
func TestEmbedOfTheTests(t *testing.T) {
	t.Parallel()
	alike := func(a, b string) float64 {
		sum, aa, bb := 0.0, 0.0, 0.0
		x, y := llmtest.Embed(a, 256), llmtest.Embed(b, 256)
		for i := range x {
			sum, aa, bb = sum+float64(x[i]*y[i]), aa+float64(x[i]*x[i]), bb+float64(y[i]*y[i])
		}
		return sum / math.Sqrt(aa*bb)
	}
	require.InDelta(t, 1, alike("leases expire", "Leases, expire!"), 1e-9)
	require.Greater(t, alike("lease expired", "leases expire"), alike("lease expired", "a green parrot"))
	require.Less(t, alike("automobile", strings.ToUpper("vehicle")), 0.5)
}
