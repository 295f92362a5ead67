package pipeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// BenchmarkWorker is what the pipeline itself costs a job: fetch, claim,
// handler, settle and ack, on a store that costs next to nothing.
func BenchmarkWorker(b *testing.B) {
	for _, slots := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) {
			bb := setup(b)
			bb.cfg.Log = slog.New(slog.DiscardHandler)
			bb.cfg.Settled = nil
			steps := make([]events.Step, b.N)
			for i := range steps {
				var err error
				steps[i], err = events.New(events.Job{ID: events.NewID("a", fmt.Sprint(i)), Kind: "a", Scope: scope}, events.Event{})
				require.NoError(b, err)
			}
			_, err := bb.mem.Enqueue(b.Context(), steps...)
			require.NoError(b, err)
			asks, err := bb.mem.Asks(b.Context(), events.AskQuery{Limit: b.N})
			require.NoError(b, err)
			for i, a := range asks {
				_, err := bb.js.PublishAsync("jobs.a", a.Envelope.Marshal())
				require.NoError(b, err)
				if i%1000 == 999 {
					<-bb.js.PublishAsyncComplete()
				}
			}
			<-bb.js.PublishAsyncComplete()

			done := make(chan struct{})
			left := b.N
			bb.cfg.Settled = func(steps []events.Step) { // one lane's settlers may call at once
				bb.bell <- struct{}{}
				if left -= len(steps); left == 0 {
					close(done)
				}
				<-bb.bell
			}
			w := pipeline.New(bb.mem, bb.js, bb.cfg)
			pipeline.Handle(w, "a", nothing, pipeline.Slots(slots))
			ctx, cancel := context.WithCancel(b.Context())
			ran := make(chan error, 1)
			b.ReportAllocs()
			b.ResetTimer()
			go func() { ran <- w.Run(ctx) }()
			<-done
			b.StopTimer()
			cancel()
			require.NoError(b, <-ran)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}
