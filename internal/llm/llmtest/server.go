// Package llmtest is a provider for tests: a server on loopback that speaks
// OpenAI's chat completions, and misbehaves as it is told. Start with [New].
package llmtest

import (
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
	Header http.Header
	Body   Question
	Raw    string
}

// Question is what of the request's body a test looks at.
type Question struct {
	Model     string `json:"model"`
	MaxTokens int    `json:"max_tokens"`
	MaxNew    int    `json:"max_completion_tokens"`
	Format    *struct {
		Type string `json:"type"`
	} `json:"response_format"`
	Temperature *float64  `json:"temperature"`
	Messages    []Message `json:"messages"`
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
	var q Question
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/chat/completions" || json.Unmarshal(raw, &q) != nil {
		http.Error(w, "not a chat completion", http.StatusNotFound)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, Asked{At: time.Now(), Header: r.Header.Clone(), Body: q, Raw: string(raw)})
	answer := s.always
	if len(s.plan) > 0 {
		answer, s.plan = s.plan[0], s.plan[1:]
	}
	s.mu.Unlock()
	answer(w, r, q)
}

var eventID = regexp.MustCompile(`<agent_event id="([^"]*)"`)

// Fine answers as it was asked to, with one note on the first event, or a
// summary.
func Fine(w http.ResponseWriter, r *http.Request, q Question) {
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
	return func(w http.ResponseWriter, _ *http.Request, _ Question) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(completion(text)) // who left does not read it
	}
}

// Status refuses, in OpenAI's words for an error, with the code that is given.
func Status(status int, code string) Answer {
	return func(w http.ResponseWriter, r *http.Request, _ Question) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// As some do: the key and the prompt in the message.
		fmt.Fprintf(w, `{"error":{"message":"no: %s","type":%q,"code":%q}}`, r.Header.Get("Authorization"), code, code)
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
	body := completion("<observation><title>Note on " + first(q) + "</title></observation>")
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
func Huge(w http.ResponseWriter, _ *http.Request, _ Question) {
	w.Header().Set("Content-Type", "application/json")
	chunk := []byte(strings.Repeat(" ", 1<<20))
	for range 16 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
	_, _ = w.Write(completion("<skip_summary/>"))
}

func completion(text string) []byte {
	b, err := json.Marshal(map[string]any{
		"id": "c", "object": "chat.completion", "model": "loopback-1",
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text}}},
		"usage":   map[string]int{"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
	})
	if err != nil {
		panic(err)
	}
	return b
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
