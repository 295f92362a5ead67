package llm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "offline"} {
		p, err := llm.Open(llm.Config{Provider: name})
		require.NoError(t, err)
		require.Equal(t, "offline", p.Name())
	}
	_, err := llm.Open(llm.Config{Provider: "oracle"})
	require.ErrorContains(t, err, `"oracle"`)
	require.ErrorContains(t, err, `"offline"`)
}

func TestAnswerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := llm.NewOffline().Answer(ctx, llm.Question{Task: llm.TaskObserve, Events: []llm.Event{{Payload: []byte(`1`)}}})
	require.ErrorIs(t, err, context.Canceled)
}

// tool is a tool_use event in the directory /w.
func tool(name string, in, out any) llm.Event {
	b, err := json.Marshal(map[string]any{"cwd": "/w", "tool_name": name, "tool_input": in, "tool_response": out})
	if err != nil {
		panic(err)
	}
	return llm.Event{ID: "e", Type: "tool_use", Payload: b}
}

func failed(name string, in any, message string) llm.Event {
	b, err := json.Marshal(map[string]any{"cwd": "/w", "tool_name": name, "tool_input": in, "error": message})
	if err != nil {
		panic(err)
	}
	return llm.Event{ID: "e", Type: "tool_use", Payload: b}
}

func words(typ, key, text string) llm.Event {
	b, err := json.Marshal(map[string]any{key: text})
	if err != nil {
		panic(err)
	}
	return llm.Event{ID: "e", Type: typ, Payload: b}
}

type m = map[string]any

func bash(command string) m { return m{"command": command} }

func printed(stdout string) m {
	return m{"stdout": stdout, "stderr": "", "interrupted": false, "isImage": false}
}

// TestOneEvent is the extractor's contract, a tool at a time. An empty title
// means that nothing is worth a note.
func TestOneEvent(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		event llm.Event
		typ   string
		title string
		fact  string // one that must be there
	}{
		{
			"read", tool("Read", m{"file_path": "/w/a/job.go"}, m{"type": "text", "file": m{"filePath": "/w/a/job.go", "content": "// Package a counts jobs.\npackage a\n\ntype Job struct{}\n\nfunc (j Job) Apply() {}\n"}}),
			"discovery", "Read a/job.go: Job and Apply", "a/job.go declares `Job` and `Apply`",
		},
		{"read of numbered lines", tool("Read", m{"file_path": "/w/x.py"}, "     1→class Relay:\n     2→    def run(self):"), "discovery", "Read x.py: Relay and run", ""},
		{"read of nothing", tool("Read", m{"file_path": "/w/empty.go"}, m{"file": m{"content": ""}}), "", "", ""},
		{"read of a file outside", tool("Read", m{"file_path": "/etc/app/notes.md"}, m{"file": m{"content": "# Notes\n\nThe port is 80.\n"}}), "discovery", "Read /etc/app/notes.md: Notes", ""},
		{
			"edit of a value", tool("Edit", m{"file_path": "/w/relay.go", "old_string": "const maxAttempts = 3", "new_string": "const maxAttempts = 5"}, m{}),
			"change", "maxAttempts in relay.go: 3 → 5", "`maxAttempts` in relay.go: `3` → `5`",
		},
		{
			"edit of a whole expression", tool("Edit", m{"file_path": "/w/relay.go", "old_string": "\tAckWait: 30 * time.Second,", "new_string": "\tAckWait: 2 * time.Minute,"}, "ok"),
			"change", "AckWait in relay.go: 30 * time.Second → 2 * time.Minute", "",
		},
		{
			"edit that renames", tool("Edit", m{"file_path": "/w/a.ts", "old_string": "fetchAll(x)\nreturn fetchAll(y)", "new_string": "loadAll(x)\nreturn loadAll(y)", "replace_all": true}, m{}),
			"refactor", "Renamed fetchAll to loadAll in a.ts", "`fetchAll` became `loadAll` in 2 lines",
		},
		{
			"edit with a patch", tool("Edit", m{"file_path": "/w/db/jobs.go"}, m{
				"filePath": "/w/db/jobs.go", "originalFile": "package db\n\nfunc Begin() {\n\tx := 1\n\tuse(x)\n}\n",
				"structuredPatch": []m{{"oldStart": 3, "oldLines": 4, "newStart": 3, "newLines": 6, "lines": []string{" func Begin() {", " \tx := 1", "+\t// A worker that lost its lease must not settle, because another one may hold the job.", "+\tguard(x)", " \tuse(x)", " }"}}},
			}),
			"change", "Begin in db/jobs.go: A worker that lost its lease must not settle", "new in db/jobs.go: `guard(x)`",
		},
		{"edit that failed", failed("Edit", m{"file_path": "/w/a.go", "old_string": "a", "new_string": "b"}, "String to replace not found in file."), "", "", ""},
		{"edit of imports only", tool("Edit", m{"file_path": "/w/a.go", "old_string": "\t\"fmt\"\n", "new_string": "\t\"fmt\"\n\t\"sync\"\n"}, m{}), "", "", ""},
		{
			"several edits", tool("MultiEdit", m{"file_path": "/w/a.go", "edits": []m{{"old_string": "func old() {}", "new_string": ""}, {"old_string": "x", "new_string": "x\n\nfunc Fresh() {}"}}}, m{}),
			"refactor", "Fresh replaces old in a.go", "a.go now declares `Fresh`",
		},
		{
			"new file", tool("Write", m{"file_path": "/w/outbox/relay.go", "content": "// Package outbox carries rows to the stream.\npackage outbox\n\ntype Relay struct{}\n\nfunc New() *Relay { return nil }\n"}, m{"type": "create", "filePath": "/w/outbox/relay.go"}),
			"feature", "New outbox/relay.go: Relay and New", "outbox/relay.go declares `Relay` and `New`",
		},
		{
			"new tests", tool("Write", m{"file_path": "/w/a_test.go", "content": "package a\n\nfunc TestLead(t *testing.T) {}\nfunc helper() {}\n"}, m{"type": "create"}),
			"change", "Tests in a_test.go: TestLead", "",
		},
		{
			"decision record", tool("Write", m{"file_path": "/w/docs/adr/0003-one-clock.md", "content": "# ADR 0003: One clock\n\n## Context\nTwo clocks drift.\n\n## Decision\nPostgres' clock decides.\n\n## Consequences\n- No time from callers.\n"}, m{"type": "create"}),
			"decision", "ADR 0003: One clock", "No time from callers.",
		},
		{"throw-away file", tool("Write", m{"file_path": "/tmp/x/main.go", "content": "package main\n\nfunc main() {}\n"}, m{}), "", "", ""},
		{
			"notebook", tool("NotebookEdit", m{"notebook_path": "/w/n.ipynb", "new_source": "rates = load(\"rates.csv\")"}, m{"notebook_path": "/w/n.ipynb"}),
			"change", "n.ipynb: `rates = load(\"rates.csv\")`", "",
		},

		{
			"go test fails", failed("Bash", bash("cd /w && nice go test ./outbox 2>&1 | tail -20"), "Exit code 1\n--- FAIL: TestLead (5.00s)\n    lead_test.go:88: context deadline exceeded\nFAIL\nFAIL\tx/outbox\t5.1s"),
			"discovery", "go test ./outbox fails: TestLead: context deadline exceeded", "`lead_test.go:88: context deadline exceeded`",
		},
		{
			"go test fails behind a pipe", tool("Bash", bash("go test ./db | tail -3"), printed("--- FAIL: TestA (0.0s)\n    a_test.go:3: boom\nFAIL\tx/db\t0.1s")),
			"discovery", "go test ./db fails: TestA: boom", "fails: `TestA`",
		},
		{
			"testify", failed("Bash", bash("go test ./db"), "Exit code 1\n--- FAIL: TestA (0.0s)\n    a_test.go:9: \n        \tError Trace:\t/w/db/a_test.go:9\n        \tError:      \tNot equal: \n        \t            \texpected: 3\n        \t            \tactual  : 4\n        \tTest:       \tTestA\n        \tMessages:   \tone event an attempt\n"),
			"discovery", "go test ./db fails: TestA: expected: 3 actual : 4 (one event an attempt)", "the test says: `one event an attempt`",
		},
		{"compile error", failed("Bash", bash("go build ./..."), "Exit code 1\n# x/a\na/a.go:41:6: declared and not used: n"), "discovery", "go build ./... fails: a/a.go:41:6: declared and not used: n", ""},
		{"pytest", tool("Bash", bash("pytest -q tests"), m{"stdout": "E   AssertionError: 3 != 4\nFAILED tests/test_a.py::test_sum - AssertionError: 3 != 4", "exit_code": 1}), "discovery", "pytest -q tests fails: test_sum: AssertionError: 3 != 4", ""},
		{"jest", tool("Bash", bash("npx jest"), m{"stdout": "  ● sums the rows\n\nTests: 1 failed", "exitCode": 1}), "discovery", "npx jest fails: sums the rows", ""},
		{"missing program", tool("Bash", bash("sqlc diff"), m{"stdout": "", "stderr": "bash: sqlc: command not found", "exit_code": 127}), "discovery", "sqlc diff fails: bash: sqlc: command not found", "exit code 127"},
		{"refused as root", tool("Bash", bash("/usr/lib/pg/bin/initdb -D /x"), m{"stdout": "", "stderr": "initdb: error: cannot be run as root"}), "discovery", "initdb -D /x fails: cannot be run as root", ""},
		{"interrupted", tool("Bash", bash("go run ./cmd/obs dev"), m{"stdout": "", "stderr": "", "interrupted": true}), "discovery", "go run ./cmd/obs dev fails: interrupted", ""},
		{
			"commit", tool("Bash", bash(`git add -A && git commit -m "x"`), printed("[main 1be4f3a] db: fix the lease\n 2 files changed, 3 insertions(+)")),
			"bugfix", "Committed: db: fix the lease", "commit `1be4f3a` on `main`",
		},
		{"benchmark", tool("Bash", bash("go test -bench . ./db"), printed("BenchmarkClaim-2   \t 100\t 1873 ns/op\t 12 allocs/op\nPASS\nok x/db 1s")), "discovery", "Measured Claim 1873 ns/op", "`BenchmarkClaim-2 100 1873 ns/op 12 allocs/op`"},
		{"many runs pass", tool("Bash", bash("go test ./db -run TestLease -count=200"), printed("ok  \tx/db\t41.2s")), "discovery", "No failure in 200 runs of go test ./db -run TestLease -count=200", ""},
		{"a pass", tool("Bash", bash("go test ./..."), printed("ok  \tx/db\t0.2s")), "", "", ""},
		{"ls", tool("Bash", bash("ls -la"), printed("total 12\n-rw 1 root 33")), "", "", ""},
		{"cd", tool("Bash", bash("cd /w"), printed("")), "", "", ""},
		{"git status", tool("Bash", bash("git -C /w status --short"), printed(" M a.go")), "", "", ""},
		{"grep that finds nothing", tool("Bash", bash("grep -r foo ."), m{"stdout": "", "stderr": "", "exit_code": 1}), "", "", ""},
		{"cat", tool("Bash", bash("cat db/tx.go"), printed("package db\n\nfunc InTx() {}\n")), "discovery", "Read db/tx.go: InTx", ""},
		{"measurement", tool("Bash", m{"command": "psql -f plan.sql", "description": "Plan of the claim"}, printed(" QUERY PLAN\n------------\n Nested Loop (actual time=0.1..588.2 rows=2000)\n Execution Time: 611.034 ms\n(2 rows)")), "discovery", "Plan of the claim: Execution Time: 611.034 ms", ""},
		{"response as text", tool("Bash", bash("go vet ./..."), "a/a.go:3:2: unreachable code"), "discovery", "go vet ./... fails: a/a.go:3:2: unreachable code", ""},

		{"grep", tool("Grep", m{"pattern": "pg_notify", "output_mode": "content"}, m{"mode": "content", "content": "db/a.go:3:\tpg_notify(x)"}), "discovery", "`pg_notify` occurs in db/a.go", "`db/a.go:3: pg_notify(x)`"},
		{"grep without a match", tool("Grep", m{"pattern": "pg_notify", "path": "/w/db"}, m{"mode": "files_with_matches", "filenames": []string{}, "numFiles": 0}), "discovery", "`pg_notify` occurs nowhere in db", ""},
		{"grep with very many", tool("Grep", m{"pattern": "the"}, m{"filenames": strings.Split(strings.Repeat("/w/x.go ", 9), " "), "content": strings.Repeat("a.go:1:the\n", 99)}), "", "", ""},
		{"glob", tool("Glob", m{"pattern": "**/*.go"}, m{"filenames": []string{"/w/a.go"}, "numFiles": 1}), "", "", ""},
		{"glob without a match", tool("Glob", m{"pattern": "**/*.proto"}, m{"filenames": []string{}, "numFiles": 0}), "discovery", "No file matches `**/*.proto`", ""},
		{"list", tool("LS", m{"path": "/w"}, "- a.go\n- b.go"), "", "", ""},
		{"page", tool("WebFetch", m{"url": "https://docs.nats.io/x"}, m{"code": 200, "result": "The window is two minutes by default. It can be set per stream."}), "discovery", "docs.nats.io: The window is two minutes by default", ""},
		{"page that is gone", tool("WebFetch", m{"url": "https://docs.nats.io/x"}, m{"code": 404, "result": "Not found"}), "discovery", "docs.nats.io cannot be read: status 404", ""},
		{"web search", tool("WebSearch", m{"query": "nats dedupe"}, m{"query": "nats dedupe", "results": []any{m{"content": []m{{"title": "Model", "url": "https://docs.nats.io"}}}}}), "discovery", "Searched the web for `nats dedupe`", "Model https://docs.nats.io"},
		{"helper", tool("Task", m{"description": "Compare lifetimes", "prompt": "…"}, m{"content": []m{{"type": "text", "text": "Deleting with the claim needs no index. It costs nothing more."}}}), "discovery", "Compare lifetimes: Deleting with the claim needs no index", ""},
		{"to-do list", tool("TodoWrite", m{"todos": []m{{"content": "write the relay", "status": "pending"}}}, m{}), "", "", ""},
		{"to-do list with a decision", tool("TodoWrite", m{"todos": []m{{"content": "Use one leader instead of SKIP LOCKED because deletes are cheaper", "status": "pending"}}}, m{}), "decision", "Use one leader instead of SKIP LOCKED because deletes are cheaper", ""},
		{"person's answer", tool("AskUserQuestion", m{"questions": []m{{"question": "Which broker?"}}}, m{"answers": m{"Which broker?": "JetStream"}}), "decision", "JetStream: the answer to `Which broker?`", ""},
		{"plan", tool("ExitPlanMode", m{"plan": "# Relay first\n\n1. Write the store.\n2. Write the relay.\n"}, m{}), "decision", "Plan: Relay first", "Write the relay."},
		{"server's tool", tool("mcp__github__get_issue", m{"id": "95"}, []m{{"type": "text", "text": "Running as root is not supported. Open since 2021."}}), "discovery", "github get_issue: Running as root is not supported", ""},
		{"server's tool fails", failed("mcp__github__get_issue", m{}, "401 Bad credentials"), "discovery", "github get_issue fails: 401 Bad credentials", ""},
		{"tool that is about to run", llm.Event{ID: "e", Type: "pre_tool_use", Payload: tool("Write", m{"file_path": "/w/a.go", "content": "package a\n\nfunc A() {}\n"}, nil).Payload}, "", "", ""},

		{"decision", words("assistant_message", "last_assistant_message", "Done. We decided to keep rows in Postgres, because the broker may lose them."), "decision", "Decided to keep rows in Postgres, because the broker may lose them", ""},
		{"cause", words("assistant_message", "last_assistant_message", "The root cause was a second clock in the test."), "discovery", "The root cause was a second clock in the test", ""},
		{"message without either", words("assistant_message", "last_assistant_message", "All tests pass now. Shall I commit?"), "", "", ""},
		{"prompt that decides", words("user_prompt", "prompt", "Use a message id per attempt instead of per job, so that a retry is not dropped."), "decision", "Use a message id per attempt instead of per job, so that a retry is not dropped", ""},
		{"prompt that asks", words("user_prompt", "prompt", "Should we use one leader instead of locks?"), "", "", ""},
		{"prompt in metadata", llm.Event{Type: "session", Payload: []byte(`{"metadata":{"prompt":"We chose Postgres over Redis because it is there already."}}`)}, "decision", "Chose Postgres over Redis because it is there already", ""},
		{"free event", llm.Event{Type: "deploy", Payload: []byte(`{"message":"Rolled out 1.4.2 to eu-west.","version":"1.4.2"}`)}, "discovery", "Deploy: Rolled out 1.4.2 to eu-west", "version: 1.4.2"},
		{"free values", llm.Event{Type: "deploy", Payload: []byte(`{"version":"1.4.2","replicas":3}`)}, "discovery", "Deploy: replicas: 3, version: 1.4.2", ""},
		{"free text", llm.Event{Type: "note", Payload: []byte(`"The staging database moved to another host."`)}, "discovery", "Note: The staging database moved to another host", ""},
		{"session begins", llm.Event{Type: "session_start", Payload: []byte(`{"source":"startup","model":"m"}`)}, "", "", ""},
		{"null", llm.Event{Type: "x", Payload: []byte(`null`)}, "", "", ""},
		{"number", llm.Event{Type: "x", Payload: []byte(`7`)}, "", "", ""},
		{"empty array", llm.Event{Type: "x", Payload: []byte(`[]`)}, "", "", ""},
		{"no payload", llm.Event{Type: "x"}, "", "", ""},
		{"not JSON", llm.Event{Type: "x", Payload: []byte(`{"a`)}, "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := ask(t, llm.Question{Task: llm.TaskObserve, Events: []llm.Event{tc.event}})
			if tc.title == "" {
				require.Empty(t, a.Observations)
				require.True(t, a.Skipped)
				return
			}
			require.Len(t, a.Observations, 1)
			o := a.Observations[0]
			require.Equal(t, tc.title, o.Title)
			require.Equal(t, tc.typ, o.Type)
			if tc.fact != "" {
				require.Contains(t, o.Facts, tc.fact)
			}
			requireBounds(t, o)
		})
	}
}

func TestFilesAreRelativeToTheSession(t *testing.T) {
	t.Parallel()
	a := ask(t, llm.Question{Events: []llm.Event{
		tool("Edit", m{"file_path": "/w/db/a.go", "old_string": "x = 1", "new_string": "x = 2"}, m{}),
		tool("Read", m{"file_path": "/w/db/b.go"}, m{"file": m{"content": "package db\n\nfunc B() {}\n"}}),
		tool("Read", m{"file_path": "/else/c.go"}, m{"file": m{"content": "package c\n\nfunc C() {}\n"}}),
	}})
	require.Len(t, a.Observations, 3)
	require.Equal(t, []string{"db/a.go"}, a.Observations[0].FilesModified)
	require.Equal(t, []string{"db/b.go"}, a.Observations[1].FilesRead)
	require.Equal(t, []string{"/else/c.go"}, a.Observations[2].FilesRead)
}

// TestFailEditPassIsOneFix: what fails, is changed, and passes is one note that
// names all three, on all their events.
func TestFailEditPassIsOneFix(t *testing.T) {
	t.Parallel()
	events := []llm.Event{
		failed("Bash", bash("go test ./db"), "Exit code 1\n--- FAIL: TestLease (0.1s)\n    lease_test.go:4: lost a living worker\nFAIL\tx/db\t0.1s"),
		tool("Edit", m{"file_path": "/w/db/lease.go", "old_string": "return now.Add(-lease)", "new_string": "// One clock decides, because the relay may run ahead of Postgres.\nreturn dbNow.Add(-lease)"}, m{}),
		tool("Bash", bash("go test ./db"), printed("ok  \tx/db\t0.2s")),
		words("assistant_message", "last_assistant_message", "The cause was `lease_test.go:4` reading a second clock."),
	}
	for i := range events {
		events[i].ID = fmt.Sprint("e", i)
	}
	a := ask(t, llm.Question{Task: llm.TaskObserve, Events: events})
	require.Len(t, a.Observations, 1)
	o := a.Observations[0]
	require.Equal(t, "bugfix", o.Type)
	require.Equal(t, "Fixed TestLease: the cause was `lease_test.go:4` reading a second clock", o.Title)
	require.Equal(t, []string{"e0", "e1", "e2", "e3"}, o.Events)
	require.Equal(t, []string{"db/lease.go"}, o.FilesModified)
	require.Contains(t, o.Narrative, "lost a living worker")
	require.Contains(t, o.Narrative, "One clock decides")
	require.Contains(t, o.Facts, "`go test ./db` then passed: `ok x/db 0.2s`")

	// Without the edit nothing was fixed: the failure stands.
	a = ask(t, llm.Question{Task: llm.TaskObserve, Events: []llm.Event{events[0], events[2]}})
	require.Len(t, a.Observations, 1)
	require.Equal(t, "discovery", a.Observations[0].Type)

	// Another package's pass proves nothing about this one.
	other := tool("Bash", bash("go test ./api"), printed("ok  \tx/api\t0.2s"))
	a = ask(t, llm.Question{Task: llm.TaskObserve, Events: []llm.Event{events[0], events[1], other}})
	require.False(t, slices.ContainsFunc(a.Observations, func(o llm.Observation) bool { return o.Type == "bugfix" }))
}

// TestQuotesAreTrue: what the notes on the shipped session have in backticks is
// in the events they rest on.
func TestQuotesAreTrue(t *testing.T) {
	t.Parallel()
	events := session(t)
	byID := map[string]string{}
	for _, e := range events {
		var v any
		require.NoError(t, json.Unmarshal(e.Payload, &v))
		byID[e.ID] = squeeze(flatten(v))
	}
	var questions []llm.Question
	for _, turn := range turns(events) {
		questions = append(questions, llm.Question{Task: llm.TaskObserve, Events: turn})
	}
	for _, e := range events {
		questions = append(questions, llm.Question{Task: llm.TaskObserve, Events: []llm.Event{e}})
	}
	quotes := 0
	for _, q := range questions {
		for _, o := range ask(t, q).Observations {
			require.NotEmpty(t, o.Events, o.Title)
			var text strings.Builder
			for _, id := range o.Events {
				require.Contains(t, byID, id, o.Title)
				text.WriteString(byID[id])
			}
			for _, f := range o.Facts {
				for i, part := range strings.Split(f, "`") {
					if i%2 == 0 {
						continue
					}
					quotes++
					require.Contains(t, text.String(), squeeze(strings.TrimSuffix(part, "…")), "%s: %s", o.Title, f)
				}
			}
		}
	}
	require.Greater(t, quotes, 300)
}

// flatten is every string of a payload, one after the other. Lines of a patch
// come without their mark.
func flatten(v any) string {
	var b strings.Builder
	switch v := v.(type) {
	case string:
		b.WriteString(v)
	case []any:
		for _, e := range v {
			b.WriteString(flatten(e))
		}
	case map[string]any:
		for _, e := range v {
			b.WriteString(flatten(e))
		}
	}
	return b.String()
}

// squeeze drops white space, and the quotes that quoting turns.
func squeeze(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(s, "`", "'")), "")
}

func TestSameQuestionSameAnswer(t *testing.T) {
	t.Parallel()
	for _, turn := range turns(session(t)) {
		q := llm.Question{Task: llm.TaskObserve, Events: turn}
		first := ask(t, q)
		for range 3 {
			require.Equal(t, first, ask(t, q))
		}
	}
}

// TestHugePayload: the API takes bodies of 5 MB.
func TestHugePayload(t *testing.T) {
	t.Parallel()
	line := "--- FAIL: Test" + strings.Repeat("x", 4000) + "\n    a_test.go:1: " + strings.Repeat("é", 3000) + "\n"
	for _, e := range []llm.Event{
		failed("Bash", bash("go test ./..."), "Exit code 1\n"+strings.Repeat(line, 5<<20/len(line))),
		tool("Write", m{"file_path": "/w/a.go", "content": "package a\n\n" + strings.Repeat("func F() { /* … */ }\n// Because it must, since otherwise it would not.\n", 14_000)}, m{}),
		tool("Edit", m{"file_path": "/w/a.go", "old_string": strings.Repeat("a = 1\n", 60_000), "new_string": strings.Repeat("a = 2\n", 60_000)}, m{}),
		words("assistant_message", "last_assistant_message", strings.Repeat("We decided to keep it, because it is good. ", 20_000)),
		{Type: "note", Payload: []byte(`"` + strings.Repeat("long ", 200_000) + `"`)},
		tool("Bash", bash(strings.Repeat("echo 'x' && ", 90_000)), printed("1")),
	} {
		for _, o := range ask(t, llm.Question{Events: []llm.Event{e}}).Observations {
			requireBounds(t, o)
		}
	}
}

func requireBounds(t testing.TB, o llm.Observation) {
	t.Helper()
	require.NotEmpty(t, o.Title)
	require.LessOrEqual(t, utf8.RuneCountInString(o.Title), 120)
	require.LessOrEqual(t, utf8.RuneCountInString(o.Subtitle), 160)
	require.LessOrEqual(t, utf8.RuneCountInString(o.Narrative), 1000)
	require.LessOrEqual(t, len(o.Facts), 12)
	require.LessOrEqual(t, len(o.FilesRead)+len(o.FilesModified), 80)
	for _, f := range o.Facts {
		require.LessOrEqual(t, utf8.RuneCountInString(f), 240)
	}
	require.Contains(t, []string{"discovery", "bugfix", "feature", "refactor", "change", "decision", "security_note"}, o.Type)
	for _, c := range o.Concepts {
		require.Contains(t, []string{"how-it-works", "problem-solution", "gotcha", "pattern", "trade-off", "what-changed", "why-it-exists"}, c)
	}
	for _, s := range slices.Concat([]string{o.Title, o.Subtitle, o.Narrative}, o.Facts, o.FilesRead, o.FilesModified) {
		require.True(t, utf8.ValidString(s), "%q", s)
		require.NotContains(t, s, "\x00")
	}
}
