package events_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/seed-245eaa15/obs/events"
)

// A job's life: asked for, begun, failed, begun again, done.
func Example() {
	step, err := events.New(events.Job{
		ID:    events.NewID("greet", "team", "world"), // asking twice for the same work makes one job
		Kind:  "greet",
		Scope: events.Scope{Team: "team", Project: "project"},
	}, events.Event{Actor: "example"})
	if err != nil {
		panic(err)
	}
	job, first, err := step.Next()
	if err != nil {
		panic(err)
	}
	history := []events.Event{first}
	for _, e := range []events.Event{
		{Type: events.Processing, Process: "worker-1"},
		{Type: events.RetryScheduled, Reason: "the model is busy"},
		{Type: events.Processing, Process: "worker-2"},
		{Type: events.Completed, Process: "worker-2"},
		{Type: events.Completed, Process: "worker-1"}, // it comes too late
	} {
		next, stored, err := events.Step{Job: job, Event: e}.Next()
		if errors.Is(err, events.ErrSettled) {
			fmt.Println("refused:", e.Type)
			continue
		}
		job, history = next, append(history, stored)
		fmt.Println(stored.Version, stored.Type, "attempt", stored.Attempt, "→", stored.Status)
	}
	folded, err := events.Fold(job, slices.Values(history))
	fmt.Println(folded.Status, folded.Version, err)
	// Output:
	// 2 processing attempt 1 → processing
	// 3 retry_scheduled attempt 1 → queued
	// 4 processing attempt 2 → processing
	// 5 completed attempt 2 → completed
	// refused: completed
	// completed 5 <nil>
}

func ExampleNewID() {
	fmt.Println(events.NewID("event", "a", "b"))
	fmt.Println(events.NewID("event", "a:b")) // no separator can make it the same work
	// Output:
	// event_tlorm21imvudl1gvomtkp8vppusq74e6
	// event_arech1smk8nnh8dgo056sg227p22rnch
}
