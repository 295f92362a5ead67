package main

import (
	"fmt"

	"github.com/seed-245eaa15/obs/internal/load"
)

// verdict is one target and what came of it.
type verdict struct {
	Text   string  `json:"target"`
	Value  float64 `json:"value"`
	Least  bool    `json:"at_least"` // else at most
	Bound  float64 `json:"bound"`
	Unit   string  `json:"unit"`
	Known  bool    `json:"known"`           // false: a figure is missing
	Floor  float64 `json:"floor,omitempty"` // what the least that such a queue does comes to; 0 is not measured
	Passes bool    `json:"passes"`
}

func (v verdict) word() string {
	switch {
	case !v.Known:
		return "  ? "
	case v.Passes:
		return "ok"
	default:
		return "MISS"
	}
}

func (v verdict) value() string {
	if !v.Known {
		return "not measured"
	}
	return v.form(v.Value)
}

func (v verdict) wanted() string {
	if v.Least {
		return "at least " + v.form(v.Bound)
	}
	return "at most " + v.form(v.Bound)
}

func (v verdict) floor() string {
	if v.Floor == 0 {
		return ""
	}
	return v.form(v.Floor)
}

func (v verdict) form(x float64) string {
	switch v.Unit {
	case "×":
		return fmt.Sprintf("%.2f ×", x)
	case "/s":
		return count(x) + "/s"
	default:
		return fmt.Sprintf("%.2f %s", x, v.Unit)
	}
}

type reading func(r *report) (float64, bool)

// judge holds the figures against the targets. Each ratio is of medians of one run.
func judge(r *report) []verdict {
	var all []verdict
	add := func(text string, least bool, bound float64, unit string, read reading) {
		v := verdict{Text: text, Least: least, Bound: bound, Unit: unit}
		v.Value, v.Known = read(r)
		v.Passes = v.Known && (least && v.Value >= bound || !least && v.Value <= bound)
		all = append(all, v)
	}
	// floor adds to the last target what the least comes to: the same rows and messages, and nothing else.
	floor := func(read reading) { all[len(all)-1].Floor, _ = read(r) }
	atLeast := func(text string, bound float64, unit string, read reading) { add(text, true, bound, unit, read) }
	atMost := func(text string, bound float64, unit string, read reading) { add(text, false, bound, unit, read) }

	atMost("processor time a job, all processes, steady, 100 a transaction", 80, "µs", cpu("obs.steady"))
	floor(cpu("least.steady"))
	atLeast("steady, 100 a transaction, against River", 1.6, "×", rates("obs.steady", "river.steady"))
	floor(rates("least.steady", "river.steady"))
	atLeast("steady, 16 connections, one a transaction, against River", 3, "×", rates("obs.single", "river.single"))
	floor(rates("least.single", "river.single"))
	atLeast("drain against River", 3, "×", rates("obs.drain", "river.drain"))
	floor(rates("least.drain-alone", "river.drain"))
	atLeast("drain against graphile-worker, batched", 1.5, "×", rates("obs.drain", "graphile.drain"))
	floor(rates("least.drain-alone", "graphile.drain"))
	atLeast("drain against BullMQ", 4, "×", rates("obs.drain", "bullmq.drain"))
	floor(rates("least.drain-alone", "bullmq.drain"))
	atLeast("relay against JetStream's own asynchronous publish", 0.6, "×", rates("obs.relay", "js.publish"))
	atLeast("relay against Watermill", 10, "×", rates("obs.relay", "watermill.relay"))
	atLeast("relay with sync_interval: always, against without", 0.8, "×", rates("obs.relay-sync", "obs.relay"))
	floor(rates("js.publish-batches", "obs.relay")) // the client alone in full batches: a faster relay lowers it
	atMost("a transaction that asks for a job, against one plain row", 1.3, "×", rates("obs.plain", "obs.enqueue"))
	floor(rates("obs.plain", "least.enqueue"))
	atMost("… beside the caller's own row", 1.3, "×", rates("obs.plain-beside", "obs.enqueue-beside"))
	atMost("latency at 100 jobs/s, p50", 2, "ms", quantile("obs.latency", p50))
	floor(quantile("least.latency", p50))
	atMost("latency at 100 jobs/s, p99", 6, "ms", quantile("obs.latency", p99))
	floor(quantile("least.latency", p99))
	atMost("latency at 100 jobs/s, p50 against River's", 1, "×", quantiles("obs.latency", p50))
	floor(quantiles("least.latency", p50))
	atMost("latency at 100 jobs/s, p99 against River's", 1, "×", quantiles("obs.latency", p99))
	floor(quantiles("least.latency", p99))
	atMost("latency at 1,000 jobs/s, p99", 15, "ms", quantile("obs.latency-1000", p99))
	floor(quantile("least.latency-1000", p99))
	atMost("idle, all processes, of one processor", 1, "%", func(r *report) (float64, bool) {
		v, ok := cpu("obs.idle")(r)
		return v / 1e4, ok // µs a second
	})
	atMost("idle, statements a second", 10, "/s", also("obs.idle", "statements_per_s"))
	atLeast("POST /v1/events, 64 connections", 10_000, "/s", rate("obs.event"))
	floor(rate("least.event"))
	atLeast("POST /v1/events/batch of 100", 25_000, "/s", rate("obs.batch"))
	floor(rate("least.batch"))
	atMost("POST /v1/events at half that rate, p99", 25, "ms", quantile("obs.event", p99))
	floor(quantile("least.event", p99))
	atMost("POST /v1/events/batch at half that rate, p99", 25, "ms", quantile("obs.batch", p99))
	floor(quantile("pg.batch", p99))
	atLeast("event accepted to observation stored, sustained", 5_000, "/s", rate("obs.stored"))
	atMost("POST sent to observation stored at 10/s, p50", 6, "ms", quantile("obs.stored-paced", p50))
	floor(quantile("least.stored-paced", p50))
	atMost("memory of the relay at full speed", 64, "MiB", also("obs.stored", relayName+" MiB"))
	atMost("memory of the worker at full speed", 64, "MiB", also("obs.stored", workerName+" MiB"))
	atMost("memory of obs idle", 40, "MiB", also("obs.idle", serverName+" MiB"))
	return all
}

func rate(id string) reading {
	return func(r *report) (float64, bool) {
		f, ok := r.find(id)
		return f.Rate.Median, ok
	}
}

func rates(a, b string) reading {
	return func(r *report) (float64, bool) {
		x, known := rate(a)(r)
		y, also := rate(b)(r)
		if !known || !also || y == 0 {
			return 0, false
		}
		return x / y, true
	}
}

func cpu(id string) reading {
	return func(r *report) (float64, bool) {
		f, ok := r.find(id)
		return f.CPU.Median, ok && f.CPU.Runs > 0
	}
}

func also(id, name string) reading {
	return func(r *report) (float64, bool) {
		f, _ := r.find(id)
		return f.also(name)
	}
}

func p50(l *load.Latency) float64 { return l.P50 }
func p99(l *load.Latency) float64 { return l.P99 }

func quantile(id string, q func(*load.Latency) float64) reading {
	return func(r *report) (float64, bool) {
		f, _ := r.find(id)
		l := f.latency()
		if l == nil {
			return 0, false
		}
		return q(l), true
	}
}

// quantiles is how many times River's latency that of another is.
func quantiles(id string, q func(*load.Latency) float64) reading {
	return func(r *report) (float64, bool) {
		x, known := quantile(id, q)(r)
		y, also := quantile("river.latency", q)(r)
		return x / max(y, 0.001), known && also
	}
}
