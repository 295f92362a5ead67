package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
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

const (
	// maxInput is how much of a hook's JSON is read, in bytes. A tool's answer
	// may have pictures in it.
	maxInput = 128 << 20
	// maxTree is how much JSON is made values of: a million small things take
	// longer than the agent waits, and a server is not told of them all anyway.
	maxTree = 8 << 20
	// maxDepth is how deep a member may be nested; a server takes 500 levels.
	maxDepth = 400
)

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
	m, err := members(bytes.ToValidUTF8(text, []byte("\uFFFD")))
	if err != nil {
		return Input{}, fmt.Errorf("read the input: %w", err)
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

// members reads an object. Of a member that is too large only the text is
// kept, and of that the ends.
func members(text []byte) (map[string]any, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if d.PeekKind() != '{' {
		if err := d.SkipValue(); err != nil {
			return nil, syntax(err)
		}
		return nil, errNoObject
	}
	m := map[string]any{}
	_, err := d.ReadToken()
	for err == nil && d.PeekKind() == '"' {
		var name jsontext.Token
		if name, err = d.ReadToken(); err != nil {
			break
		}
		key := name.String() // before the next read, which takes its place
		var value jsontext.Value
		if value, err = d.ReadValue(); err != nil {
			break
		}
		if len(value) > maxTree {
			m[key] = ends(value)
			continue
		}
		one := json.NewDecoder(bytes.NewReader(value))
		one.UseNumber() // an id of 20 digits stays one
		var v any
		if err = one.Decode(&v); err == nil {
			m[key] = shallow(v, maxDepth)
		}
	}
	if err == nil {
		_, err = d.ReadToken() // the end, or what is in its place
	}
	return m, syntax(err)
}

// ends is the beginning and the end of a value as text: what a string says,
// or the JSON of what is none.
func ends(value jsontext.Value) string {
	if value.Kind() != '"' {
		return cut(string(value), maxPayload)
	}
	inner := value[1 : len(value)-1]
	var head, tail string
	// A cut through an escape leaves what is no string, and the longest has 12 bytes.
	for n := range 13 {
		if json.Unmarshal(slices.Concat([]byte{'"'}, inner[:maxPayload/2-n], []byte{'"'}), &head) == nil {
			break
		}
	}
	for n := range 13 {
		if json.Unmarshal(slices.Concat([]byte{'"'}, inner[len(inner)-maxPayload/2+n:], []byte{'"'}), &tail) == nil {
			break
		}
	}
	return head + gap + tail
}

// shallow is v without what is more than that many levels down.
func shallow(v any, levels int) any {
	switch v := v.(type) {
	case []any:
		if levels == 0 {
			return "[too deep]"
		}
		for i := range v {
			v[i] = shallow(v[i], levels-1)
		}
	case map[string]any:
		if levels == 0 {
			return "[too deep]"
		}
		for name := range v {
			v[name] = shallow(v[name], levels-1)
		}
	}
	return v
}

// syntax is err without the input that it may quote.
func syntax(err error) error {
	if bad, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("not JSON at byte %d", bad.ByteOffset)
	}
	return err
}
