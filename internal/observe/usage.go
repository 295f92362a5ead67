package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/sqlc"
)

// The kinds of use that are counted.
const (
	UsageRequest     = "request"     // an admitted request; a batch is one
	UsageTokens      = "tokens"      // of the provider, asked and answered
	UsageTokensOut   = "tokens_out"  // those of them that were answered
	UsageCost        = "cost"        // of the provider, in millionths of a US dollar
	UsageObservation = "observation" // stored by a job
)

const (
	rateWindow = time.Minute
	foldAt     = 500  // counted things of a team that are added up together
	foldMost   = 5000 // and at most so many at once
)

// Limits is what keys and teams are held to. The zero value is no limit, and
// nothing is counted.
type Limits struct {
	PerMinute       int   // requests of one key in a minute by the clock; 0: any number
	MonthlyRequests int64 // of one team in a calendar month, UTC; 0: any number
	MonthlyTokens   int64 // of one team without a Budget; what writes is refused then, and its jobs are held; 0: any number
	MonthlyCost     int64 // likewise, in millionths of a US dollar, but nothing is refused; 0: any amount
	Metering        bool  // count what is used; a monthly limit counts anyway, and the provider's tokens are counted always
}

func (l Limits) metering() bool { return l.Metering || l.MonthlyRequests > 0 || l.MonthlyTokens > 0 }

var (
	// ErrRateLimited is too many requests of a key.
	ErrRateLimited = errors.New("rate limit exceeded")
	// ErrQuota is a team that has used up its month; see [QuotaError].
	ErrQuota = errors.New("monthly quota reached")
)

// QuotaError tells which. It is an ErrQuota.
type QuotaError struct {
	Kind      string // UsageRequest or UsageTokens
	Used, Cap int64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("Monthly %s quota reached (%d)", e.Kind, e.Cap)
}

// Unwrap gives ErrQuota.
func (e *QuotaError) Unwrap() error { return ErrQuota }

// Admission is how much of its rate a key has left. The zero value means that
// there is no rate.
type Admission struct {
	Limit     int       // requests in a window
	Remaining int       // of them
	Reset     time.Time // when the next window begins
	Wait      time.Duration
}

// Admit counts a request of the caller and says whether it is within the
// limits: ErrRateLimited or a [*QuotaError] if not. The admission is good with
// both. writes says that the request may cost tokens. When it cannot be
// counted, it is let in.
func (s *Service) Admit(ctx context.Context, c Caller, writes bool) (Admission, error) {
	l := s.cfg.Limits
	if l.PerMinute <= 0 && !l.metering() {
		return Admission{}, nil
	}
	p := sqlc.CountRequestParams{
		ApiKeyID: c.KeyID, RateLimit: int32(l.PerMinute), TeamID: c.Team, ProjectID: c.Project,
		Metering: l.metering(), RequestCap: l.MonthlyRequests,
	}
	if writes && l.MonthlyTokens > 0 {
		p.TokenCap = l.MonthlyTokens
		if b, err := s.budgetOf(ctx, c.Team); err == nil {
			p.TokenCap = s.allowanceOf(b).tokens
		}
	}
	row, err := s.q.CountRequest(ctx, p)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "request not counted", slog.String("key", c.KeyID), slog.Any("err", err))
		return Admission{}, nil
	}
	if row.Fresh >= foldAt {
		if err := s.q.FoldUsage(ctx, sqlc.FoldUsageParams{TeamID: c.Team, MaxRows: foldMost}); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "usage not added up", slog.String("team", c.Team), slog.Any("err", err))
		}
	}
	var a Admission
	if l.PerMinute > 0 {
		reset := row.WindowStart.Add(rateWindow)
		a = Admission{Limit: l.PerMinute, Remaining: max(0, l.PerMinute-int(row.InWindow)), Reset: reset, Wait: reset.Sub(row.At)}
	}
	switch {
	case l.PerMinute > 0 && int(row.InWindow) > l.PerMinute:
		return a, ErrRateLimited
	case p.RequestCap > 0 && row.Requests >= p.RequestCap:
		return a, &QuotaError{UsageRequest, row.Requests, p.RequestCap}
	case p.TokenCap > 0 && row.Tokens >= p.TokenCap:
		return a, &QuotaError{UsageTokens, row.Tokens, p.TokenCap}
	}
	return a, nil
}

// Used is what a team, or one project of it, used since the month began.
type Used struct {
	Since  time.Time
	Totals map[string]int64 // by kind, those that are not 0
	By     []UsedBy         // what was paid for, by project, provider and model
	Budget Budget           // as it holds for the team; nil: any amount
	Over   string           // what of it is used up; "": nothing
	Until  time.Time        // when the month ends
}

// UsedBy is what one model was paid for. Its JSON is that of the API and of the
// command.
type UsedBy struct {
	Project   string `json:"projectId"`
	Provider  string `json:"provider"`
	Model     string `json:"model"`
	TokensIn  int64  `json:"tokensIn"`
	TokensOut int64  `json:"tokensOut"`
	Cost      int64  `json:"costMicroUsd"` // in millionths of a US dollar; 0 also where the model has no price
}

// Usage gives what the caller's team, or its key's project, used since the
// month began, and what the team may use.
func (s *Service) Usage(ctx context.Context, c Caller) (Used, error) {
	return s.usage(ctx, c, nil)
}

// UsageOf is Usage of the month, UTC, that a moment is in. What is older than
// 13 months is forgotten. The budget is that of now.
func (s *Service) UsageOf(ctx context.Context, c Caller, at time.Time) (Used, error) {
	return s.usage(ctx, c, &at)
}

func (s *Service) usage(ctx context.Context, c Caller, at *time.Time) (Used, error) {
	now := time.Now().UTC()
	if at != nil {
		now = at.UTC()
	}
	var u Used
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		u = Used{Since: time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC), Totals: map[string]int64{}, By: []UsedBy{}}
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		rows, err := q.UsageOfMonth(ctx, sqlc.UsageOfMonthParams{TeamID: scope.Team, ProjectID: scope.Project, At: at})
		if err != nil {
			return fmt.Errorf("read usage: %w", err)
		}
		for _, r := range rows {
			u.add(r)
		}
		u.Until = u.Since.AddDate(0, 1, 0)
		return u.budget(ctx, s, q, scope.Team)
	})
	return u, err
}

func (u *Used) budget(ctx context.Context, s *Service, q *sqlc.Queries, team string) error {
	own, err := budgetIn(ctx, q, team)
	if err != nil {
		return err
	}
	a := s.allowanceOf(own)
	if a == (allowance{}) {
		return nil
	}
	spent, err := q.Spent(ctx, team) // by all its projects, whoever asks
	if err != nil {
		return fmt.Errorf("read what team %s has used: %w", team, err)
	}
	u.Over = a.over(spent)
	if a.tokens > 0 {
		u.Budget.Tokens = &a.tokens
	}
	if a.cost > 0 {
		u.Budget.Cost = &a.cost
	}
	return nil
}

func (u *Used) add(r sqlc.UsageOfMonthRow) {
	u.Since = r.Since.UTC()
	u.Totals[r.Kind] += r.Quantity
	if r.Provider == "" && r.Model == "" {
		return
	}
	n := len(u.By)
	if n == 0 || u.By[n-1].Project != r.ProjectID || u.By[n-1].Provider != r.Provider || u.By[n-1].Model != r.Model {
		u.By = append(u.By, UsedBy{Project: r.ProjectID, Provider: r.Provider, Model: r.Model})
		n++
	}
	switch by := &u.By[n-1]; r.Kind {
	case UsageTokens:
		by.TokensIn += r.Quantity
	case UsageTokensOut:
		by.TokensOut += r.Quantity
		by.TokensIn -= r.Quantity
	case UsageCost:
		by.Cost += r.Quantity
	}
}
