package llm

import (
	"encoding/json"
	"path"
	"strconv"
	"strings"

	"github.com/seed-245eaa15/obs/internal/secrets"
)

// node is a decoded JSON value that answers every question: what is not there,
// or is of another type, is empty.
type node struct{ v any }

func (n node) get(names ...string) node {
	m, ok := n.v.(map[string]any)
	if !ok {
		return node{}
	}
	for _, name := range names {
		if v, ok := m[name]; ok && v != nil {
			return node{v}
		}
	}
	return node{}
}

func (n node) list() []node {
	l, _ := n.v.([]any)
	out := make([]node, len(l))
	for i, v := range l {
		out[i] = node{v}
	}
	return out
}

func (n node) str() string { s, _ := n.v.(string); return s }

func (n node) isTrue() bool { b, _ := n.v.(bool); return b }

// num returns a number, also one written as a string.
func (n node) num() (int, bool) {
	switch v := n.v.(type) {
	case float64:
		return int(v), true
	case string:
		i, err := strconv.Atoi(strings.TrimSpace(v))
		return i, err == nil
	}
	return 0, false
}

// text returns the words of a value: a string, text blocks, or an object that
// carries its text under one of the usual names.
func (n node) text() string {
	switch v := n.v.(type) {
	case string:
		return v
	case []any:
		var parts []string
		for _, e := range n.list() {
			if t := e.text(); t != "" {
				parts = append(parts, t)
			}
		}
		return strings.Join(parts, "\n")
	case map[string]any:
		return n.get("text", "content", "result", "message", "output", "stdout", "summary", "body", "note", "description").text()
	}
	return ""
}

type kind int

const (
	kindOther kind = iota
	kindTool
	kindPrompt
	kindMessage
)

// step is an event made readable.
type step struct {
	id, typ string
	kind    kind
	tool    string
	cwd     string
	in, out node
	err     string   // what a failed tool said; empty when it worked
	words   string   // prompt, message or free text
	root    node     // the whole payload
	secrets []string // the credentials that were taken out
	suspect bool     // there may be some
}

// decode reads one event. Whatever looks like a credential is gone from the
// step: nothing downstream can leak it.
func decode(e Event) step {
	s := step{id: e.ID, typ: e.Type}
	var v any
	if json.Unmarshal(e.Payload, &v) != nil {
		return s
	}
	s.suspect = !e.Clear && secrets.SuspectJSON(e.Payload)
	s.root = node{s.scrub(v)}
	s.cwd = s.root.get("cwd").str()
	s.in = s.root.get("tool_input", "toolInput", "input", "arguments")
	s.out = unwrap(s.root.get("tool_response", "toolResponse", "tool_output", "output", "response"))
	s.tool = s.root.get("tool_name", "toolName", "tool").str()
	s.err = s.root.get("error", "tool_error").text()
	if s.err == "" && s.out.get("is_error", "isError").isTrue() {
		s.err = s.out.text()
	}

	switch {
	case s.tool != "":
		s.kind = kindTool
	case s.root.get("last_assistant_message", "assistant_message").v != nil:
		s.kind = kindMessage
		s.words = s.root.get("last_assistant_message", "assistant_message").text()
	case s.root.get("prompt").v != nil:
		s.kind, s.words = kindPrompt, s.root.get("prompt").text()
	case s.root.get("metadata").get("prompt").v != nil:
		s.kind, s.words = kindPrompt, s.root.get("metadata").get("prompt").text()
	case strings.Contains(e.Type, "prompt"):
		s.kind, s.words = kindPrompt, s.root.text()
	case strings.Contains(e.Type, "assistant"):
		s.kind, s.words = kindMessage, s.root.text()
	default:
		s.words = s.root.text()
	}
	return s
}

// unwrap opens a JSON object that was sent as a string.
func unwrap(n node) node {
	t := strings.TrimSpace(n.str())
	if len(t) < 2 || t[0] != '{' || t[len(t)-1] != '}' {
		return n
	}
	var v map[string]any
	if json.Unmarshal([]byte(t), &v) != nil {
		return n
	}
	return node{v}
}

// scrub walks a value and cleans each string in it.
func (s *step) scrub(v any) any {
	switch v := v.(type) {
	case string:
		return s.clean(v)
	case map[string]any:
		for k, e := range v {
			v[k] = s.scrub(e)
		}
		return v
	case []any:
		// A patch is a list of lines, and a key may run over many of them.
		if joined, ok := joinStrings(v); ok && s.suspect {
			if parts := strings.Split(s.clean(joined), "\n"); len(parts) == len(v) {
				for i := range v {
					v[i] = parts[i]
				}
				return v
			}
		}
		for i, e := range v {
			v[i] = s.scrub(e)
		}
		return v
	}
	return v
}

func (s *step) clean(text string) string {
	if text = plain(text); !s.suspect {
		return text
	}
	text, found := redact(text)
	s.secrets = add(s.secrets, found...)
	return text
}

func joinStrings(v []any) (string, bool) {
	parts := make([]string, len(v))
	for i, e := range v {
		t, ok := e.(string)
		if !ok || strings.Contains(t, "\n") {
			return "", false
		}
		parts[i] = t
	}
	return strings.Join(parts, "\n"), len(parts) > 1
}

// rel names a file as seen from the session's directory. Outside of it the
// path stays as it is.
func (s *step) rel(file string) string {
	file = oneLine(strings.ReplaceAll(file, `\`, "/"))
	if file == "" {
		return ""
	}
	file = path.Clean(file)
	cwd := path.Clean(strings.ReplaceAll(s.cwd, `\`, "/"))
	if rest, ok := strings.CutPrefix(file, cwd+"/"); ok && s.cwd != "" {
		return rest
	}
	return file
}

// file returns the file a file tool worked on, relative.
func (s *step) file() string {
	name := s.in.get("file_path", "filePath", "path", "notebook_path").str()
	if name == "" {
		name = s.out.get("filePath", "notebook_path").str()
	}
	if name == "" {
		name = s.out.get("file").get("filePath").str()
	}
	return s.rel(name)
}
