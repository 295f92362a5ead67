package observe_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func init() {
	attempts["OwnBudget"] = attempt{scope: observe.ScopeRead, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		if _, err := h.OwnBudget(ctx, c); err != nil || c.Team != h.team || c.Project != "" && c.Project != h.project {
			return nil, err // a stranger reads the stranger's own, and a project that of its team
		}
		return "read", nil
	}}
	attempts["SetBudget"] = attempt{scope: observe.ScopeAdmin, lists: true, wide: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.SetBudget(ctx, c, observe.Budget{}) // of the caller's own team: its held jobs go
	}}
	attempts["UsageOf"] = attempt{scope: observe.ScopeRead, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		u, err := h.UsageOf(ctx, c, time.Now())
		return u.Totals, err
	}}
	attempts["OwnBudget"] = attempt{scope: observe.ScopeRead, lists: true, wide: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		b, err := h.OwnBudget(ctx, c)
		return b, err
	}}
	attempts["WhyHeld"] = attempt{scope: observe.ScopeRead, lists: true, call: func(ctx context.Context, c observe.Caller, h *home) (any, error) {
		return h.WhyHeld(ctx, c, h.held)
	}}
	maps.Copy(forAllTenants, map[string]string{
		"Spent":        "a team's budget is over all its projects",
		"NoteSpending": "counts what was paid for, under its team and project",
		"CrowdedUsage": "finds whose counts are to be added up",
		"HeldJobs":     "a team's budget is over all its projects",
	})
}

// priced makes each answer cost 15 tokens and 60 millionths of a dollar.
func priced(t *testing.T, w *world) {
	t.Helper()
	w.provider.before = func(ctx context.Context, q llm.Question) (*llm.Answer, error) {
		a, err := llm.NewOffline().Answer(ctx, q)
		a.Provider, a.Model, a.TokensIn, a.TokensOut = "openai", "m1", 10, 5
		return &a, err
	}
}

func prices(t *testing.T) func(*observe.Config) {
	p, err := llm.ParsePrices("openai m1 2 8\nanthropic * 1 1\n")
	require.NoError(t, err)
	return func(cfg *observe.Config) { cfg.Prices = p }
}

// try does an attempt of a job as a worker does, and reports whether the job
// was held.
func (w *world) try(t *testing.T, id events.ID) bool {
	t.Helper()
	job := w.claim(t, w.read(t, id))
	commit, err := w.Handler(job.Kind)(t.Context(), job)
	step := completed(job)
	if err != nil {
		step = heldBack(job, err.Error())
	}
	errs, settleErr := w.jobs.Settle(t.Context(), []events.Step{step}, []func(context.Context, pgx.Tx) error{commit})
	require.NoError(t, settleErr)
	require.NoError(t, errs[0])
	return err != nil
}

// heldBack is the release of a held job as the pipeline makes it; see its
// TestHold.
func heldBack(job events.Job, why string) events.Step {
	return events.Step{Job: job, Delay: 20 * 24 * time.Hour, Event: events.Event{
		Type: events.Released, Actor: "worker", Process: holder.ID, Reason: why, Details: events.Held(),
	}}
}

func (w *world) held(t *testing.T) []events.Job {
	t.Helper()
	jobs, total, err := w.ListJobs(t.Context(), w.me, observe.JobFilter{Status: observe.StatusHeld, Limit: 200})
	require.NoError(t, err)
	require.Len(t, jobs, total)
	return jobs
}

// A team that has used up its month has its jobs held, by tokens or by money,
// without the loss of an attempt and without harm to another team. Room in the
// budget lets them go, all at once.
func TestACappedTeamsJobsWait(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]observe.Budget{"tokens": {Tokens: new(int64(30))}, "cost": {Cost: new(int64(120))}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, prices(t))
			priced(t, w)
			admin := w.caller(t, w.team, "", observe.ScopeAll)
			other := newWorldOn(t, w.pool, prices(t))
			priced(t, other)
			n, err := w.SetBudget(t.Context(), admin, b)
			require.NoError(t, err)
			require.Zero(t, n)

			var ids []events.ID
			for _, r := range w.record(t, w.event(1), w.event(2), w.event(3), w.event(4), w.event(5)) {
				ids = append(ids, r.Job.ID)
			}
			var held []events.ID
			for _, id := range ids {
				if w.try(t, id) {
					held = append(held, id)
				}
			}
			require.Len(t, held, 3, "two fill the month")
			require.Len(t, w.provider.questions(), 2, "nobody is asked in vain")
			for _, r := range other.record(t, other.event(1)) {
				require.False(t, other.try(t, r.Job.ID), "another team has a month of its own")
			}

			require.Len(t, w.held(t), 3)
			require.Empty(t, other.held(t))
			for _, id := range held {
				job := w.read(t, id)
				require.Equal(t, events.StatusQueued, job.Status)
				require.Zero(t, job.Attempts, "no attempt is lost")
				require.Empty(t, job.LastError)
			}
			why, err := w.WhyHeld(t.Context(), w.me, w.held(t)...)
			require.NoError(t, err)
			require.Len(t, why, 3)
			require.Contains(t, why[held[0]], "the team has used")
			why, err = w.WhyHeld(t.Context(), other.me, w.held(t)...)
			require.NoError(t, err)
			require.Empty(t, why, "another team is told nothing")

			jobs, teams, err := w.LetGo(t.Context())
			require.NoError(t, err)
			require.Equal(t, [2]int{0, 1}, [2]int{jobs, teams})
			used, err := w.Usage(t.Context(), w.me)
			require.NoError(t, err)
			require.NotEmpty(t, used.Over)
			require.Equal(t, []observe.UsedBy{{Project: w.project, Provider: "openai", Model: "m1", TokensIn: 20, TokensOut: 10, Cost: 120}}, used.By)
			require.Equal(t, b, used.Budget)

			rings := w.rings.Load()
			n, err = w.SetBudget(t.Context(), admin, observe.Budget{Tokens: new(int64(0)), Cost: new(int64(0))})
			require.NoError(t, err)
			require.Equal(t, 3, n)
			require.Greater(t, w.rings.Load(), rings)
			require.Empty(t, w.held(t))
			for _, id := range held {
				require.False(t, w.try(t, id))
				require.Equal(t, events.StatusCompleted, w.read(t, id).Status)
			}
			require.Equal(t, 2, w.audited(t, "team.budget"))
			w.check(t)
		})
	}
}

// Somebody may let one job go although the month is used up; the audit tells.
func TestARetryLetsAHeldJobGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, prices(t), limited(observe.Limits{MonthlyCost: 1}))
	priced(t, w)
	rs := w.record(t, w.event(1), w.event(2), w.event(3))
	require.False(t, w.try(t, rs[0].Job.ID))
	for _, r := range rs[1:] {
		require.True(t, w.try(t, r.Job.ID))
	}
	job, already, err := w.RetryJob(t.Context(), w.me, rs[1].Job.ID)
	require.NoError(t, err)
	require.False(t, already)
	require.Equal(t, events.StatusQueued, job.Status)
	require.True(t, job.NextAt.IsZero())
	_, already, err = w.RetryJob(t.Context(), w.me, rs[1].Job.ID)
	require.NoError(t, err)
	require.True(t, already, "it goes")
	require.Len(t, w.held(t), 1)
	require.False(t, w.try(t, rs[1].Job.ID))
	require.Equal(t, 1, w.audited(t, "generation_job.retried_by_operator"))
	_, _, err = w.CancelJob(t.Context(), w.me, rs[2].Job.ID)
	require.NoError(t, err)
	require.Empty(t, w.held(t))
	w.check(t)
}

// A month that has ended, or a server's cap that was raised, lets go by itself;
// whoever looks at the same moment, each job is asked for once.
func TestHeldJobsGoByThemselves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, prices(t), limited(observe.Limits{MonthlyTokens: 1}))
	priced(t, w)
	rs := w.record(t, w.event(1), w.event(2), w.event(3), w.event(4))
	for i, r := range rs {
		require.Equal(t, i > 0, w.try(t, r.Job.ID))
	}
	_, err := w.pool.Exec(t.Context(), "UPDATE usage_events SET created_at = created_at - interval '1 month'")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, _, err := w.LetGo(t.Context()); err != nil {
				t.Errorf("let go: %v", err)
			}
		})
	}
	wg.Wait()
	require.Empty(t, w.held(t))
	for _, r := range rs[1:] {
		_, history, err := w.Job(t.Context(), w.me, r.Job.ID)
		require.NoError(t, err)
		require.Len(t, history, 4, "queued, processing, released, reclaimed")
	}
	require.Equal(t, 1, w.count(t, "team_holds"))
	_, err = w.pool.Exec(t.Context(), "UPDATE team_holds SET held_at = now() - interval '1 hour'")
	require.NoError(t, err)
	_, _, err = w.LetGo(t.Context())
	require.NoError(t, err)
	require.Zero(t, w.count(t, "team_holds"))
	w.check(t)
}

// What was paid counts, also where nothing came of it, and for each provider
// that was asked; adding up loses nothing of it.
func TestSpendingIsCountedWhateverComesOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, prices(t))
	boom := &llm.Error{Provider: "openai", Fault: llm.FaultAnswer, Err: errors.New("unreadable")}
	w.provider.before = func(context.Context, llm.Question) (*llm.Answer, error) {
		return &llm.Answer{
			Provider: "openai", Model: "unknown", TokensIn: 7, TokensOut: 1,
			Also: []llm.Use{{Provider: "anthropic", Model: "m2", TokensIn: 100, TokensOut: 50}},
		}, boom
	}
	r := w.record(t, w.event(1))[0]
	job := w.claim(t, w.read(t, r.Job.ID))
	_, err := w.Handler(job.Kind)(t.Context(), job)
	require.ErrorIs(t, err, boom)
	want := []observe.UsedBy{
		{Project: w.project, Provider: "anthropic", Model: "m2", TokensIn: 100, TokensOut: 50, Cost: 150},
		{Project: w.project, Provider: "openai", Model: "unknown", TokensIn: 7, TokensOut: 1},
	}
	used, err := w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	require.Equal(t, want, used.By)
	require.Equal(t, map[string]int64{"tokens": 158, "tokens_out": 51, "cost": 150}, used.Totals)
	require.Nil(t, used.Budget.Tokens)

	_, err = w.pool.Exec(t.Context(), `INSERT INTO usage_events (team_id, project_id, kind, quantity, provider, model)
		SELECT $1, $2, 'cost', 1, 'anthropic', 'm2' FROM generate_series(1, 1200)`, w.team, w.project)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.KeepBudgets(ctx) }()
	require.Eventually(t, func() bool { return w.count(t, "usage_events") < 500 }, time.Minute, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	want[0].Cost += 1200
	used, err = w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	require.Equal(t, want, used.By)

	// The month before, of which some is added up and some is not.
	_, err = w.pool.Exec(t.Context(), "UPDATE usage_events SET created_at = created_at - interval '1 month'")
	require.NoError(t, err)
	_, err = w.pool.Exec(t.Context(), "UPDATE usage_counters SET month = month - interval '1 month'")
	require.NoError(t, err)
	used, err = w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	require.Empty(t, used.By)
	before := used.Since.Add(-time.Second)
	used, err = w.UsageOf(t.Context(), w.me, before)
	require.NoError(t, err)
	require.Equal(t, want, used.By)
	require.Equal(t, before.Month(), used.Since.Month())
	require.Equal(t, before.Add(time.Second), used.Until)
}

// A budget that cannot be read lets the job be done: what it rests on may be
// away while the rest works.
func TestBudgetsFailOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, prices(t), limited(observe.Limits{MonthlyTokens: 1}))
	priced(t, w)
	rs := w.record(t, w.event(1), w.event(2))
	require.False(t, w.try(t, rs[0].Job.ID))
	_, err := w.pool.Exec(t.Context(), "ALTER TABLE usage_counters RENAME TO gone")
	require.NoError(t, err)
	require.False(t, w.try(t, rs[1].Job.ID))
}

// A worker that remembers a budget does not hold what another process has just
// let go.
func TestARaisedBudgetIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, prices(t))
	priced(t, w)
	operator := newWorldOn(t, w.pool, prices(t))
	admin := w.caller(t, w.team, "", observe.ScopeAll)
	_, err := operator.SetBudget(t.Context(), admin, observe.Budget{Tokens: new(int64(15))})
	require.NoError(t, err)
	rs := w.record(t, w.event(1), w.event(2))
	require.False(t, w.try(t, rs[0].Job.ID))
	require.True(t, w.try(t, rs[1].Job.ID))
	n, err := operator.SetBudget(t.Context(), admin, observe.Budget{Tokens: new(int64(30))})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.False(t, w.try(t, rs[1].Job.ID))
}
