package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// failedFlags say which failed jobs are meant.
type failedFlags struct {
	Team    string `placeholder:"ID" help:"Only this team's."`
	Project string `placeholder:"ID" help:"Only this project's."`
	Since   string `placeholder:"TIME" help:"Failed since then: 24h, 30m, or 2026-01-31T08:00:00Z."`
}

// since is the time that --since names; zero means ever.
func (f failedFlags) since() (time.Time, error) { return sinceOf(f.Since) }

// sinceOf reads a time that is written as how long ago it was, or as itself.
func sinceOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, boot.Misused("--since: got %.80q, want a time such as 2h or 2026-01-31T08:00:00Z", text)
	}
	return at, nil
}

// failed finds the newest failed jobs, at most limit of them, and says
// whether there are more.
func (f failedFlags) failed(ctx context.Context, op *operator, since time.Time, limit int) (jobs []events.Job, more bool, err error) {
	err = op.eachTeam(ctx, f.Team, func(team observe.Caller) error {
		filter := observe.JobFilter{Status: string(events.StatusFailed), Project: f.Project, Limit: 200}
		for !more {
			page, total, err := op.service.ListJobs(ctx, team, filter)
			if err != nil {
				return err
			}
			for _, j := range page { // by when it failed: the list knows when it was made
				if j.FailedAt.Before(since) {
					continue
				}
				if more = len(jobs) == limit; more {
					return nil
				}
				jobs = append(jobs, j)
			}
			if filter.Offset += len(page); len(page) == 0 || filter.Offset >= total {
				return nil
			}
		}
		return nil
	})
	return jobs, more, err
}

type jobFailed struct {
	failedFlags
	Limit int  `default:"20" placeholder:"N" help:"At most so many, up to 10000."`
	JSON  bool `help:"Print JSON."`
	operatorFlags
}

func (jobFailed) Help() string {
	return `Examples:

  obs jobs failed
  obs jobs failed --since 24h --limit 100
  obs jobs failed --project 0197… --json`
}

func limited(n, most int) error {
	if n < 1 || n > most {
		return boot.Misused("--limit: got %d, want a number from 1 to %d", n, most)
	}
	return nil
}

func (c jobFailed) Run(ctx context.Context, std boot.Std) error {
	since, err := c.since()
	_, cfgErr := boot.Load(c.DatabaseFlags)
	if err := boot.Join(err, limited(c.Limit, 10_000), cfgErr); err != nil {
		return err
	}
	op, err := lookOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	jobs, more, err := c.failed(ctx, op, since, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		bodies := []jobBody{}
		for _, j := range jobs {
			bodies = append(bodies, bodyOfJob(j))
		}
		return printJSON(std.Stdout, map[string]any{"failed": bodies, "count": len(bodies), "limit": c.Limit, "more": more})
	}
	for _, j := range jobs { // two lines each: the reason is what one looks for
		fmt.Fprintln(std.Stdout, cut(fmt.Sprintf("%s  %d/%d  %s ago", j.ID, j.Attempts, j.MaxAttempts, ago(j.FailedAt)), wide))
		fmt.Fprintln(std.Stdout, cut("  "+j.LastError, wide))
	}
	fmt.Fprintf(std.Stdout, "%d failed jobs%s\n", len(jobs), beyond(more))
	return nil
}

func beyond(more bool) string {
	if more {
		return ", and there are more: see --limit"
	}
	return ""
}

// retryFailed asks again for failed jobs, so many a second that those who
// have waited behind them are still served.
func (c jobRetry) retryFailed(ctx context.Context, std boot.Std) error {
	since, err := c.since()
	var pace error
	if c.Rate < 1 || c.Rate > 10_000 {
		pace = boot.Misused("--rate: got %d, want a number from 1 to 10000", c.Rate)
	}
	_, cfgErr := boot.Load(c.DatabaseFlags)
	if err := boot.Join(err, limited(c.Limit, 10_000), pace, cfgErr); err != nil {
		return err
	}
	op, err := lookOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	jobs, more, err := c.failed(ctx, op, since, c.Limit)
	if err != nil {
		return err
	}
	body := retriedBody{Retried: []events.ID{}, Skipped: []events.ID{}, More: more}
	tick := time.NewTicker(time.Second / time.Duration(c.Rate))
	defer tick.Stop()
	for i, j := range jobs {
		if i > 0 {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
		if ctx.Err() != nil {
			break
		}
		_, already, retryErr := op.service.RetryJob(ctx, op.as(j.Scope), j.ID)
		switch {
		case already, errors.Is(retryErr, observe.ErrConflict), errors.Is(retryErr, observe.ErrNotFound):
			body.Skipped = append(body.Skipped, j.ID) // somebody else was first
		case retryErr != nil:
			err = told(retryErr)
		default:
			body.Retried = append(body.Retried, j.ID)
		}
		if err != nil {
			break
		}
	}
	body.Left = len(jobs) - len(body.Retried) - len(body.Skipped)
	if body.Left > 0 && err == nil {
		err = errors.New("interrupted")
	}
	return errors.Join(body.print(std, c.JSON), err)
}

type retriedBody struct {
	Retried []events.ID `json:"retried"`
	Skipped []events.ID `json:"skipped"` // no longer failed when their turn came
	Left    int         `json:"left"`    // not reached
	More    bool        `json:"more"`    // failed jobs beyond the limit
}

func (b retriedBody) print(std boot.Std, asJSON bool) error {
	if asJSON {
		return printJSON(std.Stdout, b)
	}
	fmt.Fprintf(std.Stdout, "%d jobs are queued again", len(b.Retried))
	if n := len(b.Skipped); n > 0 {
		fmt.Fprintf(std.Stdout, ", %d had not failed any more", n)
	}
	_, err := fmt.Fprintln(std.Stdout, beyond(b.More))
	return err
}
