package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/demo"
)

type demoCommand struct {
	Fast bool          `help:"Do not wait for a person to follow; implies --each."`
	Pace time.Duration `default:"120ms" placeholder:"TIME" help:"How long to wait after each request, and ten times as long after a turn of the session."`
	Each bool          `help:"A job for each event, instead of one for each turn of the session."`
	Log  string        `placeholder:"FILE" help:"Write the log of all parts there."`
	localFlags
	boot.ProviderFlags
	boot.EmbedFlags
	boot.PromptFlags
}

func (demoCommand) Help() string {
	return `Starts all of obs in a throw-away directory, sends 137 hook events of a coding agent's day through it over HTTP, and
shows the jobs and the observations as they come. Then it searches, looks at a job's history, and verifies everything
with obs check. The exit code is 1 when a job was not completed or the check found something.

Examples:

  obs demo
  obs demo --fast
  obs demo --each --pace 50ms --log demo.log
  obs demo --provider openai --base-url http://127.0.0.1:11434/v1 --model llama3.2`
}

// demoLimit is how long all of it may take: seconds, but for a pace, a model
// of one's own, or a busy machine.
const demoLimit = 15 * time.Minute

func (d demoCommand) Run(ctx context.Context, std boot.Std) (err error) {
	if d.Pace < 0 || d.Pace > time.Minute {
		return boot.Misused("--pace: got %v, want a time from 0s to 1m", d.Pace)
	}
	if d.Fast {
		d.Pace, d.Each = 0, true
	}
	config, err := demoConfig(d.Each, d.ProviderFlags, d.EmbedFlags, d.PromptFlags)
	if err != nil {
		return err
	}
	interrupted := ctx
	ctx, stop := boot.WithGoRun(ctx)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()

	log := slog.New(slog.DiscardHandler)
	if d.Log != "" {
		f, err := os.Create(d.Log)
		if err != nil {
			return boot.Misused("--log: %v", err)
		}
		defer f.Close()
		log = boot.NewLog(f, boot.Config{LogLevel: slog.LevelInfo})
	}
	recording, err := demo.Session()
	if err != nil {
		return err
	}
	dir, err := throwAway("obs-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	s := newScreen(std)
	s.gone = cancel
	s.title("obs demo: %d hook events of an agent's day, through all of obs", len(recording.Events))
	began := time.Now()
	l, err := startLocal(ctx, localConfig{
		Config: config, dir: dir, noDownload: d.NoDownload, pgBin: d.PGBin, log: log,
		progress: func(what string) { s.line("  %s …", what) },
	})
	if err == nil {
		defer l.close(ctx)
		s.line("  Postgres %s, NATS, API, relay and worker run after %.1f s: %s", l.version(), time.Since(began).Seconds(), l.url)
		err = d.show(ctx, l, recording, s)
	}
	switch {
	case interrupted.Err() != nil:
		return errors.New("interrupted")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("not done after %v: %w", demoLimit, err)
	case ctx.Err() != nil:
		return boot.ErrTold // nobody reads what we have to tell
	}
	if err == nil {
		s.blank()
		s.line("All of it took %.1f s. `obs dev` keeps it running.", time.Since(began).Seconds())
	}
	return err
}

// show runs everything and the story beside it. Whichever ends first ends the
// other.
func (d demoCommand) show(ctx context.Context, l *local, recording demo.Recording, s *screen) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() {
		err := l.run(running)
		stop(errors.Join(errors.New("a part of obs has ended"), err))
		ended <- err
	}()
	t := &story{l: l, s: s, pace: d.Pace, api: client{base: l.url, key: l.key}, recording: recording}
	err := t.tell(running)
	s.still()
	if err != nil && running.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(running), err)
	}
	stop(nil)
	return errors.Join(err, <-ended)
}

// demoConfig is the configuration of a machine that has nothing else to do.
func demoConfig(each bool, provider boot.ProviderFlags, embed boot.EmbedFlags, prompts boot.PromptFlags) (boot.Config, error) {
	c, err := boot.LoadOptional(
		boot.HTTPFlags{Addr: "127.0.0.1:0"},
		boot.DatabaseFlags{PoolSize: "10", ConnectTimeout: "20s"},
		boot.BrokerFlags{NATSReplicas: "1", NATSStorage: "file", JobsMaxMsgs: "10000", EventsMaxAge: "1h", EventsMaxSize: "256MiB"},
		boot.JobFlags{Debounce: "500ms", MaxAttempts: "3"},
		boot.LeaseFlags{Lease: "30s"},
		boot.LaneFlags{Slots: "event=2", Grace: "2s", Timeout: "1m", Pause: "5s"},
		provider,
		embed,
		prompts,
		boot.LogFlags{LogLevel: "info", LogFormat: "text"},
	)
	if each {
		c.Debounce = 0
	}
	return c, err
}

// throwAway makes a directory that Postgres, which may run as another user,
// can pass through.
func throwAway(prefix string) (string, error) {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return "", fmt.Errorf("make a throw-away directory: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

func (l *local) version() string {
	if l.pg == nil {
		return ""
	}
	return l.pg.Version
}

// isTerminal reports whether a person watches.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
