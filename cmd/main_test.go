// Package cmd_test runs the real programs as processes of their own, against
// an outside Postgres and an outside nats-server, and kills them.
package cmd_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/seed-245eaa15/obs/internal/testenv"
)

// bin is the folder of the programs under test.
var bin string

func TestMain(m *testing.M) {
	var err error
	bin, err = build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Tests here wait for processes more than they compute: four at once also
	// where there are two processors.
	flag.Parse()
	if runtime.GOMAXPROCS(0) < 4 {
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
	}
	testenv.Main(m)
}

func build() (string, error) {
	// A name that stays the same from run to run, so that nothing piles up
	// in the temporary folder, and is another one for each working tree.
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	tree := sha256.Sum256([]byte(here))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("obs-e2e-%d-%x", os.Getuid(), tree[:4]))
	if err := os.MkdirAll(filepath.Join(dir, "faults"), 0o755); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"build", "-o", dir + string(os.PathSeparator), "./obs", "./obs-relay", "./obs-worker"},
		{"build", "-tags", "faults", "-o", filepath.Join(dir, "faults") + string(os.PathSeparator), "./obs", "./obs-relay", "./obs-worker"},
		{"build", "-modfile=../tools/go.mod", "-o", filepath.Join(dir, "nats-server"), "github.com/nats-io/nats-server/v2"},
	} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %v: %w\n%s", args, err, out)
		}
	}
	return dir, nil
}
