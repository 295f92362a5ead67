package boot

import (
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// How much the heap of a process grows before it is collected, in percent,
// unless GOGC says. Little of it lives, a few MiB: collecting when that has
// doubled took a seventh of the CPU. A door that is busy fills the little heap
// dozens of times a second; then it may be larger, for as long as it is.
const (
	gcPercent     = 200
	gcPercentBusy = 400
	gcBusy        = 250 * time.Millisecond // collected again within
	gcQuiet       = 2 * time.Second        // not collected within
)

// tuneGC sets it, and for a door has it follow how busy the process is.
func tuneGC(door bool) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gcPercent)
	if door {
		t := &gcTuner{last: time.Now(), set: func(percent int) { debug.SetGCPercent(percent) }}
		t.watch()
	}
}

// gcTuner is told of each collection, and does nothing between them.
type gcTuner struct {
	last time.Time
	busy bool
	set  func(percent int)
}

// watch has the tuner told of the next collection.
func (t *gcTuner) watch() {
	dead := new([32]byte)
	runtime.SetFinalizer(dead, func(*[32]byte) {
		t.collected(time.Now())
		t.watch()
	})
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
		t.set(gcPercent)
	}
}
