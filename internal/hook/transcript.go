package hook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxTail is how much of a transcript's end is looked through, in bytes.
const maxTail = 8 << 20

// said is what the assistant said last, and the id that the transcript has
// for it.
type said struct{ text, id string }

// lastSaid finds the last message of the assistant that has words in it. There
// may be none.
func lastSaid(path string) (said, error) {
	info, err := os.Stat(path)
	if err != nil {
		return said{}, fmt.Errorf("read the transcript: %w", err)
	}
	if !info.Mode().IsRegular() { // to open a pipe would mean to wait for its other end
		return said{}, fmt.Errorf("read the transcript: %s is no file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return said{}, fmt.Errorf("read the transcript: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(max(0, info.Size()-maxTail), io.SeekStart); err != nil {
		return said{}, fmt.Errorf("read the transcript: %w", err)
	}
	tail, err := io.ReadAll(io.LimitReader(f, maxTail))
	if err != nil {
		return said{}, fmt.Errorf("read the transcript: %w", err)
	}
	for len(tail) > 0 {
		at := bytes.LastIndexByte(bytes.TrimRight(tail, "\n"), '\n') + 1
		if s := assistantLine(tail[at:]); s.text != "" {
			return s, nil
		}
		tail = tail[:at]
	}
	return said{}, nil
}

// assistantLine is what the assistant says in a line of a transcript: nothing
// when the line is another's, a subagent's, or cut off.
func assistantLine(line []byte) said {
	if !bytes.Contains(line, []byte(`"assistant"`)) {
		return said{}
	}
	var l struct {
		Type        string `json:"type"`
		UUID        string `json:"uuid"`
		IsSidechain bool   `json:"isSidechain"`
		Message     struct {
			Content json.RawMessage `json:"content"`
		} `json:"message"`
	}
	if json.Unmarshal(line, &l) != nil || l.Type != "assistant" || l.IsSidechain {
		return said{}
	}
	var text string
	if json.Unmarshal(l.Message.Content, &text) == nil {
		return said{strings.TrimSpace(text), l.UUID}
	}
	var blocks []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(l.Message.Content, &blocks) != nil {
		return said{}
	}
	var parts []string
	for _, b := range blocks {
		if b.Type == "text" && strings.TrimSpace(b.Text) != "" {
			parts = append(parts, strings.TrimSpace(b.Text))
		}
	}
	return said{strings.Join(parts, "\n"), l.UUID}
}
