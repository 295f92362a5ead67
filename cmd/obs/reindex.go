package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type reindexCommand struct {
	Team        string `placeholder:"ID" help:"Only this team's projects."`
	Project     string `placeholder:"ID" help:"Only this project."`
	Observation string `placeholder:"ID" help:"Only this observation; --project says whose."`
	NoWait      bool   `name:"no-wait" help:"Only ask for it; obs jobs list --source-type observation_reindex tells the rest."`
	JSON        bool   `help:"Print JSON."`
	operatorFlags
}

func (reindexCommand) Help() string {
	return `Has observations rendered anew by today's rules: their text, the words that a search finds them by, and what is private.
Where workers have a model for embeddings, vectors that are missing or older than their text are made as well. It is a job for
each project, done by a worker beside everything else, and it changes only what differs: to do it twice does no harm.
What somebody wrote or edited by hand keeps its text. It is of use after an upgrade that says so, or to make vectors at once.

It waits until the jobs are done, and says how far it is when that takes longer than two seconds. Ctrl-C ends the waiting
(exit code 1); the jobs go on. A job that failed or was cancelled is exit code 1 as well: obs jobs show tells why.

Examples:

  obs reindex
  obs reindex --project 0197…
  obs reindex --project 0197… --observation obs_7d2…
  obs reindex --team 0197… --no-wait --json`
}

// reindexed is what came of one project.
type reindexed struct {
	Team    string        `json:"teamId"`
	Project string        `json:"projectId"`
	Job     events.ID     `json:"jobId"`
	Status  events.Status `json:"status"`
	reindexOutcome
	Error string `json:"lastError,omitempty"`
}

// reindexOutcome is what the job wrote into the audit log.
type reindexOutcome struct {
	Seen    int `json:"seen"`    // observations
	Changed int `json:"changed"` // of them
	Placed  int `json:"placed"`  // vectors
}

func (c reindexCommand) Run(ctx context.Context, std boot.Std) error {
	var misuse error
	if c.Observation != "" && c.Project == "" {
		misuse = boot.Misused("--observation: say with --project whose it is")
	}
	_, cfgErr := boot.Load(c.DatabaseFlags)
	if err := boot.Join(misuse, cfgErr); err != nil {
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
	list := make([]reindexed, 0, len(projects))
	for _, p := range projects {
		job, err := op.service.Reindex(ctx, op.as(events.Scope{Team: p.TeamID}), p.ID, c.Observation)
		if err != nil {
			return errors.Join(c.print(std, list), told(err))
		}
		list = append(list, reindexed{Team: p.TeamID, Project: p.ID, Job: job.ID, Status: job.Status})
	}
	if !c.NoWait {
		err = c.wait(ctx, std, op, list)
	}
	return errors.Join(c.print(std, list), err)
}

// wait goes on until all jobs are settled, and writes into the list what came
// of them.
func (c reindexCommand) wait(ctx context.Context, std boot.Std, op *operator, list []reindexed) error {
	const often = 250 * time.Millisecond
	bad, last, began := 0, time.Now(), time.Now()
	for i := range list {
		one := &list[i]
		caller := op.as(events.Scope{Team: one.Team})
		for {
			jobs, timedOut, err := op.service.WaitJobs(ctx, caller, []events.ID{one.Job}, often)
			if ctx.Err() != nil {
				return errors.New("interrupted: the jobs go on")
			}
			if err != nil {
				return told(err)
			}
			if job, there := jobs[one.Job]; there {
				one.Status, one.Error = job.Status, job.LastError
			} else {
				one.Error = "it is gone" // with its project, or pruned
			}
			if !timedOut {
				break
			}
			if !c.JSON && time.Since(last) > 2*time.Second {
				last = time.Now()
				fmt.Fprintf(std.Stderr, "%d of %d projects after %s; project %s: job %s is %s%s\n",
					i, len(list), time.Since(began).Round(time.Second), one.Project, one.Job, one.Status, because(one.Error))
			}
		}
		if one.Status != events.StatusCompleted {
			bad++
			continue
		}
		if err := one.readOutcome(ctx, op, caller); err != nil {
			return told(err)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d jobs did not complete", bad, len(list))
	}
	return nil
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func (r *reindexed) readOutcome(ctx context.Context, op *operator, caller observe.Caller) error {
	entries, err := op.service.Audit(ctx, caller, observe.AuditFilter{Action: "observation.reindexed", Limit: 500})
	for _, e := range entries {
		if e.JobID != nil && *e.JobID == string(r.Job) && json.Unmarshal(e.Details, &r.reindexOutcome) == nil && r.Seen > 0 {
			break // the other entry is that it was asked for
		}
	}
	return err
}

func (c reindexCommand) print(std boot.Std, list []reindexed) error {
	if c.JSON {
		return printJSON(std.Stdout, map[string]any{"projects": list})
	}
	var all reindexOutcome
	for _, r := range list {
		all.Seen, all.Changed, all.Placed = all.Seen+r.Seen, all.Changed+r.Changed, all.Placed+r.Placed
		switch {
		case r.Status != events.StatusCompleted:
			fmt.Fprintf(std.Stdout, "%s  job %s is %s%s\n", r.Project, r.Job, r.Status, because(r.Error))
		case len(list) > 1:
			fmt.Fprintf(std.Stdout, "%s  %s\n", r.Project, r.reindexOutcome)
		}
	}
	if c.NoWait {
		return nil
	}
	_, err := fmt.Fprintln(std.Stdout, all)
	return err
}

func (r reindexOutcome) String() string {
	text := fmt.Sprintf("%d observations looked at, %d changed", r.Seen, r.Changed)
	if r.Placed > 0 {
		text += fmt.Sprintf(", %d vectors made", r.Placed)
	}
	return text
}
