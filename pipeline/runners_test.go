package pipeline

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

// someAttempts makes attempts of a lane with that handler, as start would.
func someAttempts(ctx context.Context, n int, handle Handler) (*lane, []*attempt) {
	l := newLane(&Worker{}, "a", Lane{Slots: n, Brief: true}, handle)
	as := make([]*attempt, n)
	for i := range as {
		as[i] = l.attempt(ctx, nil, &events.Claim{Job: events.Job{ID: events.NewID("a", strconv.Itoa(i))}}, true)
	}
	l.handling.Add(int64(n))
	return l, as
}

// A handler that waits holds up no other, and neither does one that ends its
// goroutine.
func TestRunnersAreNotHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		var ran atomic.Int64
		wait := make(chan struct{})
		l, as := someAttempts(t.Context(), 2*n, func(context.Context, events.Job) (Commit, error) {
			switch i := ran.Add(1); {
			case i%10 == 0:
				runtime.Goexit()
			case i%2 == 0:
				<-wait
			}
			return nil, nil
		})
		l.runners.add(as[:n])
		synctest.Wait()
		require.EqualValues(t, n, ran.Load(), "all run, while half of them wait")
		l.runners.add(as[n:])
		synctest.Wait()
		require.EqualValues(t, 2*n, ran.Load())
		close(wait)
		synctest.Wait()
		require.Equal(t, 2*n*9/10, l.done.more(maxBatch, time.Hour, nil))
		require.False(t, l.runners.coming)
		require.Empty(t, l.runners.waiting)
	})
}

// Handlers that wait for nothing share goroutines: not one for each.
func TestRunnersShareGoroutines(t *testing.T) {
	t.Parallel()
	var stacks [maxBatch]string
	var ran atomic.Int64
	l, as := someAttempts(t.Context(), len(stacks), func(context.Context, events.Job) (Commit, error) {
		b := make([]byte, 32)
		stacks[ran.Add(1)-1] = string(b[:runtime.Stack(b, false)]) // "goroutine 123 [running]"
		return nil, nil
	})
	l.runners.add(as)
	require.Equal(t, len(stacks), l.done.more(len(stacks), time.Minute, nil))
	slices.Sort(stacks[:])
	require.Less(t, len(slices.Compact(stacks[:])), len(stacks))
}
