package outbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A window that is full is filled again when there is room for what goes in a fiftieth
// of a second; a slow lane's, as soon as there is any.
func TestAFullWindowWaitsForABatch(t *testing.T) {
	t.Parallel()
	busy := window{size: 800, rate: 4000}
	require.Equal(t, 70, busy.lacks(10))
	require.Zero(t, busy.lacks(80))
	busy.full(time.Second, 70)
	require.Equal(t, time.Second+17500*time.Microsecond, busy.next, "when they should be gone")
	slow := window{size: 8, rate: 0.5}
	require.Equal(t, 1, slow.lacks(0))
	require.Zero(t, slow.lacks(1))
	slow.full(time.Second, 1)
	require.Equal(t, time.Second+shortestLook, slow.next)
}

// However fast it goes, workers have three quarters of the window while the
// relay waits, and it waits for no longer than the last quarter takes.
func TestWorkersHaveWorkWhileAWindowWaits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := window{size: rapid.IntRange(1, 20_000).Draw(t, "size"), rate: rapid.Float64Range(0, 50_000).Draw(t, "rate")}
		room := rapid.IntRange(-100, w.size).Draw(t, "room")
		lacks := w.lacks(room)
		if lacks == 0 {
			require.Positive(t, room)
			return
		}
		require.LessOrEqual(t, room+lacks, max(1, w.size/4))
		w.full(0, lacks)
		require.LessOrEqual(t, w.next, longestLook)
		if w.rate >= 1 {
			require.LessOrEqual(t, w.next, max(shortestLook, time.Duration(float64(w.size)/w.rate/4*float64(time.Second))))
		}
	})
}
