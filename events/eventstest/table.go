package eventstest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

// Table is a store with all its sides: an outbox.Store, an outbox.Feed, a
// pipeline.Ledger, and the doors of those who make jobs and move them.
type Table interface {
	Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error)
	Waiting(ctx context.Context, rows []int64) ([]int64, error)
	Enqueued(ctx context.Context, rows []int64) error
	Again(ctx context.Context, rows []int64) (events.Lost, error)
	Reclaim(ctx context.Context, lease time.Duration) (events.Lost, error)
	Slots(ctx context.Context, lease time.Duration) (map[events.Kind]int, error)
	Lead(ctx context.Context) (led context.Context, release func(), err error)

	Fresh(ctx context.Context, limit int) ([]events.FeedRow, error)
	Told(ctx context.Context, rows []int64) error

	Begin(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error)
	Look(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error)
	Settle(ctx context.Context, steps []events.Step, commits []func(context.Context, pgx.Tx) error, last ...func(context.Context, pgx.Tx) error) ([]error, error)
	Seen(ctx context.Context, worker events.Holder) error
	Gone(ctx context.Context, worker events.Holder) error

	Enqueue(ctx context.Context, steps ...events.Step) (added []bool, err error)
	Get(ctx context.Context, scope events.Scope, id events.ID) (events.Job, []events.Event, error)
	Move(ctx context.Context, steps []events.Step) ([]error, error)
}

var _ Table = (*Memory)(nil)

// The tenants that the tests' jobs belong to. A table under test has to know
// them, and nothing else.
var (
	Mine   = events.Scope{Team: "t", Project: "p"}
	Theirs = events.Scope{Team: "t2", Project: "p2"}
)

// enough is a limit that no test reaches.
const enough = 10_000

// bundle is a table and the short words for what the tests do with it.
type bundle struct {
	Table
	t testing.TB
}

// step makes a job that no other test has.
func step(t testing.TB, kind events.Kind, name string, change ...func(*events.Job)) events.Step {
	t.Helper()
	j := events.Job{
		ID: events.NewID(kind, name), Kind: kind, Scope: Mine, SourceType: "test", SourceID: name,
		Args: []byte(`{}`), RequestID: "req-" + name,
	}
	for _, c := range change {
		c(&j)
	}
	s, err := events.New(j, events.Event{Actor: "test"})
	require.NoError(t, err)
	return s
}

func (b bundle) enqueue(s ...events.Step) {
	b.t.Helper()
	_, err := b.Enqueue(b.t.Context(), s...)
	require.NoError(b.t, err)
}

// add makes jobs of the kind "a" and gives them as they are stored.
func (b bundle) add(names ...string) []events.Job {
	b.t.Helper()
	jobs := make([]events.Job, len(names))
	for i, name := range names {
		s := step(b.t, "a", name)
		b.enqueue(s)
		jobs[i] = b.job(s.Job)
	}
	return jobs
}

// job reads a job again.
func (b bundle) job(j events.Job) events.Job {
	b.t.Helper()
	now, _, err := b.Get(b.t.Context(), j.Scope, j.ID)
	require.NoError(b.t, err)
	return now
}

func (b bundle) history(j events.Job) []events.Event {
	b.t.Helper()
	_, history, err := b.Get(b.t.Context(), j.Scope, j.ID)
	require.NoError(b.t, err)
	return history
}

func (b bundle) types(j events.Job) []events.Type {
	b.t.Helper()
	var types []events.Type
	for _, e := range b.history(j) {
		types = append(types, e.Type)
	}
	return types
}

// claim asks for the attempts that the jobs ask for now.
func (b bundle) claim(w events.Holder, jobs ...events.Job) []events.Claim {
	b.t.Helper()
	es := make([]events.Envelope, len(jobs))
	for i, j := range jobs {
		es[i] = j.Envelope()
	}
	claims, err := b.Begin(b.t.Context(), w, es)
	require.NoError(b.t, err)
	require.Len(b.t, claims, len(es))
	return claims
}

// begin claims jobs that must be free.
func (b bundle) begin(w events.Holder, jobs ...events.Job) []events.Job {
	b.t.Helper()
	held := make([]events.Job, len(jobs))
	for i, c := range b.claim(w, jobs...) {
		require.NoError(b.t, c.Err)
		held[i] = c.Job
	}
	return held
}

// look gives jobs that wait, as a worker of brief ones has them.
func (b bundle) look(w events.Holder, jobs ...events.Job) []events.Job {
	b.t.Helper()
	es := make([]events.Envelope, len(jobs))
	for i, j := range jobs {
		es[i] = j.Envelope()
	}
	claims, err := b.Look(b.t.Context(), w, es)
	require.NoError(b.t, err)
	require.Len(b.t, claims, len(es))
	seen := make([]events.Job, len(jobs))
	for i, c := range claims {
		require.NoError(b.t, c.Err)
		seen[i] = c.Job
	}
	return seen
}

// brief is the step of a worker that begins an attempt and ends it.
func brief(seen events.Job, typ events.Type, reason string) events.Step {
	s := end(seen, typ, reason)
	s.Begins = true
	return s
}

// end is the step of a worker that ends an attempt.
func end(held events.Job, typ events.Type, reason string) events.Step {
	return events.Step{Job: held, Event: events.Event{
		Type: typ, Actor: "worker", Process: held.LockedBy, Reason: reason,
	}}
}

// settle stores steps without commits.
func (b bundle) settle(steps ...events.Step) []error {
	b.t.Helper()
	errs, err := b.Settle(b.t.Context(), steps, make([]func(context.Context, pgx.Tx) error, len(steps)))
	require.NoError(b.t, err)
	require.Len(b.t, errs, len(steps))
	return errs
}

func (b bundle) settled(steps ...events.Step) {
	b.t.Helper()
	for _, err := range b.settle(steps...) {
		require.NoError(b.t, err)
	}
}

// asks reads all asks without a due time.
func (b bundle) asks() []events.Ask {
	b.t.Helper()
	asks, err := b.Asks(b.t.Context(), events.AskQuery{Limit: enough})
	require.NoError(b.t, err)
	return asks
}

// row is where a queued job's ask is.
func (b bundle) row(j events.Job) int64 {
	b.t.Helper()
	for _, a := range b.asks() {
		if a.Envelope.Job == j.ID {
			return a.Row
		}
	}
	require.Fail(b.t, "no ask", "job %s", j.ID)
	return 0
}

// check holds what a table must always keep true of a job: what events.Check
// verifies, and that its ask is the one of its row.
func check(t require.TestingT, ctx context.Context, b Table, j events.Job) { //nolint:revive // t goes first in a test kit
	row, history, err := b.Get(ctx, j.Scope, j.ID)
	require.NoError(t, err)
	for _, e := range history {
		require.Equal(t, row.ID, e.Job)
		require.Equal(t, events.Schema, e.Schema)
		require.Equal(t, time.UTC, e.At.Location())
	}

	asks, err := b.Asks(ctx, events.AskQuery{Limit: enough})
	require.NoError(t, err)
	late, err := b.Asks(ctx, events.AskQuery{Delayed: true, Limit: enough})
	require.NoError(t, err)
	var mine []events.Ask
	for _, a := range append(asks, late...) {
		if a.Envelope.Job == j.ID {
			mine = append(mine, a)
		}
	}
	switch {
	case row.NextAt.After(time.Now().Add(time.Minute)):
		require.Empty(t, mine, "no ask before it is due")
		mine = []events.Ask{{Envelope: row.Envelope()}}
	case row.Status == events.StatusQueued:
		require.Len(t, mine, 1, "one ask of a queued job")
		want := events.Ask{Row: mine[0].Row, Envelope: row.Envelope(), Priority: row.Priority, DueAt: row.NextAt}
		require.Equal(t, want, mine[0])
	}
	require.Empty(t, events.Check(row, history, mine, func(string) bool { return true }))
}

// Events gives each event of rows of a feed.
func Events(rows []events.FeedRow) []events.FeedEvent {
	var all []events.FeedEvent
	for i := range rows {
		for n := range rows[i].Jobs {
			all = append(all, rows[i].At(n))
		}
	}
	return all
}
