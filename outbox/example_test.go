package outbox_test

import (
	"context"
	"fmt"
	"os"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/outbox"
)

// A job is stored, the relay brings it to the stream. A program runs
// Relay.Run; Once shows one pass of it.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "outbox")
	check(err)
	defer os.RemoveAll(dir)
	broker, err := embedded.StartNATS(ctx, embedded.NATSConfig{Dir: dir})
	check(err)
	defer broker.Stop()
	nc, err := broker.Connect()
	check(err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	check(err)

	store := eventstest.NewMemory() // db.Jobs in a real program
	job, err := events.New(events.Job{
		ID: events.NewID("greet", "world"), Kind: "greet", Scope: events.Scope{Team: "t", Project: "p"},
	}, events.Event{Actor: "example"})
	check(err)
	_, err = store.Enqueue(ctx, job)
	check(err)

	streams := outbox.Streams{Kinds: []events.Kind{"greet"}}
	relay := outbox.New(store, store, js, outbox.Config{Streams: streams})
	n, err := relay.Once(ctx)
	check(err)
	fmt.Println("published:", n)

	lane, err := js.Consumer(ctx, streams.JobsStream(), streams.Consumer("greet"))
	check(err)
	msg, err := lane.Next()
	check(err)
	e, err := events.ParseEnvelope(msg.Data())
	check(err)
	fmt.Println(msg.Subject(), e.Kind, e.Asked)

	feed, err := js.Stream(ctx, streams.EventsStream())
	check(err)
	told, err := feed.GetMsg(ctx, 1)
	check(err)
	event, err := outbox.ParseEvent(told.Data)
	check(err)
	fmt.Println(told.Subject, event.Version, event.Status)
	// Output:
	// published: 1
	// jobs.greet greet 1
	// ev.t.p.greet.queued 1 queued
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
