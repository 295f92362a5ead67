package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type usageCommand struct {
	Team  string `placeholder:"ID" help:"Only this team's."`
	Month string `placeholder:"YYYY-MM" help:"That month's, of the last 13; by default this one's."`
	JSON  bool   `help:"Print JSON."`
	operatorFlags
}

func (usageCommand) Help() string {
	return `Prints what teams used since the month began (UTC), or in another month: what was paid for, by project, provider and model, and whether
a team has used up its own budget. A cost is 0 where the worker's price table does not have the model.

Examples:

  obs usage
  obs usage --month 2026-10
  obs usage --team 0197… --json`
}

type usageBody struct {
	TeamID string           `json:"teamId"`
	Since  time.Time        `json:"since"`
	Usage  map[string]int64 `json:"usage"`
	By     []observe.UsedBy `json:"by"`
	Budget ownBudgetBody    `json:"budget"`
	Reason string           `json:"held,omitempty"` // what of its own budget is used up
}

// ownBudgetBody is a team's own word; null leaves it to the server.
type ownBudgetBody struct {
	Tokens *int64 `json:"tokens"`
	Cost   *int64 `json:"costMicroUsd"`
}

func (c usageCommand) Run(ctx context.Context, std boot.Std) error {
	month := time.Now()
	var wrong error
	if c.Month != "" {
		var err error
		if month, err = time.Parse("2006-01", c.Month); err != nil {
			wrong = boot.Misused("--month: got %.40q, want a month such as 2026-10", c.Month)
		}
	}
	_, err := boot.Load(c.DatabaseFlags)
	if err := boot.Join(wrong, err); err != nil {
		return err
	}
	bodies := []usageBody{}
	rows := [][]string{{"TEAM", "PROVIDER", "IN", "OUT", "USD", "MODEL", "PROJECT"}}
	var held []string
	err = c.eachTeam(ctx, std, c.Team, func(op *operator, team observe.Caller) error {
		u, err := op.service.UsageOf(ctx, team, month)
		if err != nil {
			return err
		}
		b := usageBody{team.Team, u.Since, u.Totals, u.By, ownBudgetBody(u.Budget), u.Over}
		for _, by := range u.By {
			rows = append(rows, []string{
				cut(team.Team, 13), by.Provider, strconv.FormatInt(by.TokensIn, 10), strconv.FormatInt(by.TokensOut, 10), dollars(by.Cost), by.Model, by.Project,
			})
		}
		if u.Over != "" {
			held = append(held, fmt.Sprintf("team %s is held: %s", team.Team, u.Over))
		}
		if len(b.By) > 0 || len(u.Totals) > 0 || c.Team != "" {
			bodies = append(bodies, b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := listed(std, c.JSON, bodies, rows); err != nil || c.JSON {
		return err
	}
	for _, line := range held {
		fmt.Fprintln(std.Stdout, line)
	}
	return nil
}

// dollars writes millionths of a dollar, to the hundredth of a cent, or finer
// where that says more.
func dollars(micros int64) string {
	if micros%100 != 0 && micros < 1_000_000 {
		return fmt.Sprintf("0.%06d", micros)
	}
	return fmt.Sprintf("%d.%04d", micros/1_000_000, micros%1_000_000/100)
}

type budgetCommand struct {
	Show budgetShow `cmd:"" help:"Show the teams' own budgets."`
	Set  budgetSet  `cmd:"" help:"Say what a team may use in a month."`
}

func (budgetCommand) Help() string {
	return `A team that has used up its month, by the calendar in UTC, has its jobs held: they wait, and lose no attempt. They go
when the next month begins, when the budget has room again, or one by one with obs jobs retry. Events are taken in all the
while. A budget is overdrawn by the jobs that are in work when it is reached.

Examples:

  obs budget show
  obs budget set --team 0197… --tokens 2000000 --usd 5
  obs budget set --team 0197… --usd none
  obs jobs list --status held`
}

type budgetShow struct {
	Team string `placeholder:"ID" help:"Only this team's."`
	JSON bool   `help:"Print JSON."`
	operatorFlags
}

func (budgetShow) Help() string {
	return "Examples:\n\n  obs budget show\n  obs budget show --team 0197… --json"
}

type teamBudgetBody struct {
	TeamID string `json:"teamId"`
	ownBudgetBody
}

func (c budgetShow) Run(ctx context.Context, std boot.Std) error {
	bodies, rows := []teamBudgetBody{}, [][]string{{"TEAM", "TOKENS", "USD"}}
	err := c.eachTeam(ctx, std, c.Team, func(op *operator, team observe.Caller) error {
		b, err := op.service.OwnBudget(ctx, team)
		if err != nil {
			return err
		}
		bodies = append(bodies, teamBudgetBody{team.Team, ownBudgetBody(b)})
		rows = append(rows, []string{team.Team, amount(b.Tokens, func(n int64) string { return strconv.FormatInt(n, 10) }), amount(b.Cost, dollars)})
		return nil
	})
	if err != nil {
		return err
	}
	return listed(std, c.JSON, bodies, rows)
}

// Words for an amount that is no number.
const (
	anyAmount = "none"   // no cap
	asServer  = "server" // what the server's flags say
)

func amount(n *int64, write func(int64) string) string {
	switch {
	case n == nil:
		return asServer
	case *n == 0:
		return anyAmount
	}
	return write(*n)
}

type budgetSet struct {
	Team   string `required:"" placeholder:"ID" help:"The team."`
	Tokens string `placeholder:"N" help:"Tokens, asked and answered; none: any number; server: as the server's --monthly-token-cap says."`
	USD    string `name:"usd" placeholder:"USD" help:"US dollars, such as 12.50, by the worker's price table; none: any amount; server: as its --monthly-cost-cap says."`
	JSON   bool   `help:"Print JSON."`
	operatorFlags
}

func (budgetSet) Help() string {
	return `What is not named stays as it is. Workers follow within 5 s. Jobs of the team that are held go at once if this leaves it
room.

Examples:

  obs budget set --team 0197… --tokens 2000000
  obs budget set --team 0197… --usd 12.50
  obs budget set --team 0197… --tokens server --usd none`
}

// capOf reads a cap: a number, "none" or "server".
func capOf(flag, text string, read func(string) (int64, error)) (*int64, error) {
	switch text {
	case asServer:
		return nil, nil
	case anyAmount:
		return new(int64), nil
	}
	n, err := read(text)
	if err != nil || n <= 0 {
		return nil, boot.Misused("--%s: got %.40q, want a number above 0, or none, or server", flag, text)
	}
	return &n, nil
}

func (c budgetSet) Run(ctx context.Context, std boot.Std) error {
	var named error
	if c.Tokens == "" && c.USD == "" {
		named = boot.Misused("want --tokens or --usd")
	}
	var tokens, cost *int64
	var tokensErr, costErr error
	if c.Tokens != "" {
		tokens, tokensErr = capOf("tokens", c.Tokens, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
	}
	if c.USD != "" {
		cost, costErr = capOf("usd", c.USD, boot.Dollars)
	}
	_, err := boot.Load(c.DatabaseFlags)
	if err := boot.Join(named, tokensErr, costErr, err); err != nil {
		return err
	}
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	team := op.as(events.Scope{Team: c.Team})
	b, err := op.service.OwnBudget(ctx, team)
	if err != nil {
		return told(err)
	}
	if c.Tokens != "" {
		b.Tokens = tokens
	}
	if c.USD != "" {
		b.Cost = cost
	}
	n, err := op.service.SetBudget(ctx, team, b)
	if err != nil {
		return told(err)
	}
	if c.JSON {
		return printJSON(std.Stdout, map[string]any{"teamId": c.Team, "tokens": b.Tokens, "costMicroUsd": b.Cost, "letGo": n})
	}
	fmt.Fprintf(std.Stdout, "team %s: tokens %s, usd %s; %d held jobs may go\n", c.Team,
		amount(b.Tokens, func(n int64) string { return strconv.FormatInt(n, 10) }), amount(b.Cost, dollars), n)
	return nil
}

type pricesCommand struct {
	Prices string `name:"prices" var:"OBS_PRICES" placeholder:"FILE" help:"Check this table and print it, in place of the one that comes with obs."`
}

func (pricesCommand) Help() string {
	return `Prints the table by which the cost of answers is counted. To have prices of your own, edit a copy and give it to the
workers.

Examples:

  obs prices > prices.txt
  obs prices --prices prices.txt
  obs worker --prices prices.txt`
}

func (c pricesCommand) Run(std boot.Std) error {
	text := llm.DefaultPrices()
	if c.Prices != "" {
		b, err := os.ReadFile(c.Prices)
		if err != nil {
			return boot.Misused("--prices (OBS_PRICES): %v", err)
		}
		text = string(b)
	}
	if _, err := llm.ParsePrices(text); err != nil {
		return boot.Misused("--prices (OBS_PRICES): %v", err)
	}
	_, err := fmt.Fprint(std.Stdout, text)
	return err
}
