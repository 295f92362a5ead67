package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Event is the name of a hook as the command line has it.
type Event string

// The hooks that we know. On any other one [Run] does nothing.
const (
	SessionStart     Event = "session-start"
	UserPromptSubmit Event = "user-prompt-submit"
	PostToolUse      Event = "post-tool-use"
	ToolFailure      Event = "post-tool-use-failure"
	Stop             Event = "stop"
	SubagentStop     Event = "subagent-stop"
	PreCompact       Event = "pre-compact"
	SessionEnd       Event = "session-end"
)

// ParseEvent takes Claude Code's own names (SessionStart) as well as ours
// (session-start). What is unknown stays as it is, in our way of writing.
func ParseEvent(name string) Event {
	var b strings.Builder
	for i, r := range strings.TrimSpace(name) {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return Event(b.String())
}

// Claude is the name as Claude Code writes it.
func (e Event) Claude() string {
	var b strings.Builder
	for word := range strings.SplitSeq(string(e), "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// maxInput is how much of a hook's JSON is read, in bytes. A tool's answer may
// have pictures in it.
const maxInput = 32 << 20

// Input is a hook's JSON, as far as it matters here. What is missing or of
// another type than it should be is empty.
type Input struct {
	Event         Event
	SessionID     string
	Cwd           string
	Transcript    string // the path of the session's transcript
	Source        string // of a SessionStart: startup, resume, clear or compact
	Prompt        string
	ToolName      string
	ToolUseID     string
	ToolInput     any
	ToolResponse  any
	LastMessage   string // of the assistant, where Claude Code gives it
	StopActive    bool   // the agent goes on because a Stop hook told it to
	AgentID       string // of a subagent
	AgentType     string
	ToolError     string // of a tool that failed
	IsInterrupted bool
}

var errNoObject = errors.New("the input is no JSON object")

// ReadInput reads a hook's JSON. event is the name from the command line; where
// it is empty, that in the JSON counts.
func ReadInput(r io.Reader, event string) (Input, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return Input{}, fmt.Errorf("read the input: %w", err)
	}
	if len(text) > maxInput {
		return Input{}, fmt.Errorf("read the input: it has more than %d bytes", maxInput)
	}
	dec := json.NewDecoder(bytes.NewReader(bytes.ToValidUTF8(text, []byte("\uFFFD"))))
	dec.UseNumber() // an id of 20 digits stays one
	var v any
	if err := dec.Decode(&v); err != nil {
		// A syntax error quotes a character of the input, and no more.
		return Input{}, fmt.Errorf("read the input: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return Input{}, errNoObject
	}
	str := func(name string) string { s, _ := m[name].(string); return s }
	is := func(name string) bool { b, _ := m[name].(bool); return b }
	in := Input{
		Event: ParseEvent(event), SessionID: str("session_id"), Cwd: str("cwd"), Transcript: str("transcript_path"),
		Source: str("source"), Prompt: str("prompt"), ToolName: str("tool_name"), ToolUseID: str("tool_use_id"),
		ToolInput: m["tool_input"], ToolResponse: m["tool_response"], LastMessage: str("last_assistant_message"),
		StopActive: is("stop_hook_active"), AgentID: str("agent_id"), AgentType: str("agent_type"),
		ToolError: str("error"), IsInterrupted: is("is_interrupt"),
	}
	if event == "" {
		in.Event = ParseEvent(str("hook_event_name"))
	}
	return in, nil
}
