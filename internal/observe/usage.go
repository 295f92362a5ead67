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
	MonthlyTokens   int64 // of one team; only what writes is refused then; 0: any number
	Metering        bool  // count what is used; a monthly limit counts anyway
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
	if writes {
		p.TokenCap = l.MonthlyTokens
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

// Usage gives what the caller's team, or its key's project, used since the
// month began: by kind, those that are not 0.
func (s *Service) Usage(ctx context.Context, c Caller) (since time.Time, used map[string]int64, err error) {
	now := time.Now().UTC()
	since = time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	err = s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead)
		if err != nil {
			return err
		}
		rows, err := q.UsageThisMonth(ctx, sqlc.UsageThisMonthParams{TeamID: scope.Team, ProjectID: scope.Project})
		if err != nil {
			return fmt.Errorf("read usage: %w", err)
		}
		used = make(map[string]int64, len(rows))
		for _, r := range rows {
			since, used[r.Kind] = r.Since.UTC(), r.Quantity
		}
		return nil
	})
	return since, used, err
}
