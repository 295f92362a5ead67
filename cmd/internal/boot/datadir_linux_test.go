package boot_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

func TestDataDir(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HOME": "/home/a", "XDG_STATE_HOME": "/state"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	dir, err := boot.DataDir(lookup)
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		require.Equal(t, "/var/lib/obs", dir)
		return
	}
	require.Equal(t, "/state/obs", dir)
	delete(env, "XDG_STATE_HOME")
	dir, err = boot.DataDir(lookup)
	require.NoError(t, err)
	require.Equal(t, "/home/a/.local/state/obs", dir)
	delete(env, "HOME")
	_, err = boot.DataDir(lookup)
	require.ErrorContains(t, err, "--data-dir")
}
