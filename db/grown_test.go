package db_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
)

// parts are who works on a job, each in a session of its own, so that it is
// seen what each costs.
var parts = []string{"enqueue", "relay", "claim", "settle", "feed"}

// grown is a database and the jobs done on it.
type grown struct {
	server *durable
	name   string
	of     map[string]part
	mark   int64
	sweep  int // jobs until the relay sweeps
	beside func(b *testing.B) (stop func())
}

// part is a session and what it is for.
type part struct {
	pool *pgxpool.Pool
	jobs *db.Jobs
	pid  int
}

// grown opens a database as those who work on it do.
func (s *durable) grown(b *testing.B, name string) *grown {
	b.Helper()
	s.database(b, name)
	g := &grown{server: s, name: name, of: map[string]part{}, sweep: sweepJobs}
	for _, what := range parts {
		g.open(b, what)
	}
	return g
}

func (g *grown) open(b *testing.B, what string) {
	b.Helper()
	pool, err := db.Open(b.Context(), db.Config{URL: g.server.URL(g.name), MaxConns: 1, Name: what})
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	p := part{pool: pool, jobs: db.NewJobs(pool, db.JobsConfig{Process: "bench", Build: "v0"})}
	require.NoError(b, pool.QueryRow(b.Context(), "SELECT pg_backend_pid()").Scan(&p.pid))
	if old, ok := g.of[what]; ok {
		old.pool.Close()
	}
	g.of[what] = p
}

func (g *grown) enqueue(tb testing.TB, m manner) {
	tb.Helper()
	ctx, p := tb.Context(), g.of["enqueue"]
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	steps := make([]events.Step, m.batch)
	for i := range steps {
		name := fmt.Sprint(run, "-", i)
		st, err := events.New(events.Job{
			ID: events.NewIDAtMilli("event", time.Now(), name), Kind: "event", Scope: scope, SourceType: "agent_event",
			SourceID: string(events.NewID("ae", name)), Args: growthArgs(name), RequestID: run,
		}, events.Event{Actor: "key_0000000000000000"})
		require.NoError(tb, err)
		steps[i] = st
	}
	size := m.batch
	if m.single {
		size = 1
	}
	for some := range slices.Chunk(steps, size) {
		require.NoError(tb, db.InTx(ctx, p.pool, func(tx pgx.Tx) error {
			_, err := p.jobs.Enqueue(ctx, tx, some...)
			return err
		}))
	}
}

func growthArgs(name string) []byte {
	return fmt.Appendf(nil, `{"agent_event_id":"%s","source_adapter":"hook","actor_id":"actor","api_key_id":"key_0000000000000000"}`, events.NewID("ae", name))
}

const (
	sweepJobs  = 1000 // at a thousand a second the relay sweeps once in so many
	sweepShare = 50   // and once in so many times what it takes, see outbox
	sweepRows  = 3000
)

// read reads asks behind the mark, and all from the head where it is time for
// that, as outbox does at a thousand jobs a second.
func (g *grown) read(tb testing.TB, n int) []events.Envelope {
	tb.Helper()
	ctx, p := tb.Context(), g.of["relay"]
	asks, err := p.jobs.Asks(ctx, events.AskQuery{After: g.mark, Limit: sweepRows})
	require.NoError(tb, err)
	require.Len(tb, asks, n)
	es := make([]events.Envelope, n)
	for i, a := range asks {
		es[i], g.mark = a.Envelope, a.Row
	}
	if g.sweep -= n; g.sweep <= 0 {
		before := onCPU(tb, p.pid)
		asks, err := p.jobs.Asks(ctx, events.AskQuery{Limit: sweepRows})
		require.NoError(tb, err)
		require.Len(tb, asks, n)
		took := onCPU(tb, p.pid) - before
		g.sweep = max(sweepJobs, int(sweepShare*took.Seconds()*1000))
	}
	return es
}

// do claims the jobs, or looks at them, and completes them.
func (g *grown) do(tb testing.TB, es []events.Envelope, m manner) {
	tb.Helper()
	ctx, begin := tb.Context(), g.of["claim"].jobs.Begin
	if m.brief {
		begin = g.of["claim"].jobs.Look
	}
	claims, err := begin(ctx, events.Holder{ID: "w"}, es)
	require.NoError(tb, err)
	ends := make([]events.Step, len(es))
	for i, c := range claims {
		require.NoError(tb, c.Err)
		ends[i] = events.Step{Job: c.Job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: "w"}, Begins: m.brief}
	}
	errs, err := g.of["settle"].jobs.Settle(ctx, ends, make([]func(context.Context, pgx.Tx) error, len(es)))
	require.NoError(tb, err)
	for _, err := range errs {
		require.NoError(tb, err)
	}
}

// dead tells what the database has of the rows that a job leaves behind.
func (g *grown) dead(b *testing.B) string {
	b.Helper()
	var text string
	require.NoError(b, g.of["relay"].pool.QueryRow(b.Context(), `
		SELECT string_agg(format('%s: %s dead rows, %s MB, %s %% of %s updates in place', relname, n_dead_tup, pg_total_relation_size(relid) >> 20,
			CASE WHEN n_tup_upd > 0 THEN 100 * n_tup_hot_upd / n_tup_upd END, n_tup_upd), '; ' ORDER BY relname)
		FROM pg_stat_user_tables WHERE relname IN ('observation_generation_jobs', 'outbox', 'job_feed')`).Scan(&text))
	return text
}

// tell reads n events from the feed and takes them out of it.
func (g *grown) tell(tb testing.TB, n int) {
	tb.Helper()
	jobs := g.of["feed"].jobs
	fed, err := jobs.Fresh(tb.Context(), n)
	require.NoError(tb, err)
	require.Len(tb, eventstest.Events(fed), n)
	rows := make([]int64, 0, n)
	for _, f := range fed {
		if len(rows) == 0 || rows[len(rows)-1] != f.Row {
			rows = append(rows, f.Row)
		}
	}
	require.NoError(tb, jobs.Told(tb.Context(), rows))
}
