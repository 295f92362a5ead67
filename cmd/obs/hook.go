package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/hook"
)

type hookCommand struct {
	Call  hookCallCommand  `cmd:"" default:"withargs" help:"Take in what a hook reports, as JSON on stdin."`
	Flush hookFlushCommand `cmd:"" help:"Send what is still in the spool."`
}

// hookFlags say where the server is and where the hook's files are. The
// settings file has what they do not say.
type hookFlags struct {
	URL      string `name:"url" var:"OBS_URL" placeholder:"URL" group:"Server:" help:"The server; by default the one that obs dev starts."`
	Key      string `name:"key" var:"OBS_KEY" placeholder:"KEY" group:"Server:" help:"An API key that may read and write; by default that of obs dev."`
	Project  string `name:"project" var:"OBS_PROJECT" placeholder:"ID" group:"Server:" help:"The project, wherever the agent works."`
	Config   string `name:"config" var:"OBS_CONFIG" placeholder:"FILE" group:"Files:" help:"What obs install wrote; by default ~/.config/obs/hook.json."`
	StateDir string `name:"state-dir" var:"OBS_STATE_DIR" placeholder:"DIR" group:"Files:" help:"Where spool and log are; by default hook in the data directory of obs dev."`
}

type hookCallCommand struct {
	Event   string `arg:"" optional:"" help:"session-start, user-prompt-submit, post-tool-use, stop, session-end, or as Claude Code writes them; without it the JSON's hook_event_name counts."`
	Timeout string `name:"timeout" var:"OBS_TIMEOUT" default:"2s" placeholder:"TIME" help:"How long all of it may take."`
	hookFlags
}

func (hookCallCommand) Help() string {
	return `Claude Code calls this after obs install. It never fails: the exit code is 0, what goes wrong is in hook.log in the
state directory, and what cannot be sent waits there in a spool until a later call, or obs hook flush, sends it.

Examples:

  obs hook session-start < input.json
  obs hook PostToolUse --timeout 500ms < input.json
  obs hook flush`
}

// Run returns no error, whatever happens: an exit code may block the agent.
func (h hookCallCommand) Run(ctx context.Context, std boot.Std) error {
	dir, err := h.stateDir(std)
	if err != nil {
		fmt.Fprintln(std.Stderr, "obs hook:", err)
		return nil
	}
	log, file, err := hook.OpenLog(dir, std.Stderr)
	if err != nil {
		log = slog.New(slog.NewTextHandler(std.Stderr, nil))
	} else {
		defer file.Close()
	}
	timeout, err := time.ParseDuration(h.Timeout)
	if err != nil {
		log.ErrorContext(ctx, "odd timeout, the usual one holds", "timeout", h.Timeout)
	}
	err = hook.Run(ctx, hook.Call{
		Event: h.Event, Timeout: timeout, Stdin: std.Stdin, Stdout: std.Stdout,
		Configure: func(cwd string) (hook.Config, error) { return h.load(std, dir, log, cwd) },
	})
	if err != nil {
		log.ErrorContext(ctx, "hook failed", "hook", h.Event, "err", err)
	}
	return nil
}

// neverFails makes a call of a hook succeed even when the command line is
// wrong or something panics: Claude Code takes code 2 for a veto.
func neverFails(std boot.Std, code *int) {
	if len(std.Args) == 0 || std.Args[0] != "hook" || len(std.Args) > 1 && std.Args[1] == "flush" {
		return
	}
	if r := recover(); r != nil {
		fmt.Fprintf(std.Stderr, "obs hook: panic: %T\n", r)
	}
	*code = boot.ExitOK
}

type hookFlushCommand struct {
	Rejected bool   `name:"rejected" help:"Try what the server has rejected once more."`
	Timeout  string `name:"timeout" var:"OBS_TIMEOUT" default:"1m" placeholder:"TIME" help:"How long all of it may take."`
	hookFlags
}

func (hookFlushCommand) Help() string {
	return `Sends all that hooks have reported and no server has yet, and says what became of it. The exit code is 1 when something
still waits, or was rejected.

Examples:

  obs hook flush
  obs hook flush --rejected
  obs hook flush --key obs_… --timeout 10m`
}

func (h hookFlushCommand) Run(ctx context.Context, std boot.Std) error {
	timeout, err := time.ParseDuration(h.Timeout)
	if err != nil || timeout <= 0 {
		return boot.Misused("--timeout (OBS_TIMEOUT): got %.80q, want a time such as 30s or 5m", h.Timeout)
	}
	dir, err := h.stateDir(std)
	if err != nil {
		return err
	}
	log, file, err := hook.OpenLog(dir, std.Stderr)
	if err != nil {
		return err
	}
	defer file.Close()
	c, err := h.load(std, dir, log, "")
	if err != nil && !errors.Is(err, errNoProject) { // each file of the spool has its project
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := hook.Flush(ctx, c, h.Rejected)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Stdout, "sent %d, rejected %d, waiting %d\n", r.Sent, r.Rejected, r.Waiting)
	return r.Err
}

var (
	errNoKey     = errors.New("no key: run obs install, or set --key (OBS_KEY)")
	errNoProject = errors.New("no project for this folder: run obs install, or set --project (OBS_PROJECT)")
)

// load puts flags, variables and the settings file together. With
// errNoProject, the rest is good.
func (f hookFlags) load(std boot.Std, dir string, log *slog.Logger, cwd string) (hook.Config, error) {
	s, _, err := f.settings(std)
	if err != nil {
		return hook.Config{}, err
	}
	c := hook.Config{URL: s.URL, Key: s.Key, Project: s.ProjectOf(cwd), Dir: dir, Log: log}
	if f.Project != "" {
		c.Project = f.Project
	}
	switch {
	case c.Key == "":
		return c, errNoKey
	case c.Project == "":
		return c, errNoProject
	}
	return c, nil
}

// settings gives those of the file, with what the flags say in place of it,
// and with what obs dev has where neither says anything. path is the file's.
func (f hookFlags) settings(std boot.Std) (s hook.Settings, path string, err error) {
	if path, err = f.configFile(std); err != nil {
		return s, "", err
	}
	if s, err = hook.LoadSettings(path); err != nil {
		return s, path, err
	}
	if f.URL != "" {
		s.URL = f.URL
	}
	if f.Key != "" {
		s.Key = f.Key
	}
	if s.URL == "" {
		s.URL = "http://" + boot.DefaultAddr()
	}
	if s.Key == "" {
		s.Key = devKey(std)
	}
	return s, path, nil
}

// devKey is the key that obs dev keeps in its data directory, if we may read
// it.
func devKey(std boot.Std) string {
	dir, err := boot.DataDir(std.LookupEnv)
	if err != nil {
		return ""
	}
	key, err := os.ReadFile(filepath.Join(dir, "dev.key"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(key))
}

func (f hookFlags) stateDir(std boot.Std) (string, error) {
	if f.StateDir != "" {
		return filepath.Abs(f.StateDir)
	}
	dir, err := boot.DataDir(std.LookupEnv)
	if err != nil {
		return "", errors.New("there is no home directory to keep the spool in: name a directory with --state-dir (OBS_STATE_DIR)")
	}
	return filepath.Join(dir, "hook"), nil
}

func (f hookFlags) configFile(std boot.Std) (string, error) {
	if f.Config != "" {
		return filepath.Abs(f.Config)
	}
	if dir, ok := std.LookupEnv("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "obs", "hook.json"), nil
	}
	home, err := homeDir(std)
	if err != nil {
		return "", errors.New("there is no home directory to look for settings in: name a file with --config (OBS_CONFIG)")
	}
	return filepath.Join(home, ".config", "obs", "hook.json"), nil
}

var errNoHome = errors.New("there is no home directory")

func homeDir(std boot.Std) (string, error) {
	for _, name := range []string{"HOME", "USERPROFILE"} {
		if dir, ok := std.LookupEnv(name); ok && filepath.IsAbs(dir) {
			return dir, nil
		}
	}
	return "", errNoHome
}
