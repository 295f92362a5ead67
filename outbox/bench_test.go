package outbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/outbox"
)

const benchJobs = 20_000

// BenchmarkRelay publishes the same messages by the relay and, in alternation,
// by the client alone (asynchronously, with message ids). Only the ratio of
// the two says anything on a shared machine.
func BenchmarkRelay(b *testing.B) {
	fresh := map[string]func() store{
		"memory":   func() store { return eventstest.NewMemory() },
		"postgres": func() store { return newPostgres(b) },
	}
	for _, name := range []string{"memory", "postgres"} {
		for _, mode := range []outbox.Mode{outbox.Atomic, outbox.Async} {
			for _, sync := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%s/sync=%v", name, mode, sync), func(b *testing.B) {
					benchRelay(b, fresh[name], mode, sync)
				})
			}
		}
	}
}

func benchRelay(b *testing.B, fresh func() store, mode outbox.Mode, sync bool) {
	var relayed, published time.Duration
	for range b.N {
		steps := make([]events.Step, benchJobs)
		for i := range steps {
			steps[i] = step(b, i, []events.Scope{teamA, teamB}[i%2])
		}
		s := fresh()
		for at := 0; at < len(steps); at += 1000 {
			_, err := s.Enqueue(b.Context(), steps[at:at+1000]...)
			require.NoError(b, err)
		}
		cfg := outbox.Config{
			Streams:   outbox.Streams{Kinds: []events.Kind{kind}, JobsMaxMsgs: 2 * benchJobs},
			WindowMin: 2 * benchJobs,
			Mode:      mode,
		}
		js := benchBroker(b, cfg.Streams, sync)
		r := outbox.New(s, nil, js, cfg)
		began := time.Now()
		n, err := r.Once(b.Context())
		relayed += time.Since(began)
		require.NoError(b, err)
		require.Equal(b, benchJobs, n)

		js = benchBroker(b, cfg.Streams, sync)
		began = time.Now()
		futures := make([]jetstream.PubAckFuture, len(steps))
		for i, s := range steps {
			j, _, err := s.Next()
			require.NoError(b, err)
			e := j.Envelope()
			futures[i], err = js.PublishMsgAsync(&nats.Msg{
				Subject: cfg.Streams.JobSubject(kind), Data: e.Marshal(),
				Header: nats.Header{jetstream.MsgIDHeader: {e.MsgID()}},
			})
			require.NoError(b, err)
		}
		for _, f := range futures {
			select {
			case <-f.Ok():
			case err := <-f.Err():
				require.NoError(b, err)
			}
		}
		published += time.Since(began)
	}
	n := float64(benchJobs * b.N)
	b.ReportMetric(n/relayed.Seconds(), "relayed/s")
	b.ReportMetric(n/published.Seconds(), "published/s")
	b.ReportMetric(published.Seconds()/relayed.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

func benchBroker(b *testing.B, s outbox.Streams, sync bool) jetstream.JetStream {
	b.Helper()
	broker, err := embedded.StartNATS(b.Context(), embedded.NATSConfig{Dir: b.TempDir(), SyncAlways: sync})
	require.NoError(b, err)
	b.Cleanup(broker.Stop)
	nc, err := broker.Connect()
	require.NoError(b, err)
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(benchJobs))
	require.NoError(b, err)
	require.NoError(b, outbox.Ensure(b.Context(), js, s))
	return js
}
