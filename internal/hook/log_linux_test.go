package hook_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/hook"
)

// What the disk does not take is told on stderr; what a hook that has ended
// says is told nowhere, for the agent would read it.
func TestLogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Symlink("/dev/full", filepath.Join(dir, "hook.log")))
	var other strings.Builder
	log, file, err := hook.OpenLog(dir, &other)
	require.NoError(t, err)
	log.Info("the disk is full")
	require.Contains(t, other.String(), "the disk is full")
	require.NoError(t, file.Close())
	log.Info("the hook has ended")
	require.NotContains(t, other.String(), "the hook has ended")
}
