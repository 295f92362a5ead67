package boot_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

// parts adds parts that note when they stop.
func parts(ctx context.Context, s *boot.Stages, names ...string) func() []string {
	var mu sync.Mutex
	var stopped []string
	for _, name := range names {
		s.Go(ctx, name, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) //nolint:forbidigo // in a bubble: whoever stops takes its time
			mu.Lock()
			defer mu.Unlock()
			stopped = append(stopped, name)
			return nil
		})
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return stopped
	}
}

func TestPartsStopInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var s boot.Stages
		stopped := parts(ctx, &s, "api", "relay", "worker", "nats")
		time.AfterFunc(time.Minute, cancel)
		require.NoError(t, s.Wait(ctx))
		require.Equal(t, []string{"api", "relay", "worker", "nats"}, stopped())
	})
}

func TestAPartThatEndsEndsTheOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  error
		want string
	}{
		"with an error": {errors.New("the connection is closed"), "nats: the connection is closed"},
		"by itself":     {nil, "nats: it ended by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var s boot.Stages
				stopped := parts(t.Context(), &s, "api", "worker")
				s.Go(t.Context(), "nats", func(context.Context) error { return c.end })
				require.EqualError(t, s.Wait(t.Context()), c.want)
				require.Equal(t, []string{"api", "worker"}, stopped())
			})
		})
	}
}

func TestAnErrorOfStoppingIsTold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var s boot.Stages
	s.Go(ctx, "worker", func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("2 attempts are not settled")
	})
	cancel()
	require.EqualError(t, s.Wait(ctx), "stop worker: 2 attempts are not settled")
}
