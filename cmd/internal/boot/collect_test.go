package boot

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The heap may grow while it is collected often, and no longer.
func TestHeapFollowsHowBusyItIs(t *testing.T) {
	t.Parallel()
	var set []int
	now := time.Now()
	tuner := &gcTuner{last: now, set: func(percent int) { set = append(set, percent) }}
	for _, after := range []time.Duration{time.Minute, gcBusy, gcBusy - 1, time.Millisecond, time.Second, gcQuiet, gcQuiet + 1, time.Hour, 0} {
		now = now.Add(after)
		tuner.collected(now)
	}
	require.Equal(t, []int{gcPercentBusy, gcPercent, gcPercentBusy}, set)
}

// The tuner is told of collections, of one after the other.
func TestTunerIsToldOfCollections(t *testing.T) {
	t.Parallel()
	told := make(chan int, 1)
	tuner := &gcTuner{last: time.Now().Add(-time.Hour)}
	tuner.set = func(percent int) {
		tuner.busy, tuner.last = false, time.Now().Add(time.Hour) // so each of them looks like a busy one
		select {
		case told <- percent:
		default: // a collection more than the test waits for
		}
	}
	tuner.last = time.Now().Add(time.Hour)
	tuner.watch()
	for range 3 {
		require.Eventually(t, func() bool {
			runtime.GC()
			select {
			case <-told:
				return true
			default:
				return false
			}
		}, time.Minute, time.Millisecond)
	}
}
