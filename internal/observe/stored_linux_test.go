package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

// BenchmarkStored is what a worker takes from an event that is on the stream
// to its observation stored by the offline extractor: fetching, claiming,
// reading, extracting, storing, settling and acknowledging, with the broker in
// this process. -benchtime is in events. Read the processor times: a busy
// machine moves them least. It fails beyond its budgets, which no machine
// changes.
//
// What is logged is what Postgres was asked for: four round trips a settled
// batch, whatever its size.
func BenchmarkStored(b *testing.B) {
	for _, sessions := range []bool{false, true} {
		b.Run(fmt.Sprintf("sessions=%v", sessions), func(b *testing.B) { benchStored(b, sessions) })
	}
}

// What an event may cost in what is written to Postgres' log, and in
// allocations, where there are enough of them.
const (
	storedWAL    = 6800
	storedAllocs = 420
	storedEnough = 5000 // events
)

func benchStored(b *testing.B, sessions bool) {
	b.Helper()
	ctx := b.Context()
	plain, err := db.Open(ctx, db.Config{URL: testenv.Postgres(b), MaxConns: 10})
	require.NoError(b, err)
	config := plain.Config()
	plain.Close()
	trips := &tripCounter{of: map[string]int{}}
	config.ConnConfig.Tracer = trips
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	w := newWorldOn(b, pool, func(cfg *observe.Config) { cfg.Provider = llm.NewOffline() })
	js, err := jetstream.New(testenv.NATS(b))
	require.NoError(b, err)
	streams := outbox.Streams{Prefix: "stored", Kinds: observe.Kinds(), JobsMaxMsgs: int64(2*b.N + 1000)}
	require.NoError(b, outbox.Ensure(ctx, js, streams))
	ids := make([]string, 32)
	if sessions {
		for i := range ids {
			ids[i] = w.session(b, fmt.Sprint("session-", i)).ID
		}
	}
	const batch = 100
	var told []events.Envelope
	for n := 0; n < b.N; n += batch {
		list := make([]observe.NewEvent, min(batch, b.N-n))
		for i := range list {
			list[i] = failedCommand(w.project, n+i)
			if sessions {
				list[i].ServerSessionID = &ids[(n+i)%len(ids)]
			}
		}
		for _, r := range w.record(b, list...) {
			told = append(told, r.Job.Envelope())
		}
	}
	for i, e := range told {
		_, err := js.PublishAsync(streams.JobSubject(e.Kind), e.Marshal())
		require.NoError(b, err)
		if i%1000 == 999 {
			<-js.PublishAsyncComplete()
		}
	}
	<-js.PublishAsyncComplete()

	done := make(chan struct{})
	var left atomic.Int64
	left.Store(int64(b.N))
	worker := pipeline.New(w.jobs, js, pipeline.Config{
		Stream: streams.JobsStream(), Consumer: streams.Consumer, Name: "bench",
		Settled: func(steps []events.Step) {
			if left.Add(-int64(len(steps))) == 0 {
				close(done)
			}
		},
	})
	w.Register(worker)
	var backend int
	var begun string
	require.NoError(b, pool.QueryRow(ctx, "SELECT pg_backend_pid(), pg_current_wal_insert_lsn()::text").Scan(&backend, &begun))
	server := load.Process{Name: "postgres", PID: load.Postmaster(backend), Tree: true}
	trips.reset()
	b.ReportAllocs()
	b.ResetTimer()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ours, theirs := selfCPU(b), server.CPU()
	ran := make(chan error, 1)
	workCtx, cancel := context.WithCancel(ctx)
	go func() { ran <- worker.Run(workCtx) }()
	<-done
	b.StopTimer()
	runtime.ReadMemStats(&after)
	asked := trips.total()
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	b.ReportMetric(per(selfCPU(b)-ours), "go-µs/event")
	b.ReportMetric(per(server.CPU()-theirs), "postgres-µs/event")
	b.ReportMetric(0, "ns/op")
	var wal int64
	require.NoError(b, pool.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::bigint", begun).Scan(&wal))
	b.ReportMetric(float64(wal)/float64(b.N), "wal-B/event")
	b.ReportMetric(float64(asked)/float64(b.N), "round-trips/event")
	if b.N >= storedEnough {
		require.Less(b, wal/int64(b.N), int64(storedWAL))
		require.Less(b, (after.Mallocs-before.Mallocs)/uint64(b.N), uint64(storedAllocs))
		require.Less(b, asked, b.N, "batches share what is asked")
	}
	cancel()
	require.NoError(b, <-ran)
	b.Logf("asked of Postgres for %d events: %v", b.N, trips.of)
	require.Equal(b, b.N, w.count(b, "observations"))
	require.Equal(b, b.N, w.count(b, "observation_sources"))
}

// failedCommand is an event of 0.6 KB that there is something to say about.
func failedCommand(project string, n int) observe.NewEvent {
	return observe.NewEvent{
		ProjectID: project, SourceType: "hook", EventType: "tool_use", OccurredAtEpoch: 1_795_435_200_000 + int64(n),
		SourceEventID: new(fmt.Sprint("bench-", n)),
		Payload: json.RawMessage(fmt.Sprintf(`{"tool_name":"Bash","tool_input":{"command":"go test ./part%d -run TestPart%d -count=1"},"tool_response":{"exit_code":1,`+
			`"stdout":"--- FAIL: TestPart%d (0.01s)\n    part_test.go:%d: the relay published %d messages, want %d\n    part_test.go:%d: two leaders at once\nFAIL\nFAIL\texample.com/part%d\t0.012s\nFAIL"}}`,
			n, n, n, n%1000, n, n+1, n%1000+1, n)),
	}
}

func selfCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// tripCounter counts what Postgres is asked, by the names of the queries.
type tripCounter struct {
	mu sync.Mutex
	of map[string]int
}

func (c *tripCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	name, _, _ := strings.Cut(strings.TrimPrefix(data.SQL, "-- name: "), " ")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[name]++
	return ctx
}

func (*tripCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *tripCounter) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.of {
		n += one
	}
	return n
}

func (c *tripCounter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.of)
}
