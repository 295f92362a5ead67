package observe

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestLoaderAnswersThoseWhoComeTogetherWithOneQuery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var mu sync.Mutex
		var asked [][]int
		l := newLoader(func(_ context.Context, keys []int) (map[int]string, error) {
			mu.Lock()
			asked = append(asked, keys)
			mu.Unlock()
			<-gate
			found := map[int]string{}
			for _, k := range keys {
				if k < 0 {
					return nil, errors.New("boom")
				}
				if k < 100 {
					found[k] = strconv.Itoa(k)
				}
			}
			return found, nil
		})
		type answer struct {
			v   string
			ok  bool
			err error
		}
		ask := func(ctx context.Context, key int) chan answer {
			c := make(chan answer, 1)
			go func() {
				v, ok, err := l.get(ctx, key)
				c <- answer{v, ok, err}
			}()
			synctest.Wait()
			return c
		}
		ctx := t.Context()
		leaving, leave := context.WithCancel(ctx)
		var as []chan answer
		for key := range 10 { // one is under way, and the rest waits
			as = append(as, ask(ctx, key), ask(ctx, key))
		}
		unknown, gone := ask(ctx, 100), ask(leaving, 50)
		leave()
		require.Equal(t, answer{err: context.Canceled}, <-gone)
		close(gate)
		for i, a := range as {
			require.Equal(t, answer{v: strconv.Itoa(i / 2), ok: true}, <-a)
		}
		require.Equal(t, answer{}, <-unknown)
		require.Len(t, asked, 2, "what waited was asked together")
		require.Equal(t, []int{0}, asked[0])
		slices.Sort(asked[1])
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100}, asked[1], "no key twice, and not who left")

		require.EqualError(t, (<-ask(ctx, -1)).err, "boom")
		require.Equal(t, answer{v: "7", ok: true}, <-ask(ctx, 7), "the next query is another one")
	})
}
