package llm_test

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

// BenchmarkOfflineEvent is a question for each event, as the pipeline asks
// without batches: what an event of a real session costs the extractor.
func BenchmarkOfflineEvent(b *testing.B) {
	events := session(b)
	bytes := 0
	for _, e := range events {
		bytes += len(e.Payload)
	}
	o := llm.NewOffline()
	b.SetBytes(int64(bytes / len(events)))
	measured(b, func(i int) {
		_, err := o.Answer(b.Context(), llm.Question{Task: llm.TaskObserve, Events: events[i%len(events) : i%len(events)+1]})
		require.NoError(b, err)
	})
}

// measured also tells the time that the thread had, which holds on a busy
// machine.
func measured(b *testing.B, fn func(i int)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range 150 {
		fn(i)
	}
	b.ReportAllocs()
	before := threadTime(b)
	i := 0
	for b.Loop() {
		fn(i)
		i++
	}
	b.ReportMetric(float64(threadTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func threadTime(b *testing.B) int64 {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_THREAD, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}
