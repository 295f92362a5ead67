// Command bench measures obs and what people would pick instead, side by side on one Postgres with stock durable
// settings, and the limits of the machine itself. It is a module of its own, so that the peers are nobody else's
// dependencies. See docs/performance.md for what the figures say, and --help for how to get some of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/seed-245eaa15/obs/internal/load"
)

const about = `Measures obs, River, Watermill, BullMQ, graphile-worker and the machine itself: on one Postgres, in turn.

Everything is started here and gone afterwards: Postgres with stock settings (fsync and synchronous_commit on),
nats-server, Redis, and the programs of this source tree. A figure is named who.what; --only takes some, and then
nothing is written to the documents unless --write is given too.

Examples:

  task bench                                  all of it, ten to fifteen minutes; writes bench/results and docs
  task bench -- --list
  task bench -- --only obs.steady --rounds 1
  go -C bench run . --only steady,drain --quick
  go -C bench run . --only obs. --jobs 20000 --json obs.json
  go -C bench run . --only obs. --against results/2026-11-25-before.json
  go -C bench run . --only obs.steady --rounds 1 --profile /tmp/p && go tool pprof -top /tmp/p/obs.steady.nats.pprof

Read CPU per unit where the machine is not quiet: rates and latencies suffer from others, it hardly does.`

// options are the flags.
type options struct {
	Only         []string      `placeholder:"WORD,…" help:"Only figures whose name has one of these in it."`
	List         bool          `help:"Name the figures and end."`
	Rounds       int           `default:"3" placeholder:"N" help:"How often each is measured; they take turns."`
	Jobs         int           `default:"50000" placeholder:"N" help:"Jobs to drain; half as many to relay."`
	Events       int           `default:"20000" placeholder:"N" help:"Events to make observations of."`
	For          time.Duration `default:"6s" placeholder:"TIME" help:"How long what has no number lasts; half as long for the machine's limits."`
	Payload      int           `default:"512" placeholder:"BYTES" help:"What a job carries, everybody's."`
	Slots        int           `default:"1000" placeholder:"N" help:"Jobs that our worker does at once."`
	Quick        bool          `help:"One round, a tenth of the jobs, one second each: to see that it works."`
	RequirePeers bool          `help:"Fail when a peer cannot be had here."`
	Write        bool          `help:"Write bench/results, the charts and the tables of docs/performance.md, whatever --only says."`
	JSON         string        `name:"json" placeholder:"FILE" help:"Write what was measured there as well."`
	Against      string        `placeholder:"FILE" help:"Tell each figure beside that of an earlier run, such as bench/results/2026-11-25-before.json."`
	Profile      string        `placeholder:"DIR" help:"Write there a CPU profile of this process and one of nats-server for each run, who.what.obs.pprof and who.what.nats.pprof."`
	Dir          string        `placeholder:"DIR" help:"Where everything is kept meanwhile: a real disk. By default the temporary folder."`
}

// short is for what is steady at once.
func (o options) short() time.Duration { return o.For / 2 }

// relayed is how many messages are brought to the stream, where nothing else is done: in less than the second after
// which the relay writes down that a job waits.
func (o options) relayed() int { return o.Jobs / 2 }

func (o *options) settle() error {
	if o.Quick {
		o.Rounds, o.Jobs, o.Events, o.For = 1, o.Jobs/10, o.Events/10, time.Second
	}
	if o.Rounds < 1 || o.Jobs < 1000 || o.Events < load.BatchOf || o.For < 100*time.Millisecond || o.Payload < 1 || o.Slots < 1 {
		return errors.New("want --rounds and --slots of at least 1, --jobs of 1000, --events of 100 and --for of 100ms")
	}
	return nil
}

// wanted reports whether a figure was asked for.
func (o options) wanted(f figure) bool {
	for _, word := range o.Only {
		if strings.Contains(f.id(), word) {
			return true
		}
	}
	return len(o.Only) == 0
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from now on a signal does what it does by itself
	os.Exit(run(ctx))
}

func run(ctx context.Context) int {
	var o options
	kong.Parse(&o, kong.Name("bench"), kong.Description(about), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err := o.settle(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	if o.List {
		for _, g := range groups(o) {
			for _, f := range g.figures {
				fmt.Printf("%-22s %s: %s\n", f.id(), g.title, f.title)
			}
		}
		return 0
	}
	r, err := measure(ctx, o, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err == nil || ctx.Err() == nil && len(r.Figures) > 0 {
		r.print(os.Stdout)
		err = errors.Join(err, save(o, r), r.against(os.Stdout, o.Against))
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "bench: interrupted; nothing is left running")
		return 1
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// save writes what was measured, where it was asked for.
func save(o options, r *report) error {
	var err error
	if o.JSON != "" {
		err = r.write(o.JSON)
	}
	if len(o.Only) > 0 && !o.Write || o.Quick && !o.Write {
		return err
	}
	tree, e := sourceTree()
	if e != nil {
		return errors.Join(err, e)
	}
	return errors.Join(err,
		r.write(filepath.Join(tree, "bench", "results", r.Began.Format("2006-01-02")+".json")),
		r.document(filepath.Join(tree, "docs")),
	)
}
