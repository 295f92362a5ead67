package llm_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

// recording is a session of testdata/sessions: what an agent's hooks report of
// real work on this repository, see testdata/record.
type recording struct {
	name   string
	events []llm.Event
	text   strings.Builder
	flat   string // all strings of all payloads, white space made one

	// What a reader of the notes would want to hear of.
	edited, seen map[string]bool
	lines        map[string]int    // of files that were written
	telling      map[string]string // events that are commands which failed, tested or committed
}

// home is where the sessions were.
const home = "/home/dev/obs/"

func allSessions(t testing.TB) []recording {
	t.Helper()
	files, err := filepath.Glob("testdata/sessions/*.jsonl.gz")
	require.NoError(t, err)
	var all []recording
	for _, file := range files {
		f, err := os.Open(file)
		require.NoError(t, err)
		z, err := gzip.NewReader(f)
		require.NoError(t, err)
		s := newRecording(strings.TrimSuffix(filepath.Base(file), ".jsonl.gz"))
		lines := bufio.NewScanner(z)
		lines.Buffer(nil, 8<<20)
		for lines.Scan() {
			var e struct {
				EventType       string
				OccurredAtEpoch int64
				Payload         json.RawMessage
			}
			require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
			s.add(t, e.EventType, e.OccurredAtEpoch, e.Payload)
		}
		require.NoError(t, lines.Err())
		require.NoError(t, f.Close())
		all = append(all, s.done())
	}
	return all
}

func newRecording(name string) *recording {
	return &recording{name: name, edited: map[string]bool{}, seen: map[string]bool{}, lines: map[string]int{}, telling: map[string]string{}}
}

func (s *recording) add(t testing.TB, typ string, at int64, payload []byte) {
	t.Helper()
	s.events = append(s.events, llm.Event{
		ID: fmt.Sprintf("e%d", len(s.events)+1), Type: typ, Source: "claude-code", At: time.UnixMilli(at).UTC(), Payload: payload,
	})
	var v any
	require.NoError(t, json.Unmarshal(payload, &v))
	spell(&s.text, v)
	s.look(s.events[len(s.events)-1])
}

func (s *recording) done() recording {
	s.flat = strings.Join(strings.Fields(strings.ReplaceAll(s.text.String(), "`", "'")), " ")
	return recording{name: s.name, events: s.events, flat: s.flat, edited: s.edited, seen: s.seen, lines: s.lines, telling: s.telling}
}

// look notes what an event is about, without the extractor's help.
func (s *recording) look(e llm.Event) {
	var p struct {
		Tool  string `json:"tool_name"`
		Error string `json:"error"`
		In    struct {
			File    string `json:"file_path"`
			Command string `json:"command"`
			Content string `json:"content"`
		} `json:"tool_input"`
	}
	if json.Unmarshal(e.Payload, &p) != nil {
		return
	}
	file := strings.TrimPrefix(p.In.File, home)
	switch p.Tool {
	case "Edit", "Write":
		s.edited[file], s.seen[file] = true, true
		s.lines[file] = strings.Count(strings.TrimRight(p.In.Content, "\n"), "\n") + 1
	case "Read":
		s.seen[file] = true
	case "Bash":
		if p.Error != "" || strings.Contains(p.In.Command, "go test") || strings.Contains(p.In.Command, "git commit") {
			s.telling[e.ID] = p.In.Command
		}
	}
}

func spell(b *strings.Builder, v any) {
	switch v := v.(type) {
	case string:
		b.WriteString(v + "\n")
	case []any:
		for _, e := range v {
			spell(b, e)
		}
	case map[string]any:
		for _, e := range v {
			spell(b, e)
		}
	}
}
