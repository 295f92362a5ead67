package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The part of docs/performance.md between these is written here, and by nobody else.
const (
	figuresBegin = "<!-- task bench writes from here -->\n"
	figuresEnd   = "<!-- to here -->\n"
)

// document writes the tables into docs/performance.md, and the charts beside it.
func (r *report) document(docs string) error {
	file := filepath.Join(docs, "performance.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(text), figuresBegin)
	_, after, ends := strings.Cut(rest, figuresEnd)
	if !begins || !ends {
		return fmt.Errorf("%s has no place for the figures: want the lines %q and %q", file, figuresBegin, figuresEnd)
	}
	var b bytes.Buffer
	b.WriteString(before + figuresBegin)
	r.markdown(&b)
	b.WriteString(figuresEnd + after)
	errs := []error{os.WriteFile(file, b.Bytes(), 0o644)}
	for _, c := range charts {
		errs = append(errs, os.WriteFile(filepath.Join(docs, c.file), []byte(c.svg(r)), 0o644))
	}
	return errors.Join(errs...)
}

// markdown writes the verdicts, then the figures.
func (r *report) markdown(b *bytes.Buffer) {
	m := r.Machine
	loads := r.loads()
	fmt.Fprintf(b, "\nMeasured at %s on commit %s: %d processors", r.Began.Format("2006-01-02 15:04 MST"), m.Commit, m.CPUs)
	if m.Model != "" {
		fmt.Fprintf(b, " (%s)", m.Model)
	}
	fmt.Fprintf(b, ", %s, Postgres %s, nats-server %s; %d rounds of %d jobs with %d bytes each, in %s. The load average was %.1f to %.1f, median %.1f, of which the bench itself is about %d.\n",
		m.Go, m.Postgres, m.Others["nats-server"], r.Flags.Rounds, r.Flags.Jobs, r.Flags.Payload, r.Took, loads.Min, loads.Max, loads.Median, m.CPUs)
	fmt.Fprintf(b, "Peers: River %s, Watermill %s, graphile-worker %s, BullMQ %s on %s, node %s.\n", m.Others["river"], m.Others["watermill"],
		m.Others["graphile-worker"], m.Others["bullmq"], redisVersion(m.Others["redis"]), m.Others["node"])

	fmt.Fprintf(b, "\n### Targets\n\n| target | wanted | measured | | the least comes to |\n|---|---|---|---|---|\n")
	for _, v := range r.Targets {
		word := "**missed**"
		switch {
		case !v.Known:
			word = "?"
		case v.Passes:
			word = "met"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", v.Text, v.wanted(), v.value(), word, v.floor())
	}

	fmt.Fprintf(b, "\n### Figures\n\nMedian [least–most] of the rounds. CPU is microseconds of processor time a unit, over all processes, and which took it.\nWAL bytes are what Postgres wrote to its log for a unit.\n")
	group := ""
	for _, f := range r.Figures {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(b, "\n**%s**", groupTitle(r.Flags, group))
			for _, c := range charts {
				if c.group == group {
					fmt.Fprintf(b, "\n\n![%s](%s)", groupTitle(r.Flags, group), c.file)
				}
			}
			fmt.Fprintf(b, "\n\n| | figure | a second | CPU µs | by process | p50 / p95 / p99 ms | WAL bytes |\n|---|---|---|---|---|---|---|\n")
		}
		fmt.Fprintf(b, "| %s | `%s` | %s |\n", f.Title, f.ID, f.cells())
	}
	b.WriteByte('\n')
}

// cells are the columns of the table behind the name.
func (r result) cells() string {
	switch {
	case r.Absent != "":
		return "absent: " + r.Absent + " | | | | "
	case r.Rate.Runs == 0:
		return "failed | | | | "
	}
	rate := fmt.Sprintf("%s %s [%s–%s]", count(r.Rate.Median), r.Unit, count(r.Rate.Min), count(r.Rate.Max))
	if strings.HasSuffix(r.ID, ".idle") {
		rate = "—"
	}
	latency := ""
	if l := r.latency(); l != nil {
		latency = fmt.Sprintf("%.2f / %.2f / %.2f", l.P50, l.P95, l.P99)
	}
	cpu := ""
	if r.CPU.Runs > 0 {
		cpu = fmt.Sprintf("%.1f", r.CPU.Median)
	}
	wal := ""
	if bytes, ok := r.also("wal_bytes"); ok {
		wal = count(bytes)
	}
	return strings.Join([]string{rate, cpu, r.byProcess(), latency, wal}, " | ")
}

func redisVersion(line string) string {
	for word := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(word, "v="); ok {
			return "Redis " + v
		}
	}
	return "Redis"
}
