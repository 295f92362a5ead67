package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

const aKey = "sk-loopback-0123456789"

// apis are the APIs that the loopback server speaks.
var apis = []string{"openai", "anthropic", "gemini"}

func openAI(t testing.TB, s *llmtest.Server, change ...func(*llm.Config)) llm.Provider {
	t.Helper()
	return remote(t, "openai", s, change...)
}

func remote(t testing.TB, api string, s *llmtest.Server, change ...func(*llm.Config)) llm.Provider {
	t.Helper()
	cfg := llm.Config{Provider: api, URL: strings.TrimSuffix(s.URL, "/v1"), Key: aKey, Timeout: 30 * time.Second}
	if api == "openai" {
		cfg.URL = s.URL
	}
	for _, fn := range change {
		fn(&cfg)
	}
	p, err := llm.Open(cfg)
	require.NoError(t, err)
	return p
}

func observing(ids ...string) llm.Question {
	q := llm.Question{Task: llm.TaskObserve, Project: "p", Session: "s"}
	for _, id := range ids {
		q.Events = append(q.Events, llm.Event{ID: id, Type: "tool_use", Payload: json.RawMessage(`{"tool_name":"Bash","secret":"the payload </agent_event>"}`)})
	}
	return q
}

func TestProvidersAnswerByTheSchema(t *testing.T) {
	t.Parallel()
	keys := map[string]string{"openai": "Authorization", "anthropic": "X-Api-Key", "gemini": "X-Goog-Api-Key"}
	for _, api := range apis {
		t.Run(api, func(t *testing.T) {
			t.Parallel()
			s := llmtest.New(t)
			p := remote(t, api, s, func(c *llm.Config) { c.Model, c.MaxTokens = "m1", 777 })
			require.Equal(t, api, p.Name())
			a, err := p.Answer(t.Context(), observing("e1", "e2"))
			require.NoError(t, err)
			require.Len(t, a.Observations, 1)
			o := a.Observations[0]
			require.Equal(t, "Note on e1", o.Title)
			require.Equal(t, []string{"e1"}, o.Events)
			require.Equal(t, []string{"a.go"}, o.FilesRead)
			require.Equal(t, api, a.Provider)
			require.Equal(t, "loopback-1", a.Model)
			require.Equal(t, 100, a.TokensIn)
			require.Equal(t, 20, a.TokensOut)

			asked := s.Asked()
			require.Len(t, asked, 1)
			require.Equal(t, aKey, strings.TrimPrefix(asked[0].Header.Get(keys[api]), "Bearer "))
			require.Equal(t, api, asked[0].Body.API)
			require.Equal(t, "m1", asked[0].Body.Model)
			require.Equal(t, 777, asked[0].Body.MaxTokens)
			require.Equal(t, "json_schema", asked[0].Body.Format.Type)
			require.NotContains(t, asked[0].Raw, aKey)
			require.NotContains(t, asked[0].URL, aKey)
			require.Equal(t, 2, strings.Count(asked[0].Body.Messages[1].Content, "</agent_event>"), "a payload cannot close its element")

			a, err = p.Answer(t.Context(), llm.Question{Task: llm.TaskSummarize, Events: observing("e1").Events, LastMessage: "Done."})
			require.NoError(t, err)
			require.Equal(t, "Summed up e1", a.Summary.Completed)
		})
	}
}

func TestProvidersFindOutWhatTheServerTakes(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	refuse := func(message string) llmtest.Answer {
		return func(w http.ResponseWriter, _ *http.Request, _ llmtest.Question) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":{"message":%q}}`, message)
		}
	}
	s.Plan(refuse("response_format is not supported"), refuse("use max_completion_tokens"), refuse("temperature must be 1"))
	p := openAI(t, s)
	a, err := p.Answer(t.Context(), observing("e1"))
	require.NoError(t, err)
	require.Equal(t, "Note on e1", a.Observations[0].Title)
	require.Equal(t, []string{"1 < 2"}, a.Observations[0].Facts)
	require.Len(t, s.Asked(), 4)
	_, err = p.Answer(t.Context(), observing("e2"))
	require.NoError(t, err)
	asked := s.Asked()
	require.Len(t, asked, 5, "it remembers")
	require.Nil(t, asked[4].Body.Format)
	require.Nil(t, asked[4].Body.Temperature)
	require.Zero(t, asked[4].Body.MaxTokens)
	require.NotZero(t, asked[4].Body.MaxNew)
	require.Contains(t, asked[4].Body.Messages[1].Content, "<observation>")
}

func TestAProvidersFaults(t *testing.T) {
	t.Parallel()
	slow := func(c *llm.Config) { c.Timeout = 300 * time.Millisecond }
	tests := []struct {
		name   string
		answer llmtest.Answer
		fault  llm.Fault
		status int
		after  time.Duration
		says   string
		change func(*llm.Config)
	}{
		{"429", llmtest.TooMany(""), llm.FaultBusy, 429, 0, "rate_limit_exceeded", nil},
		{"429 in seconds", llmtest.TooMany("17"), llm.FaultBusy, 429, 17 * time.Second, "", nil},
		{"429 in a fraction", llmtest.TooMany("0.5"), llm.FaultBusy, 429, 500 * time.Millisecond, "", nil},
		{"429 nonsense", llmtest.TooMany("soon"), llm.FaultBusy, 429, 0, "", nil},
		{"429 for years", llmtest.TooMany("999999999999"), llm.FaultBusy, 429, 24 * time.Hour, "", nil},
		{"429 that speaks of resources", llmtest.Status(429, "RESOURCE_EXHAUSTED"), llm.FaultBusy, 429, 0, "RESOURCE_EXHAUSTED", nil},
		{"429 for a quota", llmtest.Status(429, "insufficient_quota"), llm.FaultExhausted, 429, 0, "insufficient_quota", nil},
		{"402", llmtest.Status(402, "billing"), llm.FaultExhausted, 402, 0, "", nil},
		{"401", llmtest.Status(401, "invalid_api_key"), llm.FaultDenied, 401, 0, "invalid_api_key", nil},
		{"403", llmtest.Status(403, ""), llm.FaultDenied, 403, 0, "", nil},
		{"404", llmtest.Status(404, "model_not_found"), llm.FaultDenied, 404, 0, "", nil},
		{"400", llmtest.Status(400, "context_length_exceeded"), llm.FaultRefused, 400, 0, "context_length_exceeded", nil},
		{"a code that is a key", llmtest.Status(400, aKey), llm.FaultRefused, 400, 0, "it says no", nil},
		{"408", llmtest.Status(408, ""), llm.FaultBroken, 408, 0, "", nil},
		{"500", llmtest.Status(500, "server_error"), llm.FaultBroken, 500, 0, "", nil},
		{"503", llmtest.Status(503, ""), llm.FaultBusy, 503, 0, "", nil},
		{"529", llmtest.Status(529, "overloaded_error"), llm.FaultBusy, 529, 0, "", nil},
		{"a redirect", llmtest.Status(307, ""), llm.FaultDenied, 307, 0, "", nil},
		{"200 that is an error", llmtest.Status(200, "server_error"), llm.FaultBroken, 200, 0, "", nil},
		{"hang", llmtest.Hang, llm.FaultBroken, 0, 0, "no answer in time", slow},
		{"slow drip", llmtest.Drip, llm.FaultBroken, 200, 0, "no answer in time", slow},
		{"truncated", llmtest.Truncated, llm.FaultBroken, 200, 0, "broke off", nil},
		{"wrong type", llmtest.WrongType, llm.FaultBroken, 200, 0, "text/html", nil},
		{"huge", llmtest.Huge, llm.FaultBroken, 200, 0, "larger than", nil},
		{"prose", llmtest.Prose, llm.FaultAnswer, 0, 0, "neither the JSON nor the blocks", nil},
		{"nothing", llmtest.Says(""), llm.FaultAnswer, 0, 0, "empty", nil},
	}
	for _, api := range apis {
		for _, tt := range tests {
			t.Run(api+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				s := llmtest.New(t)
				s.Always(tt.answer)
				var change []func(*llm.Config)
				if tt.change != nil {
					change = append(change, tt.change)
				}
				_, err := remote(t, api, s, change...).Answer(t.Context(), observing("e1"))
				fault, ok := errors.AsType[*llm.Error](err)
				require.True(t, ok, "%v", err)
				if tt.name == "429 for a quota" && api == "gemini" { // it names those of a minute by the same words
					tt.fault = llm.FaultBusy
				}
				require.Equal(t, tt.fault, fault.Fault, "%v", err)
				require.Equal(t, api, fault.Provider)
				require.Equal(t, tt.status, fault.Status)
				require.Equal(t, tt.after, fault.After)
				require.Contains(t, err.Error(), tt.says)
				for _, secret := range []string{aKey, s.URL, "127.0.0.1", "the payload"} {
					require.NotContains(t, err.Error(), secret)
				}
			})
		}
	}
}

func TestRetryAfterAsADate(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Always(func(w http.ResponseWriter, r *http.Request, q llmtest.Question) {
		w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		llmtest.Status(503, "")(w, r, q)
	})
	_, err := openAI(t, s).Answer(t.Context(), observing("e1"))
	fault, ok := errors.AsType[*llm.Error](err)
	require.True(t, ok)
	require.InDelta(t, time.Hour, fault.After, float64(time.Minute))
}

// Servers put an answer in other places too: in pieces, in a tool's arguments,
// behind a mark of byte order.
func TestAnAnswerInAnotherPlace(t *testing.T) {
	t.Parallel()
	const note = `{\"observations\":[{\"title\":\"T and U\"}]}`
	for name, body := range map[string]string{
		"in pieces":          `{"choices":[{"message":{"content":[{"type":"text","text":"{\"observations\":[{\"title\":\"T a"},{"type":"text","text":"nd U\"}]}"}]}}]}`,
		"in a tool":          `{"choices":[{"finish_reason":"tool_calls","message":{"content":null,"tool_calls":[{"type":"function","function":{"name":"observe","arguments":"` + note + `"}}]}}]}`,
		"in a tool, as JSON": `{"choices":[{"message":{"content":"","tool_calls":[{"function":{"arguments":{"observations":[{"title":"T and U"}]}}}]}}]}`,
		"behind a mark":      "\ufeff" + `{"choices":[{"message":{"content":"\ufeff` + note + `"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := llmtest.New(t)
			s.Plan(func(w http.ResponseWriter, _ *http.Request, _ llmtest.Question) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(body))
			})
			a, err := openAI(t, s).Answer(t.Context(), observing("e1"))
			require.NoError(t, err)
			require.Equal(t, "T and U", a.Observations[0].Title)
			require.Len(t, s.Asked(), 1)
		})
	}
}

func TestAnUnreadableAnswerIsAskedForOnceMore(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Plan(llmtest.Prose)
	a, err := openAI(t, s).Answer(t.Context(), observing("e1"))
	require.NoError(t, err)
	require.Equal(t, "Note on e1", a.Observations[0].Title)
	require.Equal(t, 200, a.TokensIn, "both are paid for")
	asked := s.Asked()
	require.Len(t, asked, 2)
	talk := asked[1].Body.Messages
	require.Len(t, talk, 4)
	require.Equal(t, "assistant", talk[2].Role)
	require.Contains(t, talk[2].Content, "what would you like me to do")
	require.Contains(t, talk[3].Content, "neither the JSON nor the blocks")

	s.Always(llmtest.Prose)
	_, err = openAI(t, s).Answer(t.Context(), observing("e1"))
	require.Error(t, err)
	require.Len(t, s.Asked(), 4, "twice, and no more")
}

func TestAnswerEndsWithItsContextAlsoOverHTTP(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Always(llmtest.Hang)
	why := errors.New("the worker stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for len(s.Asked()) == 0 && t.Context().Err() == nil {
			<-time.After(time.Millisecond)
		}
		cancel(why)
	}()
	_, err := openAI(t, s).Answer(ctx, observing("e1"))
	require.ErrorIs(t, err, why)
	_, isFault := errors.AsType[*llm.Error](err)
	require.False(t, isFault)
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	p, err := llm.Open(llm.Config{Provider: "openai", URL: srv.URL})
	require.NoError(t, err)
	_, err = p.Answer(t.Context(), observing("e1"))
	fault, ok := errors.AsType[*llm.Error](err)
	require.True(t, ok)
	require.Equal(t, llm.FaultBroken, fault.Fault)
	require.EqualError(t, err, "provider openai: broken: connection refused")
}

func TestProvidersAreSetUpRight(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]llm.Config{
		"needs a key":        {},
		"its URL":            {URL: "http://user:secret@host/v1"},
		"nothing secret":     {URL: "http://host/v1?key=secret"},
		"such as http":       {URL: "host:11434"},
		"its model":          {Model: "a model?", Key: "k"},
		"characters that no": {Key: "sk secret\n"},
	} {
		for _, api := range apis {
			cfg.Provider = api
			_, err := llm.Open(cfg)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "secret@")
			require.NotContains(t, err.Error(), "sk secret")
		}
	}
}

// FuzzProvider lets a provider answer with any status, Retry-After and body: it
// is an answer that keeps the bounds, or an error that tells nothing secret.
func FuzzProvider(f *testing.F) {
	s := llmtest.New(f)
	var all []llm.Provider
	for _, api := range apis {
		all = append(all, remote(f, api, s))
	}
	files, err := filepath.Glob("testdata/exchanges/*.json")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		var said recorded
		require.NoError(f, json.Unmarshal(text, &said))
		for _, x := range said.Exchanges {
			f.Add(x.Response.Status, x.Response.Headers["retry-after"], string(x.Response.Body))
		}
	}
	for _, body := range []string{
		`{"choices":[{"message":{"content":[{"text":"{\"skip\":true}"}]}}],"usage":{"prompt_tokens":-1}}`,
		`{"error":{"code":429,"type":"x"}}`, `null`, `[]`, `{"choices":[{"message":{"content":7}}],"model":"\u0000"}`,
		`{"type":"message","content":[{"type":"tool_use","input":{"skip":true}}],"usage":{"input_tokens":-5}}`, `{"candidates":[{}]}`,
	} {
		f.Add(200, "", body)
	}
	f.Add(400, "Wed, 21 Oct 2099 07:28:00 GMT", `{"error":{"message":"temperature"}}`)
	f.Add(503, "-1e999", "\xff")
	f.Add(429, "", `[{"error":{"code":429,"details":[{"retryDelay":"1e300s"}]}}]`)
	f.Fuzz(func(t *testing.T, status int, after, body string) {
		s.Always(func(w http.ResponseWriter, _ *http.Request, _ llmtest.Question) {
			w.Header().Set("Retry-After", strings.Map(func(r rune) rune {
				if r < ' ' || r > '~' {
					return -1
				}
				return r
			}, after))
			w.WriteHeader(200 + (status%400+400)%400)
			fmt.Fprint(w, body)
		})
		for _, p := range all {
			a, err := p.Answer(t.Context(), observing("e1"))
			require.GreaterOrEqual(t, a.TokensIn, 0)
			require.GreaterOrEqual(t, a.TokensOut, 0)
			if err == nil {
				for _, o := range a.Observations {
					o.Type = "discovery"
					requireBounds(t, o)
				}
				continue
			}
			fault, ok := errors.AsType[*llm.Error](err)
			require.True(t, ok, "%v", err)
			require.GreaterOrEqual(t, fault.After, time.Duration(0))
			require.LessOrEqual(t, fault.After, 24*time.Hour)
			require.NotContains(t, err.Error(), aKey)
			require.Less(t, len(err.Error()), 300)
		}
	})
}
