//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// programs are built once for all tests. The folder's name stays the same
// from run to run, so that nothing piles up in the temporary folder.
var programs = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("obs-torture-bin-%d", os.Getuid()))
	return dir, build(context.Background(), dir, false)
})

// folder is where runs are made: not t.TempDir, which Postgres' user may not
// enter.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "torture-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func tortured(t *testing.T, ctx context.Context, dir string, args ...string) (code int, out string) { //nolint:revive // as testing has it
	t.Helper()
	bin, err := programs()
	require.NoError(t, err)
	var both bytes.Buffer
	code = run(ctx, append([]string{"--bin", bin, "--dir", dir}, args...), &both, &both)
	return code, both.String()
}

func TestShortRunPasses(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	code, out := tortured(t, t.Context(), dir, "--seed", "3", "--duration", "8s")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "seed 3: passed")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left behind")
}

// Each check finds what was broken behind its back.
func TestPlantedViolationsAreFound(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	code, out := tortured(t, t.Context(), dir, "--seed", "4", "--duration", "6s", "--plant", "history,effect,job,memory")
	require.Equal(t, exitFailed, code, out)
	for _, check := range []string{"I2", checkedEffects, checkedAnswers, checkedMemories} {
		require.Contains(t, out, "\n"+check+": ", "found by %s", check)
	}
	require.Contains(t, out, "  its clients:\n", "the history is printed")
	kept, err := filepath.Glob(filepath.Join(dir, "obs-torture-4-*"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	for _, name := range []string{"plan.txt", "run.log", "calls.jsonl", "effects.jsonl", "findings.txt", "logs/api-1.log", "logs/worker-2.log", "logs/nats-1.log"} {
		text, err := os.ReadFile(filepath.Join(kept[0], name))
		require.NoError(t, err)
		require.NotEmpty(t, text, name)
	}
	_, err = os.Stat(filepath.Join(kept[0], "postgres"))
	require.ErrorIs(t, err, os.ErrNotExist, "what is heavy is not kept")
}

// Ctrl-C ends a run in the middle of its faults, and everything it started.
func TestInterruptedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		for ctx.Err() == nil { // once clients are at work
			logs, err := filepath.Glob(filepath.Join(dir, "*", "run.log"))
			if err != nil || len(logs) == 0 || !pause(ctx, 50*time.Millisecond) {
				continue
			}
			if text, err := os.ReadFile(logs[0]); err == nil && bytes.Contains(text, []byte("fault")) {
				return
			}
		}
	}()
	code, out := tortured(t, ctx, dir, "--seed", "5", "--duration", "10m")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "interrupted, everything is stopped")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline") // on Linux
	require.NoError(t, err)
	for _, line := range lines {
		text, _ := os.ReadFile(line) // it may be gone
		require.NotContains(t, string(text), dir)
	}
}

func TestMisuseIsOneLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--nodes", "2"},
		{"--duration", "1ms"},
		{"--duration", "soon"},
		{"--rate", "0"},
		{"--workers", "-1"},
		{"--tenants", "1000"},
		{"--plant", "doubt"},
		{"--seed", "x"},
		{"--what"},
		{"extra"},
	} {
		var out, err bytes.Buffer
		require.Equal(t, exitMisused, run(t.Context(), args, &out, &err), args)
		require.Empty(t, out.String(), args)
		require.Equal(t, 1, strings.Count(err.String(), "\n"), "%v: %s", args, &err)
	}
}

func TestHelpTeaches(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"--help"}, &out, &out))
	for _, word := range []string{"--seed", "--nodes", "--duration", "Examples:", "a drawing"} {
		require.Contains(t, out.String(), word)
	}
	require.NotContains(t, out.String(), "--plant")
}

func TestPlanIsPrinted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"--plan", "--seed", "7"}, &out, &out))
	require.Equal(t, newPlan(7, time.Minute, usualSize).String(), out.String())
}
