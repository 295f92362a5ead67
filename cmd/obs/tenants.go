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

type teamsCommand struct {
	Create teamCreate `cmd:"" help:"Make a team."`
	List   teamList   `cmd:"" help:"List all teams."`
}

func (teamsCommand) Help() string {
	return "Examples:\n\n  obs teams create platform\n  obs teams list"
}

type teamCreate struct {
	Name string `arg:"" help:"Its name."`
	JSON bool   `help:"Print JSON."`
	operatorFlags
}

func (teamCreate) Help() string { return "Examples:\n\n  obs teams create platform" }

func (c teamCreate) Run(ctx context.Context, std boot.Std) error {
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	id, err := op.service.CreateTeam(ctx, c.Name)
	if err != nil {
		return told(err)
	}
	return made(std, c.JSON, id)
}

type teamList struct {
	JSON bool `help:"Print JSON."`
	operatorFlags
}

func (teamList) Help() string { return "Examples:\n\n  obs teams list\n  obs teams list --json" }

type teamBody struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	CreatedEpoch int64  `json:"createdAtEpoch"`
}

func (c teamList) Run(ctx context.Context, std boot.Std) error {
	op, err := lookOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	teams, err := op.service.ListTeams(ctx)
	if err != nil {
		return err
	}
	bodies, rows := []teamBody{}, [][]string{{"ID", "CREATED", "NAME"}}
	for _, t := range teams {
		bodies = append(bodies, teamBody{t.ID, t.Name, t.CreatedAt.UnixMilli()})
		rows = append(rows, []string{t.ID, t.CreatedAt.UTC().Format(time.DateOnly), t.Name})
	}
	return listed(std, c.JSON, bodies, rows)
}

type projectsCommand struct {
	Create projectCreate `cmd:"" help:"Make a project of a team."`
	List   projectList   `cmd:"" help:"List projects."`
	Set    projectSet    `cmd:"" help:"Choose when a project's sessions are asked about."`
}

func (projectsCommand) Help() string {
	return "Examples:\n\n  obs projects create --team 0197… api\n  obs projects list\n  obs projects set 0197… --policy end-of-session"
}

type projectCreate struct {
	Name string `arg:"" help:"Its name, which no other project of the team may have."`
	Team string `required:"" placeholder:"ID" help:"The team."`
	JSON bool   `help:"Print JSON."`
	operatorFlags
}

func (projectCreate) Help() string {
	return "Examples:\n\n  obs projects create --team 0197… api"
}

func (c projectCreate) Run(ctx context.Context, std boot.Std) error {
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	id, err := op.service.CreateProject(ctx, c.Team, c.Name)
	if err != nil {
		return told(err)
	}
	return made(std, c.JSON, id)
}

type projectList struct {
	Team string `placeholder:"ID" help:"Only this team's."`
	JSON bool   `help:"Print JSON."`
	operatorFlags
}

func (projectList) Help() string {
	return "Examples:\n\n  obs projects list\n  obs projects list --team 0197… --json"
}

type projectBody struct {
	ID           string `json:"id"`
	TeamID       string `json:"teamId"`
	Name         string `json:"name"`
	CreatedEpoch int64  `json:"createdAtEpoch"`
}

func (c projectList) Run(ctx context.Context, std boot.Std) error {
	op, err := lookOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	projects, err := op.service.ListProjects(ctx, c.Team)
	if err != nil {
		return err
	}
	bodies, rows := []projectBody{}, [][]string{{"ID", "TEAM", "NAME"}}
	for _, p := range projects {
		bodies = append(bodies, projectBody{p.ID, p.TeamID, p.Name, p.CreatedAt.UnixMilli()})
		rows = append(rows, []string{p.ID, cut(p.TeamID, 14), p.Name})
	}
	return listed(std, c.JSON, bodies, rows)
}

// eachTeam calls act as each team, or as the one that is named. A project
// or a key that is another team's is then no error.
func (o *operator) eachTeam(ctx context.Context, named string, act func(team observe.Caller) error) error {
	if named != "" {
		return told(act(o.as(events.Scope{Team: named})))
	}
	all, err := o.service.ListTeams(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		err := act(o.as(events.Scope{Team: t.ID}))
		if err != nil && !errors.Is(err, observe.ErrForbidden) && !errors.Is(err, observe.ErrNotFound) {
			return told(err)
		}
	}
	return nil
}

// eachTeam does so for a command that only looks.
func (f operatorFlags) eachTeam(ctx context.Context, std boot.Std, named string, act func(op *operator, team observe.Caller) error) error {
	op, err := lookOperator(ctx, std, f.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	return op.eachTeam(ctx, named, func(team observe.Caller) error { return act(op, team) })
}

// made prints what a script needs of something new.
func made(std boot.Std, asJSON bool, id string) error {
	if asJSON {
		return printJSON(std.Stdout, map[string]string{"id": id})
	}
	fmt.Fprintln(std.Stdout, id)
	return nil
}

func listed(std boot.Std, asJSON bool, bodies any, rows [][]string) error {
	if asJSON {
		return printJSON(std.Stdout, bodies)
	}
	table(std.Stdout, rows)
	return nil
}

// told is what a person at the terminal needs of the application's error.
func told(err error) error {
	if p, ok := errors.AsType[*observe.Problem](err); ok {
		return errors.New(p.Message)
	}
	if v, ok := errors.AsType[*observe.Invalid](err); ok {
		var lines []string
		for _, i := range v.Issues {
			lines = append(lines, fmt.Sprintf("%v: want %s", i.Path, i.Message))
		}
		return &boot.Misuse{Problems: lines}
	}
	return err
}
