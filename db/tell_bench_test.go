package db_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

// BenchmarkTell tells followers of brief jobs that are done: the processor time
// a job, of this process (relay and broker) and of Postgres, of reading the
// feed, putting it on the stream and taking it away. Batches are as those who
// ask and who settle have them.
func BenchmarkTell(b *testing.B) {
	for _, batch := range []int{20, 100, 500} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) { benchTell(b, batch) })
	}
}

func benchTell(b *testing.B, batch int) {
	b.Helper()
	const jobs = 20_000
	ctx := b.Context()
	f := newFlow(b, 1000, outbox.Auto)
	server := postmaster(b, f.pool)
	worker := events.Holder{ID: "worker-0123456789"}
	var ours, theirs, settling time.Duration
	n := 0
	for b.Loop() {
		for range jobs / batch {
			steps := make([]events.Step, batch)
			es := make([]events.Envelope, batch)
			for i := range steps {
				name := fmt.Sprint(n)
				n++
				st, err := events.New(events.Job{ID: events.NewIDAt("event", time.Now(), name), Kind: "event", Scope: scope, SourceType: "thing", SourceID: name}, events.Event{Actor: "test"})
				require.NoError(b, err)
				next, _, err := st.Next()
				require.NoError(b, err)
				steps[i], es[i] = st, next.Envelope()
			}
			_, err := f.jobs.Add(ctx, nil, steps...)
			require.NoError(b, err)
			claims, err := f.jobs.Look(ctx, worker, es)
			require.NoError(b, err)
			for i, c := range claims {
				steps[i] = events.Step{Job: c.Job, Event: events.Event{Type: events.Completed, Actor: "worker", Process: worker.ID}, Begins: true}
			}
			before := treeCPU(b, server)
			errs, err := f.jobs.Settle(ctx, steps, make([]func(context.Context, pgx.Tx) error, batch))
			require.NoError(b, err)
			require.NoError(b, errors.Join(errs...))
			settling += treeCPU(b, server) - before
		}
		o, t := ourCPU(b), treeCPU(b, server)
		_, err := f.relay.Once(ctx)
		require.NoError(b, err)
		ours, theirs = ours+ourCPU(b)-o, theirs+treeCPU(b, server)-t
		var left bool
		require.NoError(b, f.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM job_feed)`).Scan(&left))
		require.False(b, left)
	}
	stream, err := f.js.Stream(ctx, f.streams.EventsStream())
	require.NoError(b, err)
	info, err := stream.Info(ctx)
	require.NoError(b, err)
	b.ReportMetric(float64(settling.Microseconds())/float64(n), "settle-postgres-µs/job")
	b.ReportMetric(float64(ours.Microseconds())/float64(n), "tell-go-µs/job")
	b.ReportMetric(float64(theirs.Microseconds())/float64(n), "tell-postgres-µs/job")
	b.ReportMetric(float64(info.State.Bytes)/float64(n), "stream-B/job")
	b.ReportMetric(float64(info.State.Msgs)/float64(n), "messages/job")
	b.ReportMetric(0, "ns/op")
}
