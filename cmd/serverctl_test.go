package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// control is obs server with its subcommands, on a data directory.
type control struct {
	t   *testing.T
	dir string
}

func newControl(t *testing.T) *control {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // Postgres may run as another user
	c := &control{t, filepath.Join(dir, "data")}
	t.Cleanup(func() {
		code, out := c.do("stop")
		require.Zero(t, code, out)
		if log, err := os.ReadFile(filepath.Join(c.dir, "server.log")); t.Failed() && err == nil {
			t.Logf("the log:\n%s", log)
		}
	})
	return c
}

func (c *control) do(verb string, args ...string) (code int, out string) {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "obs"), append([]string{"server", verb, "--data-dir", c.dir}, args...)...)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(c.t, err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

type seenStatus struct {
	Running bool
	Runtime string
	Version string
	PID     int
	Port    int
	URL     string
	Health  struct{ Status string }
	Lanes   []struct{ Kind string }
}

func (c *control) status(code int) seenStatus {
	c.t.Helper()
	got, out := c.do("status", "--json")
	require.Equal(c.t, code, got, out)
	var s seenStatus
	require.NoError(c.t, json.Unmarshal([]byte(out), &s), out)
	return s
}

func TestServerInTheBackground(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	code, out := c.do("status")
	require.Equal(t, 3, code)
	require.Equal(t, "obs is not running on "+c.dir+"\n", out)
	require.False(t, c.status(3).Running)
	code, out = c.do("restart")
	require.Equal(t, 1, code)
	require.Contains(t, out, "nothing runs on "+c.dir)

	port := freePort(t)
	code, out = c.do("start", "--addr", fmt.Sprintf("127.0.0.1:%d", port), "--lease", "20s")
	require.Zero(t, code, out)
	require.Contains(t, out, "obs is up at http://127.0.0.1:"+fmt.Sprint(port))
	require.Contains(t, out, filepath.Join(c.dir, "server.log"))
	first := c.status(0)
	require.True(t, first.Running)
	require.Equal(t, "server", first.Runtime)
	require.Equal(t, port, first.Port)
	require.Equal(t, "ok", first.Health.Status)
	require.Len(t, first.Lanes, 4)
	code, _ = get(t, first.URL+"/healthz", "")
	require.Equal(t, http.StatusOK, code)
	key, err := os.ReadFile(filepath.Join(c.dir, "dev.key"))
	require.NoError(t, err)
	log, err := os.ReadFile(filepath.Join(c.dir, "server.log"))
	require.NoError(t, err)
	require.NotContains(t, string(log), strings.TrimSpace(string(key)))
	code, out = c.do("status")
	require.Zero(t, code)
	for line := range strings.Lines(out) {
		if !strings.Contains(line, c.dir) { // a path is not cut
			require.LessOrEqual(t, len(line), 81, line)
		}
	}

	// Whoever asks about jobs on this machine need not know where Postgres is.
	jobs := exec.Command(filepath.Join(bin, "obs"), "jobs", "list", "--json")
	jobs.Env = append(os.Environ(), "OBS_DATA_DIR="+c.dir, "OBS_DATABASE_URL=")
	text, err := jobs.CombinedOutput()
	require.NoError(t, err, "%s", text)
	require.Contains(t, string(text), `"jobs": []`)

	// Whoever else wants the directory is told who has it.
	code, out = c.do("start", "--addr", "127.0.0.1:0")
	require.Equal(t, 1, code)
	require.Equal(t, fmt.Sprintf("obs: another obs is using %s (pid %d): end it with obs server stop, or choose another --data-dir\n", c.dir, first.PID), out)
	second := run(t, "obs", "dev", "--data-dir", c.dir, "--addr", "127.0.0.1:0")
	require.Equal(t, 1, second.exit(t, patience))
	require.Contains(t, second.out.String(), "another obs is using "+c.dir)

	// The flags stay, and the process is another one.
	code, out = c.do("restart")
	require.Zero(t, code, out)
	restarted := c.status(0)
	require.Equal(t, port, restarted.Port)
	require.NotEqual(t, first.PID, restarted.PID)
	var how struct{ Flags []string }
	text, err = os.ReadFile(filepath.Join(c.dir, ".obs-server.runtime.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &how))
	require.Equal(t, []string{fmt.Sprintf("--addr=127.0.0.1:%d", port), "--lease=20s"}, how.Flags)

	// One that was killed leaves its files behind: they keep nobody out, and
	// the flags are still known.
	require.NoError(t, syscall.Kill(restarted.PID, syscall.SIGKILL))
	require.Eventually(t, func() bool { code, _ := c.do("status"); return code == 3 }, patience, look)
	require.FileExists(t, filepath.Join(c.dir, ".obs-server.pid"))
	code, out = c.do("stop")
	require.Zero(t, code)
	require.Equal(t, "obs is not running on "+c.dir+"\n", out)
	code, out = c.do("restart")
	require.Zero(t, code, out)
	require.Equal(t, port, c.status(0).Port)

	// A server that hangs is said to, and is not taken for one that is gone.
	hung := c.status(0).PID
	require.NoError(t, syscall.Kill(hung, syscall.SIGSTOP))
	require.Equal(t, "silent", c.status(4).Health.Status)
	require.NoError(t, syscall.Kill(hung, syscall.SIGCONT))

	code, out = c.do("stop")
	require.Zero(t, code, out)
	require.Equal(t, fmt.Sprintf("obs has stopped (pid %d)\n", hung), out)
	require.Equal(t, 3, func() int { code, _ := c.do("status"); return code }())
	require.NoFileExists(t, filepath.Join(c.dir, ".obs-server.pid"))
	require.NoFileExists(t, filepath.Join(c.dir, ".obs-server.port"))
	require.NoFileExists(t, filepath.Join(c.dir, ".obs-server.runtime.json"))
}

func TestServerThatCannotStart(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	code, out := c.do("start", "--addr", "off")
	require.Equal(t, 2, code)
	require.Contains(t, out, "it has to listen somewhere")
	require.NoDirExists(t, c.dir)

	began := time.Now()
	code, out = c.do("start", "--addr", "127.0.0.1:0", "--timeout", "1h", "--database-url", "postgres://nobody@127.0.0.1:1/none", "--connect-timeout", "200ms")
	require.Equal(t, 1, code)
	require.Contains(t, out, "the server has ended: ")
	require.Contains(t, out, "127.0.0.1:1", "the log's last line says why")
	require.Equal(t, 1, strings.Count(out, "\n"), out)
	require.Less(t, time.Since(began), patience, "it does not wait for a dead one")

	code, out = c.do("start", "--addr", "127.0.0.1:0", "--timeout", "2500ms", "--database-url", "postgres://nobody@127.0.0.1:1/none", "--connect-timeout", "30s")
	require.Equal(t, 1, code)
	require.Contains(t, out, "obs: starting, 2 s: ")
	require.Contains(t, out, "it is not healthy after 2.5s")
	require.Equal(t, "silent", c.status(4).Health.Status, "it goes on trying")
}

func TestStartedWithVariablesIsRestartedWithThem(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	cmd := exec.Command(filepath.Join(bin, "obs"), "server", "start", "--data-dir", c.dir)
	cmd.Env = append(os.Environ(), "OBS_ADDR=127.0.0.1:0", "OBS_PROVIDER=anthropic,offline", "ANTHROPIC_API_KEY=sk-ant-0123456789", "OPENAI_API_KEY=sk-0123456789")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	code, text := c.do("restart")
	require.Equal(t, 1, code)
	for _, name := range []string{"OBS_ADDR", "OBS_PROVIDER", "ANTHROPIC_API_KEY"} {
		require.Regexp(t, "it was started with .*"+name+".*: set that here too", text)
	}
	require.NotContains(t, text, "OPENAI_API_KEY", "nobody asked for it")
	runtime, err := os.ReadFile(filepath.Join(c.dir, ".obs-server.runtime.json"))
	require.NoError(t, err)
	require.NotContains(t, string(runtime), "0123456789")
	require.True(t, c.status(0).Running)
}
