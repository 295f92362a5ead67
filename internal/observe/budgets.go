package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

// StatusHeld is what [JobFilter.Status] may be besides a job's status: queued,
// and put off because its team has used up its month.
const StatusHeld = "held"

const (
	actBudget = "team.budget"

	budgetFor  = 5 * time.Second  // how long a team's budget is remembered
	letGoEvery = 10 * time.Second // how often it is looked whether held jobs may go
	letGoPage  = 200
	noteWithin = 5 * time.Second
)

// Budget is what a team may use in a calendar month, UTC. When it has, its jobs
// are held until the next month, or until it may use more. Nil leaves it to the
// server (see [Limits]); 0 is any amount.
type Budget struct {
	Tokens *int64 // asked and answered
	Cost   *int64 // in millionths of a US dollar
}

// allowance is a budget as it holds for a team; 0 is any amount.
type allowance struct{ tokens, cost int64 }

func (s *Service) allowanceOf(b Budget) allowance {
	a := allowance{s.cfg.Limits.MonthlyTokens, s.cfg.Limits.MonthlyCost}
	if b.Tokens != nil {
		a.tokens = *b.Tokens
	}
	if b.Cost != nil {
		a.cost = *b.Cost
	}
	return a
}

// over says what is used up; "" is nothing.
func (a allowance) over(spent sqlc.SpentRow) string {
	switch {
	case a.tokens > 0 && spent.Tokens >= a.tokens:
		return fmt.Sprintf("the team has used %d of the %d tokens of its month", spent.Tokens, a.tokens)
	case a.cost > 0 && spent.Cost >= a.cost:
		return fmt.Sprintf("the team has used %s of the %s USD of its month", dollars(spent.Cost), dollars(a.cost))
	}
	return ""
}

// dollars writes millionths of a dollar, small amounts in full.
func dollars(micros int64) string {
	if micros%10_000 != 0 && micros < 1_000_000 {
		return fmt.Sprintf("0.%06d", micros)
	}
	return fmt.Sprintf("%d.%02d", micros/1_000_000, micros%1_000_000/10_000)
}

func budgetIn(ctx context.Context, q *sqlc.Queries, team string) (Budget, error) {
	rows, err := q.TeamBudget(ctx, team)
	if err != nil {
		return Budget{}, fmt.Errorf("read the budget of team %s: %w", team, err)
	}
	for _, r := range rows {
		return Budget{r.Tokens, r.Cost}, nil
	}
	return Budget{}, nil
}

// budgetOf is the team's budget as it was a moment ago.
func (s *Service) budgetOf(ctx context.Context, team string) (Budget, error) {
	if b, ok := s.budgets.get(team); ok {
		return b, nil
	}
	b, _, err := s.stated.get(ctx, team)
	return b, err
}

func (s *Service) loadBudgets(ctx context.Context, teams []string) (map[string]Budget, error) {
	found := make(map[string]Budget, len(teams))
	for _, team := range teams {
		b, err := budgetIn(ctx, s.q, team)
		if err != nil {
			return nil, err
		}
		s.budgets.put(team, b, budgetFor)
		found[team] = b
	}
	return found, nil
}

// withinBudget holds a job whose team has used up its month, unless somebody
// has let this one go. Jobs that begin at the same moment may all get in: a
// budget is overdrawn by what is in work when it is reached. When it cannot be
// told, the job is done.
func (s *Service) withinBudget(ctx context.Context, job events.Job) error {
	over, wait, err := s.overdrawn(ctx, job.Scope.Team)
	if err == nil && over != "" { // by a budget that may be a little old: somebody may have raised it just now
		s.budgets.drop(job.Scope.Team)
		over, wait, err = s.overdrawn(ctx, job.Scope.Team)
	}
	if err == nil && over != "" {
		var free bool
		free, err = s.q.LetGo(ctx, sqlc.LetGoParams{
			JobID: string(job.ID), Asked: int32(job.Asked), TeamID: job.Scope.Team, ProjectID: job.Scope.Project,
		})
		if err == nil && free {
			return nil
		}
		if err == nil {
			err = s.q.NoteHold(ctx, job.Scope.Team)
		}
	}
	switch {
	case err != nil && ctx.Err() == nil:
		s.log.LogAttrs(ctx, slog.LevelWarn, "budget not known", slog.String("team", job.Scope.Team), slog.Any("err", err))
		return nil
	case over == "":
		return nil
	}
	return pipeline.Hold(wait, errors.New(over))
}

// overdrawn says what a team has used up, and how long until it may go on.
func (s *Service) overdrawn(ctx context.Context, team string) (over string, wait time.Duration, err error) {
	b, err := s.budgetOf(ctx, team)
	if err != nil {
		return "", 0, err
	}
	a := s.allowanceOf(b)
	if a == (allowance{}) {
		return "", 0, nil
	}
	spent, err := s.q.Spent(ctx, team)
	if err != nil {
		return "", 0, fmt.Errorf("read what team %s has used: %w", team, err)
	}
	// Not all of them in the first second of the month.
	return a.over(spent), time.Duration(spent.MonthEndsUs)*time.Microsecond + mathrand.N(time.Minute), nil
}

// spend notes what a provider counted for an answer, or for none: paid is paid.
func (s *Service) spend(ctx context.Context, scope events.Scope, uses []llm.Use) {
	p := sqlc.NoteSpendingParams{TeamID: scope.Team, ProjectID: scope.Project}
	for _, u := range uses {
		cost, err := s.cfg.Prices.Cost(u)
		if err != nil {
			if _, told := s.unpriced.LoadOrStore(u.Provider+" "+u.Model, true); !told {
				s.log.LogAttrs(ctx, slog.LevelWarn, "the price table does not have the model: it costs nothing in a budget",
					slog.String("provider", u.Provider), slog.String("model", u.Model))
			}
		}
		in, out := int64(max(u.TokensIn, 0)), int64(max(u.TokensOut, 0))
		p.Kinds = append(p.Kinds, UsageTokens, UsageTokensOut, UsageCost)
		p.Quantities = append(p.Quantities, in+out, out, cost)
		for range 3 {
			p.Providers, p.Models = append(p.Providers, plain(u.Provider)), append(p.Models, plain(u.Model))
		}
	}
	if len(p.Kinds) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
	defer cancel()
	if err := s.q.NoteSpending(ctx, p); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "spending not counted", slog.String("team", scope.Team), slog.Any("err", err))
	}
}

// OwnBudget is what was said for the caller's team, and not for all.
func (s *Service) OwnBudget(ctx context.Context, c Caller) (Budget, error) {
	var b Budget
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		if scope.Project != "" {
			return forbidden("API key is scoped to a project")
		}
		b, err = budgetIn(ctx, q, scope.Team)
		return err
	})
	return b, err
}

// SetBudget gives the caller's team a budget, and lets its held jobs go at once
// if that leaves it room. It says how many.
func (s *Service) SetBudget(ctx context.Context, c Caller, b Budget) (letGo int, err error) {
	var wrong issues
	for name, v := range map[string]*int64{"tokens": b.Tokens, "cost": b.Cost} {
		if v != nil && *v < 0 {
			wrong.add(CodeTooSmall, "0 or more", name)
		}
	}
	if err := wrong.err(); err != nil {
		return 0, err
	}
	err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toAdmin)
		if err != nil {
			return err
		}
		if scope.Project != "" {
			return forbidden("API key is scoped to a project")
		}
		if has, err := q.HasTeam(ctx, scope.Team); err != nil || !has {
			return cmp.Or(err, notFound("Team"))
		}
		err = q.SetTeamBudget(ctx, sqlc.SetTeamBudgetParams{TeamID: scope.Team, Tokens: b.Tokens, Cost: b.Cost, UpdatedBy: cmp.Or(c.KeyID, c.Actor)})
		if err != nil {
			return fmt.Errorf("set the budget of team %s: %w", scope.Team, err)
		}
		return c.audit(ctx, q, entry{
			scope: events.Scope{Team: scope.Team}, action: actBudget, resource: resTeam, id: scope.Team,
			details: map[string]any{"tokens": b.Tokens, "micro_usd": b.Cost},
		})
	})
	if err != nil {
		return 0, err
	}
	s.budgets.put(c.Team, b, budgetFor)
	over, _, err := s.overdrawn(ctx, c.Team)
	if err != nil || over != "" {
		return 0, err
	}
	return s.letGo(ctx, c.Team, cmp.Or(c.KeyID, c.Actor))
}
