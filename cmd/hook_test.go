package cmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// agent is Claude Code with our hooks installed: it runs the commands that its
// settings have, in a shell, and waits for each.
type agent struct {
	t        *testing.T
	s        *stack
	home     string
	addr     string
	commands map[string]string // by Claude Code's name of the hook
}

func newAgent(t *testing.T, s *stack) *agent {
	t.Helper()
	a := &agent{t: t, s: s, home: t.TempDir(), addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), commands: map[string]string{}}
	install := exec.Command(filepath.Join(bin, "obs"), "install", "--url", "http://"+a.addr, "--key", s.key, "--project", s.project,
		"--config", filepath.Join(a.home, "hook.json"), "--state-dir", a.state())
	install.Env = append(os.Environ(), "HOME="+a.home, "CLAUDE_CONFIG_DIR=")
	out, err := install.CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(filepath.Join(a.home, ".claude", "settings.json"))
	require.NoError(t, err)
	var settings struct {
		Hooks map[string][]struct{ Hooks []struct{ Command string } }
	}
	require.NoError(t, json.Unmarshal(text, &settings))
	for event, groups := range settings.Hooks {
		a.commands[event] = groups[0].Hooks[0].Command
	}
	require.Len(t, a.commands, 5)
	return a
}

func (a *agent) state() string { return filepath.Join(a.home, "state") }

// server runs obs server where the hooks look for it.
func (a *agent) server() *proc {
	a.t.Helper()
	a.s.api = "http://" + a.addr
	p := run(a.t, "obs", "server", "--database-url", a.s.dsn, "--nats-url", a.s.natsURL(), "--addr", a.addr)
	require.Eventually(a.t, func() bool {
		code, _ := get(a.t, a.s.api+"/healthz", "")
		return code == http.StatusOK
	}, patience, look, "the server answers")
	return p
}

// hook does what the agent does on an event, and gives what it would read.
func (a *agent) hook(event string, input map[string]any) (string, error) {
	input["hook_event_name"], input["cwd"] = event, "/src/shop"
	text, err := json.Marshal(input)
	if err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-c", a.commands[event])
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &stdout, &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		return "", fmt.Errorf("%s: %w: %s", event, err, &stderr)
	}
	if took := time.Since(began); took > 20*time.Second { // 2 s, on a machine that does much else
		return "", fmt.Errorf("%s: it took %v", event, took)
	}
	return stdout.String(), nil
}

func (a *agent) must(event string, input map[string]any) string {
	a.t.Helper()
	out, err := a.hook(event, input)
	require.NoError(a.t, err)
	return out
}

func (a *agent) waiting() int {
	a.t.Helper()
	found, err := filepath.Glob(filepath.Join(a.state(), "spool", "*.json"))
	require.NoError(a.t, err)
	return len(found)
}

// tools reports n uses of tools, from several processes at once, the odd ones
// of them twice.
func (a *agent) tools(session string, first, n int) {
	a.t.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, 2*n)
	next := make(chan int)
	for range 3 {
		wg.Go(func() {
			for i := range next {
				for range 1 + i%2 {
					_, err := a.hook("PostToolUse", map[string]any{
						"session_id": session, "tool_use_id": fmt.Sprintf("toolu_%d", i), "tool_name": "Bash",
						"tool_input":    map[string]any{"command": fmt.Sprintf("go test ./part%d", i)},
						"tool_response": map[string]any{"exit_code": 1, "stdout": fmt.Sprintf("--- FAIL: TestPart%d (0.01s)\n    part_test.go:%d: two leaders", i, i+1)},
					})
					errs <- err
				}
			}
		})
	}
	for i := range n {
		next <- first + i
	}
	close(next)
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(a.t, err)
	}
}

// A session goes on while its server is stopped, killed and started again, and
// not one event is lost or stored twice.
func TestHooksThroughRestarts(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	a := newAgent(t, s)
	session := "restarts"

	// The first prompt comes before there is a server at all.
	require.Empty(t, a.must("SessionStart", map[string]any{"session_id": session, "source": "startup"}))
	require.Empty(t, a.must("UserPromptSubmit", map[string]any{"session_id": session, "prompt": "Find the two leaders."}))
	a.tools(session, 0, 5)
	require.NotZero(t, a.waiting())

	server := a.server()
	a.tools(session, 5, 10)
	require.Zero(t, a.waiting(), "hooks bring what waited")
	require.Zero(t, server.end(t, syscall.SIGTERM, 10*time.Second))
	a.tools(session, 15, 5)
	server = a.server()
	go server.kill() // while hooks report
	a.tools(session, 20, 10)
	<-server.done
	require.Empty(t, a.must("Stop", map[string]any{"session_id": session, "last_assistant_message": "There were two leaders."}))
	require.NotZero(t, a.waiting())

	server = a.server()
	flush := run(t, "obs", "hook", "flush", "--config", filepath.Join(a.home, "hook.json"), "--state-dir", a.state())
	require.Zero(t, flush.exit(t, patience), "%s", flush.out)
	require.Contains(t, flush.out.String(), "rejected 0, waiting 0")
	require.Equal(t, 31, s.count(`SELECT count(*) FROM agent_events`))
	require.Equal(t, 31, s.count(`SELECT count(*) FROM agent_events WHERE server_session_id IS NOT NULL`))
	require.Equal(t, 1, s.count(`SELECT count(*) FROM server_sessions WHERE prompts = '{Find the two leaders.}' AND ended_at IS NOT NULL`))
	require.Empty(t, must(filepath.Glob(filepath.Join(a.state(), "rejected", "*"))))

	s.relay()
	s.worker()
	s.settled(32)
	out := a.must("SessionStart", map[string]any{"session_id": "the next", "source": "startup"})
	require.Contains(t, out, `"hookEventName":"SessionStart"`)
	require.Contains(t, out, "two leaders")
	s.check()
	require.Zero(t, server.end(t, syscall.SIGTERM, 10*time.Second))
	log, err := os.ReadFile(filepath.Join(a.state(), "hook.log"))
	require.NoError(t, err)
	require.False(t, strings.Contains(string(log), s.key) || strings.Contains(string(log), "Find the two"))
}

func must(found []string, err error) []string {
	if err != nil {
		panic(err)
	}
	return found
}
