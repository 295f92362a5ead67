package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// folder writes files into a directory of the test's.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

// obs prompt show prints what is sent: the project's words, the events without
// what is private and without secrets, the form of the answer.
func TestPromptOfAJob(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	secret := "AKIA" + "QWERTYUIOPASDFGH"
	caller := observe.Caller{Actor: "test", Team: o.team, Scopes: []string{observe.ScopeAll}}
	record := func(payload string) string {
		got, err := o.service.Record(t.Context(), caller, []observe.NewEvent{{
			ProjectID: o.project, SourceType: "hook", EventType: "tool_use", OccurredAtEpoch: 1, Payload: json.RawMessage(payload),
		}}, observe.RecordOptions{Generate: true})
		require.NoError(t, err)
		return string(got[0].Job.ID)
	}
	job := record(`{"tool_name":"Read","tool_input":{"file_path":"main.go"},"tool_response":"key ` + secret + ` <private>hunter2</private>"}`)
	modes := folder(t, map[string]string{
		"mail/mode.json": `{"description":"Letters.","types":[{"name":"promise","description":"who owes what"}],"concepts":[{"name":"who","description":"a person"}],"tokens":{"observe":2000,"summary":2000}}`,
		"mail/system.md": "You read letters.", "mail/observe.md": "Types:\n{types}", "mail/summary.md": "Sum up.",
	})

	shown := o.obs("prompt", "show", job)
	require.Contains(t, shown, "in the words of code@")
	require.Contains(t, shown, "# system\nYou watch a coding agent")
	require.Contains(t, shown, `"file_path":"main.go"`)
	require.Contains(t, shown, "[redacted:aws-access-token]")
	require.Contains(t, shown, "# schema of the answer")
	require.NotContains(t, shown, secret)
	require.NotContains(t, shown, "hunter2")
	require.Contains(t, o.obs("prompt", "show", job, "--form", "grammar"), "<observation><type>bugfix | feature")
	require.Contains(t, o.obs("prompt", "show", job, "--json"), `"task": "observe"`)
	require.Contains(t, o.obs("prompt", "show", record(`"<private>all</private>"`)), "nothing is sent")

	require.Contains(t, must(t, "prompt", "modes"), "code@")
	require.Contains(t, must(t, "prompt", "modes", "--prompts", modes), "Letters.")
	require.Equal(t, "project api: mode mail\n", o.obs("projects", "set", o.project, "--mode", "mail", "--prompts", modes))
	require.Contains(t, o.obs("prompt", "show", job, "--prompts", modes), "You read letters.")
	words := folder(t, map[string]string{"observe.md": "Only decisions, please."})
	require.Contains(t, o.obs("projects", "set", o.project, "--words", words, "--mode", "code", "--storage", "redacted"), "storage redacted, mode code, words of "+words)
	require.Contains(t, o.obs("prompt", "show", job), "Only decisions, please.")
	require.Contains(t, o.obs("projects", "set", o.project, "--words", "", "--json"), `"prompts": {}`)
	require.NotContains(t, o.obs("prompt", "show", job), "Only decisions, please.")

	require.Contains(t, o.fails(2, "prompt", "show", job, "--form", "verse"), "--form")
	require.Contains(t, o.fails(2, "prompt", "show", job, "--prompts", words), "--prompts")
	require.Contains(t, o.fails(2, "projects", "set", o.project), "nothing to set")
	require.Contains(t, o.fails(2, "projects", "set", o.project, "--mode", "mail"), `no mode "mail"`)
	require.Contains(t, o.fails(2, "projects", "set", o.project, "--storage", "attic"), "--storage")
	require.Contains(t, o.fails(2, "projects", "set", o.project, "--words", modes), "--words")
	require.Contains(t, o.fails(1, "prompt", "show", "event_none"), "there is no job")
}
