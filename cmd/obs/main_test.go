package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// output collects what a command writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// obs runs a command in this process, without any variable.
func obs(ctx context.Context, args ...string) (code int, stdout, stderr *output) {
	stdout, stderr = &output{}, &output{}
	return runIn(ctx, stdout, stderr, args...), stdout, stderr
}

func runIn(ctx context.Context, stdout, stderr *output, args ...string) int {
	return run(ctx, boot.Std{
		Args: args, LookupEnv: func(name string) (string, bool) { return "/nowhere", name == "OBS_DATA_DIR" }, // not the server of who tests
		Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr,
	})
}

// must runs a command that has to work and gives what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := obs(t.Context(), args...)
	require.Zero(t, code, "obs %s: %s%s", strings.Join(args, " "), stdout, stderr)
	require.Empty(t, stderr.String())
	return stdout.String()
}

// openDir is a new folder that every user may enter: Postgres may run as
// another one.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

var commandLine = regexp.MustCompile(`(?m)^  ([a-z]+(?: [a-z]+)?)  +[A-Z]`)

func TestEveryCommandHasExamples(t *testing.T) {
	t.Parallel()
	all := commandLine.FindAllStringSubmatch(must(t, "--help"), -1)
	require.Greater(t, len(all), 15)
	for _, name := range append([][]string{{"", "jobs"}, {"", "keys"}, {"", "teams"}, {"", "projects"}}, all...) {
		help := must(t, append(strings.Fields(name[1]), "--help")...)
		require.Contains(t, help, "Examples:\n", name[1])
		require.Contains(t, help, "obs "+name[1], name[1])
		require.NotContains(t, help, "${", name[1])
	}
}

func TestNothingAsksForHelp(t *testing.T) {
	t.Parallel()
	require.Equal(t, must(t, "--help"), must(t))
}

func TestVersion(t *testing.T) {
	t.Parallel()
	require.Equal(t, "obs "+boot.Build()+"\n", must(t, "--version"))
	require.Equal(t, must(t, "--version"), must(t, "version"))
}

func TestMisuseIsOneLineAndTwo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"fly"}, "unexpected argument fly"},
		{[]string{"jobs"}, "expected one of"},
		{[]string{"jobs", "show"}, `expected "<id>"`},
		{[]string{"dev", "--nope"}, "unknown flag --nope"},
		{[]string{"dev", "--addr", "off"}, "it has to listen somewhere"},
		{[]string{"dev", "--nats-port", "x"}, "--nats-port (OBS_NATS_PORT)"},
		{[]string{"demo", "--pace", "2h"}, "--pace"},
		{[]string{"jobs", "list"}, "--database-url (OBS_DATABASE_URL): it is needed"},
		{[]string{"jobs", "show", "a:b", "--database-url", "postgres://h/d"}, `"a:b" is no job id`},
		{[]string{"keys", "create", "--team", "t", "--scopes", "all", "--database-url", "postgres://h/d"}, `--scopes: got "all"`},
		{[]string{"keys", "revoke", "obs_secret", "--database-url", "postgres://h/d"}, "that is a key's secret"},
		{[]string{"server", "--database-url", "postgres://h/d", "--nats-url", "nats://h", "--addr", "off"}, "a server has to listen"},
	} {
		code, stdout, stderr := obs(t.Context(), c.args...)
		require.Equal(t, boot.ExitMisused, code, c.args)
		require.Empty(t, stdout.String(), c.args)
		require.Equal(t, 1, strings.Count(stderr.String(), "\n"), "%s", stderr)
		require.Contains(t, stderr.String(), c.says)
		require.True(t, strings.HasPrefix(stderr.String(), "obs: "))
	}
}

func TestAllThatIsWrongAtOnce(t *testing.T) {
	t.Parallel()
	code, _, stderr := obs(t.Context(), "jobs", "list", "--status", "lost", "--since", "soon", "--limit", "0", "--source-type", "x", "--pool-size", "1")
	require.Equal(t, boot.ExitMisused, code)
	require.Equal(t, 6, strings.Count(stderr.String(), "\n"), "%s", stderr)
}
