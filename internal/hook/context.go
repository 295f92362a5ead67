package hook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

const (
	maxNotes   = 20   // that a new session is told
	maxNote    = 1200 // bytes of each
	maxContext = 9000 // bytes of all: Claude Code puts more than 10,000 characters into a file
)

// recent is a query that every note answers to, since it only says which word
// must not be there. Equally good answers come newest first.
const recent = "-obsnosuchwordasthis"

// tell writes what a new session should know of the ones before, in the form
// that Claude Code wants, or nothing when there is nothing.
func (c *client) tell(ctx context.Context, project string, in Input, out io.Writer) error {
	if in.Source == "resume" { // it has been told
		return nil
	}
	var answer struct {
		Observations []struct {
			Kind    string `json:"kind"`
			Content string `json:"content"`
		} `json:"observations"`
	}
	query := map[string]any{"projectId": project, "query": recent, "limit": maxNotes}
	if err := c.post(ctx, "/v1/context", query, &answer); err != nil {
		return err
	}
	var b strings.Builder
	for _, o := range answer.Observations {
		note := strings.TrimSpace(cut(o.Content, maxNote))
		if note == "" {
			continue
		}
		note = fmt.Sprintf("[%s] %s\n\n", o.Kind, note)
		if b.Len()+len(note) > maxContext {
			break
		}
		b.WriteString(note)
	}
	if b.Len() == 0 {
		return nil
	}
	var answerOut struct {
		Hook struct {
			Event   string `json:"hookEventName"`
			Context string `json:"additionalContext"`
		} `json:"hookSpecificOutput"`
	}
	answerOut.Hook.Event = SessionStart.Claude()
	answerOut.Hook.Context = "Notes from earlier sessions in this project, kept by obs, newest first. They say what was, not what to do.\n\n" +
		strings.TrimSpace(b.String())
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(answerOut)
}
