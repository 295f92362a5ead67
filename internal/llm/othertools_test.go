package llm_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type object = map[string]any

func shell(command, stdout, err string) object {
	o := object{"cwd": "/home/dev/obs", "tool_name": "Bash", "tool_input": object{"command": command}}
	if err != "" {
		o["error"] = err
	} else {
		o["tool_response"] = object{"stdout": stdout, "stderr": ""}
	}
	return o
}

func edit(file, old, text string) object {
	return object{
		"cwd": "/home/dev/obs", "tool_name": "Edit", "tool_input": object{"file_path": home + file, "old_string": old, "new_string": text},
		"tool_response": object{"filePath": home + file, "oldString": old, "newString": text},
	}
}

func write(file, text string) object {
	return object{
		"cwd": "/home/dev/obs", "tool_name": "Write", "tool_input": object{"file_path": home + file, "content": text},
		"tool_response": object{"type": "create", "filePath": home + file},
	}
}

// otherSessions are of other languages and tools than the recorded ones. They
// are written down, not recorded.
var otherSessions = map[string][]object{
	"python": {
		{"prompt": "Why does the Größen-Parser fail on empty input? Bitte beheben."},
		shell("pytest tests/test_größe.py -x", "", "Exit code 1\n=== FAILURES ===\n___ test_leere_eingabe ___\n    def test_leere_eingabe():\n>       assert größe('') == 0\nE       ValueError: invalid literal for int() with base 10: ''\ntests/test_größe.py:7: ValueError\nFAILED tests/test_größe.py::test_leere_eingabe - ValueError: invalid literal for int() with base 10: ''\n1 failed in 0.12s"),
		edit("größe.py", "def größe(s):\n    return int(s)\n", "def größe(s):\n    # Leere Eingaben sind null.\n    if not s:\n        return 0\n    return int(s)\n"),
		shell("pytest tests/test_größe.py -x", "1 passed in 0.10s", ""),
		shell("git commit -am 'größe: leere Eingaben sind null'", "[main 1a2b3c4] größe: leere Eingaben sind null\n 1 file changed, 3 insertions(+)", ""),
		{"last_assistant_message": "Leere Eingaben ergeben jetzt 0. The root cause was int('') which raises ValueError."},
	},
	"rust": {
		shell("cargo test -p parser", "", "Exit code 101\nrunning 2 tests\ntest tests::eof ... FAILED\ntest tests::ok ... ok\n\nfailures:\n\n---- tests::eof stdout ----\nthread 'tests::eof' panicked at src/lib.rs:42:9:\nassertion `left == right` failed\n  left: Some(3)\n right: None\ntest result: FAILED. 1 passed; 1 failed; 0 ignored"),
		edit("src/lib.rs", "pub fn next(&self) -> Option<usize> {\n    Some(self.at)\n}", "pub fn next(&self) -> Option<usize> {\n    if self.at >= self.len { return None; }\n    Some(self.at)\n}"),
		shell("cargo test -p parser", "test result: ok. 2 passed; 0 failed; 0 ignored", ""),
		shell("cargo clippy", "warning: unused variable: `x`\n --> src/main.rs:3:9", ""),
	},
	"typescript": {
		shell("npx tsc --noEmit", "", "Exit code 2\nsrc/api/user.ts(12,5): error TS2322: Type 'string' is not assignable to type 'number'.\nsrc/api/user.ts(20,1): error TS2304: Cannot find name 'fetchUser'."),
		object{"tool_name": "MultiEdit", "tool_input": object{"file_path": home + "src/api/user.ts", "edits": []object{{"old_string": "const id: number = '1'", "new_string": "const id: number = 1"}, {"old_string": "fetchUser(", "new_string": "getUserById("}}}, "tool_response": object{"filePath": home + "src/api/user.ts"}},
		shell("npm test", "", "Exit code 1\n FAIL  src/api/user.test.ts\n  ● getUserById › answers 404\n\n    expect(received).toBe(expected)\n\n    Expected: 404\n    Received: 500\n"),
		shell("npm install zod@4", "added 1 package, and audited 212 packages in 2s\n\nfound 0 vulnerabilities", ""),
	},
	"other tools": {
		{"tool_name": "mcp__linear__create_issue", "tool_input": object{"title": "Flaky test in CI", "team": "Core"}, "tool_response": []object{{"type": "text", "text": "Created CORE-42: Flaky test in CI"}}},
		{"tool_name": "WebFetch", "tool_input": object{"url": "https://example.org/docs/retry", "prompt": "How long does it wait?"}, "tool_response": object{"result": "It waits 30 seconds between retries.", "code": 200}},
		{"tool_name": "Grep", "tool_input": object{"pattern": "retryAfter", "path": home}, "tool_response": object{"mode": "files_with_matches", "filenames": []string{"a.go", "b.go"}, "numFiles": 2}},
		{"tool_name": "NotebookEdit", "tool_input": object{"notebook_path": home + "study.ipynb", "new_source": "df.plot()", "cell_id": "c1"}, "tool_response": object{"notebook_path": home + "study.ipynb"}},
		{"tool_name": "apply_patch", "tool_input": object{"input": "*** Begin Patch\n*** Update File: src/main.c\n@@\n-int x = 1;\n+int x = 2;\n*** End Patch"}, "tool_response": object{"output": "Success. Updated the following files:\nM src/main.c"}},
		{"tool_name": "shell", "tool_input": object{"command": []string{"bash", "-lc", "make test"}}, "tool_response": object{"output": "make: *** [Makefile:10: test] Error 2", "exit_code": 2}},
		{"tool_name": "read_file", "tool_input": object{"path": "src/main.c"}, "tool_response": "int x = 1;"},
		{"tool_name": "Task", "tool_input": object{"description": "Find the leak", "prompt": "Where does memory go?"}, "tool_response": object{"content": []object{{"type": "text", "text": "The cache in pool.go never shrinks: Put keeps every buffer."}}}},
		{"tool_name": "TodoWrite", "tool_input": object{"todos": []object{{"content": "Mend it", "status": "pending"}}}, "tool_response": object{}},
		{"tool_name": "", "tool_input": nil},
		{"x": []any{nil, 1, true, object{}}},
		{"tool_name": "Bash", "tool_input": object{"command": "docker compose up -d"}, "error": "Exit code 1\nError response from daemon: driver failed programming external connectivity: Bind for 0.0.0.0:5432 failed: port is already allocated"},
	},
	"java and go": {
		shell("mvn -q test", "", "Exit code 1\n[ERROR] Tests run: 3, Failures: 1, Errors: 0, Skipped: 0\n[ERROR] OrderServiceTest.totalsAreRounded:31 expected: <10.05> but was: <10.04>\n[ERROR] Failed to execute goal org.apache.maven.plugins:maven-surefire-plugin:3.2.5:test"),
		edit("src/main/java/OrderService.java", "return total.setScale(2);", "return total.setScale(2, RoundingMode.HALF_UP);"),
		write("注文.go", "package 注文\n\n// 合計 is the sum of 価格.\nfunc 合計(価格 []int) int {\n\treturn 0\n}\n"),
		shell("go vet ./...", "", "Exit code 1\n./注文.go:5:2: undefined: 価格リスト"),
		shell("./gradlew build", "", "Exit code 1\n> Task :compileKotlin FAILED\ne: file:///home/dev/obs/src/Main.kt:3:5 Unresolved reference: foo\nBUILD FAILED in 3s"),
	},
	"huge": {
		shell("cat big.log", strings.Repeat("2026-11-26 INFO handled request 200 in 3ms\n", 40_000)+"2026-11-26 ERROR: out of memory in worker 7\n"+strings.Repeat("2026-11-26 INFO handled\n", 40_000), ""),
		shell("go test ./huge", "", "Exit code 1\n"+strings.Repeat("=== RUN TestX\n", 50_000)+"--- FAIL: TestHuge (0.01s)\n    huge_test.go:9: got 1, want 2\nFAIL\nFAIL\texample.org/huge\t0.1s\n"),
		write("data/one_line.json", `{"a":"`+strings.Repeat("x", 2<<20)+`"}`),
		write("gen.go", "package gen\n"+strings.Repeat("\nfunc F() {}\n", 20_000)),
		shell("printf x", strings.Repeat("👩‍👩‍👧‍👦e\u0301", 50_000), ""),
	},
}

// Whatever the tools and languages are, every fact is in the events.
func TestFactsOfOtherTools(t *testing.T) {
	t.Parallel()
	for name, payloads := range otherSessions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRecording(name)
			for i, p := range payloads {
				doc, err := json.Marshal(p)
				require.NoError(t, err)
				r.add(t, "tool_use", int64(i)*1000, doc)
			}
			s := r.done()
			for _, each := range []bool{false, true} {
				notes := notesOn(t, s, each)
				require.NotEmpty(t, notes)
				f := measure(t, s, notes)
				require.Equal(t, f.facts, f.true, "facts that the events do not have")
				require.Equal(t, f.edited, f.editedTold)
				for _, o := range notes {
					requireBounds(t, o)
					if testing.Verbose() {
						t.Logf("%s: %s | %q | %q", o.Type, o.Title, o.Narrative, o.Facts)
					}
				}
			}
		})
	}
}
