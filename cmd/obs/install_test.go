package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/hook"
)

// home is a home directory, and the commands in it.
type home struct {
	t   *testing.T
	dir string
	env map[string]string
}

func newHome(t *testing.T) *home {
	t.Helper()
	dir := t.TempDir()
	return &home{t, dir, map[string]string{"HOME": dir, "OBS_STATE_DIR": filepath.Join(dir, "state")}}
}

func (h *home) obs(stdin string, args ...string) (code int, stdout, stderr string) {
	h.t.Helper()
	var out, errs bytes.Buffer
	code = run(h.t.Context(), boot.Std{
		Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
		LookupEnv: func(name string) (string, bool) { v, ok := h.env[name]; return v, ok },
	})
	return code, out.String(), errs.String()
}

func (h *home) must(args ...string) string {
	h.t.Helper()
	code, stdout, stderr := h.obs("", args...)
	require.Zero(h.t, code, "%s%s", stdout, stderr)
	require.Empty(h.t, stderr)
	return stdout
}

func (h *home) file(path ...string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{h.dir}, path...)...))
	require.NoError(h.t, err)
	return string(text)
}

// someSettings have to come back to the byte, not only as equal JSON.
var someSettings = []byte(`{
  "model": "opus",
  "hooks": {
    "Stop": [{ "hooks": [{ "type": "command", "command": "say done" }] }]
  }
}
`)

func TestInstallAndUninstall(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	require.NoError(t, os.MkdirAll(filepath.Join(h.dir, "dotfiles"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(h.dir, ".claude"), 0o755))
	kept := filepath.Join(h.dir, "dotfiles", "claude.json")
	require.NoError(t, os.WriteFile(kept, someSettings, 0o640))
	require.NoError(t, os.Symlink(kept, filepath.Join(h.dir, ".claude", "settings.json")))
	args := []string{"--url", "http://obs.test:1", "--key", "obs_secret", "--project", "p1", "--program", "/opt/obs"}

	out := h.must(append([]string{"install", "--dry-run"}, args...)...)
	require.Contains(t, out, `+            "command": "/opt/obs hook session-start`)
	require.Contains(t, out, "nothing was written")
	require.NotContains(t, out, "obs_secret")
	require.Equal(t, someSettings, []byte(h.file("dotfiles", "claude.json")))
	require.NoDirExists(t, filepath.Join(h.dir, ".config"))

	out = h.must(append([]string{"install"}, args...)...)
	require.NotContains(t, out, "obs_secret")
	require.Equal(t, 5, strings.Count(h.file(".claude", "settings.json"), "/opt/obs hook "))
	info, err := os.Lstat(filepath.Join(h.dir, ".claude", "settings.json"))
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink, "the link is still one")
	info, err = os.Stat(kept)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode().Perm())
	backups, err := filepath.Glob(kept + ".obs-*.bak")
	require.NoError(t, err)
	require.Len(t, backups, 1)
	text, err := os.ReadFile(backups[0])
	require.NoError(t, err)
	require.Equal(t, someSettings, text)
	s, err := hook.LoadSettings(filepath.Join(h.dir, ".config", "obs", "hook.json"))
	require.NoError(t, err)
	require.Equal(t, hook.Settings{URL: "http://obs.test:1", Key: "obs_secret", Project: "p1"}, s)

	require.Contains(t, h.must(append([]string{"install"}, args...)...), "nothing to do")
	require.Contains(t, h.must("install", "--program", "/opt/obs", "--project", "p2"), "project p2", "the rest is known")
	require.Contains(t, h.must("install", "--program", "/opt/obs", "--context-only"), "hooks read from http://obs.test:1, project p2")
	require.Equal(t, 1, strings.Count(h.file(".claude", "settings.json"), "/opt/obs hook "))
	require.Contains(t, h.file(".claude", "settings.json"), "/opt/obs hook session-start")
	h.must("install", "--program", "/opt/obs")
	require.Equal(t, 5, strings.Count(h.file(".claude", "settings.json"), "/opt/obs hook "))
	require.Contains(t, h.must("uninstall", "--dry-run"), `-            "command": "/opt/obs hook session-start`)
	require.Contains(t, h.must("uninstall"), "removed "+filepath.Join(h.dir, ".config", "obs", "hook.json"))
	require.Equal(t, someSettings, []byte(h.file("dotfiles", "claude.json")))
	require.NoFileExists(t, filepath.Join(h.dir, ".config", "obs", "hook.json"))
	require.Contains(t, h.must("uninstall"), "nothing to do")
}

func TestInstallWhereItCannot(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env["OBS_KEY"] = "obs_secret"
	code, _, stderr := h.obs("", "install", "--url", "nowhere")
	require.Equal(t, boot.ExitMisused, code)
	require.Equal(t, 2, strings.Count(stderr, "\n"), stderr)
	require.Contains(t, stderr, "--project (OBS_PROJECT)")

	settings := filepath.Join(h.dir, "settings.json")
	require.NoError(t, os.WriteFile(settings, []byte("{ // mine\n}"), 0o600))
	code, _, stderr = h.obs("", "install", "--project", "p", "--settings", settings)
	require.Equal(t, boot.ExitFailed, code)
	require.Contains(t, stderr, "not the settings of Claude Code")
	require.Equal(t, "{ // mine\n}", h.file("settings.json"))
	require.NoDirExists(t, filepath.Join(h.dir, ".config"), "nothing is half done")

	link := filepath.Join(h.dir, "link.json")
	require.NoError(t, os.Symlink(filepath.Join(h.dir, "away.json"), link))
	code, _, stderr = h.obs("", "install", "--project", "p", "--settings", link)
	require.Equal(t, boot.ExitFailed, code)
	require.Contains(t, stderr, "away.json, which is not there")
	_, err := os.Readlink(link)
	require.NoError(t, err, "it still is a link")
	require.NoDirExists(t, filepath.Join(h.dir, ".config"), "nothing is half done")
}

// An exit code of a hook may block the agent, so there is only the one.
func TestHookNeverFails(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for _, args := range [][]string{
		{"hook"},
		{"hook", "stop"},
		{"hook", "nonsense"},
		{"hook", "--nope"},
		{"hook", "stop", "more", "words"},
		{"hook", "stop", "--timeout", "soon"},
		{"hook", "stop", "--config", h.dir},
		{"hook", "stop", "--state-dir", "/dev/null/x"},
		{"hook", "PostToolUse", "--url", "::", "--key", "k", "--project", "p"},
	} {
		for _, stdin := range []string{"", "{", `{"session_id":"s","tool_name":"Bash"}`} {
			code, stdout, _ := h.obs(stdin, args...)
			require.Zero(t, code, args)
			require.Empty(t, stdout, args)
		}
	}
	require.Contains(t, h.file("state", "hook.log"), "run obs install")

	code, _, stderr := h.obs("", "hook", "flush", "--url", "::", "--key", "k")
	require.Equal(t, boot.ExitFailed, code, "flush is for people: it says what is wrong")
	require.NotEmpty(t, stderr)
}

func TestNeverFailsIsForHooksAlone(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]int{"hook stop": 0, "hook": 0, "hook flush": 2, "jobs": 2, "": 2} {
		code := 2
		func() {
			defer neverFails(boot.Std{Args: strings.Fields(args), Stderr: &output{}}, &code)
			if want == 0 {
				panic("a bug")
			}
		}()
		require.Equal(t, want, code, args)
	}
}
