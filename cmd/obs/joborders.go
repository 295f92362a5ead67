package main

import (
	"context"
	"fmt"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
)

type jobRetry struct {
	ID     string `arg:"" optional:"" help:"The job's id."`
	Failed bool   `help:"All that failed, in place of one."`
	failedFlags
	Limit int  `default:"1000" placeholder:"N" help:"With --failed: at most so many, up to 10000."`
	Rate  int  `default:"50" placeholder:"N" help:"With --failed: so many a second."`
	JSON  bool `help:"Print JSON."`
	operatorFlags
}

func (jobRetry) Help() string {
	return `The job gets all its attempts again. One that is held because its team has used up its month goes all the same.

Examples:

  obs jobs retry event_0a1b…
  obs jobs retry --failed --since 24h --rate 10
  obs jobs retry --failed --project 0197… --limit 100 --json`
}

func (c jobRetry) Run(ctx context.Context, std boot.Std) error {
	switch {
	case c.Failed && c.ID != "":
		return boot.Misused("want a job's id or --failed, not both")
	case c.Failed:
		return c.retryFailed(ctx, std)
	case c.ID == "":
		return boot.Misused("want a job's id, or --failed for all that failed")
	case c.failedFlags != failedFlags{}:
		return boot.Misused("--team, --project and --since go with --failed")
	}
	one := oneJob{ID: c.ID, JSON: c.JSON, operatorFlags: c.operatorFlags}
	op, caller, err := one.open(ctx, std)
	if err != nil {
		return err
	}
	defer op.close()
	j, already, err := op.service.RetryJob(ctx, caller, events.ID(c.ID))
	if err != nil {
		return told(err)
	}
	return ordered(std, c.JSON, j, already, "is queued again", "was queued already")
}

type jobCancel struct{ oneJob }

func (jobCancel) Help() string {
	return "What a worker that is at it comes up with is thrown away.\n\nExamples:\n\n  obs jobs cancel event_0a1b…"
}

func (c jobCancel) Run(ctx context.Context, std boot.Std) error {
	op, caller, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer op.close()
	j, already, err := op.service.CancelJob(ctx, caller, events.ID(c.ID))
	if err != nil {
		return told(err)
	}
	return ordered(std, c.JSON, j, already, "is cancelled", "was cancelled already")
}

func ordered(std boot.Std, asJSON bool, j events.Job, already bool, now, before string) error {
	if asJSON {
		return printJSON(std.Stdout, bodyOfJob(j))
	}
	if already {
		now = before
	}
	fmt.Fprintf(std.Stdout, "job %s %s\n", j.ID, now)
	return nil
}
