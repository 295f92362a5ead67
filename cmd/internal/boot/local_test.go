package boot_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

func TestGoRunIsRecognised(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/tmp/go-build3009095641/b001/exe/obs":                              true,
		"/home/a/.cache/go-build/1f/" + strings.Repeat("0a", 32) + "-d/obs": true,
		"/other/cache/1f/" + strings.Repeat("0a", 32) + "-d/obs":            true,
		"/usr/local/bin/obs":                     false,
		"/home/a/src/obs/bin/obs":                false,
		"/tmp/go-build3009095641/b001/boot.test": false,
	} {
		require.Equal(t, want, boot.BuiltByGoRun(path), path)
	}
}

func TestExit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		code int
		says string
	}{
		"done":            {nil, 0, ""},
		"told":            {boot.ErrTold, 1, ""},
		"failed":          {errors.New("first\nsecond"), 1, "obs: first; second\n"},
		"misused":         {boot.Misused("--x: got %q", "y"), 2, "obs: --x: got \"y\"\n"},
		"misused twice":   {boot.Join(boot.Misused("a"), nil, boot.Misused("b")), 2, "obs: a\nobs: b\n"},
		"unread":          {&fs.PathError{Op: "write", Path: os.Stdout.Name(), Err: syscall.EPIPE}, 141, ""},
		"a broken pipe":   {&fs.PathError{Op: "write", Path: "server.log", Err: syscall.EPIPE}, 1, "obs: write server.log: broken pipe\n"},
		"failed, not use": {boot.Join(boot.Misused("a"), errors.New("disk")), 1, "obs: disk\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, stdout, stderr := std(nil)
			require.Equal(t, c.code, boot.Exit(s, "obs", c.err))
			require.Equal(t, c.says, stderr.String())
			require.Empty(t, stdout.String())
		})
	}
}
