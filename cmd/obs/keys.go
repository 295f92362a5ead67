package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type keysCommand struct {
	Create keyCreate `cmd:"" help:"Make a key."`
	List   keyList   `cmd:"" help:"List keys, without their secrets."`
	Revoke keyRevoke `cmd:"" help:"Make a key useless at once."`
	Rotate keyRotate `cmd:"" help:"Put a new key in a key's place."`
}

func (keysCommand) Help() string {
	return "Examples:\n\n  obs keys create --team 0197… --scopes memories:read\n  obs keys list\n  obs keys revoke 0197…\n  obs keys rotate 0197…"
}

type keyCreate struct {
	Team    string   `required:"" placeholder:"ID" help:"The team."`
	Project string   `placeholder:"ID" help:"Only for this project of it."`
	Scopes  []string `default:"memories:read" help:"What it may do: memories:read, memories:write, memories:admin, or * for all."`
	Label   string   `help:"For people."`
	Days    int      `placeholder:"N" help:"It expires after so many days; never by default."`
	JSON    bool     `help:"Print JSON."`
	operatorFlags
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
	Pepper        string   `json:"pepper"` // a mark of what it is hashed with; empty: nothing
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
	operatorFlags
}

func (keyList) Help() string {
	return "Examples:\n\n  obs keys list\n  obs keys list --team 0197… --active --json"
}

func (c keyList) Run(ctx context.Context, std boot.Std) error {
	bodies, rows := []keyBody{}, [][]string{{"ID", "KEY", "STATUS", "USED", "SCOPES"}}
	err := c.eachTeam(ctx, std, c.Team, func(op *operator, team observe.Caller) error {
		keys, err := op.service.ListKeys(ctx, team)
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
		return err
	})
	if err != nil {
		return err
	}
	return listed(std, c.JSON, bodies, rows)
}

// oneKey is what the commands about one key have in common.
type oneKey struct {
	ID   string `arg:"" help:"The key's id, not its secret."`
	Team string `placeholder:"ID" help:"Its team; looked for when not given."`
	JSON bool   `help:"Print JSON."`
	operatorFlags
}

// do finds the key's team and lets act do it there.
func (c oneKey) do(ctx context.Context, std boot.Std, act func(op *operator, caller observe.Caller) error) error {
	if strings.HasPrefix(c.ID, "obs_") {
		return boot.Misused("that is a key's secret; want its id, see obs keys list")
	}
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	found, outcome := false, fmt.Errorf("there is no key %.80q", c.ID)
	err = op.eachTeam(ctx, c.Team, func(team observe.Caller) error {
		if found {
			return nil
		}
		if err := act(op, team); !errors.Is(err, observe.ErrNotFound) {
			found, outcome = true, told(err)
		}
		return nil
	})
	return cmp.Or(err, outcome)
}

type keyRevoke struct{ oneKey }

func (keyRevoke) Help() string { return "Examples:\n\n  obs keys revoke 0197…" }

func (c keyRevoke) Run(ctx context.Context, std boot.Std) error {
	return c.do(ctx, std, func(op *operator, caller observe.Caller) error {
		key, err := op.service.RevokeKey(ctx, caller, c.ID)
		switch {
		case err != nil:
			return err
		case c.JSON:
			return printJSON(std.Stdout, bodyOfKey(key))
		}
		_, err = fmt.Fprintf(std.Stdout, "key %s is revoked\n", key.ID)
		return err
	})
}

type keyRotate struct{ oneKey }

func (keyRotate) Help() string {
	return `The new key may do what the old one may and expires when it would have; the old one is useless from then on. The new
secret is printed once and stored nowhere.

Examples:

  obs keys rotate 0197…
  obs keys rotate 0197… --json`
}

func (c keyRotate) Run(ctx context.Context, std boot.Std) error {
	return c.do(ctx, std, func(op *operator, caller observe.Caller) error {
		key, secret, err := op.service.RotateKey(ctx, caller, c.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			body := bodyOfKey(key)
			body.APIKey = secret
			return printJSON(std.Stdout, body)
		}
		_, err = fmt.Fprintln(std.Stdout, secret)
		return err
	})
}

func bodyOfKey(k observe.Key) keyBody {
	b := keyBody{
		ID: k.ID, Label: k.Label, Prefix: k.Prefix, TeamID: k.TeamID, ProjectID: k.ProjectID,
		Scopes: k.Scopes, Status: "active", Pepper: k.Pepper, CreatedEpoch: epoch(k.CreatedAt),
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
