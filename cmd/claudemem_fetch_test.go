//go:build npm

package cmd_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pin is a package of the npm registry, and the SHA-512 of its archive as npm
// gives it.
type pin struct{ name, version, integrity string }

// What the test runs. None of it is ours and none of it is kept here: it is
// fetched once, into the user's cache. 13.25.3 is the newest that there is; of
// 13.15.3 each hook asks the local worker, and starts it, before it reports to
// a server. Of the plugin's own dependencies its
// bundle loads zod at the start, in the version of its lock file; the others
// are parsers of languages, which take minutes to install.
var (
	claudeMem = pin{"claude-mem", "13.25.3", "Hqa33Vv8YJ5fnaHzZc3HC3JihHagHji5O9R66ZBIKn3DDPOlaDfI5X2oxuSdtp7kRMsEpMc2p7wMXPEe0kZG9g=="}
	zod       = pin{"zod", "4.4.3", "ytENFjIJFl2UwYglde2jchW2Hwm4GJFLDiSXWdTrJQBIN9Fcyp7n4DhxJEiWNAJMV1/BqWfW/kkg71UDcHJyTQ=="}
	buns      = map[string]pin{
		"linux/amd64":  {"@oven/bun-linux-x64", "1.4.5", "IWX9BELoGHAUtMonkeSaNaZwXzRk+oDw6Mk+HBFXd3KHYIBNBsIGRupMZPcgNoDbJpLu6gAJjIoIVPZtt1aJ1g=="},
		"linux/arm64":  {"@oven/bun-linux-aarch64", "1.4.5", "4BXmsSKnjOrlGWqZV4x/oWa7AVoR+B6lCXddMzOAXBIm3t50eslg9wb66gmtW1AamEQ1l1CDvmmruysEhqOWMg=="},
		"darwin/amd64": {"@oven/bun-darwin-x64", "1.4.5", "qkLPMGHZM9NI6CeHTWwVezzmlo6cC4Ta7yUAjYIWXS366qQcOlcp75t2uZyiuVRBMPS0h9qE0tCcvCHGaFqjJg=="},
		"darwin/arm64": {"@oven/bun-darwin-aarch64", "1.4.5", "4MIFXHmctH2EhAxLXm2/qxNtv17dFtLJylvaOCsrgq6KSqHTs6eW5YSrJjRbJxYUJaR901fsN8JfZOa+CsWpWQ=="},
	}
)

// archive is the package as npm packed it: from the cache, or else fetched.
// Which it is, its hash is verified.
func (p pin) archive(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	dir := filepath.Join(cache, "obs", "npm")
	name := strings.NewReplacer("@", "", "/", "-").Replace(p.name) + "-" + p.version + ".tgz"
	kept := filepath.Join(dir, name)
	if p.verify(kept) == nil {
		return kept
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	fresh, err := os.MkdirTemp(dir, "fetch-") //nolint:usetesting // on the same disk as the cache, to be renamed
	require.NoError(t, err)
	defer os.RemoveAll(fresh)
	out, err := exec.Command("npm", "pack", "--ignore-scripts", "--no-update-notifier", "--loglevel", "error",
		"--pack-destination", fresh, p.name+"@"+p.version).CombinedOutput()
	require.NoError(t, err, "%s@%s is not in %s, and npm could not fetch it; this test needs the npm registry once: %s", p.name, p.version, dir, out)
	require.NoError(t, p.verify(filepath.Join(fresh, name)))
	require.NoError(t, os.Rename(filepath.Join(fresh, name), kept))
	return kept
}

func (p pin) verify(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha512.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != p.integrity {
		return fmt.Errorf("%s is not %s@%s: its SHA-512 is %s", file, p.name, p.version, got)
	}
	return nil
}

// unpack writes what the package has in a folder to another one.
func (p pin) unpack(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o755))
	root, err := os.OpenRoot(to)
	require.NoError(t, err)
	defer root.Close()
	f, err := os.Open(p.archive(t))
	require.NoError(t, err)
	defer f.Close()
	plain, err := gzip.NewReader(f)
	require.NoError(t, err)
	files := tar.NewReader(plain)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		name, ours := strings.CutPrefix(h.Name, path.Join("package", from)+"/")
		if !ours || h.Typeflag != tar.TypeReg {
			continue
		}
		require.NoError(t, root.MkdirAll(path.Dir(name), 0o755))
		out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, h.FileInfo().Mode().Perm())
		require.NoError(t, err)
		_, err = io.Copy(out, files)
		require.NoError(t, errors.Join(err, out.Close()))
	}
}

// published is the plugin on disk as Claude Code keeps it, with what it needs.
func published(t *testing.T) *plugin {
	t.Helper()
	for _, program := range []string{"bash", "node", "npm"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err, "claude-mem's hooks need it")
	}
	bun, known := buns[runtime.GOOS+"/"+runtime.GOARCH]
	require.True(t, known, "no bun is pinned for this machine")
	dir := t.TempDir()
	p := &plugin{root: filepath.Join(dir, "claude-mem", claudeMem.version), bin: filepath.Join(dir, "bun", "bin"), cache: filepath.Join(dir, "transpiled")}
	claudeMem.unpack(t, "plugin", p.root)
	zod.unpack(t, "", filepath.Join(p.root, "node_modules", "zod"))
	bun.unpack(t, "", filepath.Dir(p.bin))
	p.read(t)
	return p
}
