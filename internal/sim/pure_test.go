package sim_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A seed is a plan, the same in each process and at each time.
func TestASeedIsAPlan(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(500) {
		p := newPlan(seed)
		require.Equal(t, p, newPlan(seed))
		_, what, _ := strings.Cut(p.String(), ":")
		require.False(t, seen[what], "seed %d is another's plan", seed)
		seen[what] = true
		for _, f := range p.faults {
			require.Less(t, f.at, p.span)
			require.Contains(t, acts, f.act)
		}
		require.Len(t, p.without([]int{0}).faults, len(p.faults)-1)
		require.True(t, slices.IsSortedFunc(p.faults, func(a, b fault) int { return int(a.at - b.at) }))
	}
}

// Frames are told apart wherever the stream of bytes is cut.
func TestFramesAreCutAnywhere(t *testing.T) {
	t.Parallel()
	const wire = "PING\r\nPUB w.jobs.note _INBOX.1 5\r\nhel\r\n\r\nHPUB w.ev.a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n" +
		"PUB $JS.ACK.x 4\r\n+WPI\r\nPUB $JS.ACK.x 0\r\n\r\nMSG _INBOX.1 9 2\r\nok\r\nHMSG w.jobs.note 9 $JS.ACK.y 12 14\r\nNATS/1.0\r\n\r\nhi\r\n" +
		"PUB $JS.API.CONSUMER.MSG.NEXT.s.c _INBOX.2 2\r\n{}\r\nPUB $JS.API.STREAM.INFO.s _INBOX.3 0\r\n\r\n"
	want := []string{"", "publish", "tell", "progress", "ack", "answer", "deliver", "pull", "api"}
	for cut := range len(wire) {
		var kinds []string
		var whole strings.Builder
		var in []byte
		for _, part := range []string{wire[:cut], wire[cut:]} {
			in = append(in, part...)
			for {
				f, rest, ok := cutFrame(in)
				if !ok {
					break
				}
				in = rest
				whole.Write(f.bytes)
				kinds = append(kinds, f.kind("w"))
			}
		}
		require.Equal(t, want, kinds, "cut at %d", cut)
		require.Equal(t, wire, whole.String())
	}
}
