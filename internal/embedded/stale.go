package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pidFile is the part of postmaster.pid that we read.
type pidFile struct {
	pid     int
	dataDir string
}

func readPidFile(dataDir string) (pidFile, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return pidFile{}, err
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || len(lines) < 2 {
		return pidFile{}, errors.New("postmaster.pid is cut short")
	}
	return pidFile{pid: pid, dataDir: strings.TrimSpace(lines[1])}, nil
}

// processState is what the system tells about a process id.
type processState struct {
	alive bool   // it runs; a zombie does not
	name  string // the program's name, without folders
	dir   string // its working directory, "" when we may not know
}

// clearStale deals with the postmaster.pid that a server left behind, and reports whether there was one. We hold
// the folder's lock, so no other obs is at work: what the file names is a server that is going down, an orphan
// of a killed obs, or nothing of ours any more. Where dead processes stay as zombies PostgreSQL itself would take
// the file for a live server's.
func clearStale(ctx context.Context, log *slog.Logger, dataDir string) (stale bool, err error) {
	path := filepath.Join(dataDir, "postmaster.pid")
	deadline := time.Now().Add(staleWithin)
	signalled := false
	for ; ; stale = true {
		file, err := readPidFile(dataDir)
		if errors.Is(err, fs.ErrNotExist) {
			return stale, nil
		}
		if err != nil || !serves(file, dataDir) {
			log.InfoContext(ctx, "removing the lock file of a dead postgres", "path", path, "pid", file.pid)
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return true, fmt.Errorf("remove stale lock file: %w", err)
			}
			return true, nil
		}
		if !signalled {
			log.InfoContext(ctx, "stopping the postgres that a killed obs left running", "pid", file.pid, "data_dir", dataDir)
			if err := interrupt(file.pid); err != nil {
				return true, fmt.Errorf("PostgreSQL with pid %d is running on %s and cannot be stopped (%w): stop it or choose another --data-dir",
					file.pid, dataDir, err)
			}
			signalled = true
		}
		if time.Now().After(deadline) {
			return true, fmt.Errorf("PostgreSQL with pid %d is still running on %s: stop it with `kill -QUIT %d` or choose another --data-dir",
				file.pid, dataDir, file.pid)
		}
		if err := pause(ctx, readyEvery); err != nil {
			return true, err
		}
	}
}

// serves reports whether the process in the file is a live PostgreSQL server on this very folder.
func serves(file pidFile, dataDir string) bool {
	state := inspect(file.pid)
	if !state.alive || (state.name != "postgres" && state.name != "postmaster") {
		return false
	}
	running := state.dir // a server works in its data directory
	if running == "" {
		running = file.dataDir
	}
	return samePath(running, dataDir)
}

func samePath(a, b string) bool {
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

func interrupt(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if err := p.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
