package embedded_test

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

func startNATS(t *testing.T, cfg embedded.NATSConfig) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(n.Stop)
	return n
}

func connect(t *testing.T, n *embedded.NATS) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := n.Connect()
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return nc, js
}

func TestStreamsOutliveTheServer(t *testing.T) {
	t.Parallel()
	cfg := embedded.NATSConfig{Dir: t.TempDir(), SyncAlways: true}

	first := startNATS(t, cfg)
	require.Empty(t, first.ClientURL())
	_, js := connect(t, first)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s.a", []byte("kept"))
	require.NoError(t, err)
	first.Stop()

	_, js = connect(t, startNATS(t, cfg))
	stream, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	msg, err := stream.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "kept", string(msg.Data))
}

func TestSecondBrokerIsTold(t *testing.T) {
	t.Parallel()
	cfg := embedded.NATSConfig{Dir: t.TempDir()}
	startNATS(t, cfg)

	_, err := embedded.StartNATS(t.Context(), cfg)
	require.ErrorIs(t, err, embedded.ErrInUse)
}

func TestListeningBroker(t *testing.T) {
	t.Parallel()
	n := startNATS(t, embedded.NATSConfig{Dir: t.TempDir(), Port: -1})

	nc, err := nats.Connect(n.ClientURL(), nats.Timeout(time.Minute))
	require.NoError(t, err)
	defer nc.Close()
	require.NoError(t, nc.Flush())
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	cfg := embedded.NATSConfig{Dir: t.TempDir(), Port: listener.Addr().(*net.TCPAddr).Port}

	_, err = embedded.StartNATS(t.Context(), cfg)
	require.ErrorContains(t, err, "is already in use: stop what listens there or choose another port for NATS")

	cfg.Port = 0
	startNATS(t, cfg) // and the folder is free again
}
