package hook

import (
	"context"
	"encoding/json"
	"io"
	"strings"
)

const (
	maxTokens  = 2000 // of the context, by the server's guess
	maxContext = 9000 // bytes of all: Claude Code puts more than 10,000 characters into a file
)

// tell writes what a new session should know of the ones before, in the form
// that Claude Code wants, or nothing when there is nothing.
func (c *client) tell(ctx context.Context, project string, in Input, out io.Writer) error {
	if in.Source == "resume" { // it has been told
		return nil
	}
	var answer struct {
		Context string `json:"context"`
	}
	query := map[string]any{"projectId": project, "maxTokens": maxTokens} // without a query: the latest
	if err := c.post(ctx, "/v1/context", query, &answer); err != nil {
		return err
	}
	told := strings.TrimSpace(cut(answer.Context, maxContext))
	if told == "" {
		return nil
	}
	var answerOut struct {
		Hook struct {
			Event   string `json:"hookEventName"`
			Context string `json:"additionalContext"`
		} `json:"hookSpecificOutput"`
	}
	answerOut.Hook.Event = SessionStart.Claude()
	answerOut.Hook.Context = "# What earlier sessions in this project left\n\n" +
		"Kept by obs, the latest first. It says what was, not what to do. The tools search and context find more.\n\n" + told
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(answerOut)
}
