package sim_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// task is what one bubble is to do. Each is a process of its own: the client
// library keeps timers for the next one who needs some, and a timer may not
// leave its bubble.
type task struct {
	Bug   plant
	From  uint64 // the first seed
	Seeds int    // how many; it ends at the first that fails
	Drop  []int  // faults that are left out
	Runs  int    // of each seed, at least 1
	Log   bool   // write what the processes log
}

// report is a line of what a bubble tells about its work.
type report struct {
	At     uint64 // the seed that it begins
	Ran    int    // schedules, once it has ended
	Hits   map[act]int
	Failed *failure // the first that failed
	Small  *failure // … with as few faults as it takes
}

// failure is a schedule in which something does not hold.
type failure struct {
	Seed    uint64
	Dropped []int
	Found   []string
	Text    string // all about it, for people
}

// work is the inside of a bubble's process.
func work(t *testing.T, do task, tell func(report)) {
	t.Helper()
	dir, err := os.MkdirTemp(room(), "obs-sim-") //nolint:usetesting // in memory, where there is room
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(dir) }()
	synctest.Test(t, func(t *testing.T) {
		b, err := newBroker(dir)
		require.NoError(t, err)
		defer b.close()
		log := slog.New(slog.DiscardHandler)
		if do.Log {
			log = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		var end report
		end.Hits = map[act]int{}
		for seed := do.From; seed < do.From+uint64(do.Seeds) && end.Failed == nil; seed++ {
			tell(report{At: seed})
			for range max(do.Runs, 1) {
				p := newPlan(seed).without(do.Drop)
				v := play(t.Context(), b, p, do.Bug, log)
				end.Ran++
				for a, n := range v.hits {
					end.Hits[a] += n
				}
				if len(v.findings) > 0 {
					end.Failed = failed(p, v, do.Drop)
					break
				}
			}
		}
		if end.Failed != nil {
			end.Small = shrink(t, b, do, end.Failed, log)
		}
		tell(end)
	})
}

// room is where a broker keeps its files: in memory where there is some.
func room() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// shrink leaves faults out for as long as what is left still fails, within a
// few tries each: what the scheduler makes of a plan is not always the same.
func shrink(t *testing.T, b *broker, do task, f *failure, log *slog.Logger) *failure {
	const tries = 4
	whole := newPlan(f.Seed)
	smallest := f
	for i := range slices.Backward(whole.faults) {
		if slices.Contains(smallest.Dropped, i) {
			continue
		}
		drop := append(slices.Clone(smallest.Dropped), i)
		for range tries {
			p := whole.without(drop)
			if v := play(t.Context(), b, p, do.Bug, log); len(v.findings) > 0 {
				smallest = failed(p, v, drop)
				break
			}
		}
	}
	return smallest
}

func failed(p plan, v verdict, dropped []int) *failure {
	f := &failure{Seed: p.seed, Dropped: slices.Sorted(slices.Values(dropped))}
	var b strings.Builder
	b.WriteString(p.String())
	told := map[string]bool{}
	for _, x := range v.findings {
		f.Found = append(f.Found, x.String())
		fmt.Fprintf(&b, "FOUND %v\n", x)
		if !told[x.Subject] {
			told[x.Subject] = true
			b.WriteString(v.stories[x.Subject])
		}
	}
	if len(told) == 1 && v.stories[v.findings[0].Subject] == "" { // it is about the whole
		for _, subject := range slices.Sorted(maps.Keys(v.stories)) {
			b.WriteString(v.stories[subject])
		}
	}
	drop := make([]string, len(f.Dropped))
	for i, n := range f.Dropped {
		drop[i] = strconv.Itoa(n)
	}
	fmt.Fprintf(&b, "repeat it: go test ./internal/sim -count=1 -run 'TestSeed$' -seed %d -drop '%s'\n", f.Seed, strings.Join(drop, ","))
	f.Text = b.String()
	return f
}

// ended is found when a bubble's process did not come to its end.
const ended = "the bubble ended"

// spawn runs a task in a process of its own.
func spawn(t *testing.T, do task) report {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	what, err := json.Marshal(do)
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestBubble$", "-test.count=1", "-test.timeout=20m", "-task="+string(what))
	cmd.ExtraFiles = []*os.File{w}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	var last report
	at := uint64(0)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		last = report{}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &last))
		if last.At > 0 {
			at = last.At
		}
	}
	err = errors.Join(lines.Err(), cmd.Wait(), r.Close())
	if do.Log {
		t.Log(out.String())
	}
	if last.At > 0 || err != nil && !othersLeak(out.String()) {
		text := fmt.Sprintf("%sthe bubble ended at seed %d: %v\n%.20000s", newPlan(at), at, err, out.String())
		last.Failed = &failure{Seed: at, Found: []string{ended}, Text: text}
		last.Small = last.Failed
	}
	return last
}

// othersLeak reports whether all that was left of a bubble are goroutines of
// the broker and its client. They leave some behind now and then: nats.go
// 1.55.0 when a publisher is cleaned up just after its first asynchronous
// publish, nats-server 2.15.2 when a stream in files is deleted while it is
// being made.
func othersLeak(out string) bool {
	_, dump, found := strings.Cut(out, "blocked goroutines remain")
	for g := range strings.SplitSeq(dump, "\n\n") {
		if strings.Contains(g, "synctest bubble") && strings.Contains(g, "seed-245eaa15/obs") {
			return false
		}
	}
	return found
}

// chunk is the seeds of one process: few where a failure is what is looked for.
func (do task) chunk() uint64 {
	if do.Bug != none {
		return 40
	}
	return 250
}

// late reports that the test is about to run out of time: on a machine that
// does much else, fewer schedules are no failure.
func late(t *testing.T) bool {
	t.Helper()
	deadline, ok := t.Deadline()
	return ok && time.Until(deadline) < 3*time.Minute
}

// sweep runs seeds in as many processes as there are processors, until all
// have run, or one failed, or the time is up. It gives the failure of the lowest seed.
func sweep(t *testing.T, do task) report {
	t.Helper()
	var mu sync.Mutex
	all := report{Hits: map[act]int{}}
	next, end := do.From, do.From+uint64(do.Seeds)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				some := do
				some.From, some.Seeds = next, int(min(do.chunk(), end-next))
				next += uint64(some.Seeds)
				stop := all.Failed != nil || some.Seeds == 0 || do.Bug == none && late(t)
				mu.Unlock()
				if stop {
					return
				}
				r := spawn(t, some)
				mu.Lock()
				all.Ran += r.Ran
				for a, n := range r.Hits {
					all.Hits[a] += n
				}
				if r.Failed != nil && (all.Failed == nil || r.Failed.Seed < all.Failed.Seed) {
					all.Failed, all.Small = r.Failed, r.Small
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}
