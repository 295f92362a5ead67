package events_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

// foldAllocs is how many allocations folding a history may cost, however long
// it is: those of walking it.
const foldAllocs = 5

// BenchmarkFold folds the history of a job that was done at the second
// attempt.
func BenchmarkFold(b *testing.B) {
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	job := events.Job{ID: "event_x", Kind: "event", Scope: events.Scope{Team: "t", Project: "p"}, SourceType: "thing", SourceID: "x", MaxAttempts: 3}
	var history []events.Event
	for i, t := range []events.Type{events.Queued, events.Processing, events.RetryScheduled, events.Processing, events.Completed} {
		history = append(history, events.Event{Job: job.ID, Version: i + 1, Type: t, At: at.Add(time.Duration(i) * time.Second), Process: "w", Schema: events.Schema})
	}
	fold := func() {
		j, err := events.Fold(job, slices.Values(history))
		if err != nil || j.Status != events.StatusCompleted {
			b.Fatal(j.Status, err)
		}
	}
	require.LessOrEqual(b, testing.AllocsPerRun(100, fold), float64(foldAllocs), "allocations")
	b.ReportAllocs()
	for b.Loop() {
		fold()
	}
}

// BenchmarkEnvelope writes and reads the message of a job.
func BenchmarkEnvelope(b *testing.B) {
	e := events.Envelope{Job: "event_1lgeu1bqekruj8n4019uflfp01hnjqae", Kind: "event", Asked: 1, Scope: events.Scope{Team: "team_h8gg7n4t83m0ughcvrhks1rkvn7iqe8g", Project: "project_ffqsk7hjc6gg4820brhtmio"}}
	there := func() {
		back, err := events.ParseEnvelope(e.Marshal())
		if err != nil || back != e {
			b.Fatal(back, err)
		}
	}
	require.LessOrEqual(b, testing.AllocsPerRun(100, there), 2.0, "allocations")
	b.ReportAllocs()
	for b.Loop() {
		there()
	}
}

// BenchmarkNew checks a new job with arguments of about 530 bytes.
func BenchmarkNew(b *testing.B) {
	job := events.Job{
		ID: "event_1lgeu1bqekruj8n4019uflfp01hnjqae", Kind: "event", Scope: events.Scope{Team: "t", Project: "p"}, SourceType: "thing", SourceID: "x",
		Args: fmt.Appendf(nil, `{"n":12345,"pad":"%s"}`, strings.Repeat("0123456789abcdef", 32)),
	}
	check := func() {
		if _, err := events.New(job, events.Event{}); err != nil {
			b.Fatal(err)
		}
	}
	require.Zero(b, testing.AllocsPerRun(100, check), "allocations")
	for b.Loop() {
		check()
	}
}
