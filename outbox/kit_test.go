package outbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	kind  = events.Kind("note")
	soon  = 20 * time.Second
	often = 2 * time.Millisecond
)

var teamA = events.Scope{Team: "a", Project: "p"}

// world is a store, a broker, and what a test does with them.
type world struct {
	*testing.T
	store *eventstest.Memory
	js    jetstream.JetStream
	cfg   outbox.Config
	n     int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	js, err := jetstream.New(testenv.NATS(t))
	require.NoError(t, err)
	w := &world{T: t, store: eventstest.NewMemory(), js: js}
	w.cfg = outbox.Config{Streams: outbox.Streams{Kinds: []events.Kind{kind}}, Log: testenv.Log(t)}
	return w
}

// job makes the n-th job of a tenant.
func (w *world) job(scope events.Scope, set ...func(*events.Step)) events.Step {
	w.Helper()
	w.n++
	id := events.NewID(kind, scope.Team, scope.Project, fmt.Sprint(w.n))
	s, err := events.New(events.Job{
		ID: id, Kind: kind, Scope: scope, SourceType: "test", SourceID: string(id), Args: json.RawMessage(`{}`),
	}, events.Event{Actor: "test"})
	require.NoError(w, err)
	for _, f := range set {
		f(&s)
	}
	return s
}

func (w *world) enqueue(n int, scope events.Scope, set ...func(*events.Step)) []events.ID {
	w.Helper()
	steps := make([]events.Step, n)
	ids := make([]events.ID, n)
	for i := range steps {
		steps[i] = w.job(scope, set...)
		ids[i] = steps[i].Job.ID
	}
	_, err := w.store.Enqueue(w.Context(), steps...)
	require.NoError(w, err)
	return ids
}

// relay runs one until the test, or the returned function, ends it.
func (w *world) relay(feed outbox.Feed) (*outbox.Relay, func()) {
	w.Helper()
	r := outbox.New(w.store, feed, w.js, w.cfg)
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(w, <-done)
		}
	}
	w.Cleanup(stop)
	return r, stop
}

// pull takes up to n envelopes off the lane and acknowledges them.
func (w *world) pull(n int) []events.Envelope {
	w.Helper()
	c, err := w.js.Consumer(w.Context(), w.cfg.Streams.JobsStream(), w.cfg.Streams.Consumer(kind))
	require.NoError(w, err)
	batch, err := c.FetchNoWait(n)
	require.NoError(w, err)
	var es []events.Envelope
	for m := range batch.Messages() {
		e, err := events.ParseEnvelope(m.Data())
		require.NoError(w, err)
		es = append(es, e)
		require.NoError(w, m.DoubleAck(w.Context()))
	}
	require.NoError(w, batch.Error())
	return es
}

// onStream is how many messages JOBS holds.
func (w *world) onStream() int {
	w.Helper()
	s, err := w.js.Stream(w.Context(), w.cfg.Streams.JobsStream())
	if err != nil {
		return -1
	}
	return int(s.CachedInfo().State.Msgs)
}

func (w *world) until(what string, ok func() bool) {
	w.Helper()
	require.Eventually(w, ok, soon, often, what)
}

func (w *world) begin(es ...events.Envelope) []events.Claim {
	w.Helper()
	claims, err := w.store.Begin(w.Context(), events.Holder{ID: "w1", Name: "w1", Slots: map[events.Kind]int{kind: 10}}, es)
	require.NoError(w, err)
	return claims
}
