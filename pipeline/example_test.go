package pipeline_test

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/pipeline"
)

// A handler does its slow work first and returns what is left to write.
func ExampleHandle() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	js, stop := broker(ctx) // in a program: jetstream.New on your connection
	defer stop()
	store := eventstest.NewMemory() // in a program: a table, such as db.NewJobs

	w := pipeline.New(store, js, pipeline.Config{Name: "example"})

	type greeting struct {
		Name string `json:"name"`
	}
	pipeline.Handle(w, "greet", func(_ context.Context, job events.Job, args greeting) (pipeline.Commit, error) {
		if args.Name == "" {
			return nil, pipeline.Permanent(fmt.Errorf("nobody to greet"))
		}
		text := "hello " + args.Name // slow work: a call of a model, say
		return func(context.Context, pgx.Tx) error {
			fmt.Println(text, "in attempt", job.Attempts) // tx.Exec(ctx, "INSERT …", text)
			cancel()                                      // one is enough for an example
			return nil
		}, nil
	}, pipeline.Slots(4))

	// What a relay does: a queued job's envelope goes onto the stream.
	step, err := events.New(events.Job{
		ID: events.NewID("greet", "world"), Kind: "greet", Scope: events.Scope{Team: "t", Project: "p"},
		Args: []byte(`{"name":"world"}`),
	}, events.Event{Actor: "example"})
	if err != nil {
		panic(err)
	}
	if _, err := store.Enqueue(ctx, step); err != nil {
		panic(err)
	}
	job, _, _ := store.Get(ctx, step.Job.Scope, step.Job.ID)
	if _, err := js.Publish(ctx, "jobs.greet", job.Envelope().Marshal()); err != nil {
		panic(err)
	}

	if err := w.Run(ctx); err != nil { // until ctx is done
		panic(err)
	}
	job, _, _ = store.Get(context.Background(), step.Job.Scope, step.Job.ID)
	fmt.Println(job.Status)
	// Output:
	// hello world in attempt 1
	// completed
}

// broker starts a broker in this process, with the stream and the consumer
// that outbox.Ensure makes.
func broker(ctx context.Context) (js jetstream.JetStream, stop func()) {
	dir, err := os.MkdirTemp("", "example")
	must(err)
	server, err := embedded.StartNATS(ctx, embedded.NATSConfig{Dir: dir})
	must(err)
	nc, err := server.Connect()
	must(err)
	js, err = jetstream.New(nc)
	must(err)
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "JOBS", Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy,
	})
	must(err)
	_, err = js.CreateConsumer(ctx, "JOBS", jetstream.ConsumerConfig{
		Durable: "workers-greet", FilterSubject: "jobs.greet", AckPolicy: jetstream.AckExplicitPolicy,
	})
	must(err)
	return js, func() {
		nc.Close()
		server.Stop()
		_ = os.RemoveAll(dir)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
