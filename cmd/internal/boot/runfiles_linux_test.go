package boot_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

func TestAZombieDoesNotRun(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "true")
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	require.Eventually(t, func() bool {
		alive, token := boot.LookAt(cmd.Process.Pid)
		return !alive && token != "" // it is there, unreaped
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, syscall.Kill(cmd.Process.Pid, 0), "the number is still taken")
	alive, token := boot.LookAt(os.Getpid())
	require.True(t, alive)
	require.NotEmpty(t, token)
}

func TestStatOfAnOddName(t *testing.T) {
	t.Parallel()
	rest := " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 98 97"
	alive, token := boot.ParseStat([]byte("42 (a) R 7 (b)" + rest))
	require.True(t, alive)
	require.Equal(t, "4711", token)
	alive, token = boot.ParseStat([]byte("42 (obs) Z 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4712 9"))
	require.False(t, alive)
	require.Equal(t, "4712", token)
	for _, text := range []string{"", "42", ")", "42 (obs)", "42 (obs) S 1 2"} {
		alive, token = boot.ParseStat([]byte(text))
		require.False(t, alive, text)
		require.Empty(t, token)
	}
}
