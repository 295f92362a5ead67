package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/outbox"
)

// limitGroups are what the machine can do without a queue.
func limitGroups(o options) []group {
	return []group{{"limits", "What the machine can do", []figure{
		onPostgres("copy", "Postgres: COPY, 1,000 rows a transaction, 4 clients", "rows", func(ctx context.Context, m load.Meter, p *pgxpool.Pool) (load.Sample, error) {
			return load.Rows(ctx, m, p, 4, 1000, o.Payload, o.short())
		}),
		onPostgres("commit", "Postgres: BEGIN, one row, COMMIT, 16 clients", "transactions", func(ctx context.Context, m load.Meter, p *pgxpool.Pool) (load.Sample, error) {
			return load.Commits(ctx, m, p, load.Callers, o.Payload, o.short())
		}),
		onNATS("consume", "JetStream: pull and acknowledge", false, func(ctx context.Context, m load.Meter, nc *nats.Conn, stream string) (load.Sample, error) {
			return load.Consume(ctx, m, nc, stream, o.Jobs, envelope)
		}),
	}}}
}

// envelope is as long as the message of one of our jobs.
var envelope = []byte(`{"job":"bench_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG","kind":"bench","asked":1,"team":"bench","project":"bench"}`)

func onPostgres(what, title, unit string, run func(context.Context, load.Meter, *pgxpool.Pool) (load.Sample, error)) figure {
	return figure{who: "pg", what: what, title: title, unit: unit, run: func(ctx context.Context, e *env) (load.Sample, error) {
		url, drop, err := e.database(ctx, "", nil)
		if err != nil {
			return load.Sample{}, err
		}
		p, err := pool(ctx, url, load.Callers)
		if err != nil {
			return load.Sample{}, errors.Join(err, drop())
		}
		s, err := run(ctx, e.meter("client"), p)
		p.Close()
		return s, errors.Join(err, drop())
	}}
}

func onNATS(what, title string, syncAlways bool, run func(ctx context.Context, m load.Meter, nc *nats.Conn, stream string) (load.Sample, error)) figure {
	return figure{who: "js", what: what, title: title, unit: "messages", synced: syncAlways, run: func(ctx context.Context, e *env) (load.Sample, error) {
		broker, err := e.broker(ctx, syncAlways)
		if err != nil {
			return load.Sample{}, err
		}
		nc, err := nats.Connect(broker.url)
		if err != nil {
			return load.Sample{}, err
		}
		defer nc.Close()
		e.seq++
		return run(ctx, e.meter("client", broker), nc, fmt.Sprintf("limit%d", e.seq))
	}}
}

// jobGroups are jobs that do nothing: the queue itself.
func jobGroups(o options) []group {
	publish := func(n int) func(ctx context.Context, m load.Meter, nc *nats.Conn, stream string) (load.Sample, error) {
		return func(ctx context.Context, m load.Meter, nc *nats.Conn, stream string) (load.Sample, error) {
			return load.Publish(ctx, m, nc, stream, n, envelope)
		}
	}
	return []group{
		{"steady", "Producing and working at once, 100 jobs a transaction", []figure{
			ours("steady", "obs", "jobs", steady(o, 2, 100)),
			untold("steady-untold", "obs, without telling followers (for comparison)", "jobs", steady(o, 2, 100)),
			leastSteady(o, "steady", 2, 100),
			riverSteady(o, "steady", 2, 100),
			bullSteady(o),
		}},
		{"single", "Producing and working at once, 16 connections, one job a transaction", []figure{
			ours("single", "obs", "jobs", steady(o, load.Callers, 1)),
			leastSteady(o, "single", load.Callers, 1),
			riverSteady(o, "single", load.Callers, 1),
		}},
		{"drain", fmt.Sprintf("Doing %d jobs that wait", o.Jobs), []figure{
			ours("drain", "obs: worker, and the relay telling the events", "jobs", drain(o, false)),
			untold("drain-untold", "obs: worker and relay, without telling followers (for comparison)", "jobs", drain(o, false)),
			ours("drain-alone", "obs: the worker alone", "jobs", drain(o, true)),
			claimed("drain-claimed", "obs: the worker alone, claiming each job first (for comparison)", "jobs", drain(o, true)),
			leastDrain(o),
			riverDrain(o),
			graphileDrain(o),
			bullDrain(o),
		}},
		{"relay", "Bringing committed rows to JetStream", []figure{
			relayed(o, "relay", "obs", "", false),
			onNATS("publish", "JetStream's own client, asynchronously with message ids", false, publish(2*o.Jobs)),
			watermillRelay(o),
			relayed(o, "relay-sync", "obs, sync_interval: always", "", true),
			onNATS("publish-sync", "JetStream's own client, sync_interval: always", true, publish(o.relayed()/5)), // it takes an fsync each
			onNATS("publish-batches", "JetStream's own client in atomic batches of 1,000, sync_interval: always", true, publishBatches(o.relayed())),
			relayed(o, "relay-atomic", "obs, always in atomic batches (for comparison)", outbox.Atomic, false),
			relayed(o, "relay-async", "obs, always one by one (for comparison)", outbox.Async, false),
		}},
		{"enqueue", "A transaction that asks for a job, and the same with a plain row in its place, 16 connections", []figure{
			ours("enqueue", "obs: one job", "transactions", enqueue(o, 0, false)),
			leastEnqueue(o),
			ours("plain", "one plain row", "transactions", enqueue(o, 0, true)),
			ours("enqueue-beside", "obs: the caller's own row and one job", "transactions", enqueue(o, 1, false)),
			ours("plain-beside", "the caller's own row and one plain row", "transactions", enqueue(o, 1, true)),
		}},
		{"latency", "From commit to the start of the handler, 100 jobs a second", []figure{
			ours("latency", "obs", "jobs", latency(o, 100)),
			leastLatency(o, "latency", 100),
			riverLatency(o, "latency", 100),
		}},
		{"latency-1000", "From commit to the start of the handler, 1,000 jobs a second", []figure{
			ours("latency-1000", "obs", "jobs", latency(o, 1000)),
			leastLatency(o, "latency-1000", 1000),
			riverLatency(o, "latency-1000", 1000),
		}},
	}
}

func enqueue(o options, rows int, plain bool) func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
	return func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
		return b.Enqueue(ctx, m, load.Callers, rows, plain, o.short())
	}
}

func latency(o options, rate int) func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
	return func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
		return b.Latency(ctx, m, rate, o.For)
	}
}
