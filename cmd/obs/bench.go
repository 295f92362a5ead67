package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/load"
)

type benchCommand struct {
	Jobs int           `default:"20000" placeholder:"N" help:"Jobs to relay and to do."`
	For  time.Duration `default:"3s" placeholder:"TIME" help:"How long what has no number lasts."`
	Only []string      `placeholder:"WORD,…" help:"Only what has one of these in its name: postgres, nats, jobs, events."`
	Yes  bool          `help:"Load the server although others are connected to it, or the database has jobs."`
	JSON bool          `help:"Print JSON; how it goes is told on standard error."`

	boot.DatabaseFlags
	boot.BrokerFlags
	localFlags
}

func (benchCommand) Help() string {
	return `Measures an installation: what its Postgres and its NATS take by themselves, and what obs makes of them. Without
--database-url it starts a Postgres of its own on this machine's disk, without --nats-url a NATS, and removes them.

On your servers it works in databases of its own, which it makes beside the one that the URL names and drops again
(obs_bench_…; the role has to be allowed to), and on streams of its own. No team, project or job of yours is touched.
But it takes all that the servers have, for about a minute: so it refuses where others are connected or where the
database has jobs, unless you say --yes.

CPU is microseconds of processor time for each job, message or event, of all processes that are on this machine and known:
this one, and Postgres if it is here. It says more than the rate where others share the machine.
docs/performance.md compares the same figures with other queues.

Examples:

  obs bench
  obs bench --only jobs --for 10s
  obs bench --database-url postgres://obs@db/obs --nats-url nats://broker:4222 --nats-replicas 3
  obs bench --json > bench.json`
}

// benched is what obs bench --json prints.
type benched struct {
	Postgres string            `json:"postgres"`
	Settings map[string]string `json:"settings"`
	Own      bool              `json:"own_servers"` // made for the bench
	Results  []benchResult     `json:"results"`
}

type benchResult struct {
	Name  string      `json:"name"`
	Title string      `json:"title"`
	Rate  float64     `json:"per_second"`
	CPU   float64     `json:"cpu_us,omitempty"`
	What  load.Sample `json:"sample"`
}

func (c benchCommand) Run(ctx context.Context, std boot.Std) (err error) {
	config, err := c.load()
	if err != nil {
		return err
	}
	ctx, stop := boot.WithGoRun(ctx)
	defer stop()
	out := std.Stdout
	if c.JSON {
		std.Stdout = std.Stderr
	}
	s := newScreen(std)
	ctx, s.gone = context.WithCancel(ctx)
	defer s.gone()
	dir, err := throwAway("obs-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{benchCommand: c, config: config, dir: dir, screen: s}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	if err := b.open(ctx); err != nil {
		return err
	}
	err = b.measure(ctx)
	s.still()
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted; what was made for the bench is gone")
	case err != nil:
		return err
	case c.JSON:
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(b.out)
	}
	b.print(out)
	return nil
}

func (c benchCommand) load() (boot.Config, error) {
	config, err := benchConfig(c.DatabaseFlags, c.BrokerFlags)
	if c.Jobs < 100 || c.Jobs > 10_000_000 {
		err = boot.Join(err, boot.Misused("--jobs: got %d, want 100 to 10000000", c.Jobs))
	}
	if c.For < 100*time.Millisecond || c.For > time.Hour {
		err = boot.Join(err, boot.Misused("--for: got %v, want a time from 100ms to 1h", c.For))
	}
	if err == nil && len(c.steps()) == 0 {
		err = boot.Misused("--only: nothing has %s in its name; there is postgres, nats, jobs and events", strings.Join(c.Only, " or "))
	}
	return config, err
}

// bench is one run.
type bench struct {
	benchCommand
	config boot.Config
	dir    string
	screen *screen
	pg     *embedded.Postgres // nil: somebody else's
	ns     *embedded.NATS     // likewise
	meter  load.Meter
	made   int
	out    benched
}

// open starts what was not given, and looks at what was.
func (b *bench) open(ctx context.Context) error {
	var err error
	if b.config.DatabaseURL == "" {
		b.pg, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{
			Dir: b.dir, NoDownload: b.NoDownload, BinDir: b.PGBin, Progress: func(what string) { b.screen.line("  %s …", what) },
		})
		if err != nil {
			return err
		}
		b.config.DatabaseURL = b.pg.URL(embedded.Database)
	}
	if b.config.NATSURL == "" {
		b.ns, err = embedded.StartNATS(ctx, embedded.NATSConfig{Dir: filepath.Join(b.dir, "nats"), Port: -1})
		if err != nil {
			return err
		}
		b.config.NATSURL = b.ns.ClientURL()
	}
	pool, err := boot.OpenDatabase(ctx, b.config, "obs-bench")
	if err != nil {
		return err
	}
	server, err := load.Ask(ctx, pool)
	pool.Close()
	if err != nil {
		return err
	}
	var why []string
	if server.Others > 0 {
		why = append(why, fmt.Sprintf("%d others are connected to this Postgres", server.Others))
	}
	if server.Jobs {
		why = append(why, "its database has jobs")
	}
	if len(why) > 0 && b.pg == nil && !b.Yes {
		return boot.Misused("%s, and the bench takes all that the server has for about a minute: come back when nobody minds, or say --yes", strings.Join(why, ", and "))
	}
	b.meter = load.Meter{load.Self("obs")}
	if server.PID != 0 {
		b.meter = append(b.meter, load.Process{Name: "postgres", PID: server.PID, Tree: true})
	}
	b.out = benched{Postgres: server.Version, Settings: server.Settings, Own: b.pg != nil && b.ns != nil}
	return nil
}

func (b *bench) close(ctx context.Context) error {
	if b.ns != nil {
		b.ns.Stop()
	}
	if b.pg == nil {
		return nil
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return b.pg.Stop(stop)
}

// measure takes one step after the other.
func (b *bench) measure(ctx context.Context) error {
	whose := "the servers that were given"
	if b.out.Own {
		whose = "servers made for it, on this machine"
	}
	b.screen.title("obs bench: Postgres %s and NATS, %s", b.out.Postgres, whose)
	for name, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"} {
		if got := b.out.Settings[name]; got != want {
			b.screen.line("  mind: %s is %s, so a commit may be lost when the power fails, and rates are higher for it", name, got)
		}
	}
	steps := b.steps()
	for i, step := range steps {
		b.screen.now("%s %2d/%d  %s", bar(i, len(steps), 24), i+1, len(steps), step.title)
		within, cancel := context.WithTimeout(ctx, benchLimit+10*b.For)
		s, err := step.run(within, b)
		cancel()
		if err != nil {
			return fmt.Errorf("measure %s: %w", step.title, err)
		}
		b.out.Results = append(b.out.Results, benchResult{Name: step.name, Title: step.title, Rate: s.Rate(), CPU: s.PerUnit(""), What: s})
	}
	b.screen.now("%s done", bar(1, 1, 24))
	return nil
}

// benchLimit is how long one step may take, besides what it is told to last.
const benchLimit = 2 * time.Minute

// bar is how far it is, in so many columns.
func bar(done, all, wide int) string {
	full := done * wide / max(all, 1)
	return strings.Repeat("█", full) + strings.Repeat("░", wide-full)
}

// print writes the table, and what the figures come to beside each other.
func (b *bench) print(w io.Writer) {
	rows := [][]string{{"", "A SECOND", "CPU µs", "p50 ms", "p95", "p99"}}
	for _, r := range b.out.Results {
		row := []string{r.Title, thousands(r.Rate), "", "", "", ""}
		if r.CPU > 0 {
			row[2] = fmt.Sprintf("%.0f", r.CPU)
		}
		if l := r.What.Latency; l != nil {
			row[3], row[4], row[5] = fmt.Sprintf("%.2f", l.P50), fmt.Sprintf("%.2f", l.P95), fmt.Sprintf("%.2f", l.P99)
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(w)
	table(w, rows)
	fmt.Fprintln(w)
	for _, c := range []struct{ what, of, text string }{
		{"jobs.relay", "nats.publish", "The relay publishes %.2f times as many as NATS' own client alone."},
		{"jobs.ask", "postgres.commit", "Transactions that ask for a job are %.2f times as many as those with one plain row."},
	} {
		if of := b.rate(c.of); of > 0 && b.rate(c.what) > 0 {
			fmt.Fprintf(w, c.text+"\n", b.rate(c.what)/of)
		}
	}
	fmt.Fprintf(w, "The machine's load is %.1f. What was made for the bench is gone.\n", load.Average())
}

func (b *bench) rate(name string) float64 {
	i := slices.IndexFunc(b.out.Results, func(r benchResult) bool { return r.Name == name })
	if i < 0 {
		return 0
	}
	return b.out.Results[i].Rate
}

func thousands(v float64) string {
	n := fmt.Sprintf("%.0f", v)
	for at := len(n) - 3; at > 0; at -= 3 {
		n = n[:at] + "," + n[at:]
	}
	return n
}

// scratch makes a database and a word for streams, both for one step.
func (b *bench) scratch(ctx context.Context) (url, word string, drop func() error, err error) {
	url, drop, err = load.Scratch(ctx, b.config.DatabaseURL)
	if errors.Is(err, load.ErrMayNot) {
		err = fmt.Errorf("%w: ALTER ROLE … CREATEDB, or give a --database-url (OBS_DATABASE_URL) with a role that may", err)
	}
	b.made++
	word = cmp.Or(b.config.Streams.Prefix, "obs") + fmt.Sprintf("-bench-%d-%d", os.Getpid(), b.made)
	return url, word, drop, err
}

var quietLog = slog.New(slog.DiscardHandler)
