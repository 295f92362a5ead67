//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// screen is where a run tells how it goes. On a terminal one line is written
// over and over.
type screen struct {
	w        io.Writer
	terminal bool
	open     bool // the line is not ended
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			s.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return s
}

func (s *screen) line(format string, args ...any) {
	s.end()
	fmt.Fprintf(s.w, format+"\n", args...)
}

func (s *screen) end() {
	if s.open {
		fmt.Fprintln(s.w)
	}
	s.open = false
}

func (s *screen) progress(text string) {
	if s.terminal {
		fmt.Fprintf(s.w, "\r\x1b[K%s", text)
		s.open = true
		return
	}
	s.line("%s", text)
}

// show tells how the run goes until ctx ends.
func (r *runner) show(ctx context.Context, faults int) {
	every := 5 * time.Second
	if r.out.terminal {
		every = 500 * time.Millisecond
	}
	for pause(ctx, every) {
		r.rec.mu.Lock()
		calls, unknown := len(r.rec.calls), 0
		for _, c := range r.rec.calls {
			if c.unknown() {
				unknown++
			}
		}
		r.rec.mu.Unlock()
		r.in.mu.Lock()
		done := 0
		for _, n := range r.in.done {
			done += n
		}
		for _, n := range r.in.missed {
			done += n
		}
		r.in.mu.Unlock()
		now := "Postgres is away"
		looking, cancel := context.WithTimeout(ctx, 2*time.Second)
		if l, err := r.w.left(looking); err == nil {
			now = fmt.Sprintf("%d jobs in work", l.jobs)
		}
		cancel()
		r.out.progress(fmt.Sprintf("%3.0f s of %v: %d of %d faults, %d calls, %d of them without an answer, %s",
			r.rec.now().Seconds(), r.o.Duration, done, faults, calls, unknown, now))
	}
	r.out.end()
}

// report prints the tables and what was found, and writes the latter down.
func (r *runner) report() error {
	t := tabwriter.NewWriter(r.out.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nfault\ttimes\tfound nothing to happen to")
	names := map[string]bool{}
	for name := range r.in.done {
		names[name] = true
	}
	for name := range r.in.missed {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(t, "%s\t%d\t%d\n", name, r.in.done[name], r.in.missed[name])
	}
	fmt.Fprintln(t, "\nchecked\tof\tfindings")
	found := map[string]int{}
	for _, f := range r.v.found {
		found[f.check]++
	}
	for _, name := range slices.SortedFunc(maps.Keys(r.v.checked), byNumber) {
		fmt.Fprintf(t, "%s\t%d\t%d\n", name, r.v.checked[name], found[name])
	}
	fmt.Fprintln(t, "\nanswers\ttimes")
	codes := map[string]int64{}
	r.load.codes.Range(func(code, n any) bool { codes[code.(string)] = n.(*atomic.Int64).Load(); return true })
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		fmt.Fprintf(t, "%s\t%d\n", code, codes[code])
	}
	happened, ends := map[events.Type]int{}, map[events.Status]int{}
	for _, h := range r.v.jobs {
		ends[h.job.Status]++
		for _, e := range h.events {
			happened[e.Type]++
		}
	}
	fmt.Fprintf(t, "\njobs\t%d\n", len(r.v.jobs))
	for _, status := range slices.Sorted(maps.Keys(ends)) {
		fmt.Fprintf(t, "%s in the end\t%d\n", status, ends[status])
	}
	for _, typ := range slices.Sorted(maps.Keys(happened)) {
		fmt.Fprintf(t, "event %s\t%d\n", typ, happened[typ])
	}
	restarts := 0
	for _, p := range r.w.procs {
		restarts += len(p.surprises())
	}
	fmt.Fprintf(t, "programs that gave up by themselves\t%d\n", restarts)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return r.tellFindings()
}

// byNumber sorts I2 before I10, and words after that.
func byNumber(a, b string) int {
	key := func(s string) string {
		number := strings.TrimPrefix(s, "I")
		if number == s {
			return "~" + s
		}
		head, tail, _ := strings.Cut(number, " ")
		return fmt.Sprintf("%4s %s", head, tail)
	}
	return strings.Compare(key(a), key(b))
}

// mostStories is how many jobs' histories are printed. The folder has all.
const mostStories = 3

func (r *runner) tellFindings() error {
	var all strings.Builder
	jobs := []string{}
	for _, f := range r.v.found {
		fmt.Fprintln(&all, f)
		if f.job != "" && !slices.Contains(jobs, f.job) {
			jobs = append(jobs, f.job)
		}
	}
	for _, p := range r.w.procs {
		for _, s := range p.surprises() {
			r.tell("gave up: %s", s)
		}
	}
	if len(r.v.found) == 0 {
		r.out.line("\nseed %d: passed", r.o.Seed)
		return nil
	}
	fmt.Fprintf(r.out.w, "\nseed %d: %d findings\n%s", r.o.Seed, len(r.v.found), head(all.String(), 40))
	for i, id := range jobs {
		story := r.v.story(id, r.rec.began)
		fmt.Fprintf(&all, "\n%s", story)
		if i < mostStories {
			fmt.Fprintf(r.out.w, "\n%s", story)
		}
	}
	for _, path := range r.v.drawings {
		fmt.Fprintf(r.out.w, "drawn: %s\n", path)
	}
	return os.WriteFile(filepath.Join(r.w.dir, "findings.txt"), []byte(all.String()), 0o644)
}

// head is the first n lines.
func head(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= n {
		return text
	}
	return strings.Join(lines[:n], "") + fmt.Sprintf("… and %d more\n", len(lines)-n)
}
