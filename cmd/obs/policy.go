package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type projectSet struct {
	ID       string `arg:"" help:"The project's id."`
	Policy   string `required:"" placeholder:"NAME" help:"per-event, debounce, end-of-session, or server: as the server's --policy says."`
	Debounce string `placeholder:"TIME" help:"How long events wait for others: of debounce, and after a session's end. 5s by default, up to 1h."`
	JSON     bool   `help:"Print JSON."`
	operatorFlags
}

func (projectSet) Help() string {
	return `Says when observations are asked for. per-event: a job for each event, at once. debounce: a job for the events of a
session that come within a time. end-of-session: a job for all events of a session, when it ends, or a day after its first
event when nobody says that it has ended. It counts for events that come from then on.

Examples:

  obs projects set 0197… --policy end-of-session
  obs projects set 0197… --policy debounce --debounce 10s
  obs projects set 0197… --policy server`
}

// serverPolicy stands for none of the project's own.
const serverPolicy = "server"

func (c projectSet) Run(ctx context.Context, std boot.Std) error {
	var wrong []error
	names := append(observe.Policies(), serverPolicy)
	if !slices.Contains(names, c.Policy) {
		wrong = append(wrong, boot.Misused("--policy: got %.80q, want one of %s", c.Policy, strings.Join(names, ", ")))
	}
	p := observe.Policy{Name: c.Policy}
	if c.Policy == serverPolicy {
		p.Name = ""
	}
	if c.Debounce != "" {
		d, err := time.ParseDuration(c.Debounce)
		if err != nil || d < time.Millisecond || d > time.Hour {
			wrong = append(wrong, boot.Misused("--debounce: got %.80q, want a time from 1ms to 1h", c.Debounce))
		}
		if p.Debounce = d; c.Policy == observe.PolicyPerEvent || c.Policy == serverPolicy {
			wrong = append(wrong, boot.Misused("--debounce goes with debounce and end-of-session"))
		}
	}
	_, err := boot.Load(c.DatabaseFlags)
	if err := boot.Join(append(wrong, err)...); err != nil {
		return err
	}
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	projects, err := op.service.ListProjects(ctx, "")
	if err != nil {
		return err
	}
	for _, one := range projects {
		if one.ID != c.ID {
			continue
		}
		if err := op.service.SetPolicy(ctx, op.as(events.Scope{Team: one.TeamID}), one.ID, p); err != nil {
			return told(err)
		}
		if c.JSON {
			return printJSON(std.Stdout, map[string]any{"id": one.ID, "policy": c.Policy, "debounceMs": p.Debounce.Milliseconds()})
		}
		fmt.Fprintf(std.Stdout, "project %s: %s\n", one.Name, c.Policy)
		return nil
	}
	return fmt.Errorf("there is no project %.80q", c.ID)
}
