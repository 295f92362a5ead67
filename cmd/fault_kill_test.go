package cmd_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

// The API dies with the event stored and not committed: nothing is left, and
// the client's next try is the first.
func TestF01APIKilledBeforeItCommits(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.relay()
	s.worker()
	server := s.faulty("record.stored=kill", "obs", "server")
	require.False(t, s.tell(1))
	server.dies(t)
	require.Zero(t, s.count(`SELECT count(*) FROM agent_events`))

	s.server()
	require.True(t, s.tell(1))
	require.True(t, s.tell(1), "the client may send again as often as it likes")
	s.whole(1)
}

// The API dies after the commit and before it has rung the bell or answered.
func TestF02APIKilledBeforeItRings(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.relay()
	s.worker()
	server := s.faulty("record.committed=kill", "obs", "server")
	require.False(t, s.tell(1))
	server.dies(t)
	s.settled(1) // the relay looks by itself

	s.server()
	require.True(t, s.tell(1), "the same event, and no second job")
	s.whole(1)
}

// The relay dies when the broker has its batch and before it knows. Its
// successor publishes the batch again.
func TestF03RelayKilledAfterPublishing(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	relay := s.faulty("relay.published=kill", "obs-relay", "--lease", lease)
	s.send(0, 40)
	relay.dies(t)
	require.Equal(t, 40, s.count(`SELECT count(*) FROM outbox`))
	js := s.js()
	there := s.onJobs(js)
	require.NotZero(t, there)

	next := s.relay()
	s.eventually("what the dead one published is refused as a duplicate, the rest is published", func() bool {
		return s.totals(next).Duplicates == there && s.onJobs(js) == 40
	})
	s.worker()
	s.whole(40)
	s.noneTwice()
}

// As F3, and before the successor comes the jobs are done and the broker is
// started again: it has forgotten the ids of what is no longer there, so a
// relay that remembers the asks can publish them once more.
func TestF04RelayKilledAndBrokerRestarted(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	relay := s.faulty("relay.published=kill@2", "obs-relay", "--lease", lease)
	worker := s.worker()
	s.send(0, 1)
	s.settled(1)
	s.send(1, 40)
	relay.dies(t)
	asked := s.asks()
	s.worker()
	s.relay()
	s.settled(41)
	s.broker.kill()
	s.startBroker()
	js := s.js()
	for _, e := range asked {
		ack, err := js.Publish(t.Context(), "jobs.event", e.Marshal(), jetstream.WithMsgID(e.MsgID()))
		require.NoError(t, err)
		require.False(t, ack.Duplicate, "the broker has forgotten it")
	}
	s.whole(41)
	require.Equal(t, 41, s.history("completed"))
	require.Zero(t, worker.cmd.ProcessState)
}

// asks are the envelopes of all jobs as they were last asked for.
func (s *stack) asks() []events.Envelope {
	s.t.Helper()
	jobs := db.NewJobs(s.pool, db.JobsConfig{})
	var es []events.Envelope
	_, err := jobs.Check(s.t.Context(), db.CheckConfig{Job: func(j events.Job, _ []events.Event) { es = append(es, j.Envelope()) }})
	require.NoError(s.t, err)
	return es
}

// As F3, and the successor comes when the stream has forgotten the ids: its
// window is a tenth of a second here, and two minutes otherwise.
func TestF05RelayKilledAndTheWindowOver(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	js := s.js()
	stream, err := js.Stream(t.Context(), "JOBS")
	require.NoError(t, err)
	c := stream.CachedInfo().Config
	c.Duplicates, c.Metadata["obs.schema"] = 100*time.Millisecond, "99" // our programs leave it alone
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	s.server()
	relay := s.faulty("relay.published=kill", "obs-relay", "--lease", lease)
	s.send(0, 20) // twice that fits into the lane
	relay.dies(t)
	there := s.onJobs(js)
	probe := rand.Text() // a message that no lane takes tells when the window is over
	s.eventually("the window is over", func() bool {
		ack, err := js.Publish(t.Context(), "jobs.probe", nil, jetstream.WithMsgID(probe))
		require.NoError(t, err)
		return !ack.Duplicate && ack.Sequence > uint64(there)+1
	})
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject("jobs.probe")))

	next := s.relay()
	s.eventually("all of it is on the stream, some of it twice", func() bool { return s.onJobs(js) >= 20+there })
	require.Zero(t, s.totals(next).Duplicates)
	s.worker()
	s.whole(20)
	s.noneTwice()
}

// The worker dies when it has looked at brief jobs: nothing of that is stored.
// The next one, to whom they are delivered a second time, claims them, and dies
// when that is stored and no handler has begun.
func TestF07WorkerKilledAfterTheClaim(t *testing.T) {
	t.Parallel()
	killedWorker(t, "worker.looked", "worker.begun")
}

// The worker dies when the provider has answered: the answer is lost, the
// provider is asked again, and both attempts are on record.
func TestF08WorkerKilledAfterTheAnswer(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"worker.handled", "worker.stored"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			killedWorker(t, point, point)
		})
	}
}

// killedWorker kills workers of brief jobs, until one dies that has claimed
// some: those come a second time.
func killedWorker(t *testing.T, looked, begun string) {
	t.Helper()
	s := newRow(t)
	s.server()
	s.relay()
	worker := s.faulty(looked+"=kill", "obs-worker", "--lease", lease, "--slots", "event=20")
	s.send(0, 30)
	worker.dies(t)
	require.Zero(t, s.count(`SELECT count(*) FROM observations`))
	if looked == "worker.looked" { // later it may have taken as long that it was claimed
		require.Zero(t, s.history("processing"), "of a brief attempt nothing is known before it is settled")
	}
	for s.history("processing") == 0 {
		s.faulty(begun+"=kill", "obs-worker", "--lease", lease, "--slots", "event=20").dies(t)
	}
	s.worker()
	s.whole(30)
	require.NotZero(t, s.history("reclaimed"))
	s.noneTwice()
	require.NotZero(t, s.count(`SELECT count(*) FROM observation_generation_jobs WHERE attempts > 1`), "the lost attempts count")
}

// The worker dies with its results stored and the messages not acknowledged.
func TestF09WorkerKilledBeforeItAcks(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	worker := s.faulty("worker.settled=kill", "obs-worker", "--lease", lease, "--slots", "event=20")
	s.send(0, 30)
	worker.dies(t)
	stored := s.jobs("completed")
	require.NotZero(t, stored)
	js := s.js()
	require.GreaterOrEqual(t, s.onJobs(js), stored, "their messages are still there")
	s.worker()
	s.whole(30)
	require.Equal(t, 30, s.history("completed"))
}

// The relay dies when EVENTS has a batch and the table does not know.
func TestF03FeedToldTwice(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	relay := s.faulty("feed.published=kill", "obs-relay", "--lease", lease)
	s.worker()
	s.send(0, 30)
	relay.dies(t)
	s.relay()
	s.whole(30)
	told := map[events.ID]int{}
	js := s.js()
	consumer, err := js.OrderedConsumer(t.Context(), "EVENTS", jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	for range info.NumPending {
		m, err := consumer.Next()
		require.NoError(t, err)
		some, err := outbox.ParseEvents(m.Data())
		require.NoError(t, err)
		for _, e := range some {
			told[e.Job]++
			require.Equal(t, told[e.Job], e.Version, "each event once, in order")
		}
	}
	require.Len(t, told, 30)
}
