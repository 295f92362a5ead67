package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	wmsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/internal/load"
)

// watermillBatch is how many rows its subscriber reads at once: ten times what it does by itself, and better.
const watermillBatch = 1000

// watermillRelay is Watermill's forwarder: its outbox in Postgres, to JetStream with message ids.
func watermillRelay(o options) figure {
	return figure{who: "watermill", what: "relay", title: "Watermill's forwarder", unit: "messages", run: func(ctx context.Context, e *env) (load.Sample, error) {
		broker, err := e.broker(ctx, false)
		if err != nil {
			return load.Sample{}, err
		}
		url, drop, err := e.database(ctx, "", nil)
		if err != nil {
			return load.Sample{}, err
		}
		e.seq++
		s, err := forwarded(ctx, e.meter("watermill", broker), url, broker.url, fmt.Sprintf("wm%d", e.seq), o.relayed())
		return s, errors.Join(err, drop())
	}}
}

func forwarded(ctx context.Context, m load.Meter, url, natsURL, topic string, n int) (load.Sample, error) {
	p, err := pool(ctx, url, 8)
	if err != nil {
		return load.Sample{}, err
	}
	defer p.Close()
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return load.Sample{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return load.Sample{}, err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: topic, Subjects: []string{topic}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		return load.Sample{}, err
	}
	defer func() { _ = js.DeleteStream(context.WithoutCancel(ctx), topic) }() // what is left of it is gone with the run

	quiet := watermill.NopLogger{}
	schema := wmsql.DefaultPostgreSQLSchema{SubscribeBatchSize: watermillBatch}
	db := wmsql.BeginnerFromPgx(p)
	rows, err := wmsql.NewPublisher(db, wmsql.PublisherConfig{SchemaAdapter: schema, AutoInitializeSchema: true}, quiet)
	if err != nil {
		return load.Sample{}, err
	}
	outbox := forwarder.NewPublisher(rows, forwarder.PublisherConfig{ForwarderTopic: "outbox"})
	for at := 0; at < n; at += load.FillBatch {
		batch := make([]*message.Message, min(load.FillBatch, n-at))
		for i := range batch {
			batch[i] = message.NewMessage(watermill.NewUUID(), envelope) // as much as one of ours
		}
		if err := outbox.Publish(topic, batch...); err != nil {
			return load.Sample{}, err
		}
	}
	sub, err := wmsql.NewSubscriber(db, wmsql.SubscriberConfig{
		SchemaAdapter: schema, OffsetsAdapter: wmsql.DefaultPostgreSQLOffsetsAdapter{}, InitializeSchema: true,
		PollInterval: 10 * time.Millisecond,
	}, quiet)
	if err != nil {
		return load.Sample{}, err
	}
	pub, err := wmnats.NewPublisher(wmnats.PublisherConfig{
		URL: natsURL, Marshaler: &wmnats.NATSMarshaler{}, JetStream: wmnats.JetStreamConfig{TrackMsgId: true},
	}, quiet)
	if err != nil {
		return load.Sample{}, err
	}
	defer func() { _ = pub.Close() }() // all of it is published, or we have failed
	f, err := forwarder.NewForwarder(sub, pub, quiet, forwarder.Config{ForwarderTopic: "outbox"})
	if err != nil {
		return load.Sample{}, err
	}
	before, began := m.Start(), time.Now()
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	err = stored(ctx, stream, n)
	s := load.Sample{N: n, Seconds: time.Since(began).Seconds()}
	m.Complete(&s, before)
	return s, errors.Join(err, f.Close(), <-ended)
}

// stored waits until a stream has n messages.
func stored(ctx context.Context, stream jetstream.Stream, n int) error {
	tick := time.NewTicker(load.Look)
	defer tick.Stop()
	for {
		info, err := stream.Info(ctx)
		if err != nil {
			return err
		}
		if info.State.Msgs >= uint64(n) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
