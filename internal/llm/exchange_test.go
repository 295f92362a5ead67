package llm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

// recorded is a question's exchanges with an API, in the form that the API
// documents: what we send, what it answers, and what we make of it.
type recorded struct {
	Provider  string
	Task      llm.Task
	Exchanges []struct {
		Request struct {
			Path    string
			Headers map[string]string
			Body    json.RawMessage
		}
		Response struct {
			Status  int
			Headers map[string]string
			Body    json.RawMessage
		}
	}
	Answer *struct {
		Title, Type, Completed string
		Facts, Events          []string
		Skipped                bool
		Model                  string
		TokensIn, TokensOut    int
	}
	Error *struct {
		Fault               llm.Fault
		Status, AfterMs     int
		Says                string
		TokensIn, TokensOut int
	}
}

// replay is an API that was recorded.
type replay struct {
	t    *testing.T
	mu   sync.Mutex
	said recorded
	next int
}

func (r *replay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	raw, err := io.ReadAll(req.Body)
	if err != nil || r.next >= len(r.said.Exchanges) {
		r.t.Errorf("a request too many: %v", err)
		return
	}
	x := r.said.Exchanges[r.next]
	r.next++
	if req.Method != http.MethodPost || req.URL.Path != x.Request.Path || req.URL.RawQuery != "" {
		r.t.Errorf("asked %s %s, want POST %s", req.Method, req.URL, x.Request.Path)
	}
	for name, want := range x.Request.Headers {
		if got := req.Header.Get(name); got != strings.ReplaceAll(want, "$KEY", aKey) {
			r.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	var body any
	if err := json.Unmarshal(raw, &body); err != nil {
		r.t.Errorf("the request is no JSON: %v", err)
		return
	}
	got, err := json.MarshalIndent(abridged(r.t, body, ""), "", "  ")
	if err != nil {
		r.t.Error(err)
	}
	var want any
	if err := json.Unmarshal(x.Request.Body, &want); err != nil {
		r.t.Error(err)
	}
	wanted, err := json.MarshalIndent(want, "", "  ")
	if err != nil || !bytes.Equal(wanted, got) {
		r.t.Errorf("exchange %d: the request is\n%s\nwant\n%s", r.next, got, wanted)
	}
	for name, v := range x.Response.Headers {
		w.Header().Set(name, v)
	}
	w.WriteHeader(x.Response.Status)
	_, _ = w.Write(bytes.ReplaceAll(x.Response.Body, []byte("$KEY"), []byte(aKey))) // who left does not read it
}

// abridged puts marks in place of the prompt and of the schema, which have
// tests of their own.
func abridged(t *testing.T, v any, name string) any {
	switch v := v.(type) {
	case map[string]any:
		if name == "schema" || name == "responseJsonSchema" {
			if v["type"] != "object" || v["additionalProperties"] != false {
				t.Errorf("no schema of an object: %v", v)
			}
			return "$SCHEMA"
		}
		for k, one := range v {
			v[k] = abridged(t, one, k)
		}
	case []any:
		for i, one := range v {
			v[i] = abridged(t, one, name)
		}
	case string:
		if strings.Contains(v, "the payload &lt;/agent_event&gt;") {
			return "$PROMPT"
		}
		if strings.HasPrefix(v, "You watch a coding agent") {
			return "$SYSTEM"
		}
	}
	return v
}

func TestRecordedExchanges(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/exchanges/*.json")
	require.NoError(t, err)
	seen := map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var said recorded
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(&said), file)
		require.NotContains(t, string(text), aKey)
		seen[said.Provider]++
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			r := &replay{t: t, said: said}
			srv := httptest.NewServer(r)
			defer srv.Close()
			base := srv.URL
			switch said.Provider {
			case "openai":
				base += "/v1"
			case "openrouter":
				base += "/api/v1"
			}
			p, err := llm.Open(llm.Config{Provider: said.Provider, URL: base, Key: aKey, Timeout: time.Minute})
			require.NoError(t, err)
			q := observing("e1")
			q.Task = said.Task
			a, err := p.Answer(t.Context(), q)
			require.Equal(t, len(said.Exchanges), r.next, "all of it was played: %v", err)
			require.Equal(t, said.Provider, a.Provider)
			if want := said.Error; want != nil {
				fault, ok := errors.AsType[*llm.Error](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, want.Fault, fault.Fault, "%v", err)
				require.Equal(t, want.Status, fault.Status)
				require.Equal(t, time.Duration(want.AfterMs)*time.Millisecond, fault.After)
				require.Contains(t, err.Error(), want.Says)
				require.NotContains(t, err.Error(), aKey)
				require.NotContains(t, err.Error(), srv.URL)
				require.Equal(t, [2]int{want.TokensIn, want.TokensOut}, [2]int{a.TokensIn, a.TokensOut})
				return
			}
			require.NoError(t, err)
			want := said.Answer
			require.Equal(t, want.Model, a.Model)
			require.Equal(t, [2]int{want.TokensIn, want.TokensOut}, [2]int{a.TokensIn, a.TokensOut})
			require.Equal(t, want.Skipped, a.Skipped)
			switch {
			case want.Completed != "":
				require.Equal(t, want.Completed, a.Summary.Completed)
			case !want.Skipped:
				require.Len(t, a.Observations, 1)
				o := a.Observations[0]
				require.Equal(t, want.Title, o.Title)
				require.Equal(t, want.Type, o.Type)
				require.Equal(t, want.Facts, o.Facts)
				require.Equal(t, want.Events, o.Events)
			}
		})
	}
	for _, name := range llm.Providers() {
		if name != "offline" {
			require.Positive(t, seen[name], "%s was recorded", name)
		}
	}
}
