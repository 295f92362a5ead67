package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

// localFlags are those that `obs dev` and `obs demo` share.
type localFlags struct {
	NoDownload bool   `name:"no-download" var:"OBS_NO_DOWNLOAD" group:"Data:" help:"Do not fetch Postgres' programs where none are installed."`
	PGBin      string `name:"pg-bin" var:"OBS_PG_BIN" placeholder:"DIR" group:"Data:" help:"Where Postgres' programs are; else they are looked for."`
}

type devCommand struct {
	DataDir  string `name:"data-dir" var:"OBS_DATA_DIR" placeholder:"DIR" group:"Data:" help:"Where everything is kept; by default ~/.local/state/obs, for root /var/lib/obs."`
	NATSPort string `name:"nats-port" var:"OBS_NATS_PORT" default:"off" placeholder:"PORT" group:"NATS:" help:"A port of this machine where the NATS that obs starts listens too; 0 takes a free one."`
	localFlags

	boot.HTTPFlags
	boot.DatabaseFlags
	boot.BrokerFlags
	boot.JobFlags
	boot.KeyFlags
	boot.LimitFlags
	boot.LeaseFlags
	boot.LaneFlags `set:"grace=2s"`
	boot.ProviderFlags
	boot.EmbedFlags
	boot.PromptFlags
	boot.LogFlags
}

// AfterApply is called by the parser, which does not look into the commands
// that this one is a part of.
func (d *devCommand) AfterApply(std boot.Std) error {
	return errors.Join(d.ProviderFlags.AfterApply(std), d.EmbedFlags.AfterApply(std))
}

func (devCommand) Help() string {
	return `Starts Postgres and NATS, makes a project and a key, and serves. All data stays in one directory for the next time.
With --database-url or --nats-url it uses yours instead of starting its own. Ctrl-C stops everything.

Examples:

  obs dev
  obs dev --data-dir ./data --addr 127.0.0.1:8080
  obs dev --nats-port 4222 --log-level debug
  obs dev --database-url postgres://me@localhost/obs`
}

func (d devCommand) Run(ctx context.Context, std boot.Std, k *kong.Context) error {
	ctx, stop := boot.WithGoRun(ctx)
	defer stop()
	return d.run(ctx, std, k, false)
}

// run runs everything until ctx ends. In the background nobody reads what is
// printed: the log has it, without the key.
func (d devCommand) run(ctx context.Context, std boot.Std, k *kong.Context, background bool) error {
	began := time.Now()
	c, port, err := d.load()
	if err != nil {
		return err
	}
	dir, err := d.dir(std)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil { // told later, for other terminals
		return err
	}
	log := boot.NewLog(std.Stderr, c)
	l, err := startLocal(ctx, localConfig{
		Config: c, dir: dir, noDownload: d.NoDownload, pgBin: d.PGBin, natsPort: port, log: log, how: howStarted(std, k, background),
		progress: func(what string) {
			if background {
				log.InfoContext(ctx, "starting", "doing", what)
				return
			}
			fmt.Fprintln(std.Stdout, "obs:", what, "…")
		},
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while it started
		}
		return err
	}
	defer l.close(ctx)
	if background {
		log.InfoContext(ctx, "up", "url", l.url, "version", boot.Version(), "took", time.Since(began))
	} else {
		fmt.Fprint(std.Stdout, l.welcome(dir, time.Since(began)))
	}
	err = l.run(ctx)
	if background {
		log.InfoContext(ctx, "stopping")
	} else {
		fmt.Fprintln(std.Stdout, "obs: stopping")
	}
	return err
}

// load reads all flags but the directory.
func (d devCommand) load() (c boot.Config, natsPort int, err error) {
	c, err = boot.LoadOptional(d.HTTPFlags, d.DatabaseFlags, d.BrokerFlags, d.JobFlags, d.KeyFlags, d.LimitFlags, d.LeaseFlags, d.LaneFlags, d.ProviderFlags, d.EmbedFlags, d.PromptFlags, d.LogFlags)
	natsPort, portErr := d.natsPort()
	if err := boot.Join(err, portErr); err != nil {
		return c, 0, err
	}
	if c.Addr == "" {
		return c, 0, boot.Misused("--addr (OBS_ADDR): it has to listen somewhere, want host:port")
	}
	return c, natsPort, nil
}

func (d devCommand) dir(std boot.Std) (string, error) { return dataDir(std, d.DataDir) }

// dataDir is the directory that is named, or the usual one.
func dataDir(std boot.Std, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	return boot.DataDir(std.LookupEnv)
}

func (d devCommand) natsPort() (int, error) {
	if d.NATSPort == "off" {
		return 0, nil
	}
	n, err := strconv.Atoi(d.NATSPort)
	if err != nil || n < 0 || n > 65535 {
		return 0, boot.Misused("--nats-port (OBS_NATS_PORT): got %.80q, want a port or off", d.NATSPort)
	}
	if n == 0 {
		n = -1
	}
	return n, nil
}

// welcome tells how to use what runs. Each command works when it is pasted.
func (l *local) welcome(dir string, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "obs is up at %s (%.1f s)\n\n", l.url, took.Seconds())
	row := func(name, value string) { fmt.Fprintf(&b, "  %-9s%s\n", name, value) }
	row("project", l.project)
	row("key", l.key)
	row("live", l.url+"/live") // what happens, in a browser
	row("docs", l.url+"/docs") // each route
	row("data", dir)
	if l.pg != nil {
		row("psql", "psql '"+l.database+"'")
	}
	if l.broker != "" {
		row("nats", l.broker)
	}
	fmt.Fprintf(&b, "\nTry it: an event goes in, and what was noted about it is found.\n")
	for _, c := range []struct{ path, body string }{
		{"/v1/events?wait=true", fmt.Sprintf(
			`{"projectId":%q,"sourceType":"hook","eventType":"tool_use","occurredAtEpoch":%d,"payload":{"tool_name":"Bash","tool_input":{"command":"go test ./outbox"},"tool_response":{"exit_code":1,"stdout":"--- FAIL: TestLead (0.02s)\n    lead_test.go:31: two leaders"}}}`,
			l.project, time.Now().UnixMilli())},
		{"/v1/search", fmt.Sprintf(`{"projectId":%q,"query":"two leaders"}`, l.project)},
	} {
		fmt.Fprintf(&b, "\ncurl -s '%s%s' -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '%s'\n", l.url, c.path, l.key, c.body)
	}
	fmt.Fprintf(&b, "\nCtrl-C stops it.\n\n")
	return b.String()
}
