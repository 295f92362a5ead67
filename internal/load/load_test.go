package load_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Everything that is promised of a job happened to every job that was counted.
func TestBedCountsWhatWasDone(t *testing.T) {
	t.Parallel()
	for name, measure := range map[string]func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error){
		"steady": func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
			return b.Steady(ctx, m, 2, 10, 100*time.Millisecond)
		},
		"drain": func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
			return b.Drain(ctx, m, 200, false)
		},
		"drain alone": func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
			return b.Drain(ctx, m, 200, true)
		},
		"latency": func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
			return b.Latency(ctx, m, 50, 500*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s, err := measure(t.Context(), b, load.Meter{load.Self("obs")})
			require.NoError(t, err)
			require.Positive(t, s.N)
			require.Positive(t, s.Rate())
			h, err := b.History(t.Context())
			require.NoError(t, err)
			extra := 0
			if name == "steady" || name == "latency" {
				extra = 1 // it was warmed up with one
			}
			require.Equal(t, s.N+extra, h.Jobs)
			require.Equal(t, h.Jobs, h.Completed)
			require.GreaterOrEqual(t, h.Events, 3*h.Jobs)
			require.Zero(t, h.Waiting)
			if name == "latency" {
				require.Positive(t, s.Latency.N)
				require.LessOrEqual(t, s.Latency.P50, s.Latency.P99)
			}
		})
	}
}

func TestBedRelaysAndEnqueues(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s, err := b.Relay(t.Context(), nil, 300, outbox.Atomic)
	require.NoError(t, err)
	require.Equal(t, 300, s.N)
	require.Nil(t, s.CPU, "no meter, no figures")

	s, err = b.Enqueue(t.Context(), nil, 4, 1, false, 50*time.Millisecond)
	require.NoError(t, err)
	h, err := b.History(t.Context())
	require.NoError(t, err)
	require.Equal(t, 300+s.N, h.Waiting)
	_, err = b.Enqueue(t.Context(), nil, 4, 1, true, 50*time.Millisecond)
	require.NoError(t, err)
	again, err := b.History(t.Context())
	require.NoError(t, err)
	require.Equal(t, h, again, "plain rows ask for nothing")
}

func newBed(t *testing.T) *load.Bed {
	t.Helper()
	broker := testenv.NATSServer(t)
	b, err := load.NewBed(t.Context(), load.BedConfig{
		Database: testenv.Postgres(t), Streams: outbox.Streams{Prefix: "t"}, Slots: 50,
		Dial: func() (*nats.Conn, error) { return broker.Connect() },
	}, 1000)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	return b
}

func TestLimits(t *testing.T) {
	t.Parallel()
	pool := testenv.Pool(t)
	s, err := load.Rows(t.Context(), nil, pool, 2, 100, 64, 50*time.Millisecond)
	require.NoError(t, err)
	var rows int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM limit_rows").Scan(&rows))
	require.Equal(t, s.N, rows)
	s, err = load.Commits(t.Context(), nil, pool, 4, 64, 50*time.Millisecond)
	require.NoError(t, err)
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM limit_rows").Scan(&rows))
	require.Equal(t, s.N, rows)

	nc := testenv.NATS(t)
	for _, run := range []func(context.Context, load.Meter, *nats.Conn, string, int, []byte) (load.Sample, error){load.Publish, load.Consume} {
		s, err = run(t.Context(), nil, nc, "limit", 2000, []byte("x"))
		require.NoError(t, err)
		require.Equal(t, 2000, s.N)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer key" || asked.Add(1) > 500 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("full")) // the test sees what arrives
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(strings.Repeat("x", int(asked.Load())%2*4000))) // long ones come in chunks
	}))
	t.Cleanup(srv.Close)
	h, err := load.DialHTTP(t.Context(), srv.URL, "key", 4)
	require.NoError(t, err)
	t.Cleanup(h.Close)
	r := load.Request{Path: "/", Units: 10, Body: func(buf []byte, n int64) []byte { return append(buf, byte('0'+n%10)) }}

	s, err := h.Flood(t.Context(), nil, r, 0, 2000)
	require.NoError(t, err)
	require.Equal(t, 2000, s.N)
	require.EqualValues(t, 200, asked.Load())
	s, err = h.Pace(t.Context(), nil, r, 200, 500*time.Millisecond)
	require.NoError(t, err)
	require.EqualValues(t, 300, asked.Load())
	require.Equal(t, 100, s.Latency.N)
	_, err = h.Flood(t.Context(), nil, r, time.Minute, 0)
	require.ErrorContains(t, err, "answered 503")
	require.ErrorContains(t, err, "full")
}

// What a process and what it has started take is counted under its name, also when they have ended.
func TestMeterCountsTheTree(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		s := load.Sample{}
		load.Meter{load.Self("self")}.Complete(&s, nil)
		require.Nil(t, s.CPU, "where nobody tells, nothing is told")
		return
	}
	// It counts, has a child count and waits for it, and ends when its input does.
	cmd := exec.Command("sh", "-c", `count() { i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; }; read go; count; (count); echo done; read end`)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	alone := load.Process{Name: "alone", PID: cmd.Process.Pid}
	m := load.Meter{alone, {Name: "tree", PID: cmd.Process.Pid, Tree: true}}
	before := m.Start()
	_, err = in.Write([]byte("go\n"))
	require.NoError(t, err)
	_, err = out.Read(make([]byte, 8))
	require.NoError(t, err)
	s := load.Sample{N: 1}
	m.Complete(&s, before)
	now, most := load.Memory(cmd.Process.Pid)
	require.NoError(t, in.Close())
	_ = cmd.Wait() // read fails at the end of the input: that is how it ends
	require.Positive(t, s.CPU["alone"])
	require.Greater(t, s.CPU["tree"], s.CPU["alone"])
	require.InDelta(t, s.PerUnit(""), s.PerUnit("alone")+s.PerUnit("tree"), 0.001)
	require.Positive(t, now)
	require.GreaterOrEqual(t, most, now)
}

func TestPercentilesAndSpread(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(100-i)*time.Millisecond)
	}
	require.Equal(t, &load.Latency{P50: 50, P95: 95, P99: 99, N: 100}, load.LatencyOf(all))
	require.Equal(t, &load.Latency{P50: 7, P95: 7, P99: 7, N: 1}, load.LatencyOf([]time.Duration{7 * time.Millisecond}))
	require.Nil(t, load.LatencyOf(nil))
	require.Equal(t, load.Spread{Median: 2, Min: 1, Max: 9, Runs: 3}, load.SpreadOf([]float64{9, 1, 2}))
	require.Equal(t, load.Spread{Median: 1.5, Min: 1, Max: 2, Runs: 2}, load.SpreadOf([]float64{2, 1}))
	require.Zero(t, load.SpreadOf(nil))
}
