//go:build npm

package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

// The published npm package claude-mem is a client of obs: its own hook
// commands, in a shell, and its own MCP server.
func TestClaudeMem(t *testing.T) {
	t.Parallel()
	p := published(t)
	for name, test := range map[string]func(*testing.T, *plugin){
		"hooks": hooksOfClaudeMem, "mcp": mcpOfClaudeMem, "refused": refusedClaudeMem, "diverted": divertedClaudeMem,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, p)
		})
	}
}

// A session by hooks: what happens is stored and noted, the session is
// summarised, and the next one is told.
func hooksOfClaudeMem(t *testing.T, p *plugin) {
	s := newStack(t)
	s.server()
	s.relay()
	s.worker()
	a := p.agent(t, s.api, s.key, s.project)

	// What reads starts the local worker and asks it alone, whatever the
	// settings say: SessionStart, and PreToolUse before a longer file is read.
	out := a.hook("SessionStart", map[string]any{"source": "startup", "model": "claude-opus"})
	require.Len(t, out, 2)
	require.JSONEq(t, `{"hookSpecificOutput":{"hookEventName":"SessionStart","additionalContext":""}}`, out[1])
	require.Equal(t, []string{"GET /api/context/inject", "GET /api/health", "GET /api/readiness"}, a.worker.seen())
	a.worker.forget()
	require.NoError(t, os.WriteFile(filepath.Join(a.folder, "leader.go"), bytes.Repeat([]byte("// the shop's leader\n"), 500), 0o600))
	a.hook("PreToolUse", map[string]any{"tool_name": "Read", "tool_input": map[string]any{"file_path": filepath.Join(a.folder, "leader.go")}})
	require.Equal(t, []string{"GET /api/health", "GET /api/observations/by-file", "GET /api/readiness"}, a.worker.seen())
	require.Zero(t, s.count(`SELECT count(*) FROM audit_log WHERE action <> 'api_key.create'`), "the server was not asked")
	a.worker.forget() // from here on nobody may come

	prompt := "Find out why the shop has two leaders."
	a.says("user", prompt)
	a.hook("UserPromptSubmit", map[string]any{"prompt": prompt})
	for i, use := range []map[string]any{
		{
			"tool_name": "Bash", "tool_input": map[string]any{"command": "go test ./leader", "description": "Run the tests"},
			"tool_response": map[string]any{
				"stdout": "--- FAIL: TestOneLeader (0.01s)\n    leader_test.go:31: two leaders\nFAIL", "stderr": "", "interrupted": false, "isImage": false,
			},
		},
		{
			"tool_name": "Edit", "tool_input": map[string]any{"file_path": a.folder + "/leader.go", "old_string": "if free {", "new_string": "if free && held {"},
			"tool_response": map[string]any{"filePath": a.folder + "/leader.go", "oldString": "if free {", "newString": "if free && held {", "userModified": false},
		},
		{
			"tool_name": "Bash", "tool_input": map[string]any{"command": "go test ./leader"},
			"tool_response": map[string]any{"stdout": "ok  \tshop/leader\t0.2s", "stderr": "", "interrupted": false, "isImage": false},
		},
	} {
		use["tool_use_id"] = fmt.Sprintf("toolu_%d", i)
		a.hook("PostToolUse", use)
	}
	answer := "The lease is held now. The next step is to do the same in the warehouse. <private>Ask Ada.</private>"
	a.says("assistant", answer)
	a.hook("Stop", map[string]any{"stop_hook_active": false, "last_assistant_message": answer})
	a.hook("SessionEnd", map[string]any{"reason": "prompt_input_exit"})
	a.alone()
	require.Empty(t, a.processes())

	// Three uses of tools and the answer; a job for each and one for the session.
	require.Equal(t, 4, s.count(`SELECT count(*) FROM agent_events`))
	s.settled(5)
	require.Equal(t, 4, s.count(`SELECT count(*) FROM agent_events e JOIN server_sessions s ON s.id = e.server_session_id
		WHERE s.external_session_id = $1 AND s.content_session_id = $1 AND e.platform_source = 'claude' AND s.platform_source = 'claude'`, a.session))
	require.Equal(t, 1, s.count(`SELECT count(*) FROM server_sessions WHERE prompts = ARRAY[$1] AND ended_at IS NOT NULL`, prompt))
	require.NotZero(t, s.count(`SELECT count(*) FROM observations WHERE kind <> 'summary' AND content LIKE '%TestOneLeader%'`))
	require.Equal(t, 1, s.count(`SELECT count(*) FROM observations WHERE kind = 'summary' AND content LIKE '%the same in the warehouse%'`))
	require.Zero(t, s.count(`SELECT count(*) FROM agent_events WHERE payload::text LIKE '%Ada%'`), "its Stop hook takes out what is private")

	// Each turn has a Stop, which starts and ends the session again.
	a.says("user", "Do that there as well.")
	a.hook("UserPromptSubmit", map[string]any{"prompt": "Do that there as well."})
	a.says("assistant", "It holds there as well. The next step is to tell the harbour.")
	a.hook("Stop", map[string]any{"stop_hook_active": false, "last_assistant_message": "It holds there as well. The next step is to tell the harbour."})
	a.alone()
	require.Equal(t, 5, s.count(`SELECT count(*) FROM agent_events WHERE server_session_id IS NOT NULL`))
	require.Equal(t, 1, s.count(`SELECT count(*) FROM server_sessions WHERE cardinality(prompts) = 2`))
	require.Equal(t, 1, s.count(`SELECT count(*) FROM server_sessions`))
	require.Eventually(t, func() bool { return s.jobs("queued")+s.jobs("processing") == 0 }, patience, look)
	require.Equal(t, 1, s.count(`SELECT count(*) FROM observations WHERE kind = 'summary'`), "a session has one")
	require.Equal(t, 1, s.count(`SELECT count(*) FROM observations WHERE kind = 'summary' AND content LIKE '%tell the harbour%'`), "of all its turns")

	// The next session. The package asks a server for context by its MCP server only.
	a.session = "5b0f0c3e-77cc-4e0e-8a53-0d3c3f6f9b02"
	tools := a.dial()
	for _, tool := range []string{"observation_context", "observation_search"} {
		found := call(t, tools, tool, map[string]any{"query": "two leaders"})
		require.Contains(t, found, "TestOneLeader", tool)
		require.Contains(t, found, "tell the harbour", tool)
	}
	a.alone()
	a.hangUp(tools)

	// Or our own hook reads beside the plugin, which goes on reporting.
	install := a.command(t.Context(), filepath.Join(bin, "obs"), "install", "--context-only",
		"--url", s.api, "--key", s.key, "--project", s.project, "--state-dir", filepath.Join(a.home, "obs"))
	told, err := install.CombinedOutput()
	require.NoError(t, err, "%s", told)
	out = a.hook("SessionStart", map[string]any{"source": "startup"})
	require.Len(t, out, 3)
	require.Contains(t, out[2], `"hookEventName":"SessionStart"`)
	require.Contains(t, out[2], "tell the harbour")
	require.Equal(t, 5, s.count(`SELECT count(*) FROM agent_events`), "it reports nothing")
	require.Empty(t, a.processes())
	s.check()
}

// call gives the text of a tool's answer, which has to be a good one.
func call(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any) string {
	t.Helper()
	text, failed := tryCall(t, session, tool, arguments)
	require.False(t, failed, "%s: %s", tool, text)
	return text
}

func tryCall(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any) (text string, failed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	require.NoError(t, err, tool)
	require.Len(t, result.Content, 1)
	content, ok := result.Content[0].(*mcp.TextContent)
	require.True(t, ok)
	return content.Text, result.IsError
}

// decoded is a JSON answer's member, by the names on the way to it.
func decoded(t *testing.T, text string, names ...string) string {
	t.Helper()
	var at any
	require.NoError(t, json.Unmarshal([]byte(text), &at), text)
	for _, name := range names {
		members, ok := at.(map[string]any)
		require.True(t, ok, "%s in %s", name, text)
		at = members[name]
	}
	return fmt.Sprint(at)
}

// The MCP server of the plugin, in server mode.
func mcpOfClaudeMem(t *testing.T, p *plugin) {
	s := newStack(t)
	s.server()
	s.relay()
	s.worker()
	a := p.agent(t, s.api, s.key, s.project)
	tools := a.dial()
	require.Equal(t, &mcp.Implementation{Name: "claude-mem", Version: claudeMem.version}, tools.InitializeResult().ServerInfo)
	listed, err := tools.ListTools(t.Context(), nil)
	require.NoError(t, err)
	var names []string
	for _, tool := range listed.Tools {
		names = append(names, tool.Name)
	}
	require.Subset(t, names, []string{"observation_add", "observation_record_event", "observation_search", "observation_context", "observation_generation_status"})

	added := call(t, tools, "observation_add", map[string]any{
		"content": "Deployments of the warehouse are frozen on Fridays.", "kind": "decision", "metadata": map[string]any{"title": "Freeze", "who": "ops"},
	})
	require.Equal(t, "Freeze\n\nDeployments of the warehouse are frozen on Fridays.", decoded(t, added, "memory", "content"))
	require.Equal(t, "decision", decoded(t, added, "memory", "kind"))
	require.Equal(t, "ops", decoded(t, added, "memory", "metadata", "who"))

	recorded := call(t, tools, "observation_record_event", map[string]any{
		"eventType": "tool_use", "contentSessionId": "mcp-1", "platformSource": "Claude Code",
		"payload": map[string]any{
			"tool_name": "Bash", "tool_input": map[string]any{"command": "go test ./stock"},
			"tool_response": map[string]any{"exit_code": 1, "stdout": "--- FAIL: TestStock (0.01s)\n    stock_test.go:9: negative stock"},
		},
	})
	require.Equal(t, "claude", decoded(t, recorded, "event", "platformSource"))
	job := decoded(t, recorded, "generationJob", "id")
	require.Eventually(t, func() bool {
		status := call(t, tools, "observation_generation_status", map[string]any{"jobId": job})
		return decoded(t, status, "generationJob", "status") == "completed"
	}, patience, look, "the job is completed")

	require.Contains(t, call(t, tools, "observation_search", map[string]any{"query": "TestStock", "limit": 5}), "negative stock")
	require.Contains(t, decoded(t, call(t, tools, "observation_context", map[string]any{"query": "warehouse fridays"}), "context"), "are frozen on Fridays")
	require.Contains(t, call(t, tools, "search", map[string]any{"query": "TestStock"}), "negative stock", "search without filters is the server's")

	// What it may not do, or not find, is told to the model as it is.
	for _, wrong := range []struct {
		tool      string
		arguments map[string]any
		says      string
	}{
		{"observation_add", map[string]any{"content": "x", "projectId": "another"}, "Server error (http_error 403)"},
		{"observation_add", map[string]any{"content": "<private>x</private>"}, "Server error (http_error 400)"},
		{"observation_record_event", map[string]any{"eventType": "x", "projectId": "another"}, "Server error (http_error 403)"},
		{"observation_search", map[string]any{"query": "x", "projectId": "another"}, "Server error (http_error 403)"},
		{"observation_generation_status", map[string]any{"jobId": "none"}, "Server error (http_error 404)"},
	} {
		text, failed := tryCall(t, tools, wrong.tool, wrong.arguments)
		require.True(t, failed, text)
		require.Contains(t, text, wrong.says)
	}
	a.alone()
	a.hangUp(tools)
	s.check()
}
