package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type pruneCommand struct {
	Older    string   `name:"older-than" required:"" placeholder:"AGE" help:"Jobs that ended longer ago: 90d, 12w, 36h."`
	Team     string   `placeholder:"ID" help:"Only this team's."`
	Project  string   `placeholder:"ID" help:"Only this project's."`
	Keep     []string `placeholder:"STATUS" help:"Keep those that are so: completed, failed, cancelled; separated by commas."`
	Payloads bool     `help:"Also empty the payloads and metadata of the agent events that the jobs were about."`
	Rate     int      `default:"5000" placeholder:"N" help:"Look at so many jobs a second, at most; 0: as fast as it goes."`
	DryRun   bool     `name:"dry-run" help:"Only count them."`
	JSON     bool     `help:"Print JSON."`
	operatorFlags
}

func (pruneCommand) Help() string {
	return `Goes with the job: its row and its history. Stays: observations and what they rest on, sessions, the audit log, and the
agent events, which remember that their job was done: one that is sent again asks for nothing. A job that something else
still names stays as well, such as the last summary of a session.

It works in small transactions beside everything else. Ctrl-C ends it between two of them; what is gone stays gone, and the
next run goes on from there. The audit log says who pruned what.

Examples:

  obs prune --older-than 90d --dry-run
  obs prune --older-than 90d
  obs prune --older-than 30d --keep failed --payloads --project 0197… --rate 1000`
}

// prunedBody is what came of one project, and of all of them.
type prunedBody struct {
	Team    string `json:"teamId,omitempty"`
	Project string `json:"projectId,omitempty"`
	observe.Pruned
}

func (c pruneCommand) Run(ctx context.Context, std boot.Std) error {
	cfg, err := c.config()
	_, cfgErr := boot.Load(c.DatabaseFlags)
	if err := boot.Join(err, cfgErr); err != nil {
		return err
	}
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	projects, err := op.projects(ctx, c.Team, c.Project)
	if err != nil {
		return err
	}
	var all observe.Pruned
	list := []prunedBody{}
	last, began := time.Now(), time.Now()
	for _, p := range projects {
		before := all
		cfg.Each = func(one observe.Pruned) {
			all = plus(before, one)
			if !c.JSON && time.Since(last) > 2*time.Second {
				last = time.Now()
				fmt.Fprintf(std.Stderr, "%d jobs after %s, now in project %s\n", all.Jobs, time.Since(began).Round(time.Second), p.ID)
			}
		}
		var one observe.Pruned
		if c.DryRun {
			one.Jobs, err = op.service.Prunable(ctx, op.as(events.Scope{Team: p.TeamID}), p.ID, cfg)
		} else {
			one, err = op.service.Prune(ctx, op.as(events.Scope{Team: p.TeamID}), p.ID, cfg)
		}
		all = plus(before, one)
		if one != (observe.Pruned{}) {
			list = append(list, prunedBody{p.TeamID, p.ID, one})
		}
		if err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted: the same command goes on from here")
	}
	return errors.Join(c.print(std, list, all), told(err))
}

func plus(a, b observe.Pruned) observe.Pruned {
	return observe.Pruned{Jobs: a.Jobs + b.Jobs, Events: a.Events + b.Events, AgentEvents: a.AgentEvents + b.AgentEvents}
}

func (c pruneCommand) print(std boot.Std, list []prunedBody, all observe.Pruned) error {
	if c.JSON {
		return printJSON(std.Stdout, map[string]any{"dryRun": c.DryRun, "projects": list, "total": all})
	}
	if c.DryRun {
		for _, p := range list {
			fmt.Fprintf(std.Stdout, "%s  %d jobs\n", p.Project, p.Jobs)
		}
		_, err := fmt.Fprintf(std.Stdout, "%d jobs would go\n", all.Jobs)
		return err
	}
	_, err := fmt.Fprintf(std.Stdout, "%d jobs and %d events of their histories are gone, %d agent events remember it\n", all.Jobs, all.Events, all.AgentEvents)
	return err
}

// config reads the flags.
func (c pruneCommand) config() (observe.PruneConfig, error) {
	cfg := observe.PruneConfig{Payloads: c.Payloads, Rate: c.Rate}
	var problems []string
	age, err := ageOf(c.Older)
	if err != nil {
		problems = append(problems, "--older-than: "+err.Error())
	}
	cfg.Before = time.Now().Add(-age)
	ends := []string{string(events.StatusCompleted), string(events.StatusFailed), string(events.StatusCancelled)}
	for _, k := range c.Keep {
		if !slices.Contains(ends, k) {
			problems = append(problems, fmt.Sprintf("--keep: got %.80q, want one of %v", k, ends))
		}
	}
	for _, st := range ends {
		if !slices.Contains(c.Keep, st) {
			cfg.Statuses = append(cfg.Statuses, events.Status(st))
		}
	}
	if c.Rate < 0 || c.Rate > 1_000_000 {
		problems = append(problems, fmt.Sprintf("--rate: got %d, want a number from 0 to 1000000", c.Rate))
	}
	if len(cfg.Statuses) == 0 {
		problems = append(problems, "--keep: with all three nothing is left to prune")
	}
	if len(problems) > 0 {
		return cfg, &boot.Misuse{Problems: problems}
	}
	return cfg, nil
}

var days = regexp.MustCompile(`^([0-9]{1,5})(d|w)$`)

// ageOf reads a duration, which may also be in days or weeks.
func ageOf(text string) (time.Duration, error) {
	if m := days.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1]) // five digits fit
		if m[2] == "w" {
			n *= 7
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("got %.80q, want an age such as 90d, 12w or 36h", text)
	}
	return d, nil
}
