package db_test

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/sqlc"
)

var (
	growthJobs   = flag.Int("growth.jobs", 20_000, "finished jobs in the full database, each with three rows of history")
	growthRound  = flag.Int("growth.round", 10_000, "jobs of one round on one database")
	growthRounds = flag.Int("growth.rounds", 3, "rounds on each database")
	growthDir    = flag.String("growth.dir", "", "keep the server's data here and find it filled the next time")
)

// BenchmarkGrowth measures what a job costs, enqueued, relayed, done and told,
// on tables full of finished jobs and on empty ones, in alternation on one
// server with stock durable settings: brief jobs, those that are claimed, and
// jobs that each come in a transaction of their own. It counts processor time
// of Postgres' processes and of ours, which a busy machine hardly moves, and
// what is written. `task bench:growth` has ten million jobs.
func BenchmarkGrowth(b *testing.B) {
	dir := *growthDir
	if dir == "" {
		dir = openTempDir(b)
	}
	filled(b, dir, *growthJobs)
	s := startDurable(b, dir)
	s.drop(b, "growth_empty")
	both := []*grown{s.grown(b, "growth_empty"), s.grown(b, "growth_full")}
	for _, m := range []manner{{batch: 500, brief: true}, {batch: 500}, {batch: 20, brief: true, single: true}} {
		b.Run(m.String(), func(b *testing.B) {
			n := *growthRound
			if m.single {
				n /= 5 // they cost five times as much
			}
			inTurn(b, both, n, m)
		})
	}
	b.Run("pruning", func(b *testing.B) {
		quiet, beside := s.grown(b, "growth_full"), s.grown(b, "growth_full")
		quiet.name, beside.beside = "quiet", beside.prunes
		inTurn(b, []*grown{quiet, beside}, *growthRound, manner{batch: 500, brief: true})
	})
}

// inTurn measures rounds of n jobs on each database, one after the other.
func inTurn(b *testing.B, all []*grown, n int, m manner) {
	b.Helper()
	for _, g := range all {
		g.work(b, max(n/5, m.batch)/m.batch*m.batch, m) // what is read for the first time is in memory
	}
	for b.Loop() {
		rounds := map[*grown][]cost{}
		for i := range *growthRounds {
			for k := range all {
				g := all[(i+k)%len(all)] // who comes first pays for what the last one left
				stop := func() {}
				if g.beside != nil {
					stop = g.beside(b)
				}
				c := g.server.measure(b, g, n, m)
				stop()
				b.Logf("%s: %s", g.name, c)
				rounds[g] = append(rounds[g], c)
			}
		}
		compare(b, all, rounds)
	}
	for _, g := range all {
		b.Logf("%s: %s", g.name, g.dead(b))
	}
}

// compare tells the medians of the first, and of the others beside it.
func compare(b *testing.B, all []*grown, rounds map[*grown][]cost) {
	b.Helper()
	first := median(rounds[all[0]])
	for _, g := range all {
		m := median(rounds[g])
		b.Logf("median %s: %s", g.name, m)
		b.ReportMetric(m.backend(), g.name+"-backend-µs/job")
		if g == all[0] {
			continue
		}
		b.ReportMetric(m.backend()/first.backend(), g.name+"/"+all[0].name)
		for _, what := range parts {
			b.Logf("%s, %-7s %6.1f µs, %6.1f µs, %+.1f µs, that is %+.1f %% of all sessions'", g.name, what, first.parts[what], m.parts[what],
				m.parts[what]-first.parts[what], 100*(m.parts[what]-first.parts[what])/first.backend())
		}
		b.Logf("%s beside %s: sessions %+.1f %%, all of postgres %+.1f %%, ours %+.1f %%, all %+.1f %%", g.name, all[0].name,
			100*(m.backend()/first.backend()-1), 100*(m.server/first.server-1), 100*(m.client/first.client-1),
			100*((m.server+m.client)/(first.server+first.client)-1))
	}
}

// manner is how jobs come and are done.
type manner struct {
	batch  int  // jobs that are enqueued, read, done and told together
	single bool // but each is enqueued in a transaction of its own
	brief  bool // they are looked at, not claimed
}

func (m manner) String() string {
	how, brief := "", "claimed"
	if m.single {
		how = "-single"
	}
	if m.brief {
		brief = "brief"
	}
	return fmt.Sprintf("%s%s-%d", brief, how, m.batch)
}

// work takes n jobs from their enqueueing to the feed, as the relay and a
// worker do.
func (g *grown) work(tb testing.TB, n int, m manner) {
	tb.Helper()
	for done := 0; done < n; done += m.batch {
		g.enqueue(tb, m)
		es := g.read(tb, m.batch)
		g.do(tb, es, m)
		g.tell(tb, 3*m.batch)
	}
	require.Zero(tb, n%m.batch)
}

// prunes takes old jobs out of the database, at the rate that obs prune has by
// default, until it is stopped.
func (g *grown) prunes(b *testing.B) (stop func()) {
	b.Helper()
	g.open(b, "prune")
	p := g.of["prune"]
	delete(g.of, "prune") // it is not a part of a job
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	began, before, jobs := time.Now(), onCPU(b, p.pid), int64(0)
	go func() { done <- prune(ctx, p.pool, &jobs) }()
	return func() {
		cancel()
		require.NoError(b, <-done)
		b.Logf("pruned %d jobs, %.0f a second, %.1f µs of its session each", jobs, float64(jobs)/time.Since(began).Seconds(),
			float64((onCPU(b, p.pid)-before).Microseconds())/float64(max(jobs, 1)))
		p.pool.Close()
	}
}

func prune(ctx context.Context, pool *pgxpool.Pool, jobs *int64) error {
	const page, rate = 500, 5000
	for i := 0; ; i = (i + 1) % 10 { // the tenants in turn
		team, project := "t", "p"
		if i > 0 {
			team, project = fmt.Sprint("t", i), fmt.Sprint("p", i)
		}
		row, err := sqlc.New(pool).PruneJobs(context.WithoutCancel(ctx), sqlc.PruneJobsParams{
			TeamID: team, ProjectID: project, Before: time.Now().AddDate(0, 0, -1), MaxRows: page, Statuses: []string{"completed"},
		})
		if err != nil {
			return err
		}
		*jobs += row.Jobs
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second * page / rate):
		}
	}
}
