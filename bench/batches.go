package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/seed-245eaa15/obs/internal/load"
)

// publishBatches measures the client alone: n messages as large as a job's in the largest atomic batches that a server
// takes unless told otherwise, one after the other, to a stream with a consumer as ours. Where the server syncs each
// message this is the least that bringing messages there takes.
func publishBatches(n int) func(ctx context.Context, m load.Meter, nc *nats.Conn, stream string) (load.Sample, error) {
	const batch = 1000
	return func(ctx context.Context, m load.Meter, nc *nats.Conn, stream string) (_ load.Sample, err error) {
		js, err := jetstream.New(nc)
		if err != nil {
			return load.Sample{}, err
		}
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: stream, Subjects: []string{stream + ".>"}, Retention: jetstream.WorkQueuePolicy, Duplicates: 2 * time.Minute, AllowAtomicPublish: true,
		})
		if err != nil {
			return load.Sample{}, fmt.Errorf("make a stream: %w", err)
		}
		defer func() { err = errors.Join(err, js.DeleteStream(context.WithoutCancel(ctx), stream)) }()
		_, err = js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			return load.Sample{}, fmt.Errorf("make a consumer: %w", err)
		}
		before, began := m.Start(), time.Now()
		for at := 0; at < n; at += batch {
			msgs := make([]*nats.Msg, min(batch, n-at))
			for i := range msgs {
				msgs[i] = &nats.Msg{
					Subject: stream + ".a", Data: envelope,
					Header: nats.Header{jetstream.MsgIDHeader: {fmt.Sprintf("%s-%032d", stream, at+i)}},
				}
			}
			if _, err := jetstreamext.PublishMsgBatch(ctx, js, msgs, jetstreamext.BatchFlowControl{AckFirst: false}); err != nil {
				return load.Sample{}, fmt.Errorf("publish a batch: %w", err)
			}
		}
		out := load.Sample{N: n, Seconds: time.Since(began).Seconds()}
		m.Complete(&out, before)
		return out, nil
	}
}
