package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// agent starts the program as an agent does, in an environment of its own,
// and speaks MCP with it.
func agent(t *testing.T, program string, env ...string) *mcp.ClientSession {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // the cleanup ends it
	cmd := exec.CommandContext(ctx, program, "mcp")
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	var stderr output
	cmd.Stderr = &stderr
	session, err := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil).Connect(ctx, &mcp.CommandTransport{Command: cmd}, nil)
	require.NoError(t, err, "%s", &stderr)
	t.Cleanup(func() {
		require.NoError(t, session.Close(), "it ends when its input does")
		require.Empty(t, stderr.String())
	})
	return session
}

// useTool calls a tool and gives the text of the answer.
func useTool(t *testing.T, session *mcp.ClientSession, tool string, args map[string]any) (text string, failed bool) {
	t.Helper()
	res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	require.NoError(t, err)
	require.Len(t, res.Content, 1)
	text = res.Content[0].(*mcp.TextContent).Text
	if !res.IsError {
		structured, err := json.Marshal(res.StructuredContent)
		require.NoError(t, err)
		require.JSONEq(t, text, string(structured))
	}
	return text, res.IsError
}

func (o *office) key(project string, scopes ...string) string {
	o.t.Helper()
	_, secret, err := o.service.IssueKey(o.t.Context(), o.team, project, "test", "", scopes, time.Time{})
	require.NoError(o.t, err)
	return secret
}

func TestMCP(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "obs")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	built, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", built)

	o := newOffice(t)
	second, err := o.service.CreateProject(t.Context(), o.team, "web")
	require.NoError(t, err)
	server := httptest.NewServer(api.New(api.Config{Service: o.service}))
	t.Cleanup(server.Close)
	url := "OBS_URL=" + server.URL + "/" // one slash more does no harm

	session := agent(t, program, url, "OBS_KEY="+o.key("", observe.ScopeRead, observe.ScopeWrite), "OBS_PROJECT="+o.project)
	require.Equal(t, "obs", session.InitializeResult().ServerInfo.Name)
	list, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
		needed, _ := tool.InputSchema.(map[string]any)["required"].([]any)
		require.NotContains(t, needed, "projectId", tool.Name)
	}
	require.Equal(t, []string{
		"context", "observation_add", "observation_context", "observation_generation_status", "observation_record_event",
		"observation_search", "recent", "search",
	}, names)

	good := func(tool string, args map[string]any) map[string]any {
		t.Helper()
		text, failed := useTool(t, session, tool, args)
		require.False(t, failed, text)
		var body map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &body))
		return body
	}
	memory := good("observation_add", map[string]any{"content": "we chose giraffes"})["memory"].(map[string]any)
	require.Equal(t, o.project, memory["projectId"], "the project of the settings")
	elsewhere := good("observation_add", map[string]any{"content": "giraffes too", "projectId": second})["memory"].(map[string]any)
	require.Equal(t, second, elsewhere["projectId"], "unless the call names one")
	for _, tool := range []string{"search", "observation_search", "context", "observation_context", "recent"} {
		args := map[string]any{"projectId": nil}
		if tool != "recent" {
			args["query"] = "giraffe"
		}
		found := good(tool, args)["observations"].([]any)
		require.Len(t, found, 1, tool)
		require.Equal(t, memory["id"], found[0].(map[string]any)["id"], tool)
	}
	job := good("observation_record_event", map[string]any{"eventType": "decision", "payload": "giraffes"})["generationJob"].(map[string]any)
	status := good("observation_generation_status", map[string]any{"jobId": job["id"]})
	require.Equal(t, "queued", status["generationJob"].(map[string]any)["status"])

	refused := func(session *mcp.ClientSession, tool string, args map[string]any, says string) {
		t.Helper()
		text, failed := useTool(t, session, tool, args)
		require.True(t, failed, text)
		require.Contains(t, text, says)
	}
	refused(session, "search", nil, "query: Invalid input: expected string, received undefined")
	refused(session, "search", map[string]any{"projectId": "nothing", "query": "x"}, "project_id must belong to team_id")
	refused(session, "observation_eat", nil, "Unknown tool: observation_eat")

	reader := agent(t, program, url, "OBS_KEY="+o.key(second, observe.ScopeRead))
	refused(reader, "observation_add", map[string]any{"content": "x"}, "insufficient scope")
	refused(reader, "recent", map[string]any{"projectId": o.project}, "API key is scoped to a different project")
	text, failed := useTool(t, reader, "recent", nil)
	require.False(t, failed, text)
	require.Contains(t, text, "giraffes too", "a project's key says which project")

	stranger := agent(t, program, url, "OBS_KEY=obs_nobody", "OBS_PROJECT="+o.project)
	_, err = stranger.ListTools(t.Context(), nil)
	require.NoError(t, err)
	refused(stranger, "recent", nil, "Server error (Forbidden 403): Invalid API key or insufficient scope")

	// The server goes and comes back: the tools stay, and say what is wrong.
	l := server.Listener.Addr().String()
	server.Close()
	refused(session, "recent", nil, "Server error (unreachable): ")
	back, err := boot.Listen(l)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- boot.Serve(back, api.New(api.Config{Service: o.service}), 0, slog.New(slog.DiscardHandler))(ctx)
	}()
	require.Contains(t, good("recent", nil)["observations"].([]any)[0].(map[string]any)["content"], "giraffes")
	stop()
	require.NoError(t, <-done)
}

func TestMCPIsMisused(t *testing.T) {
	t.Parallel()
	for says, args := range map[string][]string{
		"--key (OBS_KEY): it is needed":    {"mcp"},
		`--url (OBS_URL): got "localhost"`: {"mcp", "--url", "localhost", "--key", "k"},
		`--url (OBS_URL): got "ftp://h"`:   {"mcp", "--url", "ftp://h", "--key", "k"},
	} {
		code, stdout, stderr := obs(t.Context(), args...)
		require.Equal(t, boot.ExitMisused, code)
		require.Empty(t, stdout.String())
		require.Contains(t, stderr.String(), says)
	}
}

// What is no message is answered, and the next line is read all the same.
func TestMCPGoesOn(t *testing.T) {
	t.Parallel()
	lines := []string{
		"not json", `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		"{", "", "  ", "\x00\xff", `{"jsonrpc":"2.0","id":2,`, `{"a":1}`, `42`, `null`, `"x"`, `[]`, `[1]`,
		`{"jsonrpc":"1.0","id":3,"method":"ping"}`, `{"jsonrpc":"2.0","id":{},"method":"ping"}`, `{"jsonrpc":"2.0","id":7,"method":{}}`,
		strings.Repeat("x", 17<<20),
		"[" + `{"jsonrpc":"2.0","id":4,"method":"ping"}, {"jsonrpc":"2.0","id":5,"method":"ping"}` + "]",
		`{"jsonrpc":"2.0","id":6,"method":"ping"}`, // and no newline
	}
	stdout, stderr := &output{}, &output{}
	in, agents := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), boot.Std{
			Args: []string{"mcp", "--key", "k"}, LookupEnv: func(string) (string, bool) { return "", false },
			Stdin: in, Stdout: stdout, Stderr: stderr,
		})
	}()
	_, err := agents.Write([]byte(strings.Join(lines, "\n")))
	require.NoError(t, err)
	require.NoError(t, agents.Close())
	require.Zero(t, <-code)
	require.Empty(t, stderr.String())
	got := map[string]int{}
	for line := range strings.Lines(stdout.String()) {
		var m struct {
			ID     json.RawMessage
			Result *struct{}
			Error  struct{ Code int }
		}
		require.NoError(t, json.Unmarshal([]byte(line), &m), line)
		require.Equal(t, m.Error.Code == 0, m.Result != nil, line)
		got[fmt.Sprintf("%s %d", m.ID, m.Error.Code)]++
	}
	require.Equal(t, map[string]int{
		"1 0": 1, "4 0": 1, "5 0": 1, "6 0": 1, "null -32700": 4, "null -32600": 8, "3 -32600": 1, "7 -32600": 1,
	}, got)
}

// Signals end it, also while nothing comes in.
func TestMCPEndsWhenTold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	in, agents := io.Pipe()
	stdout, stderr := &output{}, &output{}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, boot.Std{
			Args: []string{"mcp", "--key", "k"}, LookupEnv: func(string) (string, bool) { return "", false },
			Stdin: in, Stdout: stdout, Stderr: stderr,
		})
	}()
	_, err := agents.Write([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(stdout.String(), `"id":1`) }, time.Minute, 10*time.Millisecond)
	cancel()
	select {
	case got := <-code:
		require.Zero(t, got)
	case <-time.After(time.Minute):
		require.FailNow(t, "it does not end")
	}
	require.Empty(t, stderr.String())
}
