package boot

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves the process's figures in Prometheus' form. No label names a
// tenant.
func (p *Process) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{p},
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// collector reads what the parts know of themselves when it is asked.
type collector struct{ p *Process }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("obs_"+name, help, labels, nil)
}

var (
	descBuild = describe("build_info", "1; the label is the program's version.", "version")
	descUp    = describe("dependency_up", "1 when what the process depends on answered lately.", "name")
	descPool  = describe("postgres_connections", "Connections to Postgres.", "state")

	descRequests = describe("http_requests", "Requests of the API: running, queued for their turn, or waiting for a job or for a project that somebody holds.", "state")
	descBodies   = describe("http_body_bytes", "What the bodies of the requests in work may come to.")
	descFull     = describe("http_refused_total", "Requests that were told to come back because there was no room.")

	descLeader     = describe("relay_leader", "1 when this relay leads.")
	descPublished  = describe("relay_published_total", "Messages that were new to the broker.")
	descDuplicates = describe("relay_duplicates_total", "Messages that the broker knew already.")
	descRejected   = describe("relay_refused_total", "Messages that the broker will never take.")
	descReclaimed  = describe("relay_reclaimed_total", "Jobs asked for again: their message or their worker was lost.")
	descSpent      = describe("relay_failed_total", "Lost jobs whose attempts were spent.")
	descTold       = describe("relay_events_total", "Events that followers were told.")
	descWaiting    = describe("relay_waiting", "Asks that the leading relay knows and has not published.")
	descOldest     = describe("relay_oldest_waiting_seconds", "How long the relay has known the oldest of them.")
	descOnStream   = describe("relay_on_stream", "Messages of a kind on the stream of jobs.", "kind")

	descSettled = describe("worker_attempts_total", "Attempts that this worker has done, by what came of them.", "kind", "outcome")
	descActive  = describe("worker_active", "Attempts that run.", "kind")
	descSlots   = describe("worker_slots", "Attempts that may run at once.", "kind")
	descRests   = describe("worker_lane_rests_total", "Times that a lane came to rest because its provider refused or was away.", "kind")
	descRest    = describe("worker_lane_rest_until_seconds", "Until when the lane rests, as Unix time; 0 when it works.", "kind")
	descAway    = describe("provider_rest_until_seconds", "Until when a provider is not asked, as Unix time, where there are several; 0 when it is.", "provider")
	descCapped  = describe("teams_held", "Teams that have used up their month and have jobs that wait for the next.")
	descHeld    = describe("worker_lease_held", "1 while Postgres knows that this worker lives.")
)

// Describe implements prometheus.Collector. It names nothing, because what
// there is depends on the process's parts.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { send(d, prometheus.GaugeValue, v, labels...) }
	counter := func(d *prometheus.Desc, v float64, labels ...string) { send(d, prometheus.CounterValue, v, labels...) }

	gauge(descBuild, 1, Version())
	for _, check := range c.p.Health.known().Checks {
		gauge(descUp, yes(check.OK), check.Name)
	}
	stat := c.p.Links.Pool.Stat()
	gauge(descPool, float64(stat.AcquiredConns()), "in_use")
	gauge(descPool, float64(stat.IdleConns()), "idle")
	gauge(descPool, float64(stat.MaxConns()), "max")

	if c.p.serves {
		l := &c.p.load
		gauge(descRequests, float64(l.Running()), "running")
		gauge(descRequests, float64(l.Queued()), "queued")
		gauge(descRequests, float64(l.Waiting()), "waiting")
		gauge(descBodies, float64(l.Bytes()))
		counter(descFull, float64(l.Refused()))
	}
	if c.p.relay != nil {
		s := c.p.relay.State()
		gauge(descLeader, yes(s.Leader))
		counter(descPublished, float64(s.Published))
		counter(descDuplicates, float64(s.Duplicates))
		counter(descRejected, float64(s.Refused))
		counter(descReclaimed, float64(s.Reclaimed))
		counter(descSpent, float64(s.Failed))
		counter(descTold, float64(s.Told))
		gauge(descWaiting, float64(s.Waiting))
		oldest := 0.0
		if !s.Oldest.IsZero() {
			oldest = max(time.Since(s.Oldest).Seconds(), 0)
		}
		gauge(descOldest, oldest)
		for _, l := range s.Lanes {
			gauge(descOnStream, float64(l.OnStream), string(l.Kind))
		}
	}
	if c.p.worker != nil {
		s := c.p.worker.State()
		gauge(descHeld, yes(s.Held))
		gauge(descCapped, float64(c.p.held()))
		for name, until := range restUntil(c.p.provider) {
			gauge(descAway, until, name)
		}
		for _, l := range s.Lanes {
			kind := string(l.Kind)
			gauge(descActive, float64(l.Active), kind)
			gauge(descSlots, float64(l.Slots), kind)
			counter(descRests, float64(l.Rests), kind)
			until := 0.0
			if !l.RestUntil.IsZero() {
				until = float64(l.RestUntil.UnixMilli()) / 1000
			}
			gauge(descRest, until, kind)
			for _, o := range []struct {
				name string
				n    int64
			}{
				{"completed", l.Completed},
				{"failed", l.Failed},
				{"retried", l.Retried},
				{"released", l.Released},
				{"lost", l.Lost},
				{"refused", l.Refused},
			} {
				counter(descSettled, float64(o.n), kind, o.name)
			}
		}
	}
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
