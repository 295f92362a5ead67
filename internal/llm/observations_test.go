package llm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

// shownSessions are those that docs/observations.md has side by side.
var shownSessions = []string{"01-an-id-of-any-kind-fits", "02-a-hook-that-has-ended", "08-the-weight-of-gitleaks"}

// TestDocumentOfObservations: what docs/observations.md shows is what is
// written. The blocks are made anew with -update; the words around them are
// not touched.
func TestDocumentOfObservations(t *testing.T) {
	t.Parallel()
	const file = "../../docs/observations.md"
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	sessions := map[string]recording{}
	var all []recording
	for _, s := range allSessions(t) {
		sessions[s.name] = s
		all = append(all, s)
	}
	blocks := map[string]string{"figures": figuresTable(t, all)}
	for _, name := range shownSessions {
		blocks[name] = sideBySide(t, sessions[name])
	}
	got := string(raw)
	for name, block := range blocks {
		between := regexp.MustCompile(`(?s)(<!-- made: ` + name + ` -->\n).*?(<!-- end -->)`)
		require.Regexp(t, between, got)
		got = between.ReplaceAllStringFunc(got, func(m string) string {
			parts := between.FindStringSubmatch(m)
			return parts[1] + block + parts[2]
		})
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
		return
	}
	require.Equal(t, got, string(raw), "go test ./internal/llm -run TestDocument -update")
}

func figuresTable(t *testing.T, all []recording) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| session | events | notes | facts | in the events | changed files told | files seen told | commands told |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	row := func(name string, f figures) {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d of %d | %d of %d | %d of %d |\n",
			name, f.events, f.notes, f.facts, f.true, f.editedTold, f.edited, f.readTold, f.read, f.commandsTold, f.commands)
	}
	var sum, each figures
	for _, s := range all {
		f := measure(t, s, notesOn(t, s, false))
		row("`"+s.name+"`", f)
		sum.add(f)
		each.add(measure(t, s, notesOn(t, s, true)))
	}
	row("**all, a turn at a time**", sum)
	row("**all, an event at a time**", each)
	return b.String()
}

// sideBySide is a table of three columns: what hooks sent, what the extractor
// wrote, and what came back from a server that speaks OpenAI's API.
func sideBySide(t *testing.T, s recording) string {
	t.Helper()
	offline := ask(t, llm.Question{Task: llm.TaskObserve, Project: "obs", Session: "s", Events: s.events})
	sum := ask(t, llm.Question{Task: llm.TaskSummarize, Project: "obs", Session: "s", Events: s.events, Notes: offline.Observations})
	model, modelSum := exchanged(t, s)
	var b strings.Builder
	b.WriteString("<table>\n<tr><th>what the hooks sent</th><th>the offline extractor</th><th>through a provider</th></tr>\n<tr><td valign=\"top\">\n\n")
	for _, e := range s.events {
		b.WriteString(digest(e))
	}
	for _, a := range []struct {
		notes []llm.Observation
		sum   *llm.Summary
	}{{offline.Observations, sum.Summary}, {model, modelSum}} {
		b.WriteString("\n</td><td valign=\"top\">\n")
		for _, o := range a.notes {
			note(&b, o)
		}
		b.WriteString("\n**summary**\n\n")
		for _, part := range [][2]string{
			{"request", a.sum.Request},
			{"investigated", a.sum.Investigated},
			{"learned", a.sum.Learned},
			{"completed", a.sum.Completed},
			{"next steps", a.sum.NextSteps},
			{"notes", a.sum.Notes},
		} {
			if part[1] != "" {
				fmt.Fprintf(&b, "- %s: %s\n", part[0], cell(part[1]))
			}
		}
	}
	b.WriteString("\n</td></tr>\n</table>\n")
	return b.String()
}

// exchanged asks through the whole of the provider, and checks that the server
// was sent the prompt that `obs prompt show` prints. The server's answers are
// in testdata/answers; who wrote them stands in the document.
func exchanged(t *testing.T, s recording) ([]llm.Observation, *llm.Summary) {
	t.Helper()
	raw, err := os.ReadFile("testdata/answers/" + s.name + ".json")
	require.NoError(t, err)
	var answers map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &answers))
	server := llmtest.New(t)
	server.Plan(llmtest.Says(string(answers["observe"])), llmtest.Says(string(answers["summarize"])))
	p, err := llm.Open(llm.Config{Provider: "openai", URL: server.URL, Model: "none"})
	require.NoError(t, err)
	q := llm.Question{Task: llm.TaskObserve, Project: "obs", Session: "s", Events: s.events}
	a, err := p.Answer(t.Context(), q)
	require.NoError(t, err)
	q2 := llm.Question{Task: llm.TaskSummarize, Project: "obs", Session: "s", Events: s.events, Notes: a.Observations}
	sum, err := p.Answer(t.Context(), q2)
	require.NoError(t, err)
	require.NotNil(t, sum.Summary)
	for i, asked := range server.Asked() {
		sent := []llm.Prompt{q.Prompt(true), q2.Prompt(true)}[i]
		require.Equal(t, []llmtest.Message{{Role: "system", Content: sent.System}, {Role: "user", Content: sent.User}}, asked.Body.Messages)
	}
	// What it says is held to the same as the extractor.
	for _, o := range a.Observations {
		require.NotEmpty(t, o.Events)
		for _, text := range append([]string{o.Title, o.Narrative}, o.Facts...) {
			for _, q := range quoted(text) {
				require.Contains(t, s.flat, strings.Join(strings.Fields(q), " "), "%s: not the events' words", s.name)
			}
		}
	}
	return a.Observations, sum.Summary
}

// digest is an event in a line or two.
func digest(e llm.Event) string {
	var p struct {
		Tool  string `json:"tool_name"`
		Error string `json:"error"`
		In    struct {
			File    string `json:"file_path"`
			Command string `json:"command"`
			Pattern string `json:"pattern"`
		} `json:"tool_input"`
		Out struct {
			Stdout string `json:"stdout"`
		} `json:"tool_response"`
		Prompt string `json:"prompt"`
		Last   string `json:"last_assistant_message"`
	}
	if json.Unmarshal(e.Payload, &p) != nil {
		return ""
	}
	what := p.Tool
	switch {
	case p.Prompt != "":
		what = "prompt: " + p.Prompt
	case p.Last != "":
		what = "message: " + p.Last
	case p.In.File != "":
		what += " " + strings.TrimPrefix(p.In.File, home)
	case p.In.Command != "":
		what += " `" + short(strings.ReplaceAll(p.In.Command, "`", "'"), 70) + "`"
	case p.In.Pattern != "":
		what += " `" + p.In.Pattern + "`"
	}
	out := p.Out.Stdout
	if p.Error != "" {
		out = "**fails** " + p.Error
	}
	if out != "" {
		what += " → " + short(out, 110)
	}
	return fmt.Sprintf("%s %s, %d bytes<br>\n", e.ID, cell(short(what, 260)), len(e.Payload))
}

func note(b *strings.Builder, o llm.Observation) {
	fmt.Fprintf(b, "\n**%s: %s**\n", o.Type, cell(o.Title))
	if o.Subtitle != "" {
		fmt.Fprintf(b, "<br>*%s*\n", cell(o.Subtitle))
	}
	if o.Narrative != "" {
		fmt.Fprintf(b, "\n%s\n", cell(o.Narrative))
	}
	b.WriteString("\n")
	for _, f := range o.Facts {
		fmt.Fprintf(b, "- %s\n", cell(f))
	}
	for _, part := range []struct {
		name string
		list []string
	}{{"concepts", o.Concepts}, {"read", o.FilesRead}, {"modified", o.FilesModified}, {"from", o.Events}} {
		if len(part.list) > 0 {
			fmt.Fprintf(b, "- *%s*: %s\n", part.name, strings.Join(part.list, ", "))
		}
	}
}

// cell is text that stands in a table as it is.
func cell(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	var out strings.Builder
	for i, part := range strings.Split(s, "`") {
		if i > 0 {
			out.WriteString("`")
		}
		if i%2 == 0 { // outside of code
			part = strings.NewReplacer("<", "&lt;", ">", "&gt;", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`).Replace(part)
		}
		out.WriteString(part)
	}
	return strings.ReplaceAll(out.String(), `\*\*fails\*\*`, "**fails**")
}

func short(s string, n int) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) > n {
		return strings.TrimSpace(string(r[:n])) + "…"
	}
	return string(r)
}
