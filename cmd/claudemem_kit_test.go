//go:build npm

package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

// plugin is claude-mem's plugin for Claude Code, as it is published.
type plugin struct {
	root  string // what Claude Code calls CLAUDE_PLUGIN_ROOT
	bin   string // where bun is
	cache string // bun's, of scripts that it has read
	hooks map[string][]matched
	mcp   server
}

// server is how the plugin's MCP server is started.
type server struct {
	Command string
	Args    []string
}

// matched is what the plugin wants run on an event, where the matcher matches.
type matched struct {
	Matcher string
	Hooks   []struct {
		Type, Command string
	}
}

func (p *plugin) read(t *testing.T) {
	t.Helper()
	var hooks struct{ Hooks map[string][]matched }
	var servers struct {
		McpServers map[string]server
	}
	for file, into := range map[string]any{"hooks/hooks.json": &hooks, ".mcp.json": &servers} {
		text, err := os.ReadFile(filepath.Join(p.root, file))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, into), file)
	}
	p.hooks, p.mcp = hooks.Hooks, servers.McpServers["mcp-search"]
	require.NotEmpty(t, p.mcp.Command)
}

// claudeCode is Claude Code with the plugin, in a home of its own.
type claudeCode struct {
	t       *testing.T
	plugin  *plugin
	home    string
	folder  string // where it works
	session string
	worker  *localWorker
}

// agent has the plugin's settings as its installer writes them for a server:
// the file is that of a user, and no variable names a server.
func (p *plugin) agent(t *testing.T, url, key, project string) *claudeCode {
	t.Helper()
	home := t.TempDir()
	a := &claudeCode{t: t, plugin: p, home: home, folder: filepath.Join(home, "src", "shop"), session: "0e9d6f6c-5a3c-4f0e-9c40-7d9b3f1f2a01", worker: newLocalWorker(t)}
	for _, dir := range []string{a.folder, a.data(), filepath.Join(home, ".claude"), filepath.Join(home, "tmp")} {
		require.NoError(t, os.MkdirAll(dir, 0o755))
	}
	settings, err := json.Marshal(map[string]string{
		"CLAUDE_MEM_RUNTIME": "server", "CLAUDE_MEM_SERVER_URL": url,
		"CLAUDE_MEM_SERVER_API_KEY": key, "CLAUDE_MEM_SERVER_PROJECT_ID": project,
		"CLAUDE_MEM_WORKER_PORT": strconv.Itoa(a.worker.port), "CLAUDE_MEM_LOG_LEVEL": "DEBUG",
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(a.data(), "settings.json"), settings, 0o600))
	t.Cleanup(func() {
		left := a.processes()
		for end := time.Now().Add(patience); len(left) > 0 && time.Now().Before(end); left = a.processes() {
			<-time.After(look) // an MCP server may still be on its way out
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) > 0 {
			t.Errorf("the client left processes behind: %v", left)
		}
		if t.Failed() {
			t.Logf("the client's log:\n%s", a.log())
		}
	})
	return a
}

func (a *claudeCode) data() string { return filepath.Join(a.home, ".claude-mem") }

func (a *claudeCode) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = a.folder
	cmd.Env = []string{
		"HOME=" + a.home, "TMPDIR=" + filepath.Join(a.home, "tmp"), "SHELL=/bin/bash",
		"PATH=" + a.plugin.bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"CLAUDE_CONFIG_DIR=" + filepath.Join(a.home, ".claude"), "CLAUDE_PLUGIN_ROOT=" + a.plugin.root,
		"CLAUDE_PROJECT_DIR=" + a.folder, "BUN_RUNTIME_TRANSPILER_CACHE_PATH=" + a.plugin.cache,
		"DO_NOT_TRACK=1",  // it would send figures to its makers
		"OBS_TIMEOUT=30s", // our hook's, on a machine that does much else
	}
	cmd.WaitDelay = 5 * time.Second // for what may hold its output open
	return cmd
}

// settings are the hooks in Claude Code's own settings, if there are any.
func (a *claudeCode) settings() map[string][]matched {
	a.t.Helper()
	var s struct{ Hooks map[string][]matched }
	text, err := os.ReadFile(filepath.Join(a.home, ".claude", "settings.json"))
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(a.t, err)
		require.NoError(a.t, json.Unmarshal(text, &s))
	}
	return s.Hooks
}

// hook does what Claude Code does on an event, and gives what each of the
// commands for it printed: the plugin's, then those of the settings. All of
// them have to succeed.
func (a *claudeCode) hook(event string, input map[string]any) []string {
	a.t.Helper()
	input["hook_event_name"], input["session_id"], input["cwd"] = event, a.session, a.folder
	input["transcript_path"], input["permission_mode"] = a.transcript(), "default"
	text, err := json.Marshal(input)
	require.NoError(a.t, err)
	return a.hookText(event, input, text)
}

func (a *claudeCode) hookText(event string, input map[string]any, text []byte) []string {
	a.t.Helper()
	var commands []string
	for _, m := range slices.Concat(a.plugin.hooks[event], a.settings()[event]) {
		about, _ := input["tool_name"].(string)
		if source, ok := input["source"].(string); ok {
			about = source
		}
		if m.Matcher != "" && m.Matcher != "*" && !regexp.MustCompile("^(?:"+m.Matcher+")$").MatchString(about) {
			continue
		}
		for _, h := range m.Hooks {
			require.Equal(a.t, "command", h.Type)
			commands = append(commands, h.Command)
		}
	}
	require.NotEmpty(a.t, commands, "the plugin has no hook for %s", event)
	out, errs := make([]string, len(commands)), make([]error, len(commands))
	var all sync.WaitGroup
	for i, command := range commands { // all at once, as Claude Code does
		all.Go(func() {
			ctx, cancel := context.WithTimeout(a.t.Context(), patience)
			defer cancel()
			cmd := a.command(ctx, "bash", "-c", command)
			var stdout, stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &stdout, &stderr
			if err := cmd.Run(); err != nil || stderr.Len() > 0 {
				errs[i] = fmt.Errorf("%s: %w: %s", event, err, &stderr)
			}
			out[i] = strings.TrimSpace(stdout.String())
		})
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(a.t, err)
	}
	return out
}

func (a *claudeCode) transcript() string { return filepath.Join(a.home, a.session+".jsonl") }

// says writes a turn to the transcript, in which Stop looks for the answer.
func (a *claudeCode) says(role, text string) {
	a.t.Helper()
	line, err := json.Marshal(map[string]any{
		"type": role, "sessionId": a.session, "cwd": a.folder, "isSidechain": false, "timestamp": "2026-11-25T10:00:00.000Z",
		"message": map[string]any{"role": role, "content": []any{map[string]any{"type": "text", "text": text}}},
	})
	require.NoError(a.t, err)
	f, err := os.OpenFile(a.transcript(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(a.t, err)
	_, err = fmt.Fprintf(f, "%s\n", line)
	require.NoError(a.t, err)
	require.NoError(a.t, f.Close())
}

// dial starts the plugin's MCP server as its configuration says.
func (a *claudeCode) dial() *mcp.ClientSession {
	a.t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "claude-code", Version: "2"}, nil)
	session, err := client.Connect(a.t.Context(), &mcp.CommandTransport{Command: a.command(a.t.Context(), a.plugin.mcp.Command, a.plugin.mcp.Args...)}, nil)
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = session.Close() })
	return session
}

// hangUp ends the MCP server, as the end of the agent does.
func (a *claudeCode) hangUp(session *mcp.ClientSession) {
	a.t.Helper()
	require.NoError(a.t, session.Close())
	require.Eventually(a.t, func() bool { return len(a.processes()) == 0 }, patience, look, "it ends with its agent")
}

// log is all that the client has logged.
func (a *claudeCode) log() string {
	var all strings.Builder
	found, _ := filepath.Glob(filepath.Join(a.data(), "logs", "*")) // the pattern is good
	for _, file := range found {
		text, err := os.ReadFile(file)
		fmt.Fprintf(&all, "%s%s", text, errText(err))
	}
	return all.String()
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// kept are files that only the local worker has.
func (a *claudeCode) kept() (found []string) {
	a.t.Helper()
	require.NoError(a.t, filepath.WalkDir(a.home, func(path string, _ fs.DirEntry, err error) error {
		if name := filepath.Base(path); strings.Contains(name, ".db") || strings.Contains(name, "sqlite") || strings.HasSuffix(name, ".pid") {
			found = append(found, path)
		}
		return err
	}))
	return found
}

// processes are those that have the agent's home as theirs, where there is a
// /proc to look at.
func (a *claudeCode) processes() (pids []int) {
	found, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is good
	for _, file := range found {
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte("HOME="+a.home+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// alone verifies that the client has told nobody but the server.
func (a *claudeCode) alone() {
	a.t.Helper()
	require.NotContains(a.t, a.log(), "[server-fallback]")
	require.Empty(a.t, a.worker.seen(), "the local worker's port")
	require.Zero(a.t, a.worker.calls(), "connections to the local worker's port")
	require.Empty(a.t, a.kept())
}

// localWorker stands where claude-mem looks for the worker that it runs on
// each machine. It answers as one that has nothing, so that none is started,
// and notes what it was asked.
type localWorker struct {
	port  int
	mu    sync.Mutex
	conns int
	asked []string
	told  []string // bodies
}

func newLocalWorker(t *testing.T) *localWorker {
	t.Helper()
	w := &localWorker{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.port = l.Addr().(*net.TCPAddr).Port
	server := &http.Server{Handler: w, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			w.mu.Lock()
			w.conns++
			w.mu.Unlock()
		}
	}}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return w
}

func (w *localWorker) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	_, err := body.ReadFrom(r.Body)
	w.mu.Lock()
	w.asked = append(w.asked, r.Method+" "+r.URL.Path)
	w.told = append(w.told, body.String()+errText(err))
	w.mu.Unlock()
	switch r.URL.Path {
	case "/api/health", "/api/readiness":
		fmt.Fprintf(out, `{"status":"ok","version":%q,"uptime":1}`, claudeMem.version)
	case "/api/context/inject":
	default:
		fmt.Fprint(out, `{"status":"queued","sessionDbId":1,"promptNumber":1}`)
	}
}

// seen is what it was asked, each thing once, in order of the alphabet.
func (w *localWorker) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(w.asked)))
}

func (w *localWorker) bodies() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.told, "\n")
}

func (w *localWorker) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conns
}

// forget makes it as if nobody had come.
func (w *localWorker) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns, w.asked, w.told = 0, nil, nil
}
