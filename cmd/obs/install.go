package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/hook"
)

// claudeFlags say where Claude Code's settings are.
type claudeFlags struct {
	Settings string `name:"settings" placeholder:"FILE" group:"Claude Code:" help:"Its settings; by default ~/.claude/settings.json."`
	DryRun   bool   `name:"dry-run" help:"Only show what would change."`
}

type installCommand struct {
	claudeFlags
	hookFlags
	Program     string `name:"program" placeholder:"FILE" group:"Claude Code:" help:"The program that its hooks run; by default this one."`
	ContextOnly bool   `name:"context-only" group:"Claude Code:" help:"Only read at a session's start: something else reports, as claude-mem's plugin."`
}

func (installCommand) Help() string {
	return `Adds the hooks of obs to Claude Code's settings, where all else stays as it is, and keeps URL, key and project in a file
for the hooks. It shows what it changes, leaves a copy of the settings beside them, and may be run again.

Examples:

  obs install --project 0b9d… --dry-run
  obs install --project 0b9d…                     with the server and the key of obs dev
  obs install --url https://obs.example.com --key obs_… --project 0b9d…
  obs install --settings .claude/settings.json --project 0b9d…
  obs install --context-only --project 0b9d…      beside claude-mem's plugin, which reports to the same server`
}

func (i installCommand) Run(std boot.Std) error {
	file, err := i.file(std)
	if err != nil {
		return err
	}
	s, config, err := i.hookFlags.settings(std)
	if err != nil {
		return err
	}
	if i.Project != "" {
		s.Project = i.Project
	}
	if err := complete(s); err != nil {
		return err
	}
	program, err := i.program()
	if err != nil {
		return err
	}
	var args []string
	if i.Config != "" {
		args = append(args, "--config", config)
	}
	if i.StateDir != "" {
		dir, err := filepath.Abs(i.StateDir)
		if err != nil {
			return err
		}
		args = append(args, "--state-dir", dir)
	}
	events, does := hook.All(), "send to"
	if i.ContextOnly {
		events, does = []hook.Event{hook.SessionStart}, "read from"
	}
	changed, err := i.change(std, file, func(text []byte) ([]byte, error) { return hook.Install(text, events, program, args...) })
	if err != nil {
		return err
	}
	had, err := hook.LoadSettings(config)
	if err != nil {
		return err
	}
	same := had.URL == s.URL && had.Key == s.Key && had.Project == s.Project
	if !same && !i.DryRun {
		if err := s.Save(config); err != nil {
			return err
		}
	}
	switch {
	case i.DryRun:
		fmt.Fprintf(std.Stdout, "hooks would %s %s, project %s; that and the key go to %s\n", does, s.URL, s.Project, config)
		fmt.Fprintln(std.Stdout, "nothing was written: --dry-run")
	case !changed && same:
		fmt.Fprintln(std.Stdout, "nothing to do: the hooks are there")
	default:
		fmt.Fprintf(std.Stdout, "hooks %s %s, project %s; that and the key are in %s\n", does, s.URL, s.Project, config)
	}
	if boot.BuiltByGoRun(program) {
		fmt.Fprintf(std.Stderr, "obs: warning: %s will be gone soon, since go run made it; run go install ./cmd/obs and then obs install again\n", program)
	}
	return nil
}

// complete is nil when hooks have all they need.
func complete(s hook.Settings) error {
	var problems []error
	if u, err := url.Parse(s.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		problems = append(problems, boot.Misused("--url (OBS_URL): it is no URL such as http://127.0.0.1:37877"))
	}
	if s.Key == "" {
		problems = append(problems, boot.Misused("--key (OBS_KEY): it is needed; obs dev prints one, obs keys create makes one"))
	}
	if s.Project == "" && len(s.Projects) == 0 {
		problems = append(problems, boot.Misused("--project (OBS_PROJECT): it is needed; obs dev prints one, obs projects list has all"))
	}
	return boot.Join(problems...)
}

func (i installCommand) program() (string, error) {
	if i.Program != "" {
		return filepath.Abs(i.Program)
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return path, nil
}

type uninstallCommand struct {
	claudeFlags
	Config string `name:"config" var:"OBS_CONFIG" placeholder:"FILE" group:"Files:" help:"What obs install wrote; by default ~/.config/obs/hook.json."`
}

func (uninstallCommand) Help() string {
	return `Takes the hooks of obs out of Claude Code's settings, where all else stays as it is, and removes the file with the key.
What is still in the spool stays there; obs hook flush sends it, before.

Examples:

  obs uninstall --dry-run
  obs uninstall
  obs uninstall --settings .claude/settings.json`
}

func (u uninstallCommand) Run(std boot.Std) error {
	file, err := u.file(std)
	if err != nil {
		return err
	}
	changed, err := u.change(std, file, hook.Uninstall)
	if err != nil {
		return err
	}
	config, err := hookFlags{Config: u.Config}.configFile(std)
	if err != nil {
		return err
	}
	_, err = os.Stat(config)
	there := err == nil
	switch {
	case u.DryRun:
		if there {
			fmt.Fprintln(std.Stdout, "would remove", config)
		}
		fmt.Fprintln(std.Stdout, "nothing was written: --dry-run")
	case there:
		if err := os.Remove(config); err != nil {
			return fmt.Errorf("remove the hook's settings: %w", err)
		}
		fmt.Fprintln(std.Stdout, "removed", config)
	case !changed:
		fmt.Fprintln(std.Stdout, "nothing to do: no hooks of obs are there")
	}
	return nil
}

// file is where the settings really are: who keeps them elsewhere and has a
// link here keeps the link.
func (f claudeFlags) file(std boot.Std) (string, error) {
	path := f.Settings
	if path == "" {
		dir, ok := std.LookupEnv("CLAUDE_CONFIG_DIR")
		if !ok || dir == "" {
			home, err := homeDir(std)
			if err != nil {
				return "", boot.Misused("--settings: there is no home directory to look for Claude Code's settings in")
			}
			dir = filepath.Join(home, ".claude")
		}
		path = filepath.Join(dir, "settings.json")
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if target, err := os.Readlink(path); err == nil { // a file in its place would be missed where the link leads
			return "", fmt.Errorf("find Claude Code's settings: %s is a link to %s, which is not there", path, target)
		}
		return filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("find Claude Code's settings: %w", err)
	}
	return filepath.Abs(real)
}

// change shows what edit changes in the settings, and unless it is a dry run
// does it, with a copy of what was there before.
func (f claudeFlags) change(std boot.Std, file string, edit func([]byte) ([]byte, error)) (changed bool, err error) {
	mode := fs.FileMode(0o600)
	before, err := os.ReadFile(file)
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case fresh:
	case err != nil:
		return false, fmt.Errorf("read Claude Code's settings: %w", err)
	default:
		info, err := os.Stat(file)
		if err != nil {
			return false, fmt.Errorf("read Claude Code's settings: %w", err)
		}
		mode = info.Mode().Perm()
	}
	after, err := edit(before)
	if err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	if bytes.Equal(before, after) {
		return false, nil
	}
	fmt.Fprintf(std.Stdout, "%s:\n%s", file, hook.Diff(before, after))
	if f.DryRun {
		return true, nil
	}
	if !fresh {
		backup := file + ".obs-" + time.Now().UTC().Format("20060102T150405.000") + ".bak"
		if err := hook.WriteFile(backup, before, mode); err != nil {
			return false, err
		}
		fmt.Fprintln(std.Stdout, "as it was before:", backup)
	}
	return true, hook.WriteFile(file, after, mode)
}
