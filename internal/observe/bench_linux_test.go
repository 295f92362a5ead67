package observe_test

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/demo"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// BenchmarkShowable is what it costs to hide what is private and secret in an
// event of a real session, before a provider sees it.
func BenchmarkShowable(b *testing.B) {
	s, err := demo.Session()
	require.NoError(b, err)
	size := 0
	for _, e := range s.Events {
		size += len(e.Payload)
	}
	time := func() int64 { // that the thread had, which holds on a busy machine
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_THREAD, &u))
		return u.Utime.Nano() + u.Stime.Nano()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.SetBytes(int64(size / len(s.Events)))
	b.ReportAllocs()
	i := 0
	show := func() {
		_, _, _, err := observe.Showable(s.Events[i%len(s.Events)].Payload)
		require.NoError(b, err)
		i++
	}
	for range len(s.Events) {
		show()
	}
	before := time()
	for b.Loop() {
		show()
	}
	b.ReportMetric(float64(time()-before)/float64(b.N), "cpu-ns/op")
}
