package outbox_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

func rung(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(soon):
		require.Fail(t, "it did not ring")
	}
}

func TestBellRingsHereAndElsewhere(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t)
	here, there := outbox.NewBell(nc, "p"), outbox.NewBell(nc, "p")
	a, _, err := here.Listen(t.Context())
	require.NoError(t, err)
	b, _, err := there.Listen(t.Context())
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	here.Ring()
	rung(t, a)
	rung(t, b)
	there.Ring()
	rung(t, a)
	rung(t, b)
}

func TestBellSaysWhatWasSettled(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t)
	here, there := outbox.NewBell(nc, "q"), outbox.NewBell(nc, "q")
	asks, told, err := here.Listen(t.Context())
	require.NoError(t, err)
	asksThere, toldThere, err := there.Listen(t.Context())
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	step := func(typ events.Type, delay time.Duration) events.Step {
		return events.Step{Event: events.Event{Type: typ}, Delay: delay}
	}
	here.Settled([]events.Step{step(events.Completed, 0), step(events.RetryScheduled, time.Second)})
	rung(t, told)
	rung(t, toldThere)
	require.Empty(t, asks, "nothing is to be read but events")
	require.Empty(t, asksThere)
	here.Settled([]events.Step{step(events.Completed, 0), step(events.Released, 0)})
	rung(t, asks)
	rung(t, asksThere)
}

func TestBellIsCoalesced(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t)
	heard := make(chan *nats.Msg, 10_000)
	_, err := nc.ChanSubscribe("obs.wake", heard)
	require.NoError(t, err)
	b := outbox.NewBell(nc, "")
	began := time.Now()
	for range 1_000_000 {
		b.Ring()
	}
	took := time.Since(began)
	require.NoError(t, nc.Flush())
	require.LessOrEqual(t, len(heard), 2+int(took/time.Millisecond))
}

func TestEveryCommitRings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := outbox.NewBell(nil, "")
		c, _, err := b.Listen(t.Context())
		require.NoError(t, err)
		for range 100 {
			b.Ring()
			<-c // a ring after this one is not taken for it
		}
		b.Ring()
		b.Ring()
		<-c
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		select {
		case <-c:
			require.Fail(t, "two rings at once are one")
		case <-ctx.Done():
		}
	})
}
