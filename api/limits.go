package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// admit counts the request and tells its key how much of its rate is left.
// The routes of older clients are not counted.
func (s *server) admit(c echo.Context, caller observe.Caller, scope string) error {
	if !strings.HasPrefix(c.Path(), "/v1/") {
		return nil
	}
	spends := scope == writes && c.Request().Method != http.MethodDelete
	a, err := s.cfg.Service.Admit(c.Request().Context(), caller, spends)
	h := c.Response().Header()
	if a.Limit > 0 {
		h.Set("X-RateLimit-Limit", strconv.Itoa(a.Limit))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(a.Remaining))
		h.Set("X-RateLimit-Reset", strconv.FormatInt(a.Reset.Unix(), 10))
	}
	if errors.Is(err, observe.ErrRateLimited) {
		h.Set(echo.HeaderRetryAfter, strconv.Itoa(max(1, int(math.Ceil(a.Wait.Seconds())))))
		return called{"rate_limited", &refusal{
			http.StatusTooManyRequests, fmt.Sprintf("Rate limit exceeded (%d requests / 60s)", a.Limit),
		}}
	}
	if quota, ok := errors.AsType[*observe.QuotaError](err); ok {
		return called{"quota_exceeded", &overQuota{refusal{http.StatusPaymentRequired, quota.Error()}, quota}}
	}
	return err
}

// overQuota is a refusal that also tells the numbers.
type overQuota struct {
	refusal
	quota *observe.QuotaError
}

func (o *overQuota) Unwrap() error { return &o.refusal }

type usageBody struct {
	Since  time.Time        `json:"since"`
	Usage  map[string]int64 `json:"usage"`
	By     []observe.UsedBy `json:"by"`
	Budget budgetBody       `json:"budget"`
}

// budgetBody is what the team may use in the month.
type budgetBody struct {
	Tokens    *int64    `json:"tokens"`
	Cost      *int64    `json:"costMicroUsd"`
	Held      bool      `json:"held"`
	Reason    *string   `json:"reason"`
	MonthEnds time.Time `json:"monthEnds"`
}

func (s *server) usage(ctx context.Context, c observe.Caller, _ none) (usageBody, error) {
	u, err := s.cfg.Service.Usage(ctx, c)
	body := usageBody{u.Since, u.Totals, u.By, budgetBody{u.Budget.Tokens, u.Budget.Cost, u.Over != "", textOrNull(u.Over), u.Until}}
	return body, err
}
