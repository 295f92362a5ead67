// Package demo holds one session of a coding agent, event by event as its
// hooks report them. It was written from the work on this repository: the
// files, failures, fixes and decisions are of that work, the times and figures
// are examples. `obs demo` sends it through the pipeline, and the extractor's
// golden files are made from it. Start with [Session].
package demo

import (
	"bytes"
	_ "embed" // the session's text
	"encoding/json"
	"errors"
	"fmt"
)

//go:embed session.jsonl
var recorded []byte

// Recording is a session in the order in which it happened.
type Recording struct {
	ID     string // the agent's own id of the session
	Prompt string // the first thing the person asked for, privacy tags included
	Events []Event
}

// Event is one hook call.
type Event struct {
	Hook            string          `json:"hook"`            // the hook's name: "PostToolUse", "Stop", …
	EventType       string          `json:"eventType"`       // as the API calls it: "tool_use", "user_prompt", …
	OccurredAtEpoch int64           `json:"occurredAtEpoch"` // milliseconds since 1970, UTC; rises from event to event
	Payload         json.RawMessage `json:"payload"`
}

// Session returns the session. Each call decodes it anew: the caller owns the
// result.
func Session() (Recording, error) {
	var s Recording
	for line := range bytes.Lines(recorded) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return Recording{}, fmt.Errorf("read event %d of the demo session: %w", len(s.Events)+1, err)
		}
		var known struct {
			SessionID string `json:"session_id"`
			Prompt    string `json:"prompt"`
		}
		if err := json.Unmarshal(e.Payload, &known); err != nil {
			return Recording{}, fmt.Errorf("read payload %d of the demo session: %w", len(s.Events)+1, err)
		}
		if s.ID == "" {
			s.ID = known.SessionID
		}
		if s.Prompt == "" {
			s.Prompt = known.Prompt
		}
		s.Events = append(s.Events, e)
	}
	if s.ID == "" || s.Prompt == "" {
		return Recording{}, errors.New("read the demo session: it names no session or has no prompt")
	}
	return s, nil
}
