package llm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

// The secrets are put together here so that no scanner takes this file for a leak.
var (
	aws    = "AKIA" + "IOSFODNN7EXAMPLE"
	github = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
	openai = "sk-" + "proj-9f8e7d6c5b4a39281706"
	pem    = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq0\nZm9vYmFyYmF6cXV4\n-----END RSA " + "PRIVATE KEY-----"
	bearer = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
	dsn    = "postgres://obs:" + "hunter2butlonger" + "@db/obs"
	assign = `password = "` + `c0rrect-h0rse` + `"`
)

// leaks are the parts that must never be seen.
var leaks = []string{
	aws, github, openai, "MIIEpAIBAAKCAQEA7bq0", "Zm9vYmFyYmF6cXV4", "c2lnbmF0dXJl", "hunter2butlonger", "c0rrect-h0rse",
}

func TestSecretsNeverLeave(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{aws, github, openai, pem, bearer, dsn, assign} {
		for i, e := range []llm.Event{
			tool("Bash", bash("curl -H 'Authorization: Bearer "+secret+"' x"), printed("result 1 ms "+secret+"\ntotal 3 ms")),
			failed("Bash", bash("go test ./x"), "Exit code 1\n--- FAIL: TestA (0.1s)\n    a_test.go:1: got "+secret),
			tool("Read", m{"file_path": "/w/" + secret + "/notes.md"}, m{"file": m{"content": "# Keys\n\nThe key is " + secret + " for now.\n"}}),
			tool("Write", m{"file_path": "/w/cfg.go", "content": "package cfg\n\n// Key must be here, because nobody reads " + secret + "\nconst Key = `" + secret + "`\n"}, m{}),
			tool("Edit", m{"file_path": "/w/cfg.go", "old_string": "key = 1", "new_string": "key = `" + secret + "`"}, m{}),
			tool("Edit", m{"file_path": "/w/cfg.go"}, m{"filePath": "/w/cfg.go", "structuredPatch": []m{{"oldStart": 1, "lines": strings.Split("+"+strings.ReplaceAll(secret, "\n", "\n+"), "\n")}}}),
			tool("Grep", m{"pattern": secret}, m{"content": "a.go:1:" + secret}),
			tool("WebFetch", m{"url": "https://x.example/?k=" + secret}, m{"result": "The page says that the key is " + secret + " indeed."}),
			tool("Task", m{"description": secret}, "It found the key "+secret+" in the file."),
			tool("mcp__vault__read", m{"path": secret}, "The value of it is "+secret+" today."),
			words("user_prompt", "prompt", "We will use "+secret+" instead of the other key, because it works."),
			words("assistant_message", "last_assistant_message", "The root cause was the key "+secret+" in it."),
			{ID: "e", Type: "deploy", Payload: tool("", nil, secret).Payload},
		} {
			for _, o := range ask(t, llm.Question{Events: []llm.Event{e}}).Observations {
				all := fmt.Sprintf("%+v", o)
				for _, leak := range leaks {
					require.NotContains(t, all, leak, "event %d", i)
				}
			}
			q := llm.Question{Task: llm.TaskSummarize, Events: []llm.Event{e}, LastMessage: "Next we will remove " + secret + " from it."}
			all := fmt.Sprintf("%+v", ask(t, q).Summary)
			for _, leak := range leaks {
				require.NotContains(t, all, leak, "event %d", i)
			}
		}
	}
}

func TestSecretInAFileIsNoted(t *testing.T) {
	t.Parallel()
	a := ask(t, llm.Question{Events: []llm.Event{tool("Write", m{"file_path": "/w/deploy/dev.env", "content": "AWS_KEY=" + aws + "\n"}, m{"type": "create"})}})
	last := a.Observations[len(a.Observations)-1]
	require.Equal(t, "security_note", last.Type)
	require.Equal(t, "An AWS access token in deploy/dev.env", last.Title)
	require.Equal(t, []string{"deploy/dev.env"}, last.FilesModified)
}

// TestCodeIsNotASecret: what only talks of secrets stays readable.
func TestCodeIsNotASecret(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"token := next()", "password = os.Getenv(name)", "sum := 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"http://127.0.0.1:8080/path@v2", "const task = `task-list-of-things`", "key: value",
	} {
		a := ask(t, llm.Question{Events: []llm.Event{tool("Edit", m{"file_path": "/w/a.go", "old_string": "", "new_string": line}, m{})}})
		require.Len(t, a.Observations, 1, line)
		require.NotContains(t, fmt.Sprintf("%+v", a), "redacted", line)
	}
}
