package embedded_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

func TestPick(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		made      int
		installed []int
		want      int
		err       string
	}{
		"new data gets the newest":  {0, []int{15, 18, 16}, 18, ""},
		"old data keeps its own":    {15, []int{15, 18, 16}, 15, ""},
		"its own is not installed":  {14, []int{15, 18, 15}, 0, "made by PostgreSQL 14, but only 18, 15 is installed"},
		"old data of an old server": {13, []int{13}, 13, ""},
		"too old for new data":      {0, []int{12, 13}, 0, "obs needs 14 or newer"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			major, err := embedded.Pick(c.made, c.installed...)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, major)
		})
	}
}

func TestFindFollowsLinksAndListsEachOnce(t *testing.T) {
	t.Parallel()
	dirs := embedded.Find(t.Context(), t.TempDir())
	require.NotEmpty(t, dirs)
	seen := map[string]bool{}
	for _, dir := range dirs {
		real, err := filepath.EvalSymlinks(dir)
		require.NoError(t, err)
		require.Equal(t, real, dir)
		require.False(t, seen[dir], dir)
		seen[dir] = true
		require.FileExists(t, filepath.Join(dir, "initdb"))
	}
}

func TestGivenFolderHoldsNoPostgres(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	_, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: t.TempDir(), BinDir: empty})
	require.ErrorContains(t, err, "no PostgreSQL in "+empty)
}

func TestGivenFolder(t *testing.T) {
	t.Parallel()
	bin := embedded.Find(t.Context(), t.TempDir())[0]
	pg := start(t, embedded.PostgresConfig{Dir: openDir(t), BinDir: bin, Fast: true})
	require.Equal(t, bin, pg.BinDir)
}

func TestInstallHint(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"ID=debian\n": "apt-get",
		"NAME=Mint\nID=linuxmint\nID_LIKE=ubuntu\n": "apt-get",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos\"\n":   "dnf",
		"ID=alpine":                              "apk",
		"ID=arch":                                "pacman",
		"ID=\"opensuse-leap\"\nID_LIKE=\"suse\"": "zypper",
		"":                                       "your system's package manager",
	}
	for release, want := range cases {
		require.Contains(t, embedded.LinuxInstall(release), want)
	}
}
