package llm_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/demo"
	"github.com/seed-245eaa15/obs/internal/llm"
)

var update = flag.Bool("update", false, "write the golden files anew")

var private = regexp.MustCompile(`(?s)<private>.*?</private>`)

// session is the shipped session as a caller hands it over: private sections
// are gone.
func session(t testing.TB) []llm.Event {
	t.Helper()
	s, err := demo.Session()
	require.NoError(t, err)
	var events []llm.Event
	for i, e := range s.Events {
		events = append(events, llm.Event{
			ID: fmt.Sprintf("e%d", i+1), Type: e.EventType, Source: "claude-code",
			At: time.UnixMilli(e.OccurredAtEpoch), Payload: private.ReplaceAll(e.Payload, nil),
		})
	}
	return events
}

// turns cuts a session at its prompts: what the pipeline's debounced batches
// come to.
func turns(events []llm.Event) [][]llm.Event {
	var out [][]llm.Event
	for _, e := range events {
		if len(out) == 0 || e.Type == "user_prompt" {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], e)
	}
	return out
}

func ask(t testing.TB, q llm.Question) llm.Answer {
	t.Helper()
	a, err := llm.NewOffline().Answer(t.Context(), q)
	require.NoError(t, err)
	return a
}

// TestGoldenSession is read by people: the notes on the shipped session, a
// turn at a time, and its summary.
func TestGoldenSession(t *testing.T) {
	t.Parallel()
	events := session(t)
	var b strings.Builder
	b.WriteString("# The shipped session, as the extractor notes it a turn at a time\n\nMade by `go test ./internal/llm -run TestGolden -update`.\n")
	var notes []llm.Observation
	for i, turn := range turns(events) {
		a := ask(t, llm.Question{Task: llm.TaskObserve, Events: turn})
		if !a.Skipped {
			fmt.Fprintf(&b, "\n## Turn %d: events %s to %s\n", i, turn[0].ID, turn[len(turn)-1].ID)
		}
		for _, o := range a.Observations {
			render(&b, o)
		}
		notes = append(notes, a.Observations...)
	}
	sum := ask(t, llm.Question{Task: llm.TaskSummarize, Events: events, Notes: notes}).Summary
	require.NotNil(t, sum)
	b.WriteString("\n## Summary\n")
	for _, part := range [][2]string{
		{"Request", sum.Request},
		{"Investigated", sum.Investigated},
		{"Learned", sum.Learned},
		{"Completed", sum.Completed},
		{"Next steps", sum.NextSteps},
		{"Notes", sum.Notes},
	} {
		fmt.Fprintf(&b, "\n%s: %s\n", part[0], part[1])
	}
	golden(t, "session.golden.md", b.String())
}

// TestGoldenEvents is the same with a question for each event, as the pipeline
// asks without batches.
func TestGoldenEvents(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# The shipped session, as the extractor notes it an event at a time\n\nMade by `go test ./internal/llm -run TestGolden -update`.\n")
	for _, e := range session(t) {
		for _, o := range ask(t, llm.Question{Task: llm.TaskObserve, Events: []llm.Event{e}}).Observations {
			render(&b, o)
		}
	}
	golden(t, "events.golden.md", b.String())
}

func render(b *strings.Builder, o llm.Observation) {
	fmt.Fprintf(b, "\n### %s: %s\n", o.Type, o.Title)
	if o.Subtitle != "" {
		fmt.Fprintf(b, "*%s*\n", o.Subtitle)
	}
	if o.Narrative != "" {
		fmt.Fprintf(b, "\n%s\n", o.Narrative)
	}
	if len(o.Facts) > 0 {
		b.WriteString("\n")
	}
	for _, f := range o.Facts {
		fmt.Fprintf(b, "- %s\n", f)
	}
	b.WriteString("\n")
	for _, part := range []struct {
		name string
		list []string
	}{{"concepts", o.Concepts}, {"read", o.FilesRead}, {"modified", o.FilesModified}, {"events", o.Events}} {
		if len(part.list) > 0 {
			fmt.Fprintf(b, "%s: %s  \n", part.name, strings.Join(part.list, ", "))
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}
