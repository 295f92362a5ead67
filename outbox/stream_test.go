package outbox_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

func broker(t *testing.T) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(testenv.NATS(t))
	require.NoError(t, err)
	return js
}

func info(t *testing.T, js jetstream.JetStream, name string) *jetstream.StreamInfo {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	require.NoError(t, err)
	return s.CachedInfo()
}

func TestEnsureMakesAndKeeps(t *testing.T) {
	t.Parallel()
	js := broker(t)
	s := outbox.Streams{Kinds: []events.Kind{"a", "b"}}
	require.NoError(t, outbox.Ensure(t.Context(), js, s))
	jobs, all := info(t, js, "JOBS"), info(t, js, "EVENTS")
	require.Equal(t, jetstream.WorkQueuePolicy, jobs.Config.Retention)
	require.Equal(t, jetstream.DiscardNew, jobs.Config.Discard)
	require.True(t, jobs.Config.AllowAtomicPublish)
	require.Equal(t, []string{"jobs.>"}, jobs.Config.Subjects)
	require.Equal(t, jetstream.LimitsPolicy, all.Config.Retention)
	require.Equal(t, 7*24*time.Hour, all.Config.MaxAge)
	require.True(t, all.Config.DenyPurge)
	require.Equal(t, 2, jobs.State.Consumers)
	c, err := js.Consumer(t.Context(), "JOBS", s.Consumer("a"))
	require.NoError(t, err)
	require.Equal(t, "jobs.a", c.CachedInfo().Config.FilterSubject)
	require.Equal(t, -1, c.CachedInfo().Config.MaxDeliver)

	updates := make(chan *nats.Msg, 100)
	sub, err := js.Conn().ChanSubscribe("$JS.API.*.UPDATE.>", updates)
	require.NoError(t, err)
	require.NoError(t, outbox.Ensure(t.Context(), js, s))
	require.NoError(t, js.Conn().Flush())
	require.NoError(t, sub.Unsubscribe())
	require.Empty(t, updates, "what is right is not touched")
}

func TestEnsureChangesWhatIsOurs(t *testing.T) {
	t.Parallel()
	js := broker(t)
	s := outbox.Streams{Kinds: []events.Kind{"a"}}
	require.NoError(t, outbox.Ensure(t.Context(), js, s))
	cfg := info(t, js, "JOBS").Config
	cfg.Metadata["owner"] = "somebody"
	cfg.MaxConsumers = -1
	_, err := js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)

	s.JobsMaxMsgs, s.AckWait = 5, time.Minute
	require.NoError(t, outbox.Ensure(t.Context(), js, s))
	require.EqualValues(t, 5, info(t, js, "JOBS").Config.MaxMsgs)
	require.Equal(t, "somebody", info(t, js, "JOBS").Config.Metadata["owner"], "what is theirs stays")
	c, err := js.Consumer(t.Context(), "JOBS", s.Consumer("a"))
	require.NoError(t, err)
	require.Equal(t, time.Minute, c.CachedInfo().Config.AckWait)

	cfg = info(t, js, "JOBS").Config
	cfg.Metadata["obs.schema"] = "1000"
	_, err = js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	s.JobsMaxMsgs = 6
	require.NoError(t, outbox.Ensure(t.Context(), js, s))
	require.EqualValues(t, 5, info(t, js, "JOBS").Config.MaxMsgs, "a newer program's settings stay")
}

func TestEnsureRefusesAnotherRetention(t *testing.T) {
	t.Parallel()
	js := broker(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}})
	require.NoError(t, err)
	err = outbox.Ensure(t.Context(), js, outbox.Streams{})
	require.ErrorIs(t, err, outbox.ErrRetention)
	require.ErrorContains(t, err, "JOBS")
	require.Equal(t, jetstream.LimitsPolicy, info(t, js, "JOBS").Config.Retention)
}

func TestEnsureBringsBackWhatVanished(t *testing.T) {
	t.Parallel()
	js := broker(t)
	s := outbox.Streams{Prefix: "t1", Kinds: []events.Kind{"a", "b"}}
	require.NoError(t, outbox.Ensure(t.Context(), js, s))
	require.NoError(t, js.DeleteConsumer(t.Context(), s.JobsStream(), s.Consumer("b")))
	require.NoError(t, js.DeleteStream(t.Context(), s.EventsStream()))
	require.NoError(t, outbox.Ensure(t.Context(), js, s))
	require.Equal(t, 2, info(t, js, "t1-JOBS").State.Consumers)
	require.Equal(t, []string{"t1.ev.>"}, info(t, js, "t1-EVENTS").Config.Subjects)
}

func TestEnsureFromManyProcesses(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t)
	var g errgroup.Group
	for i := range 8 {
		g.Go(func() error {
			js, err := jetstream.New(nc)
			if err != nil {
				return err
			}
			// Half of them want another limit: they may overwrite each other, not fail.
			return outbox.Ensure(t.Context(), js, outbox.Streams{
				Kinds: []events.Kind{"a", "b", "c"}, JobsMaxMsgs: int64(100 + i%2),
			})
		})
	}
	require.NoError(t, g.Wait())
}

func TestSubjectsHoldNoWildcards(t *testing.T) {
	t.Parallel()
	var s outbox.Streams
	for _, evil := range []string{"a.>", "*", ">", "..", "", " ", "a b", "a\r\nPUB x 1", "\x00", "%", "é", string(make([]byte, 5000))} {
		require.Equal(t, []string{"ev.*.*.*." + events.Token(evil)}, s.EventsOf(events.Type(evil)))
		subject := s.EventSubject(events.Scope{Team: evil, Project: evil}, events.Kind(evil), events.Type(evil))
		require.Regexp(t, `^ev(\.~?[A-Za-z0-9_-]{1,64}){4}$`, subject)
		require.Regexp(t, `^jobs\.~?[A-Za-z0-9_-]{1,64}$`, s.JobSubject(events.Kind(evil)))
		require.Regexp(t, `^workers-~?[A-Za-z0-9_-]{1,64}$`, s.Consumer(events.Kind(evil)))
	}
	require.Error(t, outbox.Ensure(t.Context(), broker(t), outbox.Streams{Prefix: "a.>"}))
}

// Who has too small a disk is told what to do.
func TestEnsureSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 100 << 20, NoSigs: true, NoLog: true,
	})
	require.NoError(t, err)
	srv.Start()
	defer func() { srv.Shutdown(); srv.WaitForShutdown() }()
	require.True(t, srv.ReadyForConnections(time.Minute))
	nc, err := nats.Connect(srv.ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	err = outbox.Ensure(t.Context(), js, outbox.Streams{Kinds: []events.Kind{"a"}})
	require.ErrorContains(t, err, "ensure stream JOBS")
	require.ErrorContains(t, err, "the stream wants 256 MiB set aside")
	require.NoError(t, outbox.Ensure(t.Context(), js, outbox.Streams{Kinds: []events.Kind{"a"}, JobsMaxBytes: 10 << 20, EventsMaxBytes: 50 << 20}))
}
