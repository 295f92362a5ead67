package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	boot.DatabaseFlags
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
	boot.DatabaseFlags
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
}

func (projectsCommand) Help() string {
	return "Examples:\n\n  obs projects create --team 0197… api\n  obs projects list"
}

type projectCreate struct {
	Name string `arg:"" help:"Its name, which no other project of the team may have."`
	Team string `required:"" placeholder:"ID" help:"The team."`
	JSON bool   `help:"Print JSON."`
	boot.DatabaseFlags
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
	boot.DatabaseFlags
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

type keysCommand struct {
	Create keyCreate `cmd:"" help:"Make a key."`
	List   keyList   `cmd:"" help:"List keys, without their secrets."`
	Revoke keyRevoke `cmd:"" help:"Make a key useless at once."`
}

func (keysCommand) Help() string {
	return "Examples:\n\n  obs keys create --team 0197… --scopes memories:read\n  obs keys list\n  obs keys revoke 0197…"
}

type keyCreate struct {
	Team    string   `required:"" placeholder:"ID" help:"The team."`
	Project string   `placeholder:"ID" help:"Only for this project of it."`
	Scopes  []string `default:"memories:read" help:"What it may do: memories:read, memories:write, memories:admin, or * for all."`
	Label   string   `help:"For people."`
	Days    int      `placeholder:"N" help:"It expires after so many days; never by default."`
	JSON    bool     `help:"Print JSON."`
	boot.DatabaseFlags
}

func (keyCreate) Help() string {
	return `The secret is printed once and stored nowhere.

Examples:

  obs keys create --team 0197… --project 0197… --scopes memories:read,memories:write
  obs keys create --team 0197… --label ci --days 90`
}

type keyBody struct {
	ID            string   `json:"id"`
	APIKey        string   `json:"apiKey,omitempty"` // only when it is made
	Label         string   `json:"label"`
	Prefix        string   `json:"prefix"`
	TeamID        string   `json:"teamId"`
	ProjectID     string   `json:"projectId"` // empty: all of the team's
	Scopes        []string `json:"scopes"`
	Status        string   `json:"status"`
	CreatedEpoch  *int64   `json:"createdAtEpoch"`
	ExpiresEpoch  *int64   `json:"expiresAtEpoch"`
	LastUsedEpoch *int64   `json:"lastUsedAtEpoch"`
}

func (c keyCreate) Run(ctx context.Context, std boot.Std) error {
	var expires time.Time
	switch {
	case c.Days < 0 || c.Days > 3650:
		return boot.Misused("--days: got %d, want a number from 1 to 3650", c.Days)
	case c.Days > 0:
		expires = time.Now().AddDate(0, 0, c.Days)
	}
	for _, s := range c.Scopes {
		if !slices.Contains(observe.Scopes(), s) {
			return boot.Misused("--scopes: got %.80q, want one of %s", s, strings.Join(observe.Scopes(), ", "))
		}
	}
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	key, secret, err := op.service.IssueKey(ctx, c.Team, c.Project, op.name, c.Label, c.Scopes, expires)
	if err != nil {
		return told(err)
	}
	if c.JSON {
		body := bodyOfKey(key)
		body.APIKey = secret
		return printJSON(std.Stdout, body)
	}
	fmt.Fprintln(std.Stdout, secret)
	return nil
}

type keyList struct {
	Team   string `placeholder:"ID" help:"Only this team's."`
	Active bool   `help:"Only those that let somebody in."`
	JSON   bool   `help:"Print JSON."`
	boot.DatabaseFlags
}

func (keyList) Help() string {
	return "Examples:\n\n  obs keys list\n  obs keys list --team 0197… --active --json"
}

func (c keyList) Run(ctx context.Context, std boot.Std) error {
	op, err := lookOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	teams, err := op.teams(ctx, c.Team)
	if err != nil {
		return err
	}
	bodies, rows := []keyBody{}, [][]string{{"ID", "KEY", "STATUS", "USED", "SCOPES"}}
	for _, team := range teams {
		keys, err := op.service.ListKeys(ctx, op.as(events.Scope{Team: team}))
		if err != nil {
			return told(err)
		}
		for _, k := range keys {
			b := bodyOfKey(k)
			if c.Active && b.Status != "active" {
				continue
			}
			used := "never"
			if k.LastUsedAt != nil {
				used = ago(*k.LastUsedAt)
			}
			bodies = append(bodies, b)
			rows = append(rows, []string{k.ID, k.Prefix + "…", b.Status, used, strings.Join(k.Scopes, ",")})
		}
	}
	return listed(std, c.JSON, bodies, rows)
}

type keyRevoke struct {
	ID   string `arg:"" help:"The key's id, not its secret."`
	Team string `placeholder:"ID" help:"Its team; looked for when not given."`
	boot.DatabaseFlags
}

func (keyRevoke) Help() string { return "Examples:\n\n  obs keys revoke 0197…" }

func (c keyRevoke) Run(ctx context.Context, std boot.Std) error {
	if strings.HasPrefix(c.ID, "obs_") {
		return boot.Misused("that is a key's secret; want its id, see obs keys list")
	}
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	teams, err := op.teams(ctx, c.Team)
	if err != nil {
		return err
	}
	for _, team := range teams {
		key, err := op.service.RevokeKey(ctx, op.as(events.Scope{Team: team}), c.ID)
		switch {
		case errors.Is(err, observe.ErrNotFound):
			continue
		case err != nil:
			return told(err)
		}
		fmt.Fprintf(std.Stdout, "key %s is revoked\n", key.ID)
		return nil
	}
	return fmt.Errorf("there is no key %.80q", c.ID)
}

// teams are all of them, or the one that is named.
func (o *operator) teams(ctx context.Context, named string) ([]string, error) {
	if named != "" {
		return []string{named}, nil
	}
	all, err := o.service.ListTeams(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(all))
	for i, t := range all {
		ids[i] = t.ID
	}
	return ids, nil
}

func bodyOfKey(k observe.Key) keyBody {
	b := keyBody{
		ID: k.ID, Label: k.Label, Prefix: k.Prefix, TeamID: k.TeamID, ProjectID: k.ProjectID,
		Scopes: k.Scopes, Status: "active", CreatedEpoch: epoch(k.CreatedAt),
	}
	if k.LastUsedAt != nil {
		b.LastUsedEpoch = epoch(*k.LastUsedAt)
	}
	if k.ExpiresAt != nil {
		b.ExpiresEpoch = epoch(*k.ExpiresAt)
		if k.ExpiresAt.Before(time.Now()) {
			b.Status = "expired"
		}
	}
	if k.RevokedAt != nil {
		b.Status = "revoked"
	}
	return b
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
