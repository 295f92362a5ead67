// Package llm is the seam between obs and whatever writes its notes: a
// language model behind an API, or the offline extractor, which needs no
// network and no key.
//
// Start with [Open], which returns the [Provider] named by a [Config]. Ask it
// a [Question] with [Provider.Answer]. A provider never strips privacy tags:
// the caller hands over only what may be read.
package llm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Provider answers one question about what an agent did. It is safe for
// concurrent use and holds no memory from one question to the next.
type Provider interface {
	// Name says who answered ("offline", "anthropic"). It is stored with what
	// was written.
	Name() string
	// Answer reads the question and writes notes. The error is an [*Error], or
	// the one of ctx when it ended first.
	Answer(ctx context.Context, q Question) (Answer, error)
}

// Task says what is asked of a provider.
type Task string

const (
	// TaskObserve asks for notes on the question's events.
	TaskObserve Task = "observe"
	// TaskSummarize asks for one summary of a session.
	TaskSummarize Task = "summarize"
)

// Question is one piece of work for a provider. The provider only reads it.
type Question struct {
	Task    Task
	Project string  // the project's name
	Session string  // the session's id; may be empty
	Events  []Event // oldest first, privacy already stripped by the caller
	Mode    *Mode   // how a model is asked; nil: [DefaultMode]

	// Notes are what was already observed in the session, oldest first. Used
	// by TaskSummarize only.
	Notes []Observation
	// LastMessage is the assistant's last message, empty when unknown. Used by
	// TaskSummarize only.
	LastMessage string
}

// Event is one thing an agent did, as its hook reported it.
type Event struct {
	ID     string // names the event in Observation.Events
	Type   string // "tool_use", "user_prompt", …: free, the sender's word
	Source string // the sender, as "claude-code"; may be empty
	At     time.Time
	// Payload is any JSON value. Its shape is the sender's: a provider must
	// cope with every one.
	Payload json.RawMessage
	// Clear says that secrets.SuspectJSON was asked, and that the payload is not.
	Clear bool
}

// Observation is one note. Title is never empty; all text is valid UTF-8
// without NUL.
type Observation struct {
	Type      string // "discovery", "bugfix", "feature", "refactor", "change", "decision", "security_note"
	Title     string
	Subtitle  string
	Narrative string
	Facts     []string
	Concepts  []string

	FilesRead     []string // relative to the session's directory where possible
	FilesModified []string

	// Events are the ids of the events it rests on. Empty means all of the
	// question's.
	Events []string
}

// Summary is what a session came to. A part nobody spoke of is empty.
type Summary struct {
	Request      string
	Investigated string
	Learned      string
	Completed    string
	NextSteps    string
	Notes        string
}

// Answer is what a provider wrote.
type Answer struct {
	Observations []Observation // TaskObserve
	Summary      *Summary      // TaskSummarize; nil when Skipped
	Provider     string        // who answered, as [Provider.Name] says it; empty: the one that was asked
	Model        string        // the model that answered, as the provider calls it
	TokensIn     int           // 0 when the provider does not count
	TokensOut    int
	// Skipped means nothing was worth recording. It is not an error.
	Skipped bool
	// Also is what other providers counted that were asked before and failed.
	Also []Use
}

// Use is what a provider counted for a question.
type Use struct {
	Provider, Model     string
	TokensIn, TokensOut int
}

// Uses is all that an answer was counted for, also one that came with an error.
func (a Answer) Uses() []Use {
	all := a.Also
	if a.TokensIn+a.TokensOut > 0 {
		all = append(slices.Clip(all), Use{a.Provider, a.Model, a.TokensIn, a.TokensOut})
	}
	return all
}

// Fault says what a caller can do about an [Error].
type Fault string

const (
	// FaultBusy means try again later: the provider says itself that it takes
	// no more for now. It is never about the question.
	FaultBusy Fault = "busy"
	// FaultBroken means try again: a timeout, a broken connection, an error of
	// the provider's own. A question may be what breaks it.
	FaultBroken Fault = "broken"
	// FaultExhausted means try much later: a quota or credit is used up.
	FaultExhausted Fault = "exhausted"
	// FaultDenied means that we are not set up for it: a bad key, no such
	// model, a wrong URL. It is for the operator to mend.
	FaultDenied Fault = "denied"
	// FaultRefused means do not try again: a rejected question.
	FaultRefused Fault = "refused"
	// FaultAnswer means an answer came that could not be read.
	FaultAnswer Fault = "answer"
)

// Error is a question that got no answer.
type Error struct {
	Provider string
	Fault    Fault
	Status   int           // the HTTP status, 0 when there was none
	After    time.Duration // wait at least this long before trying again; 0 when unknown
	Err      error         // the cause
}

// Error implements error.
func (e *Error) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("provider %s: %s (status %d): %v", e.Provider, e.Fault, e.Status, e.Err)
	}
	return fmt.Sprintf("provider %s: %s: %v", e.Provider, e.Fault, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Config chooses a provider. The zero value is the offline extractor.
type Config struct {
	Provider string // of [Providers]; default "offline"
	Model    string // default: the provider's own choice
	Key      string // the API key; the offline extractor needs none
	URL      string // the API's base URL; default: the provider's own

	Timeout   time.Duration // for one answer; default 2 min
	MaxTokens int           // in one answer; default 4096
}

// Providers lists the names that a [Config] can have.
func Providers() []string {
	return []string{NameOffline, anthropicName, geminiName, openaiName, openrouterName}
}

// Open returns the provider that cfg names. An unknown name is an error that
// lists the known ones.
func Open(cfg Config) (Provider, error) {
	switch cfg.Provider {
	case "", NameOffline:
		return NewOffline(), nil
	case anthropicName:
		return NewAnthropic(cfg)
	case geminiName:
		return NewGemini(cfg)
	case openaiName:
		return NewOpenAI(cfg)
	case openrouterName:
		return NewOpenRouter(cfg)
	}
	return nil, fmt.Errorf("unknown provider %q: known are %q", cfg.Provider, Providers())
}
