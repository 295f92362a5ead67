package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/load"
)

// The harness itself, on obs alone and for a moment: Postgres, nats-server and the counting are real.
func TestABitOfTheBench(t *testing.T) {
	o := options{Only: []string{"obs.steady", "pg.commit", "least."}, Rounds: 2, Jobs: 1000, Events: 200, For: 200 * time.Millisecond, Payload: 512, Slots: 100, Dir: t.TempDir()}
	require.NoError(t, os.Chmod(o.Dir, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(o.Dir), 0o755)) // Postgres may run as another user
	require.NoError(t, o.settle())
	r, err := measure(t.Context(), o, t.Logf)
	require.NoError(t, err)
	left, err := os.ReadDir(o.Dir)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left behind")

	require.Len(t, r.Figures, 12)
	for _, f := range r.Figures {
		require.Len(t, f.Samples, 2, f.ID)
		for _, s := range f.Samples {
			require.Empty(t, s.Err, f.ID)
			require.Positive(t, s.N, f.ID)
			require.Positive(t, s.Rate(), f.ID)
			sum := 0.0
			for name := range s.CPU {
				sum += s.PerUnit(name)
			}
			require.InDelta(t, s.PerUnit(""), sum, 0.001, f.ID)
		}
		require.LessOrEqual(t, f.Rate.Min, f.Rate.Median)
		require.LessOrEqual(t, f.Rate.Median, f.Rate.Max)
	}
	known := 0
	for _, v := range r.Targets {
		if v.Known {
			known++
		}
	}
	require.Equal(t, 1, known, "one target is about what was measured")
	require.InDelta(t, r.Figures[1].CPU.Median, r.Targets[0].Value, 1e-9)
	least, ok := r.find("least.steady")
	require.True(t, ok)
	require.InDelta(t, least.CPU.Median, r.Targets[0].Floor, 1e-9)
}

// made is a report with figures that are easy to see through.
func made() *report {
	r := &report{Began: time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC), Flags: options{Jobs: 1000, Rounds: 1}}
	add := func(group, id string, n int, latency *load.Latency, also map[string]float64) {
		f := result{ID: id, Group: group, Title: id, Unit: "jobs", Samples: []load.Sample{
			{N: n, Seconds: 1, CPU: map[string]float64{"obs": 0.01, "postgres": 0.03}, Latency: latency, Also: also},
		}}
		f.sum()
		r.Figures = append(r.Figures, f)
	}
	add("steady", "obs.steady", 1000, nil, nil)
	add("steady", "least.steady", 2000, nil, nil)
	add("steady", "river.steady", 500, nil, nil)
	add("latency", "obs.latency", 100, &load.Latency{P50: 1, P95: 2, P99: 7, N: 100}, nil)
	add("idle", "obs.idle", 10, nil, map[string]float64{"statements_per_s": 9, "obs server MiB": 41})
	r.Figures = append(r.Figures, result{ID: "bullmq.steady", Group: "steady", Title: "BullMQ", Absent: "there is no redis-server"})
	r.Targets = judge(r)
	return r
}

func TestTargetsAreRatiosOfMedians(t *testing.T) {
	verdicts := map[string]verdict{}
	for _, v := range made().Targets {
		require.NotContains(t, verdicts, v.Text)
		verdicts[v.Text] = v
	}
	for text, want := range map[string]verdict{
		"processor time a job, all processes, steady, 100 a transaction": {Value: 40, Passes: true, Floor: 20},
		"steady, 100 a transaction, against River":                       {Value: 2, Passes: true, Floor: 4},
		"latency at 100 jobs/s, p50":                                     {Value: 1, Passes: true},
		"latency at 100 jobs/s, p99":                                     {Value: 7},
		"idle, all processes, of one processor":                          {Value: 0.4, Passes: true},
		"idle, statements a second":                                      {Value: 9, Passes: true},
		"memory of obs idle":                                             {Value: 41},
	} {
		v := verdicts[text]
		require.True(t, v.Known, text)
		require.InDelta(t, want.Value, v.Value, 1e-9, text)
		require.Equal(t, want.Passes, v.Passes, text)
		require.InDelta(t, want.Floor, v.Floor, 1e-9, text)
	}
	require.False(t, verdicts["drain against River"].Known)
	require.False(t, verdicts["drain against River"].Passes, "what is not known is not met")
}

// The page has the figures between its marks, however often they are written, and keeps the rest.
func TestTheFiguresAreWrittenIntoThePage(t *testing.T) {
	docs := t.TempDir()
	file := filepath.Join(docs, "performance.md")
	require.NoError(t, os.WriteFile(file, []byte("before\n"+figuresBegin+"old\n"+figuresEnd+"after\n"), 0o644))
	r := made()
	require.NoError(t, r.document(docs))
	once, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(once), "before\n") && strings.HasSuffix(string(once), "after\n"))
	require.NotContains(t, string(once), "old")
	for _, want := range []string{
		"| steady, 100 a transaction, against River | at least 1.60 × | 2.00 × | met | 4.00 × |",
		"| latency at 100 jobs/s, p99 | at most 6.00 ms | 7.00 ms | **missed** |  |",
		"| obs.steady | `obs.steady` | 1,000 jobs [1,000–1,000] | 40.0 | obs 10.0, postgres 30.0 |  |  |",
		"absent: there is no redis-server",
	} {
		require.Contains(t, string(once), want)
	}
	require.NoError(t, r.document(docs))
	twice, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(once), string(twice))
	svg, err := os.ReadFile(filepath.Join(docs, "bench-steady.svg"))
	require.NoError(t, err)
	require.Contains(t, string(svg), `width="300.0"`, "the fastest bar is as wide as the panel")
	require.Contains(t, string(svg), `width="75.0"`)

	require.NoError(t, os.WriteFile(file, []byte("no marks"), 0o644))
	require.ErrorContains(t, r.document(docs), "no place for the figures")
}

func TestResultsAreJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results", "a.json")
	require.NoError(t, made().write(file))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var back report
	require.NoError(t, json.Unmarshal(text, &back))
	f, ok := back.find("river.steady")
	require.True(t, ok)
	require.InDelta(t, 500, f.Rate.Median, 1e-9)
}

func TestAgainstAnEarlierRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "old.json")
	old := made()
	old.Figures[0].Samples[0].Seconds = 2
	old.Figures[0].sum()
	require.NoError(t, old.write(file))
	var out strings.Builder
	require.NoError(t, made().against(&out, file))
	require.Contains(t, out.String(), "obs.steady             rate × 2.00, CPU × 1.00 (40.0 was 40.0 µs)\n")
	require.Contains(t, out.String(), "p50 × 1.00, p99 × 1.00")
	require.NotContains(t, out.String(), "bullmq")
	require.NoError(t, made().against(&out, ""))
	require.Error(t, made().against(&out, file+"x"))
}

// What --only asks for is in the names, and each figure has one of its own.
func TestNamesOfFigures(t *testing.T) {
	names := map[string]bool{}
	for _, g := range groups(options{}) {
		for _, f := range g.figures {
			require.False(t, names[f.id()], f.id())
			names[f.id()] = true
		}
	}
	_, err := measure(context.Background(), options{Only: []string{"nobody"}}, t.Logf)
	require.ErrorContains(t, err, "no figure has such a name")
}
