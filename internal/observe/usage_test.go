package observe_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func init() {
	attempts["Usage"] = attempt{scope: observe.ScopeRead, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		u, err := h.Usage(ctx, c)
		return u.Totals, err
	}}
	forAllTenants["CountRequest"] = "a team's caps are over all its projects"
	forAllTenants["FoldUsage"] = "adds up a team's counts as they are, each under its project"
}

func limited(l observe.Limits) func(*observe.Config) {
	return func(cfg *observe.Config) { cfg.Limits = l }
}

// However many requests come at once, a key gets in as often as its rate says,
// and another key is not held up.
func TestRateIsExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(observe.Limits{PerMinute: 7}))
	other := w.caller(t, w.team, w.project, observe.ScopeRead)
	for { // again if a minute ended meanwhile
		c := w.caller(t, w.team, "", observe.ScopeRead)
		var admitted atomic.Int64
		var windows sync.Map
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				a, err := w.Admit(t.Context(), c, false)
				windows.Store(a.Reset.Unix(), true)
				if err == nil {
					admitted.Add(1)
				} else if a.Remaining != 0 || a.Limit != 7 || a.Wait <= 0 || a.Wait > time.Minute {
					t.Errorf("%+v: %v", a, err)
				}
			})
		}
		wg.Wait()
		n := 0
		windows.Range(func(any, any) bool { n++; return true })
		if n > 1 {
			continue
		}
		require.EqualValues(t, 7, admitted.Load())
		break
	}
	a, err := w.Admit(t.Context(), other, true)
	require.NoError(t, err)
	require.Equal(t, 6, a.Remaining)
	require.Zero(t, w.count(t, "usage_events"), "a rate alone counts no use")
}

// A team at its monthly cap is told the numbers, and what is refused is not
// counted as used.
func TestMonthlyCaps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(observe.Limits{MonthlyRequests: 3}))
	c := w.caller(t, w.team, "", observe.ScopeAll)
	for range 2 {
		_, err := w.Admit(t.Context(), c, true)
		require.NoError(t, err)
	}
	_, err := w.Admit(t.Context(), w.me, false)
	require.NoError(t, err)
	for range 2 {
		_, err = w.Admit(t.Context(), w.me, false)
		require.Equal(t, observe.QuotaError{Kind: "request", Used: 3, Cap: 3}, *as[*observe.QuotaError](t, err))
		require.ErrorIs(t, err, observe.ErrQuota)
	}
	used, err := w.Usage(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"request": 3}, used.Totals)
	require.Equal(t, 1, used.Since.Day())
	used, err = w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"request": 1}, used.Totals, "a project's key sees the project's")

	team, _ := w.tenant(t, "other")
	_, err = w.Admit(t.Context(), w.caller(t, team, "", observe.ScopeAll), true)
	require.NoError(t, err, "another team has a month of its own")
}

// What jobs cost is counted with what they store, summaries included, and
// a team without tokens may still read.
func TestTokensAreCountedWithTheJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(observe.Limits{MonthlyTokens: 30}))
	w.provider.before = func(ctx context.Context, q llm.Question) (*llm.Answer, error) {
		a, err := llm.NewOffline().Answer(ctx, q)
		a.TokensIn, a.TokensOut = 10, 5
		return &a, err
	}
	s := w.session(t, "s")
	w.record(t, w.inSession(1, s.ID))
	_, err := w.Admit(t.Context(), w.me, true)
	require.NoError(t, err)
	w.doAll(t)
	_, _, err = w.EndSession(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	w.doAll(t)
	used, err := w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"request": 1, "tokens": 30, "tokens_out": 10, "observation": 2}, used.Totals)
	_, err = w.Admit(t.Context(), w.me, true)
	require.Equal(t, observe.QuotaError{Kind: "tokens", Used: 30, Cap: 30}, *as[*observe.QuotaError](t, err))
	_, err = w.Admit(t.Context(), w.me, false)
	require.NoError(t, err)
	_, err = w.SetBudget(t.Context(), w.caller(t, w.team, "", observe.ScopeAll), observe.Budget{Tokens: new(int64(31))})
	require.NoError(t, err)
	_, err = w.Admit(t.Context(), w.me, true)
	require.NoError(t, err, "the team's own budget is in the place of the server's cap")
}

// Counts that are added up come to the same, while more come in; what is older
// than a year goes.
func TestUsageIsAddedUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(observe.Limits{Metering: true}))
	_, err := w.pool.Exec(t.Context(), `INSERT INTO usage_events (team_id, project_id, kind, quantity)
		SELECT $1, $2, 'tokens', 2 FROM generate_series(1, 1200)`, w.team, w.project)
	require.NoError(t, err)
	_, err = w.pool.Exec(t.Context(), `INSERT INTO usage_counters (team_id, kind, month, quantity) VALUES ($1, 'request', now() - interval '2 years', 1)`, w.team)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := w.Admit(t.Context(), w.me, false); err != nil {
					t.Errorf("admit: %v", err)
				}
			}
		})
	}
	wg.Wait()
	used, err := w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"request": 40, "tokens": 2400}, used.Totals)
	require.Less(t, w.count(t, "usage_events"), 500)
	require.Zero(t, w.count(t, "usage_counters WHERE month < now() - interval '1 year'"))
}

// A count that cannot be made lets the request in: what the limits rest on
// may be away while the rest works.
func TestLimitsFailOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(observe.Limits{PerMinute: 1, MonthlyRequests: 1}))
	_, err := w.pool.Exec(t.Context(), "ALTER TABLE usage_events RENAME TO gone")
	require.NoError(t, err)
	for range 3 {
		_, err := w.Admit(t.Context(), w.me, true)
		require.NoError(t, err)
	}
}
