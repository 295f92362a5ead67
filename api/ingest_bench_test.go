package api_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/db"
	meter "github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

var ingestLoad = flag.String("ingest-load", "", "send this load, as JSON, instead of testing: BenchmarkIngest starts itself so, that its clients' work is not counted as ours")

// load is what the clients of BenchmarkIngest send.
type load struct {
	Addr, Key, Project string
	Conns, Batch       int
	Requests           int
	Sessions           bool
	Rate               float64 // requests a second over all connections; 0: as fast as they are answered
}

// clientsSaw is what the clients saw.
type clientsSaw struct {
	P50, P99 time.Duration
	Refused  int64
}

// BenchmarkIngest posts events over HTTP on loopback, each answer only after
// its commit. What it costs is told by process: a busy machine hardly changes
// that. The usual test server has no fsync: for rates, name a durable one in
// OBS_TEST_DATABASE_URL. -benchtime is in events. What a busy machine does not
// change has a budget, where there are enough events to tell.
func BenchmarkIngest(b *testing.B) {
	for _, one := range []struct {
		name          string
		load          load
		allocs, trips float64 // of an event
	}{
		{"single", load{Conns: 64, Batch: 1}, 165, 0.17},
		{"sessions", load{Conns: 64, Batch: 1, Sessions: true}, 175, 0.21},
		{"batch", load{Conns: 8, Batch: 100}, 60, 0.03},
	} {
		b.Run(one.name, func(b *testing.B) {
			allocs, trips := benchIngest(b, one.load)
			if b.N >= 10_000 && *ingestConns == 0 && *ingestRate == 0 {
				require.LessOrEqual(b, allocs, one.allocs, "allocations of an event")
				require.LessOrEqual(b, trips, one.trips, "round trips of an event")
			}
		})
	}
}

var (
	ingestRate  = flag.Float64("ingest-rate", 0, "of BenchmarkIngest: events a second; 0: as many as it takes")
	ingestConns = flag.Int("ingest-conns", 0, "of BenchmarkIngest: connections; 0: as its name says")
)

func benchIngest(b *testing.B, l load) (allocs, trips float64) {
	plain, err := db.Open(b.Context(), db.Config{URL: testenv.Postgres(b)})
	require.NoError(b, err)
	b.Cleanup(plain.Close)
	config := plain.Config()
	asked := &counter{asked: map[string]int{}}
	config.ConnConfig.Tracer = asked
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	svc := observe.New(observe.Config{Pool: pool, Jobs: db.NewJobs(pool, db.JobsConfig{Process: "bench", Build: "test"})})
	log := slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // what a line costs is to be counted
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	srv := &http.Server{Handler: api.New(api.Config{Service: svc, Log: log}), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(listener) }()
	b.Cleanup(func() { srv.Close(); <-done })

	team, err := svc.CreateTeam(b.Context(), "bench")
	require.NoError(b, err)
	l.Project, err = svc.CreateProject(b.Context(), team, "bench")
	require.NoError(b, err)
	_, l.Key, err = svc.IssueKey(b.Context(), team, l.Project, "bench", "", []string{observe.ScopeRead, observe.ScopeWrite}, time.Time{})
	require.NoError(b, err)
	key, err := svc.Authenticate(b.Context(), l.Key)
	require.NoError(b, err)
	for i := range 32 {
		id := fmt.Sprint("session-", i)
		_, _, err := svc.StartSession(b.Context(), key, observe.NewSession{ProjectID: l.Project, ExternalSessionID: &id, ContentSessionID: &id})
		require.NoError(b, err)
	}
	l.Conns = cmp.Or(*ingestConns, l.Conns)
	l.Addr, l.Rate = listener.Addr().String(), *ingestRate/float64(l.Batch)

	warm := l
	warm.Requests = l.Conns * 4
	send(b, warm) // connections, prepared statements
	l.Requests = max(b.N/l.Batch, l.Conns)
	events := float64(l.Requests * l.Batch)

	asked.reset()
	before, start := measure(b, pool), time.Now()
	b.ResetTimer()
	seen, clients := send(b, l)
	b.StopTimer()
	took, after := time.Since(start), measure(b, pool)
	require.Zero(b, seen.Refused)
	b.Logf("asked of Postgres for %.0f events: %v", events, asked.asked)

	b.ReportMetric(0, "ns/op")
	b.ReportMetric(events/took.Seconds(), "events/s")
	b.ReportMetric(float64((after.self-before.self).Microseconds())/events, "self-µs/event")
	b.ReportMetric(float64((after.postgres-before.postgres).Microseconds())/events, "postgres-µs/event")
	b.ReportMetric(float64(clients.Microseconds())/events, "client-µs/event")
	allocs, trips = float64(after.allocs-before.allocs)/events, float64(asked.total())/events
	b.ReportMetric(allocs, "allocs/event")
	b.ReportMetric(float64(after.bytes-before.bytes)/events, "B/event")
	b.ReportMetric(float64(after.wal-before.wal)/events, "wal-B/event")
	b.ReportMetric(float64(after.commits-before.commits)/events, "commits/event")
	b.ReportMetric(trips, "round-trips/event")
	b.ReportMetric(peak(b), "peak-MiB")
	b.ReportMetric(float64(seen.P50.Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(seen.P99.Microseconds())/1000, "p99-ms")

	var stored int
	require.NoError(b, pool.QueryRow(b.Context(), "SELECT count(*) FROM agent_events e JOIN outbox o ON o.team_id = e.team_id JOIN observation_generation_jobs j ON j.id = o.job_id AND j.source_type = 'agent_event' AND j.source_id = e.id").Scan(&stored))
	require.Equal(b, (warm.Requests+l.Requests)*l.Batch, stored, "every answer is a job that waits")
	return allocs, trips
}

// counter counts what Postgres is asked, each a round trip, by the names of
// the queries.
type counter struct {
	mu    sync.Mutex
	asked map[string]int
}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	name, _, _ := strings.Cut(strings.TrimPrefix(data.SQL, "-- name: "), " ")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[name]++
	return ctx
}

// A batch is one round trip.
func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	var names []string
	for _, q := range data.Batch.QueuedQueries {
		name, _, _ := strings.Cut(strings.TrimPrefix(q.SQL, "-- name: "), " ")
		names = append(names, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[strings.Join(names, "+")]++
	return ctx
}

func (*counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (*counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = map[string]int{}
}

func (c *counter) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.asked {
		n += one
	}
	return n
}

// send has a process of its own send the load.
func send(b *testing.B, l load) (seen clientsSaw, cpu time.Duration) {
	b.Helper()
	what, err := json.Marshal(l)
	require.NoError(b, err)
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-ingest-load", string(what))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(b, err)
	require.NoError(b, json.Unmarshal(out, &seen), "%s", out)
	return seen, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// spent is what has been used up to a moment.
type spent struct {
	self, postgres time.Duration
	allocs, bytes  uint64
	wal, commits   int64
}

func measure(b *testing.B, pool *pgxpool.Pool) (m spent) {
	b.Helper()
	var pid int
	require.NoError(b, pool.QueryRow(b.Context(), `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, pg_backend_pid(),
		(SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())`).Scan(&m.wal, &pid, &m.commits))
	m.postgres = meter.Process{Name: "postgres", PID: meter.Postmaster(pid), Tree: true}.CPU()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	m.self = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	m.allocs, m.bytes = mem.Mallocs, mem.TotalAlloc
	return m
}

// peak is the most memory that this process has had, tests that ran before
// included.
func peak(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(b, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(b, err)
	return float64(kib) / 1024
}

// sendLoad is the other process.
func sendLoad(what string) error {
	var l load
	if err := json.Unmarshal([]byte(what), &l); err != nil {
		return err
	}
	var (
		next, refused atomic.Int64
		wg            sync.WaitGroup
		mu            sync.Mutex
		took          []time.Duration
		failed        error
		start         = time.Now()
	)
	for range l.Conns {
		wg.Go(func() {
			mine, err := l.sendOn(&next, &refused, start)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	slices.Sort(took)
	return json.NewEncoder(os.Stdout).Encode(clientsSaw{took[len(took)/2], took[len(took)*99/100], refused.Load()})
}

// sendOn sends requests on a connection of its own until all are sent. With a
// rate, each has its time, and its latency counts from then.
func (l load) sendOn(next, refused *atomic.Int64, start time.Time) (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", l.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	path := "/v1/events"
	if l.Batch > 1 {
		path += "/batch"
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	var body, out bytes.Buffer
	for {
		n := next.Add(1)
		if n > int64(l.Requests) {
			return took, nil
		}
		body.Reset()
		l.write(&body, int(n))
		out.Reset()
		fmt.Fprintf(&out, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
			path, l.Addr, l.Key, body.Len())
		out.Write(body.Bytes())
		begun := time.Now()
		if l.Rate > 0 {
			begun = start.Add(time.Duration(float64(n) / l.Rate * float64(time.Second)))
			time.Sleep(time.Until(begun)) //nolint:forbidigo // a pace, not a wait for something
		}
		if _, err := conn.Write(out.Bytes()); err != nil {
			return took, err
		}
		status, err := readAnswer(in)
		if err != nil {
			return took, err
		}
		if status != http.StatusCreated {
			refused.Add(1)
		}
		took = append(took, time.Since(begun))
	}
}

// write makes the body of the n-th request: events of some 600 bytes, as a
// hook sends them.
func (l load) write(b *bytes.Buffer, n int) {
	run := os.Getpid()
	if l.Batch > 1 {
		b.WriteByte('[')
	}
	for i := range l.Batch {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, `{"projectId":%q,"sourceType":"hook","eventType":"PostToolUse","occurredAtEpoch":%d,`, l.Project, 1_700_000_000_000+n)
		if l.Sessions {
			fmt.Fprintf(b, `"contentSessionId":"session-%d",`, n%32)
		}
		fmt.Fprintf(b, `"platformSource":"claude","payload":{"tool_name":"Edit","tool_use_id":"toolu_%d_%d_%d",`+
			`"tool_input":{"file_path":"/home/dev/project/internal/store/file_%d.go","old_string":"return nil","new_string":"return fmt.Errorf(\"open the store: %%w\", err)"},`+
			`"tool_response":{"success":true,"text":%q},"cwd":"/home/dev/project"}}`, run, n, i, n%100, strings.Repeat("what the tool said. ", 10))
	}
	if l.Batch > 1 {
		b.WriteByte(']')
	}
}

// readAnswer reads an answer and throws its body away.
func readAnswer(in *bufio.Reader) (status int, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length, chunked := 0, false
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return 0, err
			}
		}
		chunked = chunked || bytes.HasPrefix(line, []byte("Transfer-Encoding: chunked"))
	}
	for {
		if chunked {
			if line, err = in.ReadSlice('\n'); err != nil {
				return 0, err
			}
			n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
			if err != nil {
				return 0, err
			}
			length = int(n) + 2
		}
		if _, err = in.Discard(length); err != nil {
			return 0, err
		}
		if !chunked || length == 2 {
			return status, nil
		}
	}
}
