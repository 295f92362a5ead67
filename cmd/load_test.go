package cmd_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
	"github.com/seed-245eaa15/obs/internal/observe"
)

var (
	overloadFor = flag.Duration("overload", 3*time.Second, "how long TestOverload sends ten times what can be taken")
	soakFor     = flag.Duration("soak", 6*time.Second, "how long TestSoak runs")
	soakOut     = flag.String("soak.out", "", "the folder that TestSoak writes soak.csv and soak.svg to; empty: none")
)

// What a process may come to in memory, whatever it is offered: the bound that
// docs/operations.md states.
const (
	serverMemory = 512 << 20
	otherMemory  = 256 << 20
)

var peakMemory = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// peak is the most memory that a process has had.
func (p *proc) peak(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(t, err)
	m := peakMemory.FindSubmatch(text)
	require.NotNil(t, m)
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(t, err)
	return kb << 10
}

// took is how long the requests with a status took, by a server's log.
func (p *proc) took(t *testing.T, status int) (all []time.Duration) {
	t.Helper()
	for _, m := range regexp.MustCompile(fmt.Sprintf(`status=%d took=(\S+)`, status)).FindAllStringSubmatch(p.out.String(), -1) {
		d, err := time.ParseDuration(m[1])
		require.NoError(t, err)
		all = append(all, d)
	}
	return all
}

// answers counts what a client was told.
type answers struct {
	mu       sync.Mutex
	status   map[int]int
	took     map[int][]time.Duration
	accepted int // events
	silent   int // of them with a Retry-After that was missing
}

func (a *answers) note(status int, took time.Duration, events int, retryAfter string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status[status]++
	a.took[status] = append(a.took[status], took)
	switch status {
	case http.StatusCreated:
		a.accepted += events
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		if retryAfter == "" {
			a.silent++
		}
	}
}

func newAnswers() *answers {
	return &answers{status: map[int]int{}, took: map[int][]time.Duration{}}
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(q*float64(len(all)-1))]
}

// A batch of events is numbered, so that each is one of its own.
const batchSize = 100

func (s *stack) batch(from int) string {
	var b strings.Builder
	b.WriteByte('[')
	for i := range batchSize {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"projectId":%q,"sourceType":"hook","eventType":"tool_use","occurredAtEpoch":%d,"sourceEventId":"load-%d",`+
			`"payload":{"tool_name":"Bash","tool_input":{"command":"go test ./part%d"},"tool_response":{"exit_code":1,"stdout":"--- FAIL: TestPart%d"}}}`,
			s.project, 1_795_435_200_000+from+i, from+i, from+i, from+i)
	}
	b.WriteByte(']')
	return b.String()
}

// offer sends one batch and notes the answer. What got none in time counts as
// status 0: the server may have taken it or not.
func (s *stack) offer(hc *http.Client, n int, a *answers) int {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.api+"/v1/events/batch", strings.NewReader(s.batch(n*batchSize)))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	began := time.Now()
	res, err := hc.Do(req)
	if err != nil {
		a.note(0, time.Since(began), 0, "")
		return 0
	}
	_ = res.Body.Close() // only the status counts
	a.note(res.StatusCode, time.Since(began), batchSize, res.Header.Get("Retry-After"))
	return res.StatusCode
}

// Ten times what the door can take: it says so to those whom it cannot take,
// no process grows beyond its bound, and what was accepted is done.
func TestOverload(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	server := s.start("obs", "server", "--max-in-flight", "8")
	procs := map[string]*proc{"server": server, "relay": s.relay(), "worker": s.worker("--slots", "event=20")}
	hc := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 2048}}
	t.Cleanup(hc.CloseIdleConnections)

	// What it takes when eight clients ask one after the other.
	var next atomic.Int64
	calm, until := newAnswers(), time.Now().Add(max(*overloadFor/6, time.Second))
	began := time.Now()
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for time.Now().Before(until) {
				s.offer(hc, int(next.Add(1)), calm)
			}
		})
	}
	clients.Wait()
	rate := float64(calm.status[http.StatusCreated]) / time.Since(began).Seconds() // batches in a second
	require.Positive(t, rate)
	require.Zero(t, calm.status[0])

	// Ten times as many, whether they are answered or not.
	storm := newAnswers()
	began, until = time.Now(), time.Now().Add(*overloadFor)
	sent := 0
	tick := time.NewTicker(5 * time.Millisecond)
	for now := range tick.C {
		if now.After(until) {
			break
		}
		for want := int(10 * rate * now.Sub(began).Seconds()); sent < want; sent++ {
			n := int(next.Add(1))
			clients.Go(func() { s.offer(hc, n, storm) })
		}
	}
	tick.Stop()
	clients.Wait()
	refused := storm.status[http.StatusServiceUnavailable] + storm.status[http.StatusTooManyRequests]
	t.Logf("sustainable: %.0f batches of %d a second (p50 %v); offered %d in %v: %d accepted (p50 %v, p99 %v), %d told to come back (p50 %v, p99 %v), %d without an answer",
		rate, batchSize, quantile(calm.took[201], 0.5), sent, *overloadFor, storm.status[201], quantile(storm.took[201], 0.5), quantile(storm.took[201], 0.99),
		refused, quantile(storm.took[503], 0.5), quantile(storm.took[503], 0.99), storm.status[0])
	t.Logf("by the server's own log: 201 p99 %v, 503 p99 %v; the rest of what the clients saw is the machine that they share",
		quantile(server.took(t, 201), 0.99), quantile(server.took(t, 503), 0.99))
	require.Positive(t, refused, "it cannot take ten times what it can take")
	require.Zero(t, storm.silent, "all of them were told when")
	require.Positive(t, storm.status[http.StatusCreated], "it goes on taking what it can")
	require.Equal(t, sent, storm.status[http.StatusCreated]+refused+storm.status[0], "nothing else was answered: %v", storm.status)
	require.Positive(t, server.metric(t, "obs_http_refused_total"))

	// The backlog drains: as long as it gets less there is patience.
	stored := s.count(`SELECT count(*) FROM agent_events`)
	accepted := calm.accepted + storm.accepted
	require.GreaterOrEqual(t, stored, accepted, "nothing accepted is lost")
	require.LessOrEqual(t, stored, accepted+batchSize*storm.status[0])
	drained := time.Now()
	for left, stuck := s.jobs("queued")+s.jobs("processing"), time.Now(); left > 0; {
		<-time.After(look)
		if now := s.jobs("queued") + s.jobs("processing"); now < left {
			left, stuck = now, time.Now()
		}
		require.Less(t, time.Since(stuck), patience, "%d jobs are left", left)
	}
	require.Equal(t, stored, s.jobs("completed"))
	require.Equal(t, stored, s.count(`SELECT count(*) FROM observation_generation_job_events WHERE event_type = 'completed'`))
	for name, p := range procs {
		bound := int64(otherMemory)
		if name == "server" {
			bound = serverMemory
		}
		t.Logf("%s: at most %d MiB of memory", name, p.peak(t)>>20)
		require.Less(t, p.peak(t), bound, name)
	}
	t.Logf("%d events stored, their jobs done %v after the last was sent", stored, time.Since(drained).Round(time.Millisecond))
	s.check()
}

// A tenant with ten thousand jobs that wait, each of them slow, delays another
// tenant's single job by less than five times what it takes alone.
//
// It compares times, so it is not for the others to run beside it.
func TestATenantsBacklogIsItsOwn(t *testing.T) {
	s := newStack(t)
	provider := llmtest.New(t)
	const takes = 400 * time.Millisecond
	provider.Always(llmtest.Slowly(takes, llmtest.Fine))
	s.server()
	s.start("obs-relay", "--lease", "30s")
	s.start("obs-worker", "--lease", "30s", "--slots", "event=4", "--provider", "openai", "--base-url", provider.URL)

	other := &stack{t: t, dsn: s.dsn, pool: s.pool, port: s.port, api: s.api}
	svc := observe.New(observe.Config{Pool: s.pool})
	var err error
	other.team, err = svc.CreateTeam(t.Context(), "other")
	require.NoError(t, err)
	other.project, err = svc.CreateProject(t.Context(), other.team, "other")
	require.NoError(t, err)
	_, other.key, err = svc.IssueKey(t.Context(), other.team, other.project, "e2e", "e2e", []string{observe.ScopeRead, observe.ScopeWrite}, time.Time{})
	require.NoError(t, err)
	single := func(n int) time.Duration {
		began := time.Now()
		code, body := other.post("/v1/events?wait=true", other.event(n))
		require.Equal(t, http.StatusCreated, code, "%s", body)
		require.Contains(t, string(body), `"completed"`)
		return time.Since(began)
	}
	measure := func(from int) time.Duration {
		var all []time.Duration
		for i := range 11 {
			all = append(all, single(from+i))
		}
		return quantile(all, 0.5)
	}
	single(0) // what is only slow once
	alone := measure(100)
	s.send(1000, 10_000)
	require.Eventually(t, func() bool { return s.jobs("processing") == 4 }, patience, look)
	behind := measure(200)
	require.Greater(t, s.jobs("queued"), 8000, "they still wait")
	t.Logf("a job of %v alone: %v; beside 10,000 of another tenant: %v; %.1f times as long", takes, alone, behind, float64(behind)/float64(alone))
	require.Less(t, float64(behind)/float64(alone), 5.0)
}

// sample is what the processes are at one moment.
type sample struct {
	at      time.Duration
	figures []float64 // by soakColumns
}

var soakColumns = []string{
	"server MiB", "relay MiB", "worker MiB", "server goroutines", "relay goroutines", "worker goroutines",
	"server files", "relay files", "worker files", "Postgres connections",
}

// Hours of the same load leave the processes as they are: a shorter form by
// default, ten minutes by a task, which also draws it.
func TestSoak(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	procs := []*proc{s.server(), s.relay(), s.worker("--slots", "event=4")}
	ends := time.Now().Add(*soakFor)
	stop := make(chan struct{})
	var load sync.WaitGroup
	var n, done atomic.Int64
	for range 2 { // one who writes and one who reads, each as an agent would
		load.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-stop:
					return
				}
				code, _ := s.post("/v1/events", s.event(int(n.Add(1))))
				if code == http.StatusCreated {
					done.Add(1)
				}
				s.post("/v1/search", map[string]any{"projectId": s.project, "query": "TestPart1"})
			}
		})
	}
	var samples []sample
	began := time.Now()
	tick := time.NewTicker(max(*soakFor/150, 100*time.Millisecond))
	for now := range tick.C {
		if now.After(ends) && len(samples) >= 16 { // a busy machine takes its time for each
			break
		}
		one := sample{at: now.Sub(began)}
		for _, figure := range []struct {
			name string
			unit float64
		}{{"process_resident_memory_bytes", 1 << 20}, {"go_goroutines", 1}, {"process_open_fds", 1}} {
			for _, p := range procs {
				one.figures = append(one.figures, p.metric(t, figure.name)/figure.unit)
			}
		}
		one.figures = append(one.figures, float64(s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()`)))
		samples = append(samples, one)
	}
	tick.Stop()
	close(stop)
	load.Wait()
	s.settled(int(done.Load()))
	s.once(int(done.Load()))
	s.check()

	if *soakOut != "" {
		require.NoError(t, os.WriteFile(filepath.Join(*soakOut, "soak.csv"), []byte(soakCSV(samples)), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(*soakOut, "soak.svg"), []byte(soakSVG(samples)), 0o644))
	}
	middle := func(from, to int, column int) float64 {
		var all []float64
		for _, one := range samples[from:to] {
			all = append(all, one.figures[column])
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	q := len(samples) / 4
	for i, name := range soakColumns {
		early, late := middle(q, 2*q, i), middle(3*q, len(samples), i)
		t.Logf("%s: %.1f in the second quarter, %.1f in the last", name, early, late)
		slack := 10.0 // connections and goroutines come and go with requests
		switch {
		case !strings.HasSuffix(name, "MiB"):
		case *soakFor < time.Minute:
			slack = 64 // a busy server lets its garbage grow, and seconds may fall on both sides of that
		default:
			slack = 24 // a heap breathes
		}
		require.LessOrEqual(t, late, early*1.1+slack, "%s grows", name)
	}
}

func TestPlot(t *testing.T) {
	t.Parallel()
	figures := make([]float64, len(soakColumns))
	figures[0] = 10
	svg := soakSVG([]sample{{0, figures}, {time.Second, figures}})
	require.Equal(t, len(soakColumns), strings.Count(svg, "<polyline"), "a line each")
	require.Contains(t, svg, `60.0,39.5 820.0,39.5 "`, "ten of at most eleven stands near the top")
	require.Equal(t, 3, strings.Count(soakCSV([]sample{{0, figures}, {time.Second, figures}}), "\n"))
}
