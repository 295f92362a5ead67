package hook_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/hook"
	"github.com/seed-245eaa15/obs/internal/observe"
)

const sessionID = "6f1c2b7e-1d0a-4a36-9a0f-5f2f0c9b7d11"

// A whole session of real hooks, each of them reported twice.
func TestSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "state", "hook")
	c := w.config(dir)
	for range 2 {
		for _, event := range []string{
			"session-start", "user-prompt-submit", "post-tool-use", "post-tool-use-failure", "subagent-stop", "pre-compact", "stop", "session-end",
		} {
			require.Empty(t, w.call(c, event, input(t, event, nil)), event)
			require.Empty(t, files(t, dir, "spool"), event)
		}
	}
	require.Empty(t, files(t, dir, "rejected"))

	var prompts []string
	var platform string
	var ended bool
	require.NoError(t, w.pool.QueryRow(t.Context(),
		`SELECT prompts, platform_source, ended_at IS NOT NULL FROM server_sessions WHERE external_session_id = $1`, sessionID).Scan(&prompts, &platform, &ended))
	require.Equal(t, []string{"Why does TestCheckout fail since yesterday?"}, prompts)
	require.Equal(t, "claude", platform)
	require.True(t, ended)
	require.Equal(t, 1, w.count(`SELECT count(*) FROM server_sessions`))
	require.Equal(t, 3, w.count(`SELECT count(*) FROM agent_events WHERE server_session_id IS NOT NULL`), "each is in its session")
	require.Equal(t, 3, w.count(`SELECT count(*) FROM agent_events`), "and there once")
	require.Equal(t, 4, w.count(`SELECT count(*) FROM observation_generation_jobs`), "three events and a summary")

	stored := func(id string) (eventType, payload string) {
		require.NoError(t, w.pool.QueryRow(t.Context(), `SELECT event_type, payload::text FROM agent_events WHERE source_event_id = $1`, sessionID+"/"+id).Scan(&eventType, &payload))
		return eventType, payload
	}
	kind, payload := stored("toolu_01Q9mYtJx7bKcV3mF8sWdPzN")
	require.Equal(t, "tool_use", kind)
	require.JSONEq(t, `{"tool_name":"Bash","cwd":"/home/ann/src/shop","platformSource":"claude",
		"tool_input":{"command":"go test ./checkout","description":"Run the checkout tests"},
		"tool_response":{"stdout":"--- FAIL: TestCheckout (0.01s)\n    checkout_test.go:41: got 19 <cents>, want 20\nFAIL","stderr":"","interrupted":false,"isImage":false,"noOutputExpected":false}}`, payload)
	kind, payload = stored("toolu_01HcD8fWq2LxRk5Tz7VbNpYm")
	require.Equal(t, "tool_use", kind)
	require.Contains(t, payload, "File does not exist.")
	kind, payload = stored("0c1a1c7b-52a7-4d3e-8f6e-0f0d0a9c6b05")
	require.Equal(t, "assistant_message", kind)
	require.JSONEq(t, `{"last_assistant_message":"The rate was rounded down: RoundHalfUp in rates.go is what it needs.","platformSource":"claude"}`, payload)
}

func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.config(t.TempDir())
	w.call(c, "stop", input(t, "stop", map[string]any{"stop_hook_active": true}))
	w.call(c, "Stop", input(t, "stop", map[string]any{"agent_id": "a4f1c09"}))
	require.Zero(t, w.calls.Load(), "the turn is not over, or not the session's")

	// Claude Code may say it itself, ahead of the transcript.
	w.call(c, "", input(t, "stop", map[string]any{"last_assistant_message": "Done."}))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM agent_events WHERE payload->>'last_assistant_message' = 'Done.'`))
	w.call(c, "Stop", input(t, "stop", map[string]any{"last_assistant_message": "Done."}))
	require.Equal(t, 2, w.count(`SELECT count(*) FROM agent_events`), "two turns may end with the same words")
	w.call(c, "stop", input(t, "stop", map[string]any{"transcript_path": filepath.Join(t.TempDir(), "none")}))
	require.Equal(t, 2, w.count(`SELECT count(*) FROM agent_events`), "without words the session ends all the same")
	require.Equal(t, 1, w.count(`SELECT count(*) FROM server_sessions WHERE ended_at IS NOT NULL`))
}

func TestContextForANewSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.config(t.TempDir())
	for i, content := range []string{"older: the cache is cold", "newer: rates are rounded half up", strings.Repeat("long ", 5000), "newest: <b>&"} {
		_, err := w.pool.Exec(t.Context(), `INSERT INTO observations (id, team_id, project_id, kind, content, metadata, created_at, updated_at)
			VALUES ($1, $2, $3, 'discovery', $4, '{}', now() + $5 * interval '1 s', now() + $5 * interval '1 s')`, "o"+content[:6], w.team, w.project, content, i)
		require.NoError(t, err)
	}
	out := w.call(c, "SessionStart", input(t, "session-start", nil))
	var answer struct {
		Hook struct {
			Event   string `json:"hookEventName"`
			Context string `json:"additionalContext"`
		} `json:"hookSpecificOutput"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	require.Equal(t, "SessionStart", answer.Hook.Event)
	text := answer.Hook.Context
	require.Less(t, len(text), 10_000)
	require.Contains(t, text, "- **discovery** newest: <b>&\n")
	require.Less(t, strings.Index(text, "newest:"), strings.Index(text, "newer:"))
	require.Less(t, strings.Index(text, "newer:"), strings.Index(text, "older:"))

	require.Empty(t, w.call(c, "SessionStart", input(t, "session-start", map[string]any{"source": "resume"})), "it has been told")
	w.road.Store(busy)
	require.Empty(t, w.call(c, "SessionStart", input(t, "session-start", nil)))
}

// Whatever hangs, the agent goes on.
func TestTimeIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	reader, writer := io.Pipe() // nobody writes
	t.Cleanup(func() { writer.Close() })
	dir := t.TempDir()
	quiet := hook.Config{URL: "http://" + silent.Addr().String(), Key: "k", Project: w.project, Dir: dir}
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	for name, call := range map[string]hook.Call{
		"server":        {Event: "post-tool-use", Stdin: strings.NewReader(input(t, "post-tool-use", nil)), Configure: func(string) (hook.Config, error) { return quiet, nil }},
		"input":         {Event: "post-tool-use", Stdin: reader, Configure: func(string) (hook.Config, error) { return quiet, nil }},
		"configuration": {Event: "stop", Stdin: strings.NewReader(`{}`), Configure: func(string) (hook.Config, error) { <-forever; return hook.Config{}, errors.New("too late") }},
	} {
		t.Run(name, func(t *testing.T) {
			call.Timeout, call.Stdout = 300*time.Millisecond, io.Discard
			began := time.Now()
			err := hook.Run(t.Context(), call)
			require.Less(t, time.Since(began), time.Minute, "without a bound it would be for ever")
			if name != "server" {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
		})
	}
	waiting := files(t, dir, "spool")
	require.Len(t, waiting, 1, "the event is safe")

	// The next ones do not wait for that server again, for a while: it is there,
	// and is made to last, since this may be a slow machine.
	pause := filepath.Join(dir, "pause")
	require.FileExists(t, pause)
	require.NoError(t, os.WriteFile(pause, []byte(strconv.FormatInt(time.Now().Add(50*time.Second).UnixMilli(), 10)), 0o600))
	c := w.config(dir)
	w.call(c, "post-tool-use", input(t, "post-tool-use", map[string]any{"tool_use_id": "toolu_2"}))
	require.Zero(t, w.calls.Load())
	require.Len(t, files(t, dir, "spool"), 2)
	w.call(c, "session-end", input(t, "session-end", nil)) // the last chance takes it
	require.Empty(t, files(t, dir, "spool"))
	require.Equal(t, 2, w.count(`SELECT count(*) FROM agent_events`))
}

func TestOddInputIsAnErrorAndNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.config(t.TempDir())
	for _, text := range []string{"", "null", "[]", `"x"`, `{"session_id":`, "\x00\xff", strings.Repeat("[", 100_000)} {
		out, err := runHook(t, c, "stop", text)
		require.Error(t, err, "%.20q", text)
		require.Empty(t, out)
	}
	for _, event := range []string{"stop", "user-prompt-submit", "post-tool-use", "session-end", "notification", "nonsense", ""} {
		out, err := runHook(t, c, event, `{"session_id":7,"tool_name":[],"prompt":{},"stop_hook_active":"yes"}`)
		require.NoError(t, err, event)
		require.Empty(t, out)
	}
	require.Zero(t, w.calls.Load())
	broken := errors.New("no configuration")
	err := hook.Run(t.Context(), hook.Call{
		Stdin: strings.NewReader(`{}`), Stdout: io.Discard, Configure: func(string) (hook.Config, error) { return hook.Config{}, broken },
	})
	require.ErrorIs(t, err, broken)
	err = hook.Run(t.Context(), hook.Call{
		Stdin: strings.NewReader(`{}`), Stdout: io.Discard, Configure: func(string) (hook.Config, error) { panic("a secret") },
	})
	require.ErrorContains(t, err, "panic: string")
	require.NotContains(t, err.Error(), "a secret")
}

func TestLargeAndOddPayloadsArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	c := w.config(dir)
	many := make([]any, 200_000)
	for i := range many {
		many[i] = "some line"
	}
	for i, response := range []any{
		strings.Repeat("é\x00", 3<<20), many, map[string]any{"a": []any{strings.Repeat("x", 2<<20), strings.Repeat("y", 2<<20)}}, nil, 12345678901234567890.0,
	} {
		w.call(c, "post-tool-use", input(t, "post-tool-use", map[string]any{"tool_response": response, "tool_use_id": strings.Repeat("long", 100*i)}))
	}
	raw := strings.Replace(input(t, "post-tool-use", nil), `"stderr":""`, `"stderr":"\ud800 \u0000 `+"\xff"+`","n":12345678901234567890123`, 1)
	w.call(c, "post-tool-use", raw)
	require.Empty(t, files(t, dir, "rejected"))
	require.Empty(t, files(t, dir, "spool"))
	require.Equal(t, 6, w.count(`SELECT count(*) FROM agent_events`))
	require.Equal(t, 2, w.count(`SELECT count(*) FROM agent_events WHERE payload::text LIKE '%1234567890123456%'`))
}

func TestSettingsByFolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config", "hook.json")
	s, err := hook.LoadSettings(path)
	require.NoError(t, err)
	require.Empty(t, s)
	s = hook.Settings{URL: "http://x", Key: "k", Project: "usual", Projects: map[string]string{"/src/shop": "shop", "/src/shop/api/": "api"}}
	require.NoError(t, s.Save(path))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	s, err = hook.LoadSettings(path)
	require.NoError(t, err)
	for cwd, want := range map[string]string{
		"/src/shop": "shop", "/src/shop/web": "shop", "/src/shop/api": "api", "/src/shop/api/v1": "api", "/src/shopping": "usual", "": "usual", "/": "usual",
	} {
		require.Equal(t, want, s.ProjectOf(cwd), cwd)
	}
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err = hook.LoadSettings(path)
	require.ErrorContains(t, err, "hook.json")
}

// FuzzInput looks for JSON that a hook cannot bring to the server: what it
// spools has to be JSON that the server takes for an event.
func FuzzInput(f *testing.F) {
	entries, err := os.ReadDir("testdata")
	require.NoError(f, err)
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join("testdata", e.Name())); err == nil && filepath.Ext(e.Name()) == ".json" {
			f.Add("", text)
			f.Add("PostToolUse", text)
		}
	}
	f.Add("stop", []byte(`{"session_id":"s","last_assistant_message":"\ud800","n":1e999}`))
	f.Fuzz(func(t *testing.T, event string, text []byte) {
		dir := t.TempDir()
		c := hook.Config{URL: "http://127.0.0.1:1", Key: "k", Project: "p", Dir: dir}
		out, err := runHook(t, c, event, string(text))
		require.Empty(t, out)
		if err != nil {
			require.Empty(t, files(t, dir, "spool"))
		}
		for _, name := range files(t, dir, "spool") {
			spooled, err := os.ReadFile(name)
			require.NoError(t, err)
			var d struct {
				Event struct{ Payload json.RawMessage }
			}
			require.NoError(t, json.Unmarshal(spooled, &d))
			if d.Event.Payload != nil {
				_, err = observe.Canonical(d.Event.Payload)
				require.NoError(t, err)
			}
		}
	})
}
