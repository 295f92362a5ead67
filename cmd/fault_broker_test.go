package cmd_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/outbox"
)

// busy starts a server, a relay and a worker, and sends n events.
func (s *stack) busy(n int) (relay, worker *proc) {
	s.t.Helper()
	s.server()
	relay, worker = s.relay(), s.worker()
	s.send(0, n)
	return relay, worker
}

// The broker is killed under load, again and again.
func TestF11BrokerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	s.worker()
	for round := range 4 {
		s.send(round*100, 100)
		s.broker.kill()
		s.send(1000+round*20, 20) // the door does not need it
		s.startBroker()
	}
	s.whole(480)
}

// One that syncs each message is killed among batches: what it has confirmed it
// has, and nothing is there twice.
func TestF11SyncedBrokerKilledAmongBatches(t *testing.T) {
	t.Parallel()
	const n, batch = 1500, 100
	s := newRow(t)
	s.stopBroker()
	s.natsConf = filepath.Join(t.TempDir(), "sync.conf")
	require.NoError(t, os.WriteFile(s.natsConf, []byte("jetstream { sync_interval: always }"), 0o600))
	s.startBroker()
	s.server()
	s.send(0, n)
	nc, err := nats.Connect(s.natsURL(), nats.Timeout(patience), nats.MaxReconnects(-1), nats.ReconnectWait(look), nats.ReconnectBufSize(-1))
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	jobs := db.NewJobs(s.pool, db.JobsConfig{})
	confirmed := 0
	for confirmed < n {
		relay := outbox.New(jobs, nil, js, outbox.Config{Mode: outbox.Atomic, Batch: batch, WindowMin: 2 * n, PublishTimeout: time.Second})
		said := func() int { st := relay.State(); return int(st.Published + st.Duplicates) }
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- relay.Run(ctx) }()
		s.eventually("more is published", func() bool { return said() >= min(confirmed+2*batch, n) })
		s.broker.kill() // as a rule while the next batches are under way
		stop()
		require.NoError(t, <-done)
		confirmed = max(confirmed, said())
		s.startBroker()
		require.GreaterOrEqual(t, s.onJobs(s.js()), confirmed, "what was confirmed is there")
		s.eventually("the client is back", nc.IsConnected)
	}
	require.Equal(t, n, s.onJobs(s.js()))
	s.relay()
	s.worker("--slots", "event=200")
	s.whole(n)
}

// The broker comes back with the disk of some time ago: messages that were
// done are there again, new ones are not, and sequences are used again.
func TestF12BrokerRolledBack(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.send(0, 30)
	relay := s.relay()
	js := s.js()
	s.eventually("30 are on the stream", func() bool { return s.onJobs(js) == 30 })
	require.Zero(t, relay.end(t, syscall.SIGTERM, patience))
	s.stopBroker()
	old := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.CopyFS(old, os.DirFS(s.natsDir)))
	s.startBroker()
	worker := s.worker()
	s.relay()
	s.settled(30)
	require.Zero(t, worker.end(t, syscall.SIGTERM, patience))
	s.send(30, 30) // published, and not taken
	s.eventually("30 more are on the stream", func() bool { return s.onJobs(s.js()) == 30 })

	s.stopBroker()
	s.natsDir = old
	s.eventsLost()
	s.startBroker()
	s.worker()
	s.settled(60)
	require.Equal(t, 60, s.history("completed"), "what came back from the past was done already")
	require.NotZero(t, s.history("reclaimed"), "what was lost was asked for again")
	s.whole(60)
}

// The broker comes back with messages that its consumer knows to be done, as
// after a disk that was full: nobody is given them, and they must not fill the
// lane.
func TestF12OnlyTheMessagesComeBack(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.send(0, 60)
	s.relay()
	s.eventually("60 are on the stream", func() bool { return s.onJobs(s.js()) == 60 })
	s.stopBroker()
	msgs := filepath.Join(s.natsDir, "jetstream", "$G", "streams", "JOBS", "msgs")
	old := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.CopyFS(old, os.DirFS(msgs)))
	s.startBroker()
	s.worker()
	s.settled(60)
	s.eventually("all are acknowledged", func() bool { return s.onJobs(s.js()) == 0 })
	s.stopBroker()
	require.NoError(t, os.RemoveAll(msgs))
	require.NoError(t, os.CopyFS(msgs, os.DirFS(old)))
	s.startBroker()
	s.eventually("they are back", func() bool { return s.onJobs(s.js()) == 60 })
	s.send(60, 100)
	s.whole(160)
}

func (s *stack) stopBroker() {
	s.t.Helper()
	s.broker.end(s.t, syscall.SIGTERM, patience)
}

// eventsLost notes that what was told until now need not be on EVENTS.
func (s *stack) eventsLost() {
	s.t.Helper()
	require.NoError(s.t, s.pool.QueryRow(s.t.Context(), `SELECT now()`).Scan(&s.lost))
}

// The streams and a lane's consumer are deleted under load.
func TestF13StreamsDeleted(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	relay, worker := s.busy(200)
	js := s.js()
	require.NoError(t, js.DeleteConsumer(t.Context(), "JOBS", "workers-event"))
	s.send(200, 100)
	require.NoError(t, js.DeleteStream(t.Context(), "JOBS"))
	s.send(300, 100)
	s.eventsLost()
	require.NoError(t, js.DeleteStream(t.Context(), "EVENTS"))
	s.send(400, 100)
	s.whole(500)
	for _, p := range []*proc{relay, worker} {
		require.Nil(t, p.cmd.ProcessState, "%s goes on", p.name)
	}
}

func TestF13StreamDeletedWithAThousandJobsWaiting(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.server()
	s.relay()
	s.send(0, 1000)
	js := s.js()
	s.eventually("some are on the stream", func() bool { return s.onJobs(js) > 0 })
	require.Equal(t, 1000, s.jobs("queued"))
	require.NoError(t, js.DeleteStream(t.Context(), "JOBS"))
	s.worker()
	s.whole(1000)
}

// Somebody purges JOBS: the stream remembers the ids of what it has not.
func TestF14JobsPurged(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	s.send(0, 50)
	js := s.js()
	s.eventually("50 are on the stream", func() bool { return s.onJobs(js) == 50 })
	stream, err := js.Stream(t.Context(), "JOBS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	s.worker()
	s.whole(50)
	require.GreaterOrEqual(t, s.history("reclaimed"), 50, "under new ids, which the stream does not swallow")
}

// The networks between worker, relay and broker are cut, half open, slow and
// lossy in turn.
func TestF17NetworkToTheBroker(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	toRelay, viaRelay := s.proxiedNATS()
	toWorker, viaWorker := s.proxiedNATS()
	s.start("obs-relay", append(viaRelay, "--lease", lease)...)
	s.start("obs-worker", append(viaWorker, "--lease", lease, "--slots", "event=20")...)
	s.send(0, 50)
	n := 50
	more := func() { s.send(n, 50); n += 50 }
	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"cut", func() { toRelay.Cut(); toWorker.Cut(); more() }},
		{"half open", func() { toRelay.HalfOpen(); toWorker.HalfOpen(); more(); s.heldFor(3 * time.Second) }},
		{"answers lost", func() { toRelay.HoldAnswers(); more(); s.heldFor(time.Second); toRelay.Reset() }},
		{"slow and lossy", func() {
			toRelay.Delay(200 * time.Millisecond)
			toWorker.Delay(200 * time.Millisecond)
			for range 5 {
				more()
				toRelay.Reset()
				toWorker.Reset()
			}
		}},
	} {
		fault.do()
		toRelay.Heal()
		toWorker.Heal()
		s.settled(n)
		t.Logf("%s: %d jobs are done", fault.name, n)
	}
	s.whole(n)
}

// heldFor lets a fault stand for a while, by the database's clock.
func (s *stack) heldFor(d time.Duration) {
	s.t.Helper()
	_, err := s.pool.Exec(s.t.Context(), `SELECT pg_sleep($1)`, d.Seconds())
	require.NoError(s.t, err)
}

// The worker is cut off from the broker while it has jobs in hand, which
// another one can be given then.
func TestF17WorkerCutOff(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	net, via := s.proxiedNATS()
	worker := s.moodyWorker(`{"slowMs":1000}`, via...)
	s.send(0, 20)
	s.eventually("they are in hand", func() bool { return s.jobs("processing") > 0 })
	net.Cut()
	s.send(20, 20)
	s.worker()
	s.settled(40) // its own it stores all the same: that is between it and Postgres
	net.Heal()
	s.eventually("it is back", func() bool { return worker.says("nats is back") })
	s.whole(40)
	require.Equal(t, 40, s.history("completed"))
}
