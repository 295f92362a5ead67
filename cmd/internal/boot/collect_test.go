package boot

import (
	"math"
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
	require.Equal(t, []int{gcPercentBusy, gcPercentCalm, gcPercentBusy}, set)
}

// A worker is held to its memory as long as that is no hardship.
func TestAWorkerMayGrowWithWhatItKeeps(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, workerMemory, workerLimit(0))
	require.EqualValues(t, workerMemory, workerLimit(workerLive))
	require.EqualValues(t, math.MaxInt64, workerLimit(workerLive+1))
}

// One collection after the other is told of.
func TestOnCollection(t *testing.T) {
	t.Parallel()
	told := make(chan struct{}, 1)
	onCollection(func() {
		select {
		case told <- struct{}{}:
		default: // a collection more than the test waits for
		}
	})
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
	require.NotZero(t, liveHeap())
}
