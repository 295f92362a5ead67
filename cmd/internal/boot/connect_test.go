package boot_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

func TestWhatIsDownIsToldInOneLine(t *testing.T) {
	t.Parallel()
	nowhere := freeAddr(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	database, broker := testenv.Postgres(t), testenv.NATSServer(t).ClientURL()

	for name, c := range map[string]struct {
		database, nats string
		says           []string
	}{
		"no Postgres":       {"postgres://u:secret@" + nowhere + "/obs", broker, []string{"Postgres at " + nowhere, "connection refused", "--database-url (OBS_DATABASE_URL)"}},
		"a silent Postgres": {"postgres://u:secret@" + silent.Addr().String() + "/obs", broker, []string{"Postgres at " + silent.Addr().String(), "no answer"}},
		"no such host":      {"postgres://u:secret@no-such-host.invalid/obs", broker, []string{"Postgres at no-such-host.invalid:5432", "no such host"}},
		"no database":       {strings.Replace(database, "/t_", "/no_", 1), broker, []string{"Postgres at ", "does not exist"}},
		"no NATS":           {database, "nats://u:secret@" + nowhere, []string{"NATS at " + nowhere, "no answer", "--nats-url (OBS_NATS_URL)"}},
		"a silent NATS":     {database, "nats://u:secret@" + silent.Addr().String(), []string{"NATS at " + silent.Addr().String()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stderr := worker(t.Context(), nil, "--database-url", c.database, "--nats-url", c.nats, "--connect-timeout", "1s", "--addr", "off")
			require.Equal(t, boot.ExitFailed, code)
			require.Len(t, stderr.lines(), 1, "%s", stderr)
			for _, want := range c.says {
				require.Contains(t, stderr.String(), want)
			}
			require.NotContains(t, stderr.String(), "secret")
		})
	}
}

func TestNATSWithoutJetStreamIsTold(t *testing.T) {
	t.Parallel()
	plain, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	plain.Start()
	t.Cleanup(plain.Shutdown)
	require.True(t, plain.ReadyForConnections(10*time.Second))

	code, stderr := worker(t.Context(), nil, "--database-url", testenv.Postgres(t), "--nats-url", plain.ClientURL(), "--connect-timeout", "2s", "--addr", "off")
	require.Equal(t, boot.ExitFailed, code)
	require.Len(t, stderr.lines(), 1)
	require.Contains(t, stderr.String(), "has no JetStream; start it with -js")
}

func TestWrongPasswordOfNATSIsToldAtOnce(t *testing.T) {
	t.Parallel()
	guarded, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, Username: "u", Password: "right"})
	require.NoError(t, err)
	guarded.Start()
	t.Cleanup(guarded.Shutdown)
	require.True(t, guarded.ReadyForConnections(10*time.Second))

	began := time.Now()
	url := strings.Replace(guarded.ClientURL(), "nats://", "nats://u:secret@", 1)
	code, stderr := worker(t.Context(), nil, "--database-url", testenv.Postgres(t), "--nats-url", url, "--connect-timeout", "1h", "--addr", "off")
	require.Equal(t, boot.ExitFailed, code)
	require.Less(t, time.Since(began), 5*time.Minute, "waiting would not help")
	require.Contains(t, stderr.String(), "Authorization Violation")
	require.NotContains(t, stderr.String(), "secret")
}

func TestPostgresThatRefusesIsToldAtOnce(t *testing.T) {
	t.Parallel()
	began := time.Now()
	url := testenv.EmptyPostgres(t)
	_, after, ok := strings.Cut(url, "?")
	require.True(t, ok, url)
	code, stderr := worker(t.Context(), nil, "--database-url", "postgres://postgres@/nowhere?"+after, "--nats-url", someNATS, "--connect-timeout", "1h", "--addr", "off")
	require.Equal(t, boot.ExitFailed, code)
	require.Less(t, time.Since(began), 5*time.Minute, "waiting would not help")
	require.Len(t, stderr.lines(), 1)
	require.Contains(t, stderr.String(), `database "nowhere" does not exist; mend that, or set --database-url (OBS_DATABASE_URL)`)
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })
	addr := taken.Addr().String()
	code, stderr := worker(t.Context(), nil, "--database-url", someDatabase, "--nats-url", someNATS, "--addr", addr)
	require.Equal(t, boot.ExitFailed, code)
	require.Equal(t, fmt.Sprintf("obs-worker: %s is in use by another program; stop that, or choose another --addr (OBS_ADDR), for instance 127.0.0.1:0 for a free port\n", addr), stderr.String())
}

func TestConnectMakesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	c := boot.Config{
		DatabaseURL: testenv.EmptyPostgres(t), NATSURL: testenv.NATSServer(t).ClientURL(), ConnectTimeout: time.Minute,
		Streams: outbox.Streams{Prefix: "x"},
	}
	links := connect(t, c)
	require.Positive(t, links.Schema)
	_, err := links.JS.Stream(t.Context(), "x-JOBS")
	require.NoError(t, err)
	connect(t, c) // again, as the second process does
}
