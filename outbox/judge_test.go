package outbox

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A server that is far away, or once busy, is not taken for one that syncs; one
// that does is, until batches are no better.
func TestJudge(t *testing.T) {
	t.Parallel()
	const n, way = 100, 20 * time.Millisecond
	bubble := func(name string, test func(t *testing.T, j *judge, each func(time.Duration) time.Time)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				j := &judge{way: way}
				test(t, j, func(d time.Duration) time.Time { // so long did each of n take that are over now
					began := time.Now()
					_ = pause(t.Context(), way+n*d)
					return began
				})
			})
		})
	}
	bubble("far", func(t *testing.T, j *judge, each func(time.Duration) time.Time) {
		for range 10 {
			j.singly(n, each(10*time.Microsecond))
		}
		require.False(t, j.synced())
		require.False(t, j.open())
	})
	bubble("once busy", func(t *testing.T, j *judge, each func(time.Duration) time.Time) {
		for range 10 {
			j.singly(n, each(time.Millisecond))
			j.singly(n, each(time.Millisecond))
			j.singly(n, each(10*time.Microsecond))
			require.False(t, j.synced())
		}
	})
	bubble("syncs", func(t *testing.T, j *judge, each func(time.Duration) time.Time) {
		for range slowInARow {
			require.True(t, j.open())
			require.False(t, j.synced())
			j.singly(n, each(100*time.Microsecond))
		}
		require.True(t, j.synced())
		require.False(t, j.open())
		for range 10 { // now and then one is slow
			j.batch(n, each(10*time.Microsecond))
			j.batch(n, each(time.Millisecond))
			j.batch(n, each(time.Millisecond))
		}
		require.True(t, j.synced())
		_ = pause(t.Context(), trustSynced)
		require.True(t, j.open(), "it is asked again from time to time")
		require.False(t, j.synced())
		j.singly(n, each(100*time.Microsecond))
		require.True(t, j.synced(), "then one is enough")
	})
	bubble("only busy", func(t *testing.T, j *judge, each func(time.Duration) time.Time) {
		for range slowInARow {
			j.singly(n, each(100*time.Microsecond))
		}
		for range vainInARow {
			require.True(t, j.synced())
			j.batch(n, each(100*time.Microsecond))
		}
		require.False(t, j.synced())
		require.False(t, j.open(), "it is left alone for a while")
		_ = pause(t.Context(), trustBusy)
		j.singly(n, each(10*time.Microsecond))
		require.False(t, j.synced())
	})
}
