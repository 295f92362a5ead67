package boot_test

import (
	"context"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

const look = 50 * time.Millisecond

// watched starts a Health of links, and gives what looks a check up by name.
func watched(t *testing.T, c boot.Config) (links *boot.Links, check func(name string) api.Check) {
	t.Helper()
	links = connect(t, c)
	h := boot.NewHealth(links, c.Streams, func() []api.Check { return nil })
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return links, func(name string) api.Check {
		for _, one := range h.Health(t.Context()).Checks {
			if one.Name == name {
				return one
			}
		}
		return api.Check{Reason: "there is no such check"}
	}
}

func TestHealthFollowsNATS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Dir: dir, Port: -1})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Stop() })
	at, err := url.Parse(broker.ClientURL())
	require.NoError(t, err)
	port, err := strconv.Atoi(at.Port())
	require.NoError(t, err)
	c := boot.Config{
		DatabaseURL: testenv.Postgres(t), NATSURL: broker.ClientURL(), ConnectTimeout: time.Minute,
		Streams: outbox.Streams{Kinds: observe.Kinds()},
	}
	links, check := watched(t, c)
	require.True(t, check("nats").OK)
	require.True(t, check("streams").OK)

	broker.Stop()
	require.Eventually(t, func() bool { return !check("nats").OK && !check("streams").OK }, time.Minute, look)
	require.Eventually(t, func() bool { return check("nats").Reason == "not connected" }, time.Minute, look)
	require.True(t, check("postgres").OK)

	broker, err = embedded.StartNATS(t.Context(), embedded.NATSConfig{Dir: dir, Port: port})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return check("nats").OK && check("streams").OK }, time.Minute, look, "by itself")

	require.NoError(t, links.JS.DeleteStream(t.Context(), "JOBS"))
	require.Eventually(t, func() bool { return !check("streams").OK }, time.Minute, look)
	require.Equal(t, "there is no stream JOBS", check("streams").Reason)
}

func TestHealthFollowsPostgres(t *testing.T) {
	t.Parallel()
	c := boot.Config{DatabaseURL: testenv.Postgres(t), NATSURL: testenv.NATSServer(t).ClientURL(), ConnectTimeout: time.Minute}
	links, check := watched(t, c)
	require.True(t, check("postgres").OK)
	links.Pool.Close()
	require.Eventually(t, func() bool { return !check("postgres").OK }, time.Minute, look)
	require.NotEmpty(t, check("postgres").Reason)
	require.True(t, check("nats").OK)
}
