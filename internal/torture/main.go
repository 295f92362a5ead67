//go:build unix

// Command torture runs obs as real processes with a Postgres and a NATS of
// their own, loads them, does to them what goes wrong in the world, by a
// schedule that follows from a seed, and then verifies that nothing was lost
// and nothing happened twice.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

const about = `Starts APIs, relays, workers, Postgres and NATS as processes, lets several tenants work with them, and meanwhile kills,
freezes and restarts them, cuts and delays their connections, deletes streams, and sets the broker back to an older
state. Then all faults end. Once the work is done it checks: obs check (I1 to I16), that what is stored is what the
attempts that completed the jobs wrote, and that what clients were told fits one order of their calls (porcupine).

The schedule of faults follows from the seed, the duration and the number of nodes. What the processes make of it does not:
their scheduling is the machine's. Nothing is left behind, unless something is found: then the exit code is 1, and a folder
has the plan, the clients' log, the processes' logs, and a drawing of what fits no order.

Examples:

  go run ./internal/torture
  go run ./internal/torture --seed 7 --duration 10m
  go run ./internal/torture --nodes 3 --seed 7
  go run ./internal/torture --plan --seed 7`

type options struct {
	Seed     uint64        `help:"Of the schedule of faults and of what clients do; by default a random one, which is printed." placeholder:"N"`
	Duration time.Duration `help:"How long clients work and faults happen." default:"60s"`
	Nodes    int           `help:"NATS servers: 1, or a cluster of 3 that keeps each stream on all of them." default:"1"`
	APIs     int           `name:"apis" help:"Servers of the HTTP API." default:"2"`
	Relays   int           `help:"Relays: one leads." default:"2"`
	Workers  int           `help:"Workers." default:"2"`
	Tenants  int           `help:"Teams, each with four clients." default:"3"`
	Rate     int           `help:"Calls a second of all clients together." default:"40"`
	Dir      string        `help:"Where the run's folder is made." default:"${temp}" placeholder:"DIR"`
	Bin      string        `help:"A folder with obs, obs-relay, obs-worker (built with -tags faults) and nats-server; by default they are built." placeholder:"DIR"`
	Race     bool          `help:"Build our programs with the race detector; a race that one reports is a finding."`
	Plan     bool          `help:"Print the schedule and end."`
	Calm     bool          `help:"Without faults: only the load and the checks."`
	Keep     bool          `help:"Keep the run's folder, the databases too."`

	Plant []string `hidden:"" help:"Break something behind its back before the checks: history, effect, job, memory."`
}

func (o options) size() size { return size{o.APIs, o.Relays, o.Workers, o.Nodes} }

func (o options) problem() string {
	switch {
	case o.Duration < time.Second:
		return fmt.Sprintf("--duration: %v is too short, want 1s or more", o.Duration)
	case o.Nodes != 1 && o.Nodes != 3:
		return fmt.Sprintf("--nodes: want 1 or 3, got %d", o.Nodes)
	}
	for _, n := range []struct {
		flag        string
		value, most int
	}{{"apis", o.APIs, 20}, {"relays", o.Relays, 20}, {"workers", o.Workers, 20}, {"tenants", o.Tenants, 100}, {"rate", o.Rate, 10_000}} {
		if n.value < 1 || n.value > n.most {
			return fmt.Sprintf("--%s: want 1 to %d, got %d", n.flag, n.most, n.value)
		}
	}
	for _, p := range o.Plant {
		if plants[p] == "" {
			return fmt.Sprintf("--plant: nobody can break %q", p)
		}
	}
	return ""
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The exit codes.
const (
	exitOK      = 0
	exitFailed  = 1
	exitMisused = 2
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	done := false
	parser, err := kong.New(&o, kong.Name("torture"), kong.Description(about), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { done = true }), kong.Vars{"temp": os.TempDir()}, kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120}))
	if err != nil {
		fmt.Fprintln(stderr, "torture:", err)
		return exitFailed
	}
	_, err = parser.Parse(args)
	switch problem := o.problem(); {
	case done: // --help
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "torture: %v (try --help)\n", err)
		return exitMisused
	case problem != "":
		fmt.Fprintf(stderr, "torture: %s\n", problem)
		return exitMisused
	}
	if o.Seed == 0 {
		o.Seed = uint64(rand.Uint32()) + 1
	}
	p := newPlan(o.Seed, o.Duration, o.size())
	if o.Plan {
		fmt.Fprint(stdout, p)
		return exitOK
	}
	if o.Calm {
		p = nil
	}
	fmt.Fprintf(stdout, "seed %d: %d faults in %v on %d NATS\n", o.Seed, len(p), o.Duration, o.Nodes)
	v, err := torture(ctx, o, p, stdout)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "torture: interrupted, everything is stopped")
		return exitFailed
	case err != nil:
		fmt.Fprintf(stderr, "torture: seed %d: %v\n", o.Seed, err)
		return exitFailed
	case len(v.found) > 0:
		return exitFailed
	}
	return exitOK
}

var errInterrupted = errors.New("interrupted")
