package hook

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// platform is what a server knows Claude Code as.
const platform = "claude"

const (
	maxPayload = 1 << 20  // bytes of an event's payload; a server takes 5 MiB
	maxText    = 64 << 10 // bytes of a prompt
	maxID      = 200      // bytes of an id that we make; a server takes 256
)

// delivery is what one call of a hook has to tell a server: up to three
// requests, in this order. It is a file of the spool, so what is in it stays
// the same however often it is sent.
type delivery struct {
	Hook    Event         `json:"hook"`
	Project string        `json:"project"`
	Session string        `json:"session,omitempty"`
	Start   *startRequest `json:"start,omitempty"`
	Event   *eventRequest `json:"event,omitempty"`
	End     bool          `json:"end,omitempty"` // of the session that Start names
}

type startRequest struct {
	ProjectID         string            `json:"projectId"`
	ExternalSessionID string            `json:"externalSessionId"`
	ContentSessionID  string            `json:"contentSessionId"`
	AgentID           string            `json:"agentId,omitempty"`
	AgentType         string            `json:"agentType,omitempty"`
	PlatformSource    string            `json:"platformSource"`
	Metadata          map[string]string `json:"metadata,omitempty"`
}

type eventRequest struct {
	ProjectID        string         `json:"projectId"`
	SourceType       string         `json:"sourceType"`
	EventType        string         `json:"eventType"`
	SourceEventID    string         `json:"sourceEventId"`
	OccurredAtEpoch  int64          `json:"occurredAtEpoch"`
	ContentSessionID string         `json:"contentSessionId,omitempty"`
	ServerSessionID  string         `json:"serverSessionId,omitempty"`
	PlatformSource   string         `json:"platformSource"`
	Payload          map[string]any `json:"payload"`
}

// newDelivery makes of a hook's input what a server should be told, or nil
// when that is nothing.
func newDelivery(in Input, project string, now time.Time) (*delivery, error) {
	d := &delivery{Hook: in.Event, Project: project, Session: in.SessionID}
	switch in.Event {
	case UserPromptSubmit:
		if in.SessionID == "" {
			return nil, fmt.Errorf("%s: the input has no session_id", in.Event)
		}
		d.start(in)
		d.Start.AgentID, d.Start.AgentType = in.AgentID, in.AgentType
		d.Start.Metadata = map[string]string{"prompt": cut(in.Prompt, maxText)}
		if in.Cwd != "" {
			d.Start.Metadata["project"] = filepath.Base(in.Cwd)
		}
	case PostToolUse, ToolFailure:
		if in.ToolName == "" {
			return nil, fmt.Errorf("%s: the input has no tool_name", in.Event)
		}
		d.tool(in, now)
	case Stop:
		if in.StopActive || in.AgentID != "" {
			return nil, nil //nolint:nilnil // nothing to tell: the turn is not over, or it is a subagent's
		}
		if in.SessionID == "" {
			return nil, fmt.Errorf("%s: the input has no session_id", in.Event)
		}
		return d, d.stop(in, now)
	case SessionEnd:
		// A session in which nothing was said need not begin in order to end.
		if in.SessionID == "" || in.Transcript == "" {
			return nil, nil //nolint:nilnil // nothing to tell
		}
		s, err := lastSaid(in.Transcript)
		if err != nil || s.text == "" {
			return nil, err
		}
		d.start(in)
		d.End = true
	default:
		return nil, nil //nolint:nilnil // nothing to tell
	}
	return d, nil
}

func (d *delivery) start(in Input) {
	d.Start = &startRequest{
		ProjectID: d.Project, ExternalSessionID: in.SessionID, ContentSessionID: in.SessionID, PlatformSource: platform,
	}
}

func (d *delivery) tool(in Input, now time.Time) {
	if in.Event == ToolFailure {
		in.ToolResponse = map[string]any{"error": in.ToolError, "is_error": true, "interrupted": in.IsInterrupted}
	}
	d.Event = d.event(in, "tool_use", now, in.ToolUseID)
	d.Event.Payload = map[string]any{
		"tool_name": in.ToolName, "tool_input": in.ToolInput, "tool_response": in.ToolResponse, "platformSource": platform,
	}
	for name, value := range map[string]string{"cwd": in.Cwd, "agentId": in.AgentID, "agentType": in.AgentType} {
		if value != "" {
			d.Event.Payload[name] = value
		}
	}
	fit(d.Event.Payload, "tool_response", "tool_input")
}

// stop adds what the assistant said last. The error is about the transcript,
// and d is good without it.
func (d *delivery) stop(in Input, now time.Time) error {
	d.start(in)
	d.End = true
	var last said
	var err error
	if in.Transcript != "" {
		last, err = lastSaid(in.Transcript)
	}
	if in.LastMessage != "" && in.LastMessage != last.text {
		last = said{text: in.LastMessage} // the transcript is behind
	}
	if last.text == "" {
		return err
	}
	d.Event = d.event(in, "assistant_message", now, last.id)
	d.Event.Payload = map[string]any{"last_assistant_message": cut(last.text, maxPayload), "platformSource": platform}
	return err
}

// event is an event with an identity: that of the thing itself within its
// session, so that two hooks that report it report the same event, or else one
// that is made here and kept in the spool.
func (d *delivery) event(in Input, eventType string, now time.Time, id string) *eventRequest {
	if id == "" {
		id = "hook-" + rand.Text()
	} else if id = in.SessionID + "/" + id; len(id) > maxID || !utf8.ValidString(id) {
		sum := sha256.Sum256([]byte(id))
		id = "sha256-" + hex.EncodeToString(sum[:])
	}
	return &eventRequest{
		ProjectID: d.Project, SourceType: "hook", EventType: eventType, SourceEventID: id, OccurredAtEpoch: now.UnixMilli(),
		ContentSessionID: in.SessionID, PlatformSource: platform,
	}
}

// fit shortens the strings in some members of a payload until the whole is
// not too large for a server, the longest strings first.
func fit(payload map[string]any, names ...string) {
	size := func() int {
		text, err := json.Marshal(payload)
		if err != nil { // it came out of a decoder
			panic("hook: payload is JSON: " + err.Error())
		}
		return len(text)
	}
	if size() <= maxPayload {
		return
	}
	for _, limit := range []int{256 << 10, 64 << 10, 16 << 10, 4 << 10, 1 << 10, 64} {
		for _, name := range names {
			payload[name] = shorten(payload[name], limit)
			if size() <= maxPayload {
				return
			}
		}
	}
	for _, name := range names { // many small things
		payload[name] = "[too large]"
	}
}

func shorten(v any, limit int) any {
	switch v := v.(type) {
	case string:
		return cut(v, limit)
	case []any:
		for i := range v {
			v[i] = shorten(v[i], limit)
		}
	case map[string]any:
		for name := range v {
			v[name] = shorten(v[name], limit)
		}
	}
	return v
}

// gap is what stands for what was taken out.
const gap = "\n[…]\n"

// cut takes the middle out of a text that is longer than limit bytes: what a
// program says last is often what matters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	half := (limit - len(gap)) / 2
	head, tail := half, len(s)-half
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	return s[:head] + gap + s[tail:]
}
