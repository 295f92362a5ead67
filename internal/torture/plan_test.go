//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var usualSize = size{apis: 2, relays: 2, workers: 2, nodes: 1}

func TestPlanFollowsFromTheSeed(t *testing.T) {
	t.Parallel()
	for _, s := range []size{usualSize, {2, 2, 3, 3}} {
		one := newPlan(7, time.Minute, s)
		require.Equal(t, one, newPlan(7, time.Minute, s))
		require.NotEqual(t, one, newPlan(8, time.Minute, s))
		require.NotEqual(t, one, newPlan(7, 2*time.Minute, s))
		require.Equal(t, len(one), strings.Count(one.String(), "\n"))
	}
}

// The plan of a seed is written down, so that a change of the generator is
// seen: the seeds of old failures would mean something else.
func TestPlanOfOldSeedsStays(t *testing.T) {
	t.Parallel()
	p := newPlan(7, time.Minute, usualSize)
	var first strings.Builder
	for _, f := range p[:4] {
		fmt.Fprintf(&first, "%s %s; ", f.Kind, f.On)
	}
	require.Equal(t, "no answers worker-2:nats; half open relay-1:postgres; busy provider; end worker-1; ", first.String())
}

func TestPlansAreSound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := size{
			rapid.IntRange(1, 4).Draw(t, "apis"), rapid.IntRange(1, 4).Draw(t, "relays"), rapid.IntRange(1, 4).Draw(t, "workers"),
			rapid.SampledFrom([]int{1, 3}).Draw(t, "nodes"),
		}
		duration := time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second
		p := newPlan(rapid.Uint64().Draw(t, "seed"), duration, s)
		until := map[string]time.Duration{}
		for i, f := range p {
			require.Positive(t, f.For, f)
			require.LessOrEqual(t, f.At+f.For, duration, "faults end before the run: %s", f)
			require.True(t, i == 0 || p[i-1].At <= f.At, "they are in order")
			for _, place := range places(f) {
				require.LessOrEqual(t, until[place], f.At, "two faults at once: %s", f)
				until[place] = f.At + f.For
			}
			require.False(t, s.nodes == 1 && slices.Contains([]string{killTwo, stepDown}, f.Kind), f)
			require.False(t, s.nodes == 3 && f.Kind == rollBack, "%s: a majority would have it back", f)
		}
	})
}

// A longer run has everything.
func TestPlanLeavesNothingOut(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		s := size{2, 2, 2, nodes}
		done := map[string]bool{}
		for _, f := range newPlan(1, 3*time.Minute, s) {
			done[f.name()] = true
		}
		for _, f := range kindsOf(s) {
			require.True(t, done[f.name()], f.name())
		}
	}
}
