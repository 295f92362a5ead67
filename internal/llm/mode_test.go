package llm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/internal/llm"
)

func TestOwnModes(t *testing.T) {
	t.Parallel()
	all, err := llm.Modes(nil)
	require.NoError(t, err)
	code := all[llm.DefaultMode]
	require.NotNil(t, code)
	require.Regexp(t, `^code@[0-9a-f]{12}$`, code.Version())
	for _, task := range []llm.Task{llm.TaskObserve, llm.TaskSummarize} {
		p := llm.Question{Task: task, Mode: code}.Prompt(false)
		require.NotContains(t, p.System+p.User, "{types}")
		require.NotContains(t, p.System+p.User, "{concepts}")
		require.Equal(t, code.Version(), p.Version)
		require.Equal(t, p, llm.Question{Task: task}.Prompt(false), "it is the default one")
	}
}

// TestModesOfAFolder: a mode of one's own, and one of obs' in other words.
func TestModesOfAFolder(t *testing.T) {
	t.Parallel()
	own, err := llm.Modes(nil)
	require.NoError(t, err)
	all, err := llm.Modes(fstest.MapFS{
		"code/summary.md":  {Data: []byte("Write it in Dutch.")},
		"mail/mode.json":   {Data: []byte(`{"types":[{"name":"promise","description":"who owes what"}],"concepts":[{"name":"who","description":"a person"}],"tokens":{"observe":2000,"summary":2000}}`)},
		"mail/system.md":   {Data: []byte("You read letters.")},
		"mail/observe.md":  {Data: []byte("Types:\n{types}")},
		"mail/summary.md":  {Data: []byte("Sum up.")},
		"README.md":        {Data: []byte("not a mode")},
		".git/config":      {Data: []byte("nor this")},
		"code/.keep":       {},
		"mail/sub/more.md": {Data: []byte("nor this")},
	})
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, own["code"].Texts.Observe, all["code"].Texts.Observe)
	require.Equal(t, "Write it in Dutch.", all["code"].Texts.Summary)
	require.NotEqual(t, own["code"].Version(), all["code"].Version())
	p := llm.Question{Task: llm.TaskObserve, Mode: all["mail"]}.Prompt(true)
	require.Contains(t, p.System, "- promise: who owes what")
	require.Contains(t, fmt.Sprint(p.Schema), "promise")
	require.NotContains(t, fmt.Sprint(p.Schema), "bugfix")
}

func TestBadModes(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"mode.json": `{"types":[{"name":"a","description":""}],"concepts":[{"name":"b","description":""}],"tokens":{"observe":2000,"summary":2000}}`,
		"system.md": "a", "observe.md": "b", "summary.md": "c",
	}
	for _, bad := range []struct{ file, text, says string }{
		{"mode.json", "", "mode.json"},
		{"mode.json", "{", "mode.json"},
		{"mode.json", strings.Replace(good["mode.json"], `"types"`, `"kinds"`, 1), "kinds"},
		{"mode.json", strings.Replace(good["mode.json"], `"a"`, `"A b"`, 1), "no name"},
		{"mode.json", strings.Replace(good["mode.json"], `2000`, `20`, 1), "tokens"},
		{"mode.json", strings.Replace(good["mode.json"], `{"types"`, `{"name":"other","types"`, 1), "folder"},
		{"mode.json", `{"types":[],"concepts":[],"tokens":{}}`, "types"},
		{"mode.json", strings.Replace(good["mode.json"], `[{"name":"a","description":""}]`, `[{"name":"a"},{"name":"a"}]`, 1), "twice"},
		{"system.md", "", "system.md"},
		{"summary.md", " \n", "empty"},
		{"observe.md", strings.Repeat("x", 17<<10), "observe"},
	} {
		dir := fstest.MapFS{}
		for file, text := range good {
			if file == bad.file {
				text = bad.text
			}
			if text != "" {
				dir["mine/"+file] = &fstest.MapFile{Data: []byte(text)}
			}
		}
		_, err := llm.Modes(dir)
		require.ErrorContains(t, err, bad.says)
		require.ErrorContains(t, err, "mode mine")
	}
	_, err := llm.Modes(fstest.MapFS{})
	require.ErrorContains(t, err, "no folder")
	_, err = llm.Modes(os.DirFS("/no/such/folder"))
	require.Error(t, err)
}

// TestWords: texts of a project's own change its prompts, and their version,
// and nobody else's.
func TestWords(t *testing.T) {
	t.Parallel()
	all, err := llm.Modes(nil)
	require.NoError(t, err)
	code := all["code"]
	before := code.Version()
	same, err := code.With(llm.Texts{})
	require.NoError(t, err)
	require.Same(t, code, same)
	other, err := code.With(llm.Texts{Observe: "Only decisions. {types}"})
	require.NoError(t, err)
	require.NotEqual(t, before, other.Version())
	require.Equal(t, before, code.Version())
	require.Contains(t, llm.Question{Task: llm.TaskObserve, Mode: other}.Prompt(false).System, "Only decisions. - bugfix")
	require.Equal(t, code.Texts.Summary, other.Texts.Summary)
	_, err = code.With(llm.Texts{System: strings.Repeat("x", 20<<10)})
	require.ErrorContains(t, err, "system")
}

// TestDataStaysData: whatever an event holds, the prompt has the elements that
// we wrote and no other.
func TestDataStaysData(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"</agent_event>", "</session>\nYou are", `" x="`, "<agent_event>", "&lt;", "<note>", "</last_message>", "é\xff\x00", "]]>"})
		bad := rapid.SliceOf(text)
		join := func(what string) string { return strings.Join(bad.Draw(t, what), "") }
		payload, err := json.Marshal(map[string]string{"tool_name": join("tool"), "x": join("x")})
		if err != nil {
			t.Fatal(err)
		}
		q := llm.Question{
			Task: rapid.SampledFrom([]llm.Task{llm.TaskObserve, llm.TaskSummarize}).Draw(t, "task"), Project: join("project"), Session: join("session"),
			Events:      []llm.Event{{ID: "1", Type: join("type"), Source: join("source"), Payload: payload}, {ID: "2", Payload: []byte(join("raw"))}},
			Notes:       []llm.Observation{{Type: join("kind"), Title: join("title"), Facts: []string{join("fact")}}},
			LastMessage: join("last"),
		}
		p := q.Prompt(rapid.Bool().Draw(t, "structured"))
		data, _, ok := strings.Cut(p.User, "</session>")
		if !ok || strings.Count(data, "<session ") != 1 || strings.Count(data, "<agent_event ") != 2 || strings.Count(data, "</agent_event>") != 2 ||
			strings.Count(data, "<note ") > 1 || strings.Count(data, "</last_message>") > 1 {
			t.Fatalf("data reached the frame:\n%s", p.User)
		}
		if strings.Contains(p.System, "You are") {
			t.Fatal("data is in the system's part")
		}
	})
}

// longSession is one that no prompt has room for: reads, edits, failures and
// words in turn.
func longSession(n int) llm.Question {
	q := llm.Question{Task: llm.TaskSummarize, Project: "p", LastMessage: "LAST-MESSAGE it is done."}
	filler := strings.Repeat("some lines of a file that somebody has read\n", 60)
	for i := range n {
		at := time.UnixMilli(1795163460000).Add(time.Duration(i) * time.Second)
		var e llm.Event
		switch i % 8 {
		case 1:
			e = tool("Edit", m{"file_path": fmt.Sprintf("/w/edit%d.go", i), "old_string": "a = 1", "new_string": "a = 2 // " + filler[:200]}, m{})
		case 3:
			e = failed("Bash", bash("go test ./x"), fmt.Sprintf("Exit code 1\n--- FAIL: TestBroken%d (0.1s)\n    a_test.go:1: no", i))
		case 5:
			e = words("user_prompt", "prompt", fmt.Sprintf("PROMPT-%d please go on with the next one", i))
		default:
			e = tool("Read", m{"file_path": fmt.Sprintf("/w/read%d.go", i)}, m{"file": m{"content": filler}})
		}
		e.ID, e.At = fmt.Sprintf("e%d", i), at
		q.Events = append(q.Events, e)
	}
	for i := range 40 {
		q.Notes = append(q.Notes, llm.Observation{Type: "change", Title: fmt.Sprintf("NOTE-%d of the session", i)})
	}
	return q
}

// TestTheMostTellingFirst: the summary's prompt keeps to its tokens, has the
// notes and the last message, and of the events the failures, edits and words
// before any reading.
func TestTheMostTellingFirst(t *testing.T) {
	t.Parallel()
	q := longSession(800)
	all, err := llm.Modes(nil)
	require.NoError(t, err)
	p := q.Prompt(true)
	require.LessOrEqual(t, len(p.User), 3*all["code"].Tokens.Summary+2000, "three bytes a token, and the frame")
	require.Contains(t, p.User, "LAST-MESSAGE")
	require.Contains(t, p.User, "NOTE-0 ")
	require.Contains(t, p.User, "NOTE-39 ")
	require.Positive(t, p.LeftOut)
	require.Contains(t, p.User, fmt.Sprintf(`<left_out events="%d"/>`, p.LeftOut))
	require.Equal(t, 800-p.LeftOut, strings.Count(p.User, "<agent_event "))
	for i := range 800 {
		switch i % 8 {
		case 3:
			require.Contains(t, p.User, fmt.Sprintf("TestBroken%d ", i))
		case 5:
			require.Contains(t, p.User, fmt.Sprintf("PROMPT-%d ", i))
		case 1:
			require.Contains(t, p.User, fmt.Sprintf("edit%d.go", i))
		}
	}
	at := -1
	for i := range 800 { // in the order in which it happened
		if found := strings.Index(p.User, fmt.Sprintf(`id="e%d"`, i)); found >= 0 {
			require.Greater(t, found, at)
			at = found
		}
	}
	require.Less(t, strings.Index(p.User, "NOTE-0"), strings.Index(p.User, "NOTE-39"))
	short := longSession(10).Prompt(true)
	require.Zero(t, short.LeftOut)
	require.Contains(t, short.User, "read8.go")
}

// TestAllEventsAreShown: a question for observations leaves out none, whatever
// their size.
func TestAllEventsAreShown(t *testing.T) {
	t.Parallel()
	q := llm.Question{Task: llm.TaskObserve}
	for i := range 100 {
		size := 10
		if i%3 == 0 {
			size = 100 << 10
		}
		e := tool("Read", m{"file_path": fmt.Sprintf("/w/read%d.go", i)}, m{"file": m{"content": strings.Repeat("<x>", size/3) + "THE-END"}})
		e.ID = fmt.Sprintf("e%d", i)
		q.Events = append(q.Events, e)
	}
	p := q.Prompt(false)
	require.LessOrEqual(t, len(p.User), 3*64000+3000)
	require.Equal(t, 100, strings.Count(p.User, "THE-END"), "the end is kept too")
	require.Contains(t, p.User, "[...truncated]")
}
