package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxSocketPath is what every system's sockaddr_un takes: 104 bytes on macOS with the closing zero.
const maxSocketPath = 103

// dataMajor is the major version that made a data directory, 0 when there is none.
func dataMajor(dataDir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read data directory: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("data directory %s: PG_VERSION holds no version: move the directory away or choose another --data-dir", dataDir)
	}
	return major, nil
}

// initData makes the data directory when it is missing. It is made beside its place and renamed, so that a
// killed first start leaves nothing that looks like a cluster.
func (p *Postgres) initData(ctx context.Context) error {
	major, err := dataMajor(p.dataDir)
	if err != nil || major != 0 {
		return err
	}
	if entries, err := os.ReadDir(p.dataDir); err == nil && len(entries) > 0 {
		return fmt.Errorf("data directory %s holds other files and no database: move it away or choose another --data-dir", p.dataDir)
	}
	if err := os.RemoveAll(p.dataDir); err != nil { // an empty folder of some other owner
		return fmt.Errorf("make data directory: %w", err)
	}
	p.cfg.Progress("making a new database directory in " + p.dataDir)
	temp := p.dataDir + ".tmp"
	var failed error
	// C.UTF-8 sorts by bytes and knows letters outside ASCII; plain C lower-cases ASCII only, which hurts search.
	for _, locale := range []string{"C.UTF-8", "en_US.UTF-8", "C"} {
		if err := p.makePrivate(temp); err != nil {
			return err
		}
		cmd := command(ctx, p.bin.path("initdb"), []string{
			"-D", temp, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale", locale, "--lc-messages", "C", "-N",
		}, p.cfg.Dir, p.as)
		out, err := run(cmd)
		if err == nil {
			if locale == "C" {
				p.log.WarnContext(ctx, "no UTF-8 locale found: search folds case for ASCII letters only")
			}
			if err := os.Rename(temp, p.dataDir); err != nil {
				return fmt.Errorf("make data directory: %w", err)
			}
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("run initdb: %w", ctx.Err())
		}
		failed = fmt.Errorf("run initdb: %w: %s", err, lastLines(out, 3))
		if !bytes.Contains(out, []byte("locale")) {
			break
		}
	}
	return errors.Join(failed, os.RemoveAll(temp))
}

// makePrivate makes an empty folder that only the server's user may enter, in place of whatever was there.
func (p *Postgres) makePrivate(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("make private folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make private folder: %w", err)
	}
	if p.as.credential {
		if err := os.Chown(dir, p.as.uid, p.as.gid); err != nil {
			return fmt.Errorf("make private folder: %w", err)
		}
	}
	return nil
}

// makeRunDir makes the folder of the socket: below Dir when the path fits a socket's address, else a temporary
// one. A comma would make two hosts of it in a connection string.
func (p *Postgres) makeRunDir() error {
	name := fmt.Sprintf(".s.PGSQL.%d", socketPort)
	p.runDir = filepath.Join(p.cfg.Dir, "run")
	if len(filepath.Join(p.runDir, name)) <= maxSocketPath && !strings.Contains(p.runDir, ",") {
		return p.makePrivate(p.runDir)
	}
	for _, base := range []string{os.TempDir(), "/tmp"} {
		if p.as.blockedBy(base) != "" || len(filepath.Join(base, "obs-pg-1234567890", name)) > maxSocketPath {
			continue
		}
		dir, err := os.MkdirTemp(base, "obs-pg-")
		if err != nil {
			return fmt.Errorf("make socket folder: %w", err)
		}
		p.runDir, p.tempRun = dir, true
		return p.makePrivate(dir)
	}
	return fmt.Errorf("the path %s cannot hold a socket: choose a shorter --data-dir without commas", p.runDir)
}

func lastLines(text []byte, n int) string {
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
