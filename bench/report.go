package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/internal/load"
)

// report is one run of the bench.
type report struct {
	Began   time.Time `json:"began"`
	Took    string    `json:"took"`
	Flags   options   `json:"flags"`
	Machine machine   `json:"machine"`
	Figures []result  `json:"figures"`
	Targets []verdict `json:"targets"`
}

// result is all runs of one figure.
type result struct {
	ID      string        `json:"id"`
	Group   string        `json:"group"`
	Title   string        `json:"title"`
	Unit    string        `json:"unit"`
	Absent  string        `json:"absent,omitempty"` // why it could not be measured
	Rate    load.Spread   `json:"rate"`             // units a second
	CPU     load.Spread   `json:"cpu_us"`           // microseconds a unit, all processes
	ByName  []processCost `json:"cpu_by_process,omitempty"`
	Samples []load.Sample `json:"samples,omitempty"`
}

type processCost struct {
	Name   string  `json:"name"`
	Micros float64 `json:"us"` // the median, a unit
}

// measure runs everything that is wanted.
func measure(ctx context.Context, o options, say func(string, ...any)) (_ *report, err error) {
	r := &report{Began: time.Now().UTC().Truncate(time.Second), Flags: o}
	var todo []group
	steps := 0
	for _, g := range groups(o) {
		g.figures = slices.DeleteFunc(g.figures, func(f figure) bool { return !o.wanted(f) })
		for _, f := range g.figures {
			steps += f.rounds(o)
		}
		if len(g.figures) > 0 {
			todo = append(todo, g)
		}
	}
	if steps == 0 {
		return r, errors.New("no figure has such a name; --list names them")
	}
	e, err := openEnv(ctx, o, say)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, e.close(ctx)) }()
	r.Machine = e.machine(ctx)
	say("Postgres %s, %d processors, load %.1f; %d measurements", e.pg.Version, r.Machine.CPUs, load.Average(), steps)

	step := 0
	var missing, failed []string
	for _, g := range todo {
		results := make([]result, len(g.figures))
		for i, f := range g.figures {
			results[i] = result{ID: f.id(), Group: g.name, Title: f.title, Unit: f.unit}
		}
		for round := range o.Rounds {
			for i, f := range g.figures {
				if round >= f.rounds(o) {
					continue
				}
				step++
				if results[i].Absent != "" {
					continue
				}
				began := time.Now()
				s, err := measureOne(ctx, e, f)
				if ctx.Err() != nil {
					return r, context.Cause(ctx)
				}
				prefix := fmt.Sprintf("[%3d/%d] %-20s", step, steps, f.id())
				if gone, ok := errors.AsType[absent](err); ok {
					results[i].Absent = gone.why
					missing = append(missing, f.who)
					say("%s absent: %s", prefix, gone.why)
					continue
				}
				if err != nil {
					failed = append(failed, f.id())
					s = load.Sample{Err: err.Error()}
					say("%s FAILED: %v", prefix, err)
				} else {
					say("%s %s (%.1f s, load %.1f)", prefix, brief(f, s), time.Since(began).Seconds(), s.Load)
				}
				results[i].Samples = append(results[i].Samples, s)
			}
		}
		for i := range results {
			results[i].sum()
		}
		r.Figures = append(r.Figures, results...)
	}
	r.Took = time.Since(r.Began).Round(time.Second).String()
	r.Targets = judge(r)
	if len(failed) > 0 {
		slices.Sort(failed)
		return r, fmt.Errorf("could not measure %s", strings.Join(slices.Compact(failed), ", "))
	}
	if o.RequirePeers && len(missing) > 0 {
		slices.Sort(missing)
		return r, fmt.Errorf("absent: %s", strings.Join(slices.Compact(missing), ", "))
	}
	return r, nil
}

// oneWithin is how long one measurement may take before it has failed: seconds on a quiet machine, and a minute and a
// half where 38 want its two processors.
const oneWithin = 5 * time.Minute

func measureOne(ctx context.Context, e *env, f figure) (_ load.Sample, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.limit = time.AfterFunc(oneWithin, func() { cancel(fmt.Errorf("it is not done within %v", oneWithin)) })
	defer e.limit.Stop()
	if e.opts.Profile != "" {
		stop, err := e.profile(ctx, f)
		if err != nil {
			return load.Sample{}, err
		}
		defer stop()
	}
	return f.run(ctx, e)
}

func (f figure) rounds(o options) int {
	if f.once {
		return 1
	}
	return o.Rounds
}

// sum reads the medians off the samples.
func (r *result) sum() {
	var rates, cpu []float64
	names := map[string][]float64{}
	for _, s := range r.Samples {
		if s.Err != "" {
			continue
		}
		rates = append(rates, s.Rate())
		if s.CPU != nil {
			cpu = append(cpu, s.PerUnit(""))
		}
		for name := range s.CPU {
			names[name] = append(names[name], s.PerUnit(name))
		}
	}
	r.Rate, r.CPU = load.SpreadOf(rates), load.SpreadOf(cpu)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r.ByName = append(r.ByName, processCost{name, load.SpreadOf(names[name]).Median})
	}
}

// latency is the median of each percentile; nil where there is none.
func (r result) latency() *load.Latency {
	var p50, p95, p99 []float64
	n := 0
	for _, s := range r.Samples {
		if s.Latency != nil {
			p50, p95, p99 = append(p50, s.Latency.P50), append(p95, s.Latency.P95), append(p99, s.Latency.P99)
			n += s.Latency.N
		}
	}
	if n == 0 {
		return nil
	}
	return &load.Latency{P50: load.SpreadOf(p50).Median, P95: load.SpreadOf(p95).Median, P99: load.SpreadOf(p99).Median, N: n}
}

// also is the median of another figure.
func (r result) also(name string) (float64, bool) {
	var all []float64
	for _, s := range r.Samples {
		if v, ok := s.Also[name]; ok {
			all = append(all, v)
		}
	}
	return load.SpreadOf(all).Median, len(all) > 0
}

func (r result) byProcess() string {
	parts := make([]string, len(r.ByName))
	for i, p := range r.ByName {
		parts[i] = fmt.Sprintf("%s %.1f", p.Name, p.Micros)
	}
	return strings.Join(parts, ", ")
}

// brief tells one sample in a line.
func brief(f figure, s load.Sample) string {
	text := fmt.Sprintf("%s %s/s", count(s.Rate()), f.unit)
	if f.what == "idle" {
		text = fmt.Sprintf("%.2f %% of a processor", s.PerUnit("")/1e4)
	} else if s.CPU != nil {
		text += fmt.Sprintf(", %.1f µs each", s.PerUnit(""))
	}
	if l := s.Latency; l != nil {
		text += fmt.Sprintf(", p50 %.2f p95 %.2f p99 %.2f ms", l.P50, l.P95, l.P99)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Also)) {
		text += fmt.Sprintf(", %s %.1f", name, s.Also[name])
	}
	return text
}

// count writes a number as people read it.
func count(v float64) string {
	switch {
	case v >= 1000:
		n := fmt.Sprintf("%.0f", v)
		for at := len(n) - 3; at > 0; at -= 3 {
			n = n[:at] + "," + n[at:]
		}
		return n
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.1f", v)
	}
}

// loads are the load averages that were seen after each measurement.
func (r *report) loads() load.Spread {
	var all []float64
	for _, f := range r.Figures {
		for _, s := range f.Samples {
			if s.Err == "" {
				all = append(all, s.Load)
			}
		}
	}
	return load.SpreadOf(all)
}

func (r *report) find(id string) (result, bool) {
	i := slices.IndexFunc(r.Figures, func(f result) bool { return f.ID == id && len(f.Samples) > 0 && f.Rate.Runs > 0 })
	if i < 0 {
		return result{}, false
	}
	return r.Figures[i], true
}

// print writes the tables for a terminal.
func (r *report) print(w io.Writer) {
	group := ""
	for _, f := range r.Figures {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(w, "\n%s\n", groupTitle(r.Flags, group))
		}
		fmt.Fprintf(w, "  %-22s %s\n", f.ID, f.line())
	}
	fmt.Fprintln(w)
	for _, v := range r.Targets {
		line := fmt.Sprintf("%-4s %-70s %s, want %s", v.word(), v.Text, v.value(), v.wanted())
		if v.Floor > 0 {
			line += ", the least comes to " + v.floor()
		}
		fmt.Fprintln(w, line)
	}
	fmt.Fprintf(w, "\n%d rounds of %d jobs in %s on %d processors; load %.1f now\n", r.Flags.Rounds, r.Flags.Jobs, r.Took, r.Machine.CPUs, load.Average())
}

func (r result) line() string {
	if r.Absent != "" {
		return "absent: " + r.Absent
	}
	if r.Rate.Runs == 0 {
		return "failed"
	}
	text := fmt.Sprintf("%8s/s [%s–%s]", count(r.Rate.Median), count(r.Rate.Min), count(r.Rate.Max))
	if r.CPU.Runs > 0 {
		text += fmt.Sprintf("  %6.1f µs (%s)", r.CPU.Median, r.byProcess())
	}
	if l := r.latency(); l != nil {
		text += fmt.Sprintf("  p50 %.2f p95 %.2f p99 %.2f ms", l.P50, l.P95, l.P99)
	}
	return text
}

// against tells each figure beside that of an earlier run: how many times the rate, the processor time and the latency.
func (r *report) against(w io.Writer, file string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var old report
	if err := json.Unmarshal(text, &old); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	fmt.Fprintf(w, "\nAgainst %s (%s):\n", filepath.Base(file), old.Machine.Commit)
	for _, f := range r.Figures {
		was, ok := old.find(f.ID)
		if !ok || f.Rate.Runs == 0 {
			continue
		}
		line := fmt.Sprintf("rate × %.2f", f.Rate.Median/was.Rate.Median)
		if f.CPU.Median > 0 && was.CPU.Median > 0 {
			line += fmt.Sprintf(", CPU × %.2f (%.1f was %.1f µs)", f.CPU.Median/was.CPU.Median, f.CPU.Median, was.CPU.Median)
		}
		if now, then := f.latency(), was.latency(); now != nil && then != nil && then.P50 > 0 && then.P99 > 0 {
			line += fmt.Sprintf(", p50 × %.2f, p99 × %.2f", now.P50/then.P50, now.P99/then.P99)
		}
		fmt.Fprintf(w, "  %-22s %s\n", f.ID, line)
	}
	return nil
}

func groupTitle(o options, name string) string {
	for _, g := range groups(o) {
		if g.name == name {
			return g.title
		}
	}
	return name
}

// write writes JSON, a figure a line, so that two runs can be compared line by line.
func (r *report) write(file string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	for _, each := range []string{`{"id":`, `{"target":`} {
		text = bytes.ReplaceAll(text, []byte(each), []byte("\n"+each))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// machine tells what everything runs on.
func (e *env) machine(ctx context.Context) machine {
	m := machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Postgres: e.pg.Version, Others: map[string]string{}}
	m.Commit = firstLine(ctx, e.tree, "git", "describe", "--always", "--dirty", "--abbrev=10")
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.Model = strings.TrimSpace(value)
				break
			}
		}
	}
	for _, module := range []string{"github.com/nats-io/nats-server/v2", "github.com/riverqueue/river", "github.com/ThreeDotsLabs/watermill", "github.com/ThreeDotsLabs/watermill-sql/v4"} {
		m.Others[filepath.Base(strings.TrimSuffix(strings.TrimSuffix(module, "/v2"), "/v4"))] = firstLine(ctx, filepath.Join(e.tree, "bench"), "go", "list", "-m", "-f", "{{.Version}}", module)
	}
	m.Others["node"] = firstLine(ctx, "", "node", "--version")
	m.Others["redis"] = firstLine(ctx, "", "redis-server", "--version")
	var lock struct {
		Packages map[string]struct{ Version string } `json:"packages"`
	}
	if text, err := js.ReadFile("js/package-lock.json"); err == nil && json.Unmarshal(text, &lock) == nil {
		for _, name := range []string{"bullmq", "graphile-worker"} {
			m.Others[name] = lock.Packages["node_modules/"+name].Version
		}
	}
	return m
}
