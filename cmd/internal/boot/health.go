package boot

import (
	"context"
	"errors"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/outbox"
)

// How often the links are looked at and how long one may take to answer:
// together less than the five seconds within which health has to tell. A stream
// is looked at every other time.
const (
	lookEvery  = 2 * time.Second
	lookWithin = 2 * time.Second

	_ = uint(5*time.Second - lookEvery - lookWithin) // or it does not compile
)

// Health knows how the process's links are, and answers from what it saw last.
type Health struct {
	links   *Links
	streams outbox.Streams
	own     func() []api.Check // of the parts of this process

	mu     sync.Mutex
	checks []api.Check // postgres, nats, streams
	broker api.Broker
	looks  int
}

// NewHealth makes a Health of links that have just been made, so all is well.
// own tells of the parts of this process, which are asked each time.
func NewHealth(links *Links, streams outbox.Streams, own func() []api.Check) *Health {
	now := time.Now()
	return &Health{links: links, streams: streams, own: own, checks: []api.Check{
		{Name: "postgres", OK: true, Since: now},
		{Name: "nats", OK: true, Since: now},
		{Name: "streams", OK: true, Since: now},
	}}
}

// Run looks at the links until ctx ends. The processes of one host look at the
// same time, so that an idle broker wakes once for all of them; hosts do not.
func (h *Health) Run(ctx context.Context) error {
	host, _ := os.Hostname() // without a name, all such look together
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(host)) // it never fails
	phase := time.Duration(hash.Sum32()) % lookEvery
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		h.Look(ctx)
		timer.Reset(lookEvery - time.Duration(time.Now().Add(phase).UnixNano())%lookEvery)
	}
}

// Look looks at the links once.
func (h *Health) Look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	var wg sync.WaitGroup
	var postgres, broker, streams string
	var info api.Broker
	wg.Go(func() { postgres = h.postgres(ctx) })
	names, before := h.turn()
	wg.Go(func() { broker, streams, info = h.nats(ctx, names, before) })
	wg.Wait()
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the process stops
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broker = info
	for i, reason := range []string{postgres, broker, streams} {
		c := &h.checks[i]
		if c.OK != (reason == "") || c.Reason != reason {
			c.OK, c.Reason, c.Since = reason == "", reason, time.Now()
		}
	}
}

func (h *Health) postgres(ctx context.Context) string {
	if err := db.Alive(ctx, h.links.Pool); err != nil {
		return "does not answer: " + causePostgres(err)
	}
	return ""
}

// turn gives the streams to look at, and what is known of the others: while
// all is well each is looked at every other time, for asking the broker is most
// of what an idle process costs.
func (h *Health) turn() (names []string, others []api.Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	names = []string{h.streams.JobsStream(), h.streams.EventsStream()}
	h.looks++
	ok := !slices.ContainsFunc(h.checks, func(c api.Check) bool { return !c.OK })
	if !ok || len(h.broker.Streams) < len(names) {
		return names, nil
	}
	i := h.looks % len(names)
	return names[i : i+1], slices.Delete(slices.Clone(h.broker.Streams), i, i+1)
}

// nats looks at the broker and some of the streams; others is what it says of
// those that it does not look at.
func (h *Health) nats(ctx context.Context, names []string, others []api.Stream) (broker, streams string, info api.Broker) {
	nc := h.links.NATS
	if s := nc.Status(); s != nats.CONNECTED {
		return "not connected", "not known while nats is away", info
	}
	info = api.Broker{
		Connected: true, Version: nc.ConnectedServerVersion(), Cluster: nc.ConnectedClusterName(), Server: nc.ConnectedServerName(),
	}
	for _, name := range names {
		stream, err := h.links.JS.Stream(ctx, name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			streams = "there is no stream " + name
			continue
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
			return "does not answer", "not known while nats does not answer", api.Broker{}
		case err != nil:
			return "", causeNATS(err), info
		}
		i := stream.CachedInfo()
		info.Streams = append(info.Streams, api.Stream{
			Name: name, Messages: i.State.Msgs, Bytes: i.State.Bytes, Replicas: i.Config.Replicas, Created: i.Created,
		})
	}
	info.Streams = append(info.Streams, others...)
	slices.SortFunc(info.Streams, func(a, b api.Stream) int { return -strings.Compare(a.Name, b.Name) }) // jobs, events
	return "", streams, info
}

// Health tells what was seen last.
func (h *Health) Health(context.Context) api.Health { return h.known() }

func (h *Health) known() api.Health {
	h.mu.Lock()
	checks := slices.Clone(h.checks)
	h.mu.Unlock()
	return api.Health{Checks: append(checks, h.own()...)}
}

// Broker tells what was seen of NATS last, and asks for the lanes' consumers.
func (h *Health) Broker(ctx context.Context) api.Broker {
	h.mu.Lock()
	b := h.broker
	b.Streams = slices.Clone(b.Streams)
	h.mu.Unlock()
	for i := range b.Streams {
		s := &b.Streams[i]
		if s.Name != h.streams.JobsStream() {
			continue // the followers of the other one come and go
		}
		for _, kind := range h.streams.Kinds {
			c, err := h.links.JS.Consumer(ctx, s.Name, h.streams.Consumer(kind))
			if err != nil {
				continue // what is missing is missing in the answer too
			}
			ci := c.CachedInfo()
			s.Consumers = append(s.Consumers, api.Consumer{
				Name: ci.Name, Pending: ci.NumPending, AckPending: ci.NumAckPending,
				Redelivered: ci.NumRedelivered, Waiting: ci.NumWaiting,
			})
		}
	}
	return b
}
