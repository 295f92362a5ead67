package observe_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// Each call is run once and answered after that, with what its run said, never
// more of them at once than may be, and nobody is forgotten.
func TestGather(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		atOnce, crowd := rapid.IntRange(1, 3).Draw(rt, "at once"), rapid.IntRange(0, 6).Draw(rt, "crowd")
		most := rapid.IntRange(1, 8).Draw(rt, "most")
		delays := rapid.SliceOfN(rapid.IntRange(0, 40), 1, 30).Draw(rt, "delays")
		weights := rapid.SliceOfN(rapid.IntRange(1, 10), len(delays), len(delays)).Draw(rt, "weights")
		fails := rapid.SliceOfN(rapid.IntRange(0, 5), len(delays), len(delays)).Draw(rt, "fails") // a run fails when one of it does
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			running, ran, failed := 0, map[int]int{}, map[int]bool{}
			do := observe.Gather(atOnce, crowd, most, func(_ context.Context, calls []int) error {
				mu.Lock()
				running++
				weight, bad := 0, false
				for _, i := range calls {
					ran[i]++
					weight += weights[i]
					bad = bad || fails[i] == 0
				}
				if running > atOnce || len(calls) > 1 && weight > most {
					t.Errorf("%d runs, the last of weight %d", running, weight)
				}
				mu.Unlock()
				time.Sleep(time.Duration(len(calls)) * 7 * time.Millisecond) //nolint:forbidigo // in a bubble: a run takes its time
				mu.Lock()
				defer mu.Unlock()
				running--
				for _, i := range calls {
					failed[i] = bad
				}
				if bad {
					return errors.New("bad")
				}
				return nil
			})
			var wg sync.WaitGroup
			for i, delay := range delays {
				wg.Go(func() {
					time.Sleep(time.Duration(delay) * time.Millisecond) //nolint:forbidigo // in a bubble
					err := do(t.Context(), i, weights[i])
					mu.Lock()
					defer mu.Unlock()
					if ran[i] != 1 || failed[i] != (err != nil) {
						t.Errorf("call %d ran %d times, failed %v, and was told %v", i, ran[i], failed[i], err)
					}
				})
			}
			wg.Wait()
		})
	})
}

// Those that wait go together, in the order in which they came.
func TestGatherTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs [][]int
		do := observe.Gather(1, 0, 100, func(_ context.Context, calls []int) error {
			runs = append(runs, slices.Clone(calls))
			time.Sleep(time.Second) //nolint:forbidigo // in a bubble
			return nil
		})
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() { require.NoError(t, do(t.Context(), i, 1)) })
			synctest.Wait()
		}
		wg.Wait()
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4}}, runs)
	})
}

// A few that wait when a run ends do not begin one beside another that will
// soon be over; a crowd does.
func TestGatherNoRunForAFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var runs [][]int
		do := observe.Gather(2, 3, 100, func(_ context.Context, calls []int) error {
			mu.Lock()
			runs = append(runs, slices.Clone(calls))
			mu.Unlock()
			time.Sleep(time.Duration(20-calls[0]) * time.Millisecond) //nolint:forbidigo // in a bubble
			return nil
		})
		var wg sync.WaitGroup
		begin := func(calls ...int) {
			for _, i := range calls {
				wg.Go(func() { require.NoError(t, do(t.Context(), i, 1)) })
				synctest.Wait()
			}
		}
		begin(0)                             // until 20 ms
		begin(1, 2, 3)                       // a crowd: until 19 ms
		begin(4)                             // waits for both, and not only for the first to end
		time.Sleep(19500 * time.Microsecond) //nolint:forbidigo // in a bubble
		begin(5)
		wg.Wait()
		require.Equal(t, [][]int{{0}, {1, 2, 3}, {4, 5}}, runs)
	})
}

// What has gathered while nothing could run is divided between two runs.
func TestGatherDivides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var runs [][]int
		do := observe.Gather(2, 1, 100, func(_ context.Context, calls []int) error {
			mu.Lock()
			runs = append(runs, slices.Clone(calls))
			mu.Unlock()
			time.Sleep(time.Millisecond) //nolint:forbidigo // in a bubble
			return nil
		})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { require.NoError(t, do(t.Context(), i, 2)) })
			synctest.Wait()
		}
		wg.Wait()
		require.Equal(t, [][]int{{0}, {1}, {2, 3, 4}}, runs[:3])
		require.Equal(t, []int{5}, runs[3], "half of what is left")
		require.Equal(t, []int{6, 7}, runs[4], "too few to divide")
	})
}

// Who leaves is not waited for, and does not take along the others.
func TestGatherLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs [][]int
		var ended []error
		do := observe.Gather(1, 0, 100, func(ctx context.Context, calls []int) error {
			runs = append(runs, slices.Clone(calls))
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
			ended = append(ended, ctx.Err())
			return ctx.Err()
		})
		begin := func(i int, wait time.Duration) <-chan error {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			told := make(chan error, 1)
			go func() { defer cancel(); told <- do(ctx, i, 1) }()
			synctest.Wait()
			return told
		}
		first := begin(0, time.Second)                                 // leaves, and nobody else waits
		never := begin(1, time.Millisecond)                            // before it begins
		leaves, stays := begin(2, 30*time.Second), begin(3, time.Hour) // one of two
		require.ErrorIs(t, <-first, context.DeadlineExceeded)
		require.ErrorIs(t, <-never, context.DeadlineExceeded)
		require.ErrorIs(t, <-leaves, context.DeadlineExceeded)
		require.NoError(t, <-stays)
		require.Equal(t, [][]int{{0}, {2, 3}}, runs)
		require.Equal(t, []error{context.Canceled, nil}, ended)
		done, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, do(done, 4, 1), context.Canceled)
		require.Len(t, runs, 2, "who has left already is not run")
	})
}

// A run that hangs, as on a connection that is gone, holds up nobody who comes
// later.
func TestGatherBesideOneThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		do := observe.Gather(2, 10, 100, func(ctx context.Context, calls []int) error {
			if calls[0] == 0 {
				<-ctx.Done()
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.ErrorIs(t, do(ctx, 0, 1), context.Canceled) })
		synctest.Wait()
		began := time.Now()
		require.NoError(t, do(t.Context(), 1, 1), "it came soon")
		require.Equal(t, observe.Patience, time.Since(began))
		require.NoError(t, do(t.Context(), 2, 1), "it came late")
		require.Equal(t, observe.Patience, time.Since(began))
		cancel()
		wg.Wait()
	})
}

// A panic is an error of those whose run it was in.
func TestGatherPanic(t *testing.T) {
	t.Parallel()
	do := observe.Gather(1, 0, 100, func(_ context.Context, calls []int) error {
		if calls[0] == 0 {
			panic("ouch")
		}
		return nil
	})
	require.ErrorContains(t, do(t.Context(), 0, 1), "panic: ouch")
	require.NoError(t, do(t.Context(), 1, 1))
}
