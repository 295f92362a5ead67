package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type jobsCommand struct {
	List    jobList    `cmd:"" help:"List jobs, newest first."`
	Failed  jobFailed  `cmd:"" help:"List the jobs that failed, with the reason."`
	Show    jobShow    `cmd:"" help:"Show one job."`
	History jobHistory `cmd:"" help:"Show all that happened to one job."`
	Retry   jobRetry   `cmd:"" help:"Ask again for a job that failed or was cancelled, or for all that failed."`
	Cancel  jobCancel  `cmd:"" help:"Stop a job that waits or is being done."`
}

func (jobsCommand) Help() string {
	return "Examples:\n\n  obs jobs list --status failed\n  obs jobs history event_0a1b…\n  obs jobs retry event_0a1b…\n  obs jobs failed --since 24h"
}

type jobList struct {
	Status  string `placeholder:"STATUS" help:"queued, processing, completed, failed or cancelled; held: queued, and waiting because the team has used up its month."`
	Source  string `name:"source-type" placeholder:"TYPE" help:"agent_event, session_batch, session_summary or observation_reindex."`
	Team    string `placeholder:"ID" help:"Only this team's."`
	Project string `placeholder:"ID" help:"Only this project's."`
	Since   string `placeholder:"TIME" help:"Made since then: 2h, 30m, or 2026-01-31T08:00:00Z."`
	Limit   int    `default:"50" placeholder:"N" help:"At most so many, up to 200."`
	JSON    bool   `help:"Print JSON."`
	operatorFlags
}

func (jobList) Help() string {
	return `Examples:

  obs jobs list
  obs jobs list --status failed --since 24h
  obs jobs list --project 0197… --limit 200 --json`
}

// jobStatuses are those that a list can be narrowed to.
func jobStatuses() []string {
	var all []string
	for _, s := range events.Statuses() {
		all = append(all, string(s))
	}
	return append(all, observe.StatusHeld)
}

func (c jobList) filter() (observe.JobFilter, error) {
	f := observe.JobFilter{Status: c.Status, SourceType: c.Source, Project: c.Project, Limit: c.Limit}
	var problems []string
	if statuses := jobStatuses(); c.Status != "" && !slices.Contains(statuses, c.Status) {
		problems = append(problems, fmt.Sprintf("--status: got %.80q, want one of %v", c.Status, statuses))
	}
	sources := []string{observe.SourceEvent, observe.SourceBatch, observe.SourceSummary, observe.SourceReindex}
	if c.Source != "" && !slices.Contains(sources, c.Source) {
		problems = append(problems, fmt.Sprintf("--source-type: got %.80q, want one of %v", c.Source, sources))
	}
	if c.Limit < 1 || c.Limit > 200 {
		problems = append(problems, fmt.Sprintf("--limit: got %d, want a number from 1 to 200", c.Limit))
	}
	since, err := sinceOf(c.Since)
	if err != nil {
		problems = append(problems, err.Error())
	}
	f.Since = since
	if len(problems) > 0 {
		return f, &boot.Misuse{Problems: problems}
	}
	return f, nil
}

func (c jobList) Run(ctx context.Context, std boot.Std) error {
	f, err := c.filter()
	_, cfgErr := boot.Load(c.DatabaseFlags)
	if err := boot.Join(err, cfgErr); err != nil {
		return err
	}
	var jobs []events.Job
	held := map[events.ID]string{}
	total := 0
	err = c.eachTeam(ctx, std, c.Team, func(op *operator, team observe.Caller) error {
		page, n, err := op.service.ListJobs(ctx, team, f)
		if err != nil {
			return err
		}
		jobs, total = append(jobs, page...), total+n
		why, err := op.service.WhyHeld(ctx, team, page...)
		maps.Copy(held, why)
		return err
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(jobs, func(a, b events.Job) int { return b.CreatedAt.Compare(a.CreatedAt) })
	jobs = jobs[:min(len(jobs), c.Limit)]
	if c.JSON {
		bodies := []jobBody{}
		for _, j := range jobs {
			b := bodyOfJob(j)
			b.Held = held[j.ID]
			bodies = append(bodies, b)
		}
		return printJSON(std.Stdout, map[string]any{"jobs": bodies, "total": total, "limit": c.Limit})
	}
	rows := [][]string{{"ID", "STATUS", "TRIES", "AGE", "LAST ERROR"}}
	for _, j := range jobs {
		status, why := string(j.Status), j.LastError
		if reason, ok := held[j.ID]; ok {
			status, why = observe.StatusHeld, reason
		}
		rows = append(rows, []string{string(j.ID), status, fmt.Sprintf("%d/%d", j.Attempts, j.MaxAttempts), ago(j.CreatedAt), why})
	}
	table(std.Stdout, rows)
	fmt.Fprintf(std.Stdout, "%d of %d jobs\n", len(jobs), total)
	return nil
}

// oneJob is what the commands about one job have in common.
type oneJob struct {
	ID   string `arg:"" help:"The job's id."`
	JSON bool   `help:"Print JSON."`
	operatorFlags
}

// open finds the job's owner, who is the one to act as.
func (c oneJob) open(ctx context.Context, std boot.Std, more ...boot.Settings) (*operator, observe.Caller, error) {
	var wrong error
	if events.Token(c.ID) != c.ID {
		wrong = boot.Misused("%.80q is no job id: those have 1 to 64 letters, digits, '_' and '-'", c.ID)
	}
	flags := slices.Concat([]boot.Settings{c.DatabaseFlags}, more)
	_, err := boot.Load(flags...)
	if err := boot.Join(wrong, err); err != nil {
		return nil, observe.Caller{}, err
	}
	op, err := lookOperator(ctx, std, flags...)
	if err != nil {
		return nil, observe.Caller{}, err
	}
	scope, err := op.jobs.Find(ctx, events.ID(c.ID))
	if err != nil {
		op.close()
		if errors.Is(err, events.ErrUnknownJob) {
			err = fmt.Errorf("there is no job %s", c.ID)
		}
		return nil, observe.Caller{}, err
	}
	return op, op.as(scope), nil
}

type jobShow struct{ oneJob }

func (jobShow) Help() string {
	return "Examples:\n\n  obs jobs show event_0a1b…\n  obs jobs show event_0a1b… --json"
}

func (c jobShow) Run(ctx context.Context, std boot.Std) error {
	op, caller, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer op.close()
	j, _, err := op.service.Job(ctx, caller, events.ID(c.ID))
	if err != nil {
		return told(err)
	}
	held, err := op.service.WhyHeld(ctx, caller, j)
	if err != nil {
		return told(err)
	}
	if c.JSON {
		b := bodyOfJob(j)
		b.Held = held[j.ID]
		return printJSON(std.Stdout, b)
	}
	rows := [][]string{
		{"job", string(j.ID)},
		{"status", string(j.Status)},
		{"kind", string(j.Kind)},
		{"attempts", fmt.Sprintf("%d of %d", j.Attempts, j.MaxAttempts)},
		{"source", j.SourceType + " " + j.SourceID},
		{"team", j.Scope.Team},
		{"project", j.Scope.Project},
		{"created", stamp(j.CreatedAt)},
		{"updated", stamp(j.UpdatedAt)},
	}
	for _, more := range [][]string{
		{"next", stamp(j.NextAt)},
		{"waits", held[j.ID]},
		{"held by", j.LockedBy},
		{"completed", stamp(j.CompletedAt)},
		{"failed", stamp(j.FailedAt)},
		{"cancelled", stamp(j.CancelledAt)},
		{"request", j.RequestID},
		{"last error", j.LastError},
	} {
		if more[1] != "" {
			rows = append(rows, more)
		}
	}
	for _, r := range rows { // whole, not cut: this is where one looks for it
		name := r[0]
		for line := range strings.Lines(r[1]) {
			fmt.Fprintf(std.Stdout, "%-11s%s\n", name, strings.TrimRight(plain(line), " "))
			name = ""
		}
	}
	return nil
}

type jobHistory struct{ oneJob }

func (jobHistory) Help() string {
	return "Examples:\n\n  obs jobs history event_0a1b…\n  obs jobs history event_0a1b… --json"
}

func (c jobHistory) Run(ctx context.Context, std boot.Std) error {
	op, caller, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer op.close()
	_, history, err := op.service.Job(ctx, caller, events.ID(c.ID))
	if err != nil {
		return told(err)
	}
	if c.JSON {
		bodies := []eventBody{}
		for i, e := range history {
			b := bodyOfEvent(e)
			if i > 0 {
				b.AfterMS = e.At.Sub(history[i-1].At).Milliseconds()
			}
			bodies = append(bodies, b)
		}
		return printJSON(std.Stdout, bodies)
	}
	rows := [][]string{{"#", "TIME (UTC)", "AFTER", "EVENT", "TRY", "BY", "REASON"}}
	for i, e := range history {
		after := ""
		if i > 0 {
			after = "+" + short(e.At.Sub(history[i-1].At))
		}
		by := e.Actor
		if by == "" || by == "worker" {
			by = e.Process
		}
		rows = append(rows, []string{
			fmt.Sprint(e.Version), e.At.UTC().Format("01-02 15:04:05.000"), after, string(e.Type), fmt.Sprint(e.Attempt), cut(by, 16), e.Reason,
		})
	}
	table(std.Stdout, rows)
	return nil
}
