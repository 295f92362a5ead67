package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// minMajor is the oldest PostgreSQL that obs is made for.
const minMajor = 14

// ErrNoPostgres means that no server programs were found, and none could be fetched.
var ErrNoPostgres = errors.New("no PostgreSQL programs found")

// VersionError means that a data directory was made by a major version that is not installed.
type VersionError struct {
	Dir       string // the data directory
	Made      int    // the major version that made it
	Installed []int  // the majors that are there, newest first
}

// Error is one line that says what to do.
func (e *VersionError) Error() string {
	names := make([]string, len(e.Installed))
	for i, major := range e.Installed {
		names[i] = strconv.Itoa(major)
	}
	return fmt.Sprintf("data directory %s was made by PostgreSQL %d, but only %s is installed: "+
		"install PostgreSQL %d, or move the directory away or choose another --data-dir",
		e.Dir, e.Made, strings.Join(names, ", "), e.Made)
}

// binaries are the server programs of one version.
type binaries struct {
	dir     string
	version string // "15.18"
	major   int
}

func (b binaries) path(program string) string {
	return filepath.Join(b.dir, program)
}

// chooseBinaries picks the programs for the data directory: of its own major version when it exists, else the
// newest there are.
func chooseBinaries(ctx context.Context, cfg PostgresConfig, dataDir string) (binaries, error) {
	made, err := dataMajor(dataDir)
	if err != nil {
		return binaries{}, err
	}
	if cfg.CacheDir == "" {
		cfg.CacheDir = defaultCacheDir()
	}
	var found []binaries
	if cfg.BinDir != "" {
		bin, err := inspectBinaries(ctx, cfg.BinDir)
		if err != nil {
			return binaries{}, fmt.Errorf("no PostgreSQL in %s: %w", cfg.BinDir, err)
		}
		found = append(found, bin)
	} else {
		found = findBinaries(ctx, cfg.CacheDir)
	}
	if len(found) == 0 {
		return fetchBinaries(ctx, cfg, made)
	}
	return pickBinaries(found, made, dataDir)
}

func pickBinaries(found []binaries, made int, dataDir string) (binaries, error) {
	slices.SortStableFunc(found, func(a, b binaries) int { return b.major - a.major })
	if made != 0 {
		var majors []int
		for _, bin := range found {
			if bin.major == made {
				return bin, nil
			}
			majors = append(majors, bin.major)
		}
		return binaries{}, &VersionError{Dir: dataDir, Made: made, Installed: slices.Compact(majors)}
	}
	if found[0].major < minMajor {
		return binaries{}, fmt.Errorf("%w: %s holds version %s, and obs needs %d or newer: %s",
			ErrNoPostgres, found[0].dir, found[0].version, minMajor, howToInstall())
	}
	return found[0], nil
}

// findBinaries looks where PostgreSQL is usually installed. What does not run is passed over.
func findBinaries(ctx context.Context, cacheDir string) []binaries {
	var dirs []string
	for _, program := range []string{"postgres", "initdb"} {
		// PATH often holds links to single programs: the others are beside the real one.
		if path, err := exec.LookPath(program); err == nil {
			if real, err := filepath.EvalSymlinks(path); err == nil {
				dirs = append(dirs, filepath.Dir(real))
			}
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                   // PostgreSQL's own RPMs
		"/usr/libexec/postgresql*",                           // Alpine
		"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew, Apple silicon
		"/usr/local/opt/postgresql*/bin",                     // Homebrew, Intel
		"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
		filepath.Join(cacheDir, "postgresql-*", "bin"),       // fetched by us
	} {
		matches, _ := filepath.Glob(pattern) // the patterns are well formed
		dirs = append(dirs, matches...)
	}
	var found []binaries
	seen := map[string]bool{}
	for _, dir := range dirs {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[real] {
			continue
		}
		seen[real] = true
		if bin, err := inspectBinaries(ctx, real); err == nil {
			found = append(found, bin)
		}
	}
	return found
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)([.\w]*)`)

func inspectBinaries(ctx context.Context, dir string) (binaries, error) {
	bin := binaries{dir: dir}
	if _, err := os.Stat(bin.path("initdb")); err != nil {
		return binaries{}, err
	}
	out, err := exec.CommandContext(ctx, bin.path("postgres"), "--version").Output()
	if err != nil {
		return binaries{}, err
	}
	return bin.withVersion(string(out))
}

func (b binaries) withVersion(text string) (binaries, error) {
	match := versionText.FindStringSubmatch(text)
	if match == nil {
		return binaries{}, fmt.Errorf("%s does not tell its version", b.path("postgres"))
	}
	b.version = match[1] + match[2]
	b.major, _ = strconv.Atoi(match[1]) // digits by the pattern
	return b, nil
}
