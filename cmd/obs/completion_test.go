package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBashCompletes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "obs.bash")
	require.NoError(t, os.WriteFile(script, []byte(must(t, "completion", "bash")), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "creds.txt"), nil, 0o600))
	// The last word is the one that is completed.
	for _, c := range []struct {
		words []string
		want  string // all of the answers, or with … the first ones
	}{
		{[]string{"obs", "pro"}, "projects prompt"},
		{[]string{"obs", "server", "sta"}, "start status"},
		{[]string{"obs", "server", "start", "--nats-re"}, "--nats-replicas"},
		{[]string{"obs", "server", "--database"}, "--database-url"},
		{[]string{"obs", "jobs", ""}, "list failed show history retry cancel…"},
		{[]string{"obs", "jobs", "retry", "--fa"}, "--failed"},
		{[]string{"obs", "jobs", "list", "--status", "pro"}, "processing"},
		{[]string{"obs", "jobs", "list", "--status", "=", "c"}, "completed cancelled"},
		{[]string{"obs", "jobs", "list", "--team", "keys", "--lim"}, "--limit"},
		{[]string{"obs", "dev", "--nats-creds", "cre"}, "creds.txt"},
		{[]string{"obs", "completion", "z"}, "zsh"},
		{[]string{"obs", "fly", "--vers"}, "--version"},
		{[]string{"obs", "keys", "create", "--scopes", "memories:w"}, "memories:write"},
		{[]string{"obs", "jobs", "show", "nothing"}, ""},
		{[]string{"obs", "server", "back"}, ""},
	} {
		quoted := "'" + strings.Join(c.words, "' '") + "'"
		cmd := exec.CommandContext(t.Context(), "bash", "--norc", "-euc",
			`source "$1"; COMP_WORDS=(`+quoted+`); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); set +e; _obs; echo "${COMPREPLY[*]}"`, "bash", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", quoted, out)
		got := strings.TrimSpace(string(out))
		if first, ok := strings.CutSuffix(c.want, "…"); ok {
			require.True(t, strings.HasPrefix(got, first+" --"), "%s: %s", quoted, got)
			continue
		}
		require.Equal(t, c.want, got, quoted)
	}
}

func TestEveryShellKnowsEveryCommand(t *testing.T) {
	t.Parallel()
	commands := commandLine.FindAllStringSubmatch(must(t, "--help"), -1)
	require.NotEmpty(t, commands)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := must(t, "completion", shell)
		for _, c := range commands {
			require.Contains(t, script, "'"+c[1]+"'", shell)
		}
		require.NotContains(t, script, "server background", shell)
		if path, err := exec.LookPath(shell); err == nil {
			cmd := exec.CommandContext(t.Context(), path, "-n")
			cmd.Stdin = strings.NewReader(script)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", shell, out)
		}
	}
	code, _, stderr := obs(t.Context(), "completion", "csh")
	require.Equal(t, 2, code)
	require.Contains(t, stderr.String(), "bash")
}
