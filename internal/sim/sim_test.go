// Package sim_test runs the relay, the worker and the store together in one
// process and in virtual time, with the real broker, under faults that a seed
// decides. docs/simulation.md says what is simulated and how to repeat a seed.
package sim_test

import (
	"encoding/json"
	"flag"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/stretchr/testify/require"
)

var (
	flagSeeds = flag.Int("seeds", seedsInCI, "how many schedules TestSchedules runs")
	flagFrom  = flag.Uint64("from", 1, "the first of their seeds")
	flagSeed  = flag.Uint64("seed", 1, "the seed that TestSeed repeats")
	flagDrop  = flag.String("drop", "", "the faults that TestSeed leaves out, as numbers with commas between")
	flagRuns  = flag.Int("runs", 10, "how often TestSeed repeats it")
	flagLog   = flag.Bool("log", false, "TestSeed writes what the processes log")
	flagTask  = flag.String("task", "", "what this process is to do for its parent, as JSON")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The server's clock for access times has a goroutine that virtual time
	// would wait for. Started here, it is outside of the bubble.
	ats.Register()
	debug.SetGCPercent(400) // much garbage, little that lives
	os.Exit(m.Run())
}

// Whatever a seed makes go wrong, once it is over all jobs end within a bound,
// and everything holds that docs/architecture.md says must always hold.
func TestSchedules(t *testing.T) {
	start := time.Now()
	r := sweep(t, task{From: *flagFrom, Seeds: *flagSeeds})
	t.Logf("%d of %d schedules in %v, faults that happened: %v", r.Ran, *flagSeeds, time.Since(start).Round(100*time.Millisecond), r.Hits)
	if r.Failed != nil {
		t.Fatalf("%s\nwith as few faults as it takes:\n%s", r.Failed.Text, r.Small.Text)
	}
	if r.Ran >= 1000 {
		for _, a := range acts {
			require.Positive(t, r.Hits[a], "no schedule had: %s", a)
		}
	}
}

// It repeats one seed, as the report of a failure says.
func TestSeed(t *testing.T) {
	do := task{From: *flagSeed, Seeds: 1, Runs: *flagRuns, Log: *flagLog}
	for word := range strings.SplitSeq(*flagDrop, ",") {
		if n, err := strconv.Atoi(word); err == nil {
			do.Drop = append(do.Drop, n)
		}
	}
	r := spawn(t, do)
	if r.Failed != nil {
		t.Fatalf("run %d:\n%s", r.Ran, r.Failed.Text)
	}
	t.Logf("seed %d held in %d runs", do.From, r.Ran)
}

// It is the inside of the other tests' processes; by itself it runs a few
// schedules here.
func TestBubble(t *testing.T) {
	do := task{From: 1, Seeds: 10}
	pipe := os.Stderr
	if *flagTask != "" {
		require.NoError(t, json.Unmarshal([]byte(*flagTask), &do))
		pipe = os.NewFile(3, "parent")
	}
	tell := json.NewEncoder(pipe)
	var told atomic.Int64
	go func() { // outside of the bubble, where time is the real one
		for range time.Tick(2 * time.Minute) {
			if told.Swap(0) == 0 {
				debug.SetTraceback("all")
				panic("a schedule does not end: virtual time stands still")
			}
		}
	}()
	work(t, do, func(r report) {
		told.Store(1)
		if *flagTask != "" {
			_ = tell.Encode(r) // without a parent nobody wants to know
		} else if r.Failed != nil {
			t.Error(r.Failed.Text)
		}
	})
}
