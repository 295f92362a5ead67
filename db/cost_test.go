package db_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/load"
)

// durable is a Postgres of our own with stock settings.
type durable struct {
	*embedded.Postgres
	pool       *pgxpool.Pool // of no database that is measured
	postmaster int
}

func startDurable(b *testing.B, dir string) *durable {
	b.Helper()
	pg, err := embedded.StartPostgres(b.Context(), embedded.PostgresConfig{Dir: dir})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, pg.Stop(context.WithoutCancel(b.Context()))) })
	pool, err := pgxpool.New(b.Context(), pg.URL("postgres"))
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	return &durable{pg, pool, postmaster(b, pool)}
}

// openTempDir is one that the server can enter: as root it runs as another user.
func openTempDir(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		require.NoError(b, os.Chmod(d, 0o755))
	}
	return dir
}

// database makes one with ten tenants.
func (s *durable) database(b *testing.B, name string) {
	b.Helper()
	ctx := b.Context()
	require.NoError(b, s.CreateDatabase(ctx, name))
	pool, err := db.Open(ctx, db.Config{URL: s.URL(name), MaxConns: 1})
	require.NoError(b, err)
	defer pool.Close()
	require.NoError(b, db.Migrate(ctx, pool))
	_, err = pool.Exec(ctx, `
		INSERT INTO teams (id, name) SELECT concat('t', nullif(i, 0)), 't' || i FROM generate_series(0, 9) i ON CONFLICT DO NOTHING;
		INSERT INTO projects (id, team_id, name) SELECT 'p' || substr(id, 2), id, 'p' FROM teams ON CONFLICT DO NOTHING`)
	require.NoError(b, err)
}

func (s *durable) drop(b *testing.B, name string) {
	b.Helper()
	_, err := s.pool.Exec(b.Context(), "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize())
	require.NoError(b, err)
}

// cost is what one unit of work took.
type cost struct {
	parts                 map[string]float64 // µs of processor time of the sessions that did the work
	server, client        float64            // … of all of Postgres' processes, whatever they are at, and of this one
	wal, images, readback float64            // bytes written to the log, whole pages among them, pages not found in memory
	took                  time.Duration
	load                  float64
}

// backend is what the sessions took together.
func (c cost) backend() (sum float64) {
	for _, v := range c.parts {
		sum += v
	}
	return sum
}

func (c cost) String() string {
	var each []string
	for _, what := range slices.Sorted(maps.Keys(c.parts)) {
		each = append(each, fmt.Sprintf("%s %.1f", what, c.parts[what]))
	}
	return fmt.Sprintf("sessions %.1f µs (%s), all of postgres %.1f µs, ours %.1f µs, %.0f B of WAL, %.2f whole pages, %.2f pages read; %s, load %.1f",
		c.backend(), strings.Join(each, ", "), c.server, c.client, c.wal, c.images, c.readback, c.took.Round(time.Millisecond), c.load)
}

// median takes each figure's.
func median(cs []cost) cost {
	of := func(pick func(cost) float64) float64 {
		var all []float64
		for _, c := range cs {
			all = append(all, pick(c))
		}
		slices.Sort(all)
		return (all[len(all)/2] + all[(len(all)-1)/2]) / 2
	}
	m := cost{
		parts: map[string]float64{}, server: of(func(c cost) float64 { return c.server }), client: of(func(c cost) float64 { return c.client }),
		wal: of(func(c cost) float64 { return c.wal }), images: of(func(c cost) float64 { return c.images }),
		readback: of(func(c cost) float64 { return c.readback }), load: of(func(c cost) float64 { return c.load }),
		took: time.Duration(of(func(c cost) float64 { return float64(c.took) })),
	}
	for what := range cs[0].parts {
		m.parts[what] = of(func(c cost) float64 { return c.parts[what] })
	}
	return m
}

// measure counts what n jobs cost.
func (s *durable) measure(tb testing.TB, g *grown, n int, m manner) cost {
	tb.Helper()
	each := func(before, after float64) float64 { return (after - before) / float64(n) }
	before, sessions, start := s.spent(tb), g.sessions(tb), time.Now()
	g.work(tb, n, m)
	took, ended, after := time.Since(start), g.sessions(tb), s.spent(tb)
	c := cost{parts: map[string]float64{}, took: took, load: load.Average()}
	for i, to := range []*float64{&c.server, &c.client, &c.wal, &c.images, &c.readback} {
		*to = each(before[i], after[i])
	}
	for what := range sessions {
		c.parts[what] = each(sessions[what], ended[what])
	}
	return c
}

// sessions are µs that each part's session has taken. They tell the server's
// statistics what they did.
func (g *grown) sessions(tb testing.TB) map[string]float64 {
	tb.Helper()
	took := map[string]float64{}
	for what, p := range g.of {
		_, err := p.pool.Exec(tb.Context(), "SELECT pg_stat_force_next_flush()")
		require.NoError(tb, err)
		took[what] = float64(onCPU(tb, p.pid).Nanoseconds()) / 1000
	}
	return took
}

func (s *durable) spent(tb testing.TB) (v [5]float64) {
	tb.Helper()
	v[0] = float64(treeCPU(tb, s.postmaster).Microseconds())
	v[1] = float64(ourCPU(tb).Microseconds())
	require.NoError(tb, s.pool.QueryRow(tb.Context(), `
		SELECT w.wal_bytes::float8, w.wal_fpi::float8, (SELECT sum(blks_read)::float8 FROM pg_stat_database)
		FROM pg_stat_wal w`).Scan(&v[2], &v[3], &v[4]))
	return v
}

// onCPU is how long a process has run, to the nanosecond, as of when it last
// waited: it must be idle now. /proc/<pid>/stat counts ticks of 10 ms.
func onCPU(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	require.NoError(tb, err)
	first, _, _ := strings.Cut(string(raw), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	require.NoError(tb, err)
	return time.Duration(ns)
}
