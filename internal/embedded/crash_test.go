//go:build unix

package embedded_test

import (
	"bufio"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

const (
	soon = 10 * time.Second
	tick = 10 * time.Millisecond
)

func TestServerKilled(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: openDir(t)}
	first := start(t, cfg)
	exec(t, first.URL(embedded.Database), "CREATE TABLE notes AS SELECT 'kept' AS note")

	require.NoError(t, syscall.Kill(first.Pid(), syscall.SIGKILL))
	select {
	case <-first.Done():
	case <-time.After(soon):
		require.FailNow(t, "Done is not closed")
	}
	stop(t, first)
	require.FileExists(t, filepath.Join(cfg.Dir, "pg", "postmaster.pid"))

	second := start(t, cfg)
	require.Equal(t, "kept", query[string](t, second.URL(embedded.Database), "SELECT note FROM notes"))
}

func TestParentKilled(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	parent := osexec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), childDir+"="+dir)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	server, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.True(t, embedded.Running(server))

	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // it was killed

	// At once, while the old server may still be on its way out.
	pg := start(t, embedded.PostgresConfig{Dir: dir, Fast: true})
	require.Equal(t, 1, query[int](t, pg.URL("postgres"), "SELECT 1"))
	require.NotEqual(t, server, pg.Pid())
	require.Eventually(t, func() bool { return !embedded.Running(server) }, soon, tick)
}

// Where there is no death signal a killed obs leaves its server running.
func TestOrphanIsStopped(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: openDir(t), Fast: true}
	orphan := start(t, cfg)
	exec(t, orphan.URL("postgres"), "CREATE TABLE notes AS SELECT 'kept' AS note")
	require.NoError(t, orphan.DropLock())

	pg := start(t, cfg)
	require.False(t, embedded.Running(orphan.Pid()))
	require.Equal(t, "kept", query[string](t, pg.URL("postgres"), "SELECT note FROM notes"))
}

func TestStaleLockFile(t *testing.T) {
	t.Parallel()
	zombie := osexec.Command("true")
	require.NoError(t, zombie.Start())
	t.Cleanup(func() { _ = zombie.Wait() })
	require.Eventually(t, func() bool { return !embedded.Running(zombie.Process.Pid) }, soon, tick)

	cases := map[string]int{
		"names another program": os.Getpid(),
		"names a zombie":        zombie.Process.Pid,
		"names nothing":         1 << 22, // above the largest process id
	}
	for name, pid := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := embedded.PostgresConfig{Dir: openDir(t), Fast: true}
			stop(t, start(t, cfg))
			data := filepath.Join(cfg.Dir, "pg")
			stale := fmt.Sprintf("%d\n%s\n1700000000\n5432\n%s\n\n", pid, data, filepath.Join(cfg.Dir, "run"))
			require.NoError(t, os.WriteFile(filepath.Join(data, "postmaster.pid"), []byte(stale), 0o600))

			pg := start(t, cfg)
			require.Equal(t, 1, query[int](t, pg.URL("postgres"), "SELECT 1"))
		})
	}
}
