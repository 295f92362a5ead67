package eventstest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
)

func memory(*testing.T) eventstest.Table { return eventstest.NewMemory() }

func TestMemory(t *testing.T) {
	t.Parallel()
	eventstest.Suite(t, memory)
}

func TestDepose(t *testing.T) {
	t.Parallel()
	m := eventstest.NewMemory()
	led, release, err := m.Lead(t.Context())
	require.NoError(t, err)
	m.Depose()
	<-led.Done()
	second, _, err := m.Lead(t.Context())
	require.NoError(t, err)
	release() // the deposed one's
	require.NoError(t, second.Err())
	_, _, err = m.Lead(t.Context())
	require.ErrorIs(t, err, events.ErrNotLeader)
}

func TestMemoryModel(t *testing.T) {
	t.Parallel()
	eventstest.Model(t, eventstest.NewMemory())
}
