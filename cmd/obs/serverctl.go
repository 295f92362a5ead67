package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

// serverCommand is the API alone in the foreground, as it always was, and the
// whole system in the background.
type serverCommand struct {
	API        serverAPI        `cmd:"" name:"api" default:"withargs" help:"Serve the HTTP API in the foreground."`
	Start      serverStart      `cmd:"" help:"Run all that obs dev runs, in the background."`
	Stop       serverStop       `cmd:"" help:"End what runs on a data directory."`
	Restart    serverRestart    `cmd:"" help:"End it and start it again with the same flags."`
	Status     serverStatus     `cmd:"" help:"Tell whether it runs, and how it does."`
	Background serverBackground `cmd:"" hidden:""`
}

func (serverCommand) Help() string {
	return `Alone it serves the HTTP API in the foreground, and nothing else. With start, the whole system runs in the background.

Examples:

  obs server --database-url postgres://obs@db/obs --nats-url nats://broker:4222
  obs server start
  obs server status`
}

// serverBackground is what obs server start runs, in a session of its own.
type serverBackground struct{ devCommand }

func (serverBackground) Help() string {
	return "What obs server start starts.\n\nExamples:\n\n  obs server start"
}

func (c serverBackground) Run(ctx context.Context, std boot.Std, k *kong.Context) error {
	dir, err := c.dir(std)
	if err != nil {
		return err
	}
	log, err := boot.NewLogFile(logPath(dir), 0)
	if err != nil {
		return err
	}
	defer log.Close()
	std.Stderr = log
	if err := c.run(ctx, std, k, true); err != nil {
		boot.Exit(std, "obs", err) // the starter reads it in the log
		return boot.ErrTold
	}
	return nil
}

func logPath(dir string) string { return filepath.Join(dir, "server.log") }

// howStarted keeps the flags of the command line and the names of the
// variables, for a restart. The variables' values are not written down.
func howStarted(std boot.Std, k *kong.Context, background bool) boot.ServerRuntime {
	how := boot.ServerRuntime{Background: background, Flags: []string{}, Variables: []string{}, Boundaries: map[string]string{}}
	for _, p := range k.Path {
		if p.Flag != nil && !p.Resolved && p.Flag.Name != "data-dir" && p.Flag.Name != "timeout" {
			how.Flags = append(how.Flags, fmt.Sprintf("--%s=%v", p.Flag.Name, k.FlagValue(p.Flag)))
		}
	}
	for _, f := range k.Flags() {
		name := f.Tag.Get("var")
		if v, ok := std.LookupEnv(name); name != "" && ok && v != "" && f.Name != "data-dir" {
			how.Variables = append(how.Variables, name)
		}
		providers, _ := k.FlagValue(f).(string)
		switch {
		case f.Name == "embed-model" && providers != "":
			providers = "openai" // whose key may be the one
		case f.Name != "provider":
			continue
		}
		for _, name := range boot.KeyVariables(std, providers) {
			if !slices.Contains(how.Variables, name) {
				how.Variables = append(how.Variables, name)
			}
		}
	}
	how.Dir, _ = os.Getwd() // where it cannot be told, there are no relative paths either
	return how
}

type serverStop struct{ dirFlag }

// dirFlag names the data directory for the commands that need nothing else.
type dirFlag struct {
	DataDir string `name:"data-dir" var:"OBS_DATA_DIR" placeholder:"DIR" group:"Data:" help:"The data directory; by default ~/.local/state/obs, for root /var/lib/obs."`
}

// abs is the directory as it is written in messages and given to others.
func (f dirFlag) abs(std boot.Std) (string, error) {
	dir, err := dataDir(std, f.DataDir)
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

func (serverStop) Help() string {
	return `Ends obs dev too when that runs on the directory. Only a process that is known to be that server is told to end.

Examples:

  obs server stop
  obs server stop --data-dir ./data`
}

func (c serverStop) Run(ctx context.Context, std boot.Std) error {
	dir, err := c.abs(std)
	if err != nil {
		return err
	}
	s, err := boot.FindServer(dir)
	if errors.Is(err, boot.ErrNoServer) {
		fmt.Fprintf(std.Stdout, "obs is not running on %s\n", dir)
		return nil
	}
	if err == nil {
		err = stopServer(ctx, s, dir)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Stdout, "obs has stopped (pid %d)\n", s.PID)
	return nil
}

// stopServerWithin is how long the server may take to end.
const stopServerWithin = 10 * time.Second

// lookEvery is how often a server is looked at that starts or stops.
const lookEvery = 50 * time.Millisecond

// stopServer tells the server to end and waits until the directory is free.
func stopServer(ctx context.Context, s *boot.Server, dir string) error {
	if err := s.Stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the server (pid %d): %w", s.PID, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, stopServerWithin, fmt.Errorf("the server (pid %d) is told to end and has not within %s; %s says more", s.PID, stopServerWithin, logPath(dir)))
	defer cancel()
	for boot.InUse(dir) != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
	return nil
}

type serverRestart struct {
	dirFlag
	Timeout time.Duration `default:"60s" placeholder:"TIME" help:"How long to wait until it is healthy."`
}

func (serverRestart) Help() string {
	return `It gets the flags of its last start, also when it has died since. Variables are read anew.

Examples:

  obs server restart
  obs server restart --data-dir ./data`
}

func (c serverRestart) Run(ctx context.Context, std boot.Std) error {
	dir, err := c.abs(std)
	if err != nil {
		return err
	}
	s, err := boot.FindServer(dir)
	var how boot.ServerRuntime
	switch {
	case err == nil:
		how = s.ServerRuntime
	case errors.Is(err, boot.ErrNoServer):
		if how, err = boot.ReadRuntime(dir); err != nil || !how.Background {
			return fmt.Errorf("nothing runs on %s: start it with obs server start", dir)
		}
	default:
		return err
	}
	if !how.Background {
		return fmt.Errorf("what runs on %s (pid %d) is not in the background: end it where it was started", dir, how.PID)
	}
	var missing []string
	for _, name := range how.Variables {
		if v, ok := std.LookupEnv(name); !ok || v == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("it was started with %s: set that here too, or use obs server stop and start", strings.Join(missing, ", "))
	}
	if s != nil {
		if err := stopServer(ctx, s, dir); err != nil {
			return err
		}
		fmt.Fprintf(std.Stdout, "obs has stopped (pid %d)\n", s.PID)
	}
	return launch(ctx, std, dir, how.Dir, how.Flags, c.Timeout)
}
