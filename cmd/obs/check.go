package main

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

type checkCommand struct {
	Quiet bool      `name:"quiet-system" help:"Nothing is in work: then nothing may be left on the streams, and everything must have been told."`
	JSON  bool      `help:"Print JSON."`
	Since time.Time `name:"events-since" placeholder:"TIME" help:"When the stream of events last lost some, as after a restore: what happened before need not be on it. RFC 3339."`

	operatorFlags
	boot.BrokerFlags
	boot.LeaseFlags
}

func (checkCommand) Help() string {
	return `Reads every job with its history, and the streams too when --nats-url is given. It changes nothing and may run while
everything works. Each violation is a line; the exit code is 1 when there is one.

Examples:

  obs check --database-url postgres://obs@db/obs
  obs check --database-url … --nats-url nats://broker:4222 --quiet-system`
}

// checked is what a check came to.
type checked struct {
	jobs  int
	found []events.Finding
}

func (c checkCommand) Run(ctx context.Context, std boot.Std) error {
	cfg, err := boot.LoadOptional(c.BrokerFlags, c.LeaseFlags)
	_, dbErr := boot.Load(c.DatabaseFlags)
	if err := boot.Join(dbErr, err); err != nil {
		return err
	}
	op, err := lookOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	var links *boot.Links
	if cfg.NATSURL != "" {
		dbCfg, _ := boot.Load(c.DatabaseFlags) // checked above
		cfg.ConnectTimeout = dbCfg.ConnectTimeout
		if links, err = boot.ConnectNATS(ctx, cfg, "obs-check"); err != nil {
			return err
		}
		defer links.Close()
	}
	began, last := time.Now(), time.Now()
	res, err := check(ctx, op.jobs, links, cfg, c.Quiet, c.Since, func(jobs, findings int) {
		if !c.JSON && time.Since(last) > 2*time.Second {
			last = time.Now()
			fmt.Fprintf(std.Stderr, "%d jobs, %d findings after %s\n", jobs, findings, time.Since(began).Round(time.Second))
		}
	})
	if err != nil {
		return err
	}
	if err := res.print(std, c.JSON); err != nil {
		return err
	}
	if len(res.found) > 0 {
		return boot.ErrTold
	}
	return nil
}

// check verifies the invariants in the database, and with links those of the
// streams. The streams are read first: what happens in between is then in the
// database and not missing in it.
func check(ctx context.Context, jobs *db.Jobs, links *boot.Links, c boot.Config, quiet bool, since time.Time, each func(jobs, findings int)) (checked, error) {
	var res checked
	var streams *outbox.Check
	var err error
	if links != nil {
		if streams, err = outbox.ReadStreams(ctx, links.JS, c.Streams); err != nil {
			return res, err
		}
		streams.Since = since
		if streams.Pruned, err = jobs.PrunedBefore(ctx); err != nil {
			return res, err
		}
	}
	res.found, err = jobs.Check(ctx, db.CheckConfig{Lease: c.Lease, Each: each, Job: func(j events.Job, history []events.Event) {
		res.jobs++
		if streams != nil {
			streams.Job(j, history, quiet)
		}
	}})
	if err != nil {
		return res, err
	}
	if streams != nil {
		res.found = append(res.found, streams.Findings(quiet)...)
	}
	return res, nil
}

func (r checked) print(std boot.Std, asJSON bool) error {
	if asJSON {
		found := []map[string]string{}
		for _, f := range r.found {
			found = append(found, map[string]string{"invariant": f.Invariant, "subject": f.Subject, "text": f.Text})
		}
		return printJSON(std.Stdout, map[string]any{"jobs": r.jobs, "findings": found})
	}
	for _, f := range r.found {
		fmt.Fprintln(std.Stdout, f)
	}
	_, err := fmt.Fprintf(std.Stdout, "%d jobs checked, %d findings\n", r.jobs, len(r.found))
	return err
}
