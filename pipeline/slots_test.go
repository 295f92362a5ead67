package pipeline

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What was given is taken at once, by whoever waits, and no more than that.
func TestSlotsAreTakenTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newSlots(3)
		require.Equal(t, 3, s.take(ctx))
		got := make(chan int)
		for range 2 {
			go func() {
				for {
					n := s.take(ctx)
					if n == 0 {
						return
					}
					got <- n
				}
			}()
		}
		synctest.Wait()
		s.give(0)
		s.give(100)
		require.Equal(t, 100, <-got)
		s.give(maxBatch + 7)
		require.Equal(t, maxBatch+7, <-got+<-got, "a batch at most, and the rest by another")
		cancel()
		synctest.Wait()
		s.give(1)
		require.Zero(t, s.take(ctx))
	})
}

// Those that are about to come are waited for, but not long, and not beyond
// what is enough.
func TestGatheringMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		more, enough := make(chan int, 10), make(chan struct{}, 1)
		began := time.Now()
		go func() {
			for i := range 4 {
				<-time.After(time.Millisecond)
				more <- i
			}
		}()
		require.Len(t, gatherMore([]int{9}, 3, more, time.Hour, nil), 3)
		require.Equal(t, 2*time.Millisecond, time.Since(began), "no longer than for those")
		require.Len(t, gatherMore([]int{9}, 100, more, 5*time.Millisecond, nil), 3)
		require.Equal(t, 7*time.Millisecond, time.Since(began))
		enough <- struct{}{}
		require.Len(t, gatherMore([]int{9}, 100, more, time.Hour, enough), 1)
		require.Len(t, gatherMore([]int{9}, 1, more, time.Hour, nil), 1)
		close(more)
		require.Len(t, gatherMore([]int{9}, 100, more, time.Hour, nil), 1)
		require.Equal(t, 7*time.Millisecond, time.Since(began))
	})
}

// Where they come one by one and fast, the eighth of what the lane does is settled together.
func TestCollectingWhereTheyComeFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(&Worker{}, "a", Lane{Slots: 400, Brief: true}, nil)
		come := func(n int, every time.Duration) (transactions, most int) {
			go func() {
				for range n {
					<-time.After(every)
					l.done.put(&attempt{})
				}
			}()
			for left := n; left > 0; transactions++ {
				l.storing.Store(0) // no transaction is under way
				some := len(l.collect(t.Context()))
				left, most = left-some, max(most, some)
			}
			return transactions, most
		}
		slow, _ := come(100, time.Millisecond)
		require.Equal(t, 100, slow)
		quick, most := come(1000, 100*time.Microsecond)
		require.Less(t, quick, 550, "those of the first moment by themselves, then together")
		require.Equal(t, 50, most)
		<-time.After(3 * paceOver)
		began := time.Now()
		come(1, 0)
		require.Zero(t, time.Since(began), "what comes alone goes at once")
	})
}

// A settler that collects beside a transaction waits for its end, or for half
// of what the lane does; one by itself only for handlers that run.
func TestCollecting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := newLane(&Worker{}, "a", Lane{Slots: 20, Brief: true}, nil)
		began := time.Now()
		l.done.put(&attempt{})
		require.Len(t, l.collect(ctx), 1)
		require.Zero(t, time.Since(began), "nobody is about to come")
		go func() {
			<-time.After(time.Millisecond)
			l.done.put(&attempt{})
			<-time.After(time.Millisecond)
			l.storing.Add(-1)
			l.stored <- struct{}{}
		}()
		require.Len(t, l.collect(ctx), 1)
		require.Equal(t, 2*time.Millisecond, time.Since(began), "the other one has ended")
		for range 12 {
			l.done.put(&attempt{})
		}
		require.Len(t, l.collect(ctx), 12)
		require.Equal(t, 2*time.Millisecond, time.Since(began), "half of the slots")
		l.storing.Store(0)
		l.handling.Store(2)
		l.done.put(&attempt{})
		require.Len(t, l.collect(ctx), 1)
		require.Equal(t, 2*time.Millisecond+linger, time.Since(began), "two run, and take longer")
		cancel()
		require.Nil(t, l.collect(ctx))
	})
}
