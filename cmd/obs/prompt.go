package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
)

type promptCommand struct {
	Show  promptShow  `cmd:"" help:"Print what a provider is sent for a job."`
	Modes promptModes `cmd:"" help:"List the modes, with the version of their words."`
}

func (promptCommand) Help() string {
	return "Examples:\n\n  obs prompt show event_0a1b…\n  obs prompt show summary_0a1b… --form grammar\n  obs prompt modes --prompts ./prompts"
}

type promptShow struct {
	oneJob
	boot.PromptFlags
	Form string `default:"schema" placeholder:"FORM" help:"schema, for a model that answers by a JSON schema, or grammar, for one that is told the form in words."`
}

func (promptShow) Help() string {
	return `Prints the words in which a model is asked about a job's events or session, exactly as they are sent: without what
privacy tags enclose, with a mark in place of each secret, and cut to the mode's budget. What goes into a request as the
system's part and as the user's is printed apart; a provider's own names around them are not. For a job that was done it
is what would be sent now. The offline extractor reads the same events by rule and is sent no words.

Examples:

  obs prompt show event_0a1b…
  obs prompt show summary_0a1b… --json`
}

func (c promptShow) Run(ctx context.Context, std boot.Std) error {
	if c.Form != "schema" && c.Form != "grammar" {
		return boot.Misused("--form: got %.80q, want schema or grammar", c.Form)
	}
	op, caller, err := c.open(ctx, std, c.PromptFlags)
	if err != nil {
		return err
	}
	defer op.close()
	p, err := op.service.JobPrompts(ctx, caller, events.ID(c.ID), c.Form == "schema")
	if err != nil {
		return told(err)
	}
	if c.JSON {
		prompts := []map[string]any{}
		for _, one := range p.Prompts {
			prompts = append(prompts, map[string]any{
				"version": one.Version, "system": one.System, "user": one.User, "schema": one.Schema, "leftOut": one.LeftOut,
			})
		}
		return printJSON(std.Stdout, map[string]any{"jobId": p.Job.ID, "task": p.Task, "privateEvents": p.Private, "toldEvents": p.Told, "prompts": prompts})
	}
	if len(p.Prompts) == 0 {
		why := "privacy left nothing to ask about"
		if p.Told > 0 {
			why = "what it is about was told before by another job, or is private"
		}
		fmt.Fprintf(std.Stdout, "nothing is sent for job %s: %s\n", p.Job.ID, why)
	}
	for i, one := range p.Prompts {
		fmt.Fprintf(std.Stdout, "# %s of job %s, question %d of %d, in the words of %s", p.Task, p.Job.ID, i+1, len(p.Prompts), one.Version)
		if one.LeftOut > 0 {
			fmt.Fprintf(std.Stdout, ", without %d events that there was no room for", one.LeftOut)
		}
		fmt.Fprintf(std.Stdout, "\n\n# system\n%s\n# user\n%s", one.System, one.User)
		if one.Schema != nil {
			fmt.Fprintln(std.Stdout, "\n# schema of the answer")
			if err := printJSON(std.Stdout, one.Schema); err != nil {
				return err
			}
		}
	}
	return nil
}

type promptModes struct {
	JSON bool `help:"Print JSON."`
	boot.PromptFlags
}

func (promptModes) Help() string {
	return "Examples:\n\n  obs prompt modes\n  obs prompt modes --prompts ./prompts --json"
}

func (c promptModes) Run(std boot.Std) error {
	config, err := boot.Load(c.PromptFlags)
	if err != nil {
		return err
	}
	rows := [][]string{{"MODE", "WORDS", "ABOUT", "TYPES"}}
	list := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(config.Modes)) {
		m := config.Modes[name]
		var types []string
		for _, t := range m.Types {
			types = append(types, t.Name)
		}
		rows = append(rows, []string{name, m.Version(), m.About, strings.Join(types, ",")})
		list = append(list, map[string]any{"name": name, "version": m.Version(), "types": m.Types, "concepts": m.Concepts, "description": m.About, "tokens": m.Tokens})
	}
	if c.JSON {
		return printJSON(std.Stdout, map[string]any{"modes": list})
	}
	table(std.Stdout, rows)
	return nil
}
