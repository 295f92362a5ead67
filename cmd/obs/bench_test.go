package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// On somebody's servers it asks first, measures in what it makes for itself, and leaves nothing.
func TestBenchOnServersThatAreGiven(t *testing.T) {
	t.Parallel()
	dsn, broker := testenv.Postgres(t), testenv.NATSServer(t)
	conn, err := pgx.Connect(t.Context(), dsn) // somebody is there
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	args := []string{
		"bench", "--database-url", dsn, "--nats-url", broker.ClientURL(), "--nats-prefix", "mine",
		"--jobs", "200", "--for", "100ms", "--only", "nats.publish,jobs.relay,jobs.through-100,events.stored",
	}

	stdout, stderr := &output{}, &output{}
	require.Equal(t, boot.ExitMisused, runIn(t.Context(), stdout, stderr, args...), stderr)
	require.Contains(t, stderr.String(), "others are connected to this Postgres")
	require.Contains(t, stderr.String(), "--yes")

	stdout, stderr = &output{}, &output{}
	require.Equal(t, boot.ExitOK, runIn(t.Context(), stdout, stderr, append(args, "--yes", "--json")...), stderr)
	var out benched
	require.NoError(t, json.Unmarshal([]byte(stdout.String()), &out), stdout)
	require.False(t, out.Own)
	require.Equal(t, "off", out.Settings["fsync"], "testenv's")
	require.Contains(t, stderr.String(), "fsync is off")
	require.Len(t, out.Results, 4)
	for _, r := range out.Results {
		require.Positive(t, r.Rate, r.Name)
		require.Positive(t, r.What.N, r.Name)
	}

	var left int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE starts_with(datname, $1)`, load.ScratchPrefix).Scan(&left))
	require.Zero(t, left)
	nc, err := broker.Connect()
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	for name := range js.StreamNames(t.Context()).Name() {
		require.Fail(t, "a stream is left", name)
	}
}

// By itself it starts what it needs. Told to stop, it stops and tidies up.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	stdout, stderr := &output{}, &output{}
	done := make(chan int, 1)
	go func() { done <- runIn(ctx, stdout, stderr, "bench", "--only", "postgres.copy", "--for", "1h") }()
	require.Eventually(t, func() bool { return strings.Contains(stdout.String(), "obs bench: Postgres") || len(done) > 0 }, 2*time.Minute, 20*time.Millisecond)
	cancel()
	require.Equal(t, boot.ExitFailed, <-done, stderr)
	require.Contains(t, stderr.String(), "interrupted")
}

func TestBenchMisused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flag, value, want string }{
		{"--jobs", "1", "--jobs: got 1"},
		{"--for", "1ms", "--for: got 1ms"},
		{"--only", "nobody", "--only: nothing has nobody in its name"},
		{"--database-url", "postgres://x:y@h:port/", "--database-url"},
	} {
		stdout, stderr := &output{}, &output{}
		require.Equal(t, boot.ExitMisused, runIn(t.Context(), stdout, stderr, "bench", c.flag, c.value), c.flag)
		require.Contains(t, stderr.String(), c.want)
	}
}

func TestBenchTable(t *testing.T) {
	t.Parallel()
	b := &bench{out: benched{Results: []benchResult{
		{Name: "nats.publish", Title: "NATS alone", Rate: 123456, CPU: 10},
		{Name: "jobs.relay", Title: "relayed", Rate: 61728, What: load.Sample{Latency: &load.Latency{P50: 1, P95: 2, P99: 3}}},
	}}}
	out := &output{}
	b.print(out)
	require.Contains(t, out.String(), "123,456")
	require.Contains(t, out.String(), "1.00    2.00  3.00")
	require.Contains(t, out.String(), "publishes 0.50 times as many")
	require.Equal(t, "██░░", bar(1, 2, 4))
}
