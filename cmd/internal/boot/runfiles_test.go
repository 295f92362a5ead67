package boot_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

func hold(t *testing.T, dir string) (*boot.RunFiles, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	f, err := boot.HoldDir(t.Context(), dir, l, boot.ServerRuntime{Background: true, Flags: []string{"--x=1"}})
	require.NoError(t, err)
	return f, l
}

func TestOneServerOnADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := boot.FindServer(dir)
	require.ErrorIs(t, err, boot.ErrNoServer)
	require.NoError(t, boot.InUse(dir))

	f, l := hold(t, dir)
	s, err := boot.FindServer(dir)
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), s.PID)
	require.Equal(t, "http://"+l.Addr().String(), s.URL())
	require.Equal(t, []string{"--x=1"}, s.Flags)
	require.Empty(t, s.Boundaries, "it is not up yet")
	require.NoError(t, f.Up(7, "", "api"))
	s, err = boot.FindServer(dir)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"api": "active"}, s.Boundaries)
	require.Equal(t, int64(7), s.Bootstrap.Schema)

	_, err = boot.HoldDir(t.Context(), dir, l, boot.ServerRuntime{})
	require.ErrorContains(t, err, "another obs is using "+dir)
	require.NotContains(t, err.Error(), "\n")
	require.Equal(t, err.Error(), boot.InUse(dir).Error())
	for _, name := range []string{".obs-server.pid", ".obs-server.port", ".obs-server.runtime.json"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}

	f.Remove()
	_, err = boot.FindServer(dir)
	require.ErrorIs(t, err, boot.ErrNoServer)
	left, err := filepath.Glob(filepath.Join(dir, ".obs-server.*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, ".obs-server.lock")}, left)
	f, _ = hold(t, dir)
	f.Remove()
}

func TestFilesOfADeadServerCountForNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// They name a process that lives: ours. It does not have the directory.
	write := func(pid boot.ServerPID) {
		text, err := json.Marshal(pid)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".obs-server.pid"), text, 0o600))
	}
	write(boot.ServerPID{PID: os.Getpid(), Port: 1})
	_, err := boot.FindServer(dir)
	require.ErrorIs(t, err, boot.ErrNoServer)

	// Somebody has the directory, and the file names another process: that
	// one is nobody's to signal.
	f, _ := hold(t, dir)
	defer f.Remove()
	write(boot.ServerPID{PID: os.Getppid(), Port: 1, StartToken: "not its"})
	_, err = boot.FindServer(dir)
	require.ErrorContains(t, err, "nothing is done to any")
	for _, text := range []string{"", "{", `{"pid":0}`, `{"pid":1}`, `{"pid":-5}`} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".obs-server.pid"), []byte(text), 0o600))
		_, err = boot.FindServer(dir)
		require.ErrorContains(t, err, "nothing is done to any", text)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, ".obs-server.pid")))
	_, err = boot.FindServer(dir)
	require.ErrorContains(t, err, "there is no .obs-server.pid")
}

func TestURLOfAServerThatListensEverywhere(t *testing.T) {
	t.Parallel()
	require.Equal(t, "http://127.0.0.1:8080", boot.ServerRuntime{Host: "::", Port: 8080}.URL())
	require.Equal(t, "http://127.0.0.1:8080", boot.ServerRuntime{Host: "0.0.0.0", Port: 8080}.URL())
	require.Equal(t, "http://[::1]:8080", boot.ServerRuntime{Host: "::1", Port: 8080}.URL())
}

func TestLogBeginsAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "server.log")
	log, err := boot.NewLogFile(path, 100)
	require.NoError(t, err)
	defer log.Close()
	other, err := boot.OpenLogFile(path)
	require.NoError(t, err)
	defer other.Close()
	line := strings.Repeat("x", 39) + "\n"
	for range 3 {
		_, err = log.Write([]byte(line))
		require.NoError(t, err)
	}
	_, err = other.WriteString("panic\n")
	require.NoError(t, err)
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, line+"panic\n", string(now), "who has it open writes to the new one too")
	old, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	require.Equal(t, line+line, string(old))
}
