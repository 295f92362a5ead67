package boot

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much the heap of a process grows before it is collected, in percent,
// unless GOGC says. Little of it lives, a few MiB: collecting when that has
// doubled took a seventh of the CPU. A door that is busy fills the little heap
// dozens of times a second; then it may be larger, for as long as it is.
const (
	gcPercent     = 200
	gcPercentBusy = 600                    // of a door
	gcPercentCalm = 100                    // of a door
	gcBusy        = 250 * time.Millisecond // collected again within
	gcQuiet       = 2 * time.Second        // not collected within
)

// A worker alone has the events of 200 jobs in its heap, and is collected
// earlier rather than grow beyond workerMemory, unless GOMEMLIMIT says. One
// that has to keep more than workerLive would do nothing else then: it may grow
// as any other.
const (
	workerMemory = 42 << 20 // bytes, of all that Go holds
	workerLive   = 28 << 20
)

// tuneGC sets it, and for a door has it follow how busy the process is.
func tuneGC(door, workerAlone bool) {
	switch {
	case os.Getenv("GOGC") != "":
	case workerAlone:
		if os.Getenv("GOMEMLIMIT") == "" {
			limit := int64(workerMemory)
			debug.SetMemoryLimit(limit)
			onCollection(func() {
				if now := workerLimit(liveHeap()); now != limit { // to set it stops everything for a moment
					limit = now
					debug.SetMemoryLimit(limit)
				}
			})
		}
	case door:
		debug.SetGCPercent(gcPercentCalm)
		t := &gcTuner{last: time.Now(), set: func(percent int) { debug.SetGCPercent(percent) }}
		onCollection(func() { t.collected(time.Now()) })
	default:
		debug.SetGCPercent(gcPercent)
	}
}

// workerLimit is what a worker may hold whose heap has so much that lives.
func workerLimit(live uint64) int64 {
	if live > workerLive {
		return math.MaxInt64
	}
	return workerMemory
}

// liveHeap is how many bytes the last collection left.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// onCollection calls fn after each collection of the heap, for as long as the
// process lives.
func onCollection(fn func()) {
	dead := new([32]byte)
	runtime.SetFinalizer(dead, func(*[32]byte) {
		fn()
		onCollection(fn)
	})
}

// gcTuner is told of each collection, and does nothing between them.
type gcTuner struct {
	last time.Time
	busy bool
	set  func(percent int)
}

func (t *gcTuner) collected(now time.Time) {
	since := now.Sub(t.last)
	t.last = now
	switch {
	case !t.busy && since < gcBusy:
		t.busy = true
		t.set(gcPercentBusy)
	case t.busy && since > gcQuiet:
		t.busy = false
		t.set(gcPercentCalm)
	}
}
