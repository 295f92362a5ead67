// Package llmtest is a provider for tests: a server on loopback that speaks
// OpenAI's chat completions and embeddings, Anthropic's messages and Gemini's
// generateContent, and misbehaves as it is told. Start with [New].
package llmtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is the provider. Its URL is the API's base URL.
type Server struct {
	URL string

	mu     sync.Mutex
	plan   []Answer
	always Answer
	asked  []Asked
}

// Asked is one request that came.
type Asked struct {
	At     time.Time
	URL    string // path and query
	Header http.Header
	Body   Question
	Raw    string
}

// Question is what of the request's body a test looks at, whatever the API.
type Question struct {
	API         string    `json:"-"` // openai, anthropic, gemini or embeddings
	Model       string    `json:"model"`
	MaxTokens   int       `json:"max_tokens"`
	MaxNew      int       `json:"max_completion_tokens"`
	Format      *format   `json:"response_format"`
	Temperature *float64  `json:"temperature"`
	Messages    []Message `json:"messages"`
	Input       []string  `json:"input"` // of embeddings
	Dimensions  int       `json:"dimensions"`
}

// format says that the answer was asked for by a schema.
type format struct {
	Type string `json:"type"`
}

// Message is a turn of the talk.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Answer is one way to answer a question.
type Answer func(w http.ResponseWriter, r *http.Request, q Question)

// New starts a server that answers [Fine] until it is told otherwise. It ends
// with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{always: Fine}
	srv := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(srv.Close)
	s.URL = srv.URL + "/v1"
	return s
}

// Plan gives the next questions these answers, one each, before Always.
func (s *Server) Plan(answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = append(s.plan, answers...)
}

// Always gives all further questions this answer.
func (s *Server) Always(a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always = a
}

// Asked is what came so far.
func (s *Server) Asked() []Asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Asked(nil), s.asked...)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	q, ok := question(r.URL.Path, raw)
	if err != nil || r.Method != http.MethodPost || !ok {
		http.Error(w, "not a question", http.StatusNotFound)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, Asked{At: time.Now(), URL: r.URL.String(), Header: r.Header.Clone(), Body: q, Raw: string(raw)})
	answer := s.always
	if len(s.plan) > 0 {
		answer, s.plan = s.plan[0], s.plan[1:]
	}
	s.mu.Unlock()
	answer(w, r, q)
}

var eventID = regexp.MustCompile(`<agent_event id="([^"]*)"`)

// Fine answers as it was asked to, with one note on the first event, or a
// summary, or the vectors of [Embed].
func Fine(w http.ResponseWriter, r *http.Request, q Question) {
	if q.API == "embeddings" {
		Says("")(w, r, q)
		return
	}
	if q.Format == nil {
		Grammar(w, r, q)
		return
	}
	id := first(q)
	note := map[string]any{"skip": false, "observations": []any{map[string]any{
		"type": "discovery", "title": "Note on " + id, "subtitle": "", "narrative": "It was seen.", "facts": []string{"a fact"},
		"concepts": []string{}, "files_read": []string{"a.go"}, "files_modified": []string{}, "events": []string{id},
	}}}
	if asksForSummary(q) {
		note = map[string]any{"skip": false, "summary": map[string]string{"request": "a test", "completed": "Summed up " + id}}
	}
	text, err := json.Marshal(note)
	if err != nil {
		panic(err)
	}
	Says(string(text))(w, r, q)
}

// Grammar answers with the blocks of the grammar.
func Grammar(w http.ResponseWriter, r *http.Request, q Question) {
	text := "Sure, here is the note:\n```xml\n<observation><type>bugfix</type><title>Note on " + first(q) + "</title><facts><fact>1 &lt; 2</fact></facts></observation>\n```"
	if asksForSummary(q) {
		text = "<summary><request>a test</request></summary>"
	}
	Says(text)(w, r, q)
}

// Slowly answers after a while.
func Slowly(d time.Duration, then Answer) Answer {
	return func(w http.ResponseWriter, r *http.Request, q Question) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			then(w, r, q)
		case <-r.Context().Done():
		}
	}
}

// Prose answers with what nobody asked for.
func Prose(w http.ResponseWriter, r *http.Request, q Question) {
	Says("I am sorry, but what would you like me to do with these events?")(w, r, q)
}

// Says answers with a text.
func Says(text string) Answer {
	return func(w http.ResponseWriter, _ *http.Request, q Question) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(q.completion(text)) // who left does not read it
	}
}

// Status refuses, in the API's words for an error, with the code that is given.
func Status(status int, code string) Answer {
	return func(w http.ResponseWriter, r *http.Request, q Question) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// As some do: the key and the prompt in the message.
		key := cmp.Or(r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), r.Header.Get("X-Goog-Api-Key"))
		switch q.API {
		case "anthropic":
			fmt.Fprintf(w, `{"type":"error","error":{"type":%q,"message":"no: %s"},"request_id":"req_1"}`, code, key)
		case "gemini":
			fmt.Fprintf(w, `{"error":{"code":%d,"message":"no: %s","status":%q}}`, status, key, code)
		default:
			fmt.Fprintf(w, `{"error":{"message":"no: %s","type":%q,"code":%q}}`, key, code, code)
		}
	}
}

// TooMany refuses with 429 and, unless it is empty, a Retry-After.
func TooMany(after string) Answer {
	return func(w http.ResponseWriter, r *http.Request, q Question) {
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		Status(http.StatusTooManyRequests, "rate_limit_exceeded")(w, r, q)
	}
}

// Hang never answers.
func Hang(_ http.ResponseWriter, r *http.Request, _ Question) { <-r.Context().Done() }

// Truncated promises more than it sends.
func Truncated(w http.ResponseWriter, _ *http.Request, q Question) {
	body := q.completion("<observation><title>Note on " + first(q) + "</title></observation>")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body[:len(body)/2])
}

// Drip sends a byte now and then.
func Drip(w http.ResponseWriter, r *http.Request, _ Question) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// WrongType answers with a page, as a proxy does that wants a login.
func WrongType(w http.ResponseWriter, _ *http.Request, _ Question) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = w.Write([]byte("<html><title>Log in</title></html>"))
}

// Huge answers with more than anybody wants to read.
func Huge(w http.ResponseWriter, _ *http.Request, q Question) {
	w.Header().Set("Content-Type", "application/json")
	chunk := []byte(strings.Repeat(" ", 1<<20))
	for range 16 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
	_, _ = w.Write(q.completion("<skip_summary/>"))
}

func first(q Question) string {
	for _, m := range q.Messages {
		if found := eventID.FindStringSubmatch(m.Content); found != nil {
			return found[1]
		}
	}
	return "nothing"
}

func asksForSummary(q Question) bool {
	return slices.ContainsFunc(q.Messages, func(m Message) bool { return strings.Contains(m.Content, "Write the summary now.") })
}
