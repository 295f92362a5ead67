package observe_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

var (
	grownEvents = flag.Int("grown.events", 20_000, "agent events in the full database, each with an observation that rests on it")
	grownRound  = flag.Int("grown.round", 1000, "events of one round on one database")
	grownRounds = flag.Int("grown.rounds", 3, "rounds on each database")
	grownDir    = flag.String("grown.dir", "", "keep the server's data here and find it filled the next time")
)

// manners are the ways in which clients name what they report, of which
// depends where an event's own name falls among others.
var manners = []struct {
	name string
	make func(n int) (sourceID *string)
}{
	{"no-name", func(int) *string { return nil }}, // claude-mem's hooks
	{"session-and-tool-use", func(n int) *string { return new(fmt.Sprintf("%x/toolu_%x", hashOf(n%40, "s"), hashOf(n, "u"))) }}, // ours
	{"tool-use", func(n int) *string { return new(fmt.Sprintf("toolu_%x", hashOf(n, "u"))) }},                                   // claude-mem's older routes
}

func hashOf(n int, what string) []byte {
	sum := sha256.Sum256(fmt.Append(nil, what, n))
	return sum[:16]
}

// BenchmarkGrown is what an event costs Postgres at the door, and from the
// stream to its observation stored, among many events and observations and on
// empty tables, in turn on one server with stock durable settings. The full
// database is filled in one go, so its indexes are as new. Each round begins
// with a checkpoint, so it pays in full for the pages that it changes first:
// what is written in no order of time is more dearly paid for in short rounds.
func BenchmarkGrown(b *testing.B) {
	dir := *grownDir
	if dir == "" {
		dir = b.TempDir()
		for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
			require.NoError(b, os.Chmod(d, 0o755)) // as root the server runs as another user
		}
	}
	fillGrown(b, dir, *grownEvents)
	pg, err := embedded.StartPostgres(b.Context(), embedded.PostgresConfig{Dir: dir})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, pg.Stop(context.WithoutCancel(b.Context()))) })
	admin, err := pgx.Connect(b.Context(), pg.URL("postgres"))
	require.NoError(b, err)
	b.Cleanup(func() { _ = admin.Close(context.WithoutCancel(b.Context())) })
	_, err = admin.Exec(b.Context(), "DROP DATABASE IF EXISTS empty")
	require.NoError(b, err)
	both := []*house{newHouse(b, pg, admin, "empty"), newHouse(b, pg, admin, "full")}
	for _, m := range manners {
		b.Run(m.name, func(b *testing.B) {
			for _, h := range both {
				h.named = m.make
				h.store(b, h.recordSome(b, *grownRound/5))
			}
			for b.Loop() {
				compareGrown(b, both)
			}
		})
	}
}

func compareGrown(b *testing.B, both []*house) {
	b.Helper()
	rounds := map[string]map[string][]float64{"empty": {}, "full": {}}
	for i := range *grownRounds {
		for k := range both {
			h := both[(i+k)%2]
			_, err := h.admin.Exec(b.Context(), "CHECKPOINT")
			require.NoError(b, err)
			var told []events.Envelope
			for what, do := range []func(){func() { told = h.recordSome(b, *grownRound) }, func() { h.store(b, told) }} {
				name := []string{"door", "store"}[what]
				before := h.spent(b)
				do()
				after := h.spent(b)
				var line strings.Builder
				for n, unit := range []string{"µs", "B of WAL", "whole pages", "pages read"} {
					v := (after[n] - before[n]) / float64(*grownRound)
					rounds[h.name][name+" "+unit] = append(rounds[h.name][name+" "+unit], v)
					fmt.Fprintf(&line, ", %.2f %s", v, unit)
				}
				b.Logf("%s, %s%s, load %.1f", h.name, name, line.String(), load.Average())
			}
		}
	}
	for _, what := range []string{"door µs", "store µs", "door B of WAL", "store B of WAL", "door whole pages", "store whole pages", "door pages read", "store pages read"} {
		e, f := middle(rounds["empty"][what]), middle(rounds["full"][what])
		b.Logf("an event, %s: empty %.2f, full %.2f, %+.1f %%", what, e, f, 100*(f/e-1))
	}
	b.ReportMetric(middle(rounds["full"]["door µs"])/middle(rounds["empty"]["door µs"]), "door-full/empty")
	b.ReportMetric(middle(rounds["full"]["store µs"])/middle(rounds["empty"]["store µs"]), "store-full/empty")
}

func middle(all []float64) float64 {
	slices.Sort(all)
	return (all[len(all)/2] + all[(len(all)-1)/2]) / 2
}

// house is a world with a broker, and what was recorded in it.
type house struct {
	*world
	name    string
	admin   *pgx.Conn
	js      jetstream.JetStream
	streams outbox.Streams
	named   func(n int) *string
	n       int
}

func newHouse(b *testing.B, pg *embedded.Postgres, admin *pgx.Conn, name string) *house {
	b.Helper()
	ctx := b.Context()
	require.NoError(b, pg.CreateDatabase(ctx, name))
	pool, err := db.Open(ctx, db.Config{URL: pg.URL(name), MaxConns: 10})
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	require.NoError(b, db.Migrate(ctx, pool))
	h := &house{name: name, admin: admin, n: int(time.Now().Unix()) % 1e6 * 1000}
	h.world = newWorldOn(b, pool, func(cfg *observe.Config) { cfg.Provider = llm.NewOffline() })
	h.js, err = jetstream.New(testenv.NATS(b))
	require.NoError(b, err)
	h.streams = outbox.Streams{Prefix: name, Kinds: observe.Kinds(), JobsMaxMsgs: 1_000_000}
	require.NoError(b, outbox.Ensure(ctx, h.js, h.streams))
	return h
}

func (h *house) recordSome(b *testing.B, n int) (told []events.Envelope) {
	b.Helper()
	const batch = 100
	for done := 0; done < n; done += batch {
		list := make([]observe.NewEvent, min(batch, n-done))
		for i := range list {
			list[i] = failedCommand(h.project, h.n)
			list[i].SourceEventID, list[i].OccurredAtEpoch = h.named(h.n), time.Now().UnixMilli()
			h.n++
		}
		for _, r := range h.record(b, list...) {
			told = append(told, r.Job.Envelope())
		}
	}
	return told
}

// store has a worker do the jobs.
func (h *house) store(b *testing.B, told []events.Envelope) {
	b.Helper()
	for _, e := range told {
		_, err := h.js.PublishAsync(h.streams.JobSubject(e.Kind), e.Marshal(), jetstream.WithStallWait(time.Minute))
		require.NoError(b, err)
	}
	<-h.js.PublishAsyncComplete()
	done := make(chan struct{})
	var left atomic.Int64
	left.Store(int64(len(told)))
	worker := pipeline.New(h.jobs, h.js, pipeline.Config{
		Stream: h.streams.JobsStream(), Consumer: h.streams.Consumer, Name: "bench",
		Settled: func(steps []events.Step) {
			if left.Add(-int64(len(steps))) == 0 {
				close(done)
			}
		},
	})
	h.Register(worker)
	ctx, cancel := context.WithCancel(b.Context())
	ran := make(chan error, 1)
	go func() { ran <- worker.Run(ctx) }()
	<-done
	cancel()
	require.NoError(b, <-ran)
}

// spent is µs of processor time of the sessions, to the nanosecond, and what
// the server wrote and read.
func (h *house) spent(b *testing.B) (v [4]float64) {
	b.Helper()
	ctx := b.Context()
	rows, err := h.admin.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'", h.name)
	require.NoError(b, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(b, err)
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		require.NoError(b, err)
		var ns, waited, slices float64
		_, err = fmt.Sscan(string(raw), &ns, &waited, &slices)
		require.NoError(b, err)
		v[0] += ns / 1000
	}
	for _, c := range h.pool.AcquireAllIdle(ctx) { // a session tells what it did when it is asked to, or after a second
		_, err := c.Exec(ctx, "SELECT pg_stat_force_next_flush()")
		require.NoError(b, err)
		c.Release()
	}
	require.NoError(b, h.admin.QueryRow(ctx, `
		SELECT w.wal_bytes::float8, w.wal_fpi::float8, (SELECT blks_read::float8 FROM pg_stat_database WHERE datname = $1) FROM pg_stat_wal w`, h.name).Scan(&v[1], &v[2], &v[3]))
	return v
}

// fillGrown brings the full database to n events, each with an observation and
// its source. The payloads are empty: what is searched for is in the indexes.
func fillGrown(b *testing.B, dir string, n int) {
	b.Helper()
	ctx := b.Context()
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Settings: map[string]string{
		"wal_level": "minimal", "max_wal_senders": "0", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
		"max_wal_size": "4GB", "checkpoint_timeout": "1h", "autovacuum": "off", "maintenance_work_mem": "1GB",
	}})
	require.NoError(b, err)
	defer func() { require.NoError(b, pg.Stop(context.WithoutCancel(ctx))) }()
	require.NoError(b, pg.CreateDatabase(ctx, "full"))
	pool, err := pgxpool.New(ctx, pg.URL("full"))
	require.NoError(b, err)
	defer pool.Close()
	require.NoError(b, db.Migrate(ctx, pool))
	var have int
	require.NoError(b, pool.QueryRow(ctx, "SELECT reltuples::bigint FROM pg_class WHERE relname = 'observation_sources'").Scan(&have))
	if have >= n-n/10 {
		b.Logf("about %d events are there", have)
		return
	}
	began := time.Now()
	w := newWorldOn(b, pool)
	var words []string
	for i := range 12 {
		words = append(words, fmt.Sprintf("'w' || (i * %d %% 50000)", 7919+2*i))
	}
	var hash strings.Builder
	for i := range 7 { // as events.NewID has them
		fmt.Fprintf(&hash, "substr('0123456789abcdefghijklmnopqrstuv', 1 + (get_byte(bytes, %d) & 31), 1) || ", i)
	}
	for table, insert := range map[string]string{
		"agent_events": `(id, team_id, project_id, source_adapter, idempotency_key, event_type, occurred_at, received_at)
			SELECT 'ae_' || hash, $1, $2, 'hook', 'key-' || i, 'tool_use', at, at FROM work`,
		"observations": `(id, team_id, project_id, kind, content, content_search, created_by_job_id, created_at)
			SELECT 'obs_0' || name, $1, $2, 'change', 'a note of some words about the work of number ' || i, array_to_tsvector(ARRAY[$3, 'n' || i, ` + strings.Join(words, ", ") + `]), 'event_0' || name, at FROM work`,
		"observation_sources": `(id, team_id, project_id, observation_id, source_type, source_id, generation_job_id, created_at)
			SELECT 'src_0' || name, $1, $2, 'obs_0' || name, 'agent_event', 'ae_' || hash, 'event_0' || name, at FROM work`,
	} {
		work := fmt.Sprintf(`WITH work AS NOT MATERIALIZED (
			SELECT i, lpad(i::text, 12, '0') || substr(md5, 1, 19) AS name, %s substr(md5, 1, 25) AS hash, now() - interval '90 days' + i * interval '90 days' / %d AS at,
			       $1::text AS team, $2::text AS project, $3::text AS mark
			FROM (SELECT i, md5(i::text) AS md5, decode(md5(i::text), 'hex') AS bytes FROM generate_series(0::bigint, %[2]d - 1) i OFFSET 0) x)`, hash.String(), n)
		tx, err := pool.Begin(ctx)
		require.NoError(b, err)
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		for _, sql := range []string{
			"TRUNCATE " + table + " CASCADE",
			fmt.Sprintf("UPDATE pg_index SET indisready = false, indisvalid = false WHERE indrelid = '%s'::regclass", table),
		} {
			_, err = tx.Exec(ctx, sql)
			require.NoError(b, err)
		}
		_, err = tx.Exec(ctx, work+" INSERT INTO "+table+" "+insert, w.team, w.project, search.Scope(w.team, w.project))
		require.NoError(b, err)
		_, err = tx.Exec(ctx, "REINDEX TABLE "+table)
		require.NoError(b, err)
		require.NoError(b, tx.Commit(ctx))
		_, err = pool.Exec(ctx, "VACUUM (ANALYZE, FREEZE) "+table)
		require.NoError(b, err)
	}
	b.Logf("filled with %d events in %s", n, time.Since(began).Round(time.Second))
}
