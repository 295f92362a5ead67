package secrets_test

import (
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/demo"
	"github.com/seed-245eaa15/obs/internal/secrets"
)

// payloads of 1 KB, as hooks send them.
func payloads(b *testing.B) [][]byte {
	s, err := demo.Session()
	require.NoError(b, err)
	var all [][]byte
	var rest []byte
	for _, e := range s.Events {
		for rest = append(rest, e.Payload...); len(rest) >= 1024; rest = rest[1024:] {
			all = append(all, rest[:1024:1024])
		}
	}
	return all
}

func BenchmarkRedact1KB(b *testing.B) {
	all := payloads(b)
	texts := make([]string, len(all))
	for i, p := range all {
		texts[i] = string(p)
	}
	perKB(b, func(i int) { secrets.Redact(texts[i%len(texts)]) })
}

func BenchmarkSuspect1KB(b *testing.B) {
	all := payloads(b)
	perKB(b, func(i int) { secrets.Suspect(all[i%len(all)]) })
}

// BenchmarkRedactLooks1KB is a text in which every line is worth a look.
func BenchmarkRedactLooks1KB(b *testing.B) {
	text := strings.Repeat("token := s.next(key, secretName, api-key) // the password of curl http://x/\n", 20)[:1024]
	perKB(b, func(int) { secrets.Redact(text) })
}

// perKB also tells the time that the thread had, which holds on a busy machine.
func perKB(b *testing.B, fn func(i int)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fn(0)
	b.SetBytes(1024)
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
