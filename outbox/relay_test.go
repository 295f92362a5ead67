package outbox_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

func TestEachAskIsPublishedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.WindowMin = 5000
	ids := w.enqueue(3000, teamA)
	r, _ := w.relay(nil)
	seen := map[events.ID]int{}
	w.until("all are published", func() bool { return r.State().Published == 3000 })
	for _, e := range w.pull(4000) {
		seen[e.Job]++
	}
	require.Len(t, seen, 3000)
	for _, id := range ids {
		require.Equal(t, 1, seen[id], id)
	}
	require.Zero(t, r.State().Duplicates)
	require.Empty(t, r.State().Error)
}
