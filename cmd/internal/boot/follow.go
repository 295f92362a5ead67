package boot

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

// followBack is how far before the break a follower starts again: the
// broker's clock and ours may differ, and hearing twice does no harm.
const followBack = 10 * time.Second

// Follow tells notice of the jobs that come to an end, whoever does it, until
// ctx ends. While the broker is away it hears nothing, and later what it has
// missed.
func Follow(links *Links, streams outbox.Streams, log *slog.Logger, notice func(events.ID, events.Status)) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		from := time.Now()
		for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			began := time.Now()
			err := follow(ctx, links.JS, streams, from, notice)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // it was told to stop
			}
			log.DebugContext(ctx, "following events again", "err", err)
			from = time.Now().Add(-followBack)
			if time.Since(began) > time.Minute {
				wait = 100 * time.Millisecond
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
		}
	}
}

func follow(ctx context.Context, js jetstream.JetStream, streams outbox.Streams, from time.Time, notice func(events.ID, events.Status)) error {
	consumer, err := js.OrderedConsumer(ctx, streams.EventsStream(), jetstream.OrderedConsumerConfig{
		DeliverPolicy:  jetstream.DeliverByStartTimePolicy,
		OptStartTime:   &from,
		FilterSubjects: streams.EventsOf(events.Completed, events.Failed, events.Cancelled),
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		// It gives up when the broker is silent for two heartbeats.
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		told, _ := outbox.ParseEvents(msg.Data()) // others may publish there what we cannot read
		for _, e := range told {
			notice(e.Job, e.Status)
		}
	}
}
