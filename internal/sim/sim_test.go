// Package sim_test runs the relay, the worker and the store together in one
// process and in virtual time, with the real broker, under faults that a seed
// decides. docs/simulation.md says what is simulated and how to repeat a seed.
package sim_test

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/stretchr/testify/require"
)

var (
	flagSeeds = flag.Int("seeds", seedsInCI, "how many schedules TestSchedules runs")
	flagFrom  = flag.Uint64("from", 1, "the first of their seeds")
	flagSeed  = flag.Uint64("seed", 0, "the seed that TestSeed repeats; 0: none")
	flagDrop  = flag.String("drop", "", "the faults that TestSeed leaves out, as numbers with commas between")
	flagRuns  = flag.Int("runs", 20, "how often TestSeed repeats it")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The server's clock for access times has a goroutine that virtual time
	// would wait for. Started here, it is outside of every bubble.
	ats.Register()
	debug.SetGCPercent(400) // much garbage, little that lives
	os.Exit(m.Run())
}

// room is a directory for brokers, in memory where there is some.
func room(t *testing.T) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "obs-sim-"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

// bubble runs plans one after the other in virtual time, until next has no
// more.
func bubble(t *testing.T, bug plant, next func() (plan, bool), take func(plan, verdict)) {
	t.Helper()
	dir := room(t)
	synctest.Test(t, func(t *testing.T) {
		b, err := newBroker(dir)
		require.NoError(t, err)
		defer b.close()
		for p, ok := next(); ok; p, ok = next() {
			take(p, play(t.Context(), b, p, bug))
		}
	})
}

const (
	lanes   = 4   // bubbles at once
	worldsA = 100 // worlds in one bubble, after which the broker is a new one
)

// sweep runs seeds from, from+1, …, in several bubbles at once, until there are
// n or one fails. It gives the first that failed.
func sweep(t *testing.T, bug plant, from uint64, n int) (failed *failure, ran int) {
	t.Helper()
	var mu sync.Mutex
	next := from
	t.Run("seeds", func(t *testing.T) {
		for range lanes {
			t.Run("lane", func(t *testing.T) {
				t.Parallel()
				for more := true; more; {
					left := worldsA
					bubble(t, bug, func() (plan, bool) {
						mu.Lock()
						defer mu.Unlock()
						if more = failed == nil && next < from+uint64(n); !more || left == 0 {
							return plan{}, false
						}
						left--
						next++
						return newPlan(next - 1), true
					}, func(p plan, v verdict) {
						mu.Lock()
						defer mu.Unlock()
						ran++
						if len(v.findings) > 0 && (failed == nil || failed.plan.seed > p.seed) {
							failed = &failure{p, v}
						}
					})
				}
			})
		}
	})
	return failed, ran
}

// failure is a plan under which something did not hold.
type failure struct {
	plan
	verdict
}

func (f *failure) report(dropped []int) string {
	var b strings.Builder
	b.WriteString(f.plan.String())
	subjects := map[string]bool{}
	for _, x := range f.findings {
		fmt.Fprintf(&b, "FOUND %v\n", x)
		if !subjects[x.Subject] {
			subjects[x.Subject] = true
			b.WriteString(f.stories[x.Subject])
		}
	}
	if len(subjects) == 1 && len(f.stories) > 0 && f.stories[f.findings[0].Subject] == "" {
		for _, s := range f.stories {
			b.WriteString(s)
		}
	}
	drop := make([]string, len(dropped))
	for i, n := range dropped {
		drop[i] = strconv.Itoa(n)
	}
	fmt.Fprintf(&b, "repeat it: go test ./internal/sim -count=1 -run 'TestSeed$' -seed %d -drop '%s'\n", f.seed, strings.Join(drop, ","))
	return b.String()
}

// shrink leaves faults out for as long as what is left still fails, within a
// few tries each: what the scheduler makes of a plan is not always the same.
func shrink(t *testing.T, bug plant, f *failure) (*failure, []int) {
	t.Helper()
	const tries = 4
	smallest, dropped := f, []int(nil)
	for i := len(f.faults) - 1; i >= 0; i-- {
		try := append(slices.Clone(dropped), i)
		n := 0
		bubble(t, bug, func() (plan, bool) {
			n++
			return f.without(try), n <= tries && !slices.Contains(dropped, i)
		}, func(p plan, v verdict) {
			if len(v.findings) > 0 {
				smallest, dropped = &failure{p, v}, try
			}
		})
	}
	slices.Sort(dropped)
	return smallest, dropped
}

// Whatever a seed makes go wrong, once it is over all jobs end within a bound,
// and everything holds that docs/architecture.md says must always hold.
func TestSchedules(t *testing.T) {
	start := time.Now()
	failed, ran := sweep(t, none, *flagFrom, *flagSeeds)
	t.Logf("%d schedules in %v", ran, time.Since(start).Round(time.Second))
	if failed != nil {
		small, dropped := shrink(t, none, failed)
		t.Fatalf("seed %d:\n%s\nwith as few faults as it takes:\n%s", failed.seed, failed.report(nil), small.report(dropped))
	}
}

// It repeats one seed, as the report of a failure says.
func TestSeed(t *testing.T) {
	p := newPlan(max(*flagSeed, 1))
	var drop []int
	for word := range strings.SplitSeq(*flagDrop, ",") {
		if n, err := strconv.Atoi(word); err == nil {
			drop = append(drop, n)
		}
	}
	runs := 1
	if *flagSeed != 0 {
		runs = *flagRuns
	}
	n := 0
	bubble(t, none, func() (plan, bool) {
		n++
		return p.without(drop), n <= runs
	}, func(p plan, v verdict) {
		t.Logf("run %d: %d findings, quiet after %v", n, len(v.findings), v.took)
		if len(v.findings) > 0 {
			t.Errorf("%s", (&failure{p, v}).report(drop))
		}
	})
}
