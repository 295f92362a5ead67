// Package load puts load on a Postgres and a NATS and measures what they, and obs on them, can take. It is behind
// `obs bench`, which measures one installation, and behind the module bench/, which measures others' queues beside it
// in the same way.
//
// A [Bed] is a database and a broker with a tenant, on which jobs that do nothing are made, relayed and done by the
// real relay and worker: [Bed.Drain], [Bed.Steady], [Bed.Relay], [Bed.Enqueue] and [Bed.Latency]. [Limits] are what
// the machine can do without us. [HTTP] asks a server. Each gives a [Sample], which a [Meter] completes with the CPU
// time that each process took meanwhile.
package load

import (
	"math"
	"slices"
	"time"
)

// Sample is what one measurement came to.
type Sample struct {
	N       int                `json:"n"`                 // units of work done
	Seconds float64            `json:"seconds"`           // in which they were done
	CPU     map[string]float64 `json:"cpu,omitempty"`     // seconds of processor time, by process; nil where /proc is not
	Latency *Latency           `json:"latency,omitempty"` // where it was asked for
	Load    float64            `json:"load,omitempty"`    // the machine's load average over a minute, afterwards
	Also    map[string]float64 `json:"also,omitempty"`    // other figures, by name
	Err     string             `json:"error,omitempty"`   // what went wrong; then nothing else counts
}

// Latency is how long single ones took, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
	N   int     `json:"n"`
}

// Rate is units a second.
func (s Sample) Rate() float64 {
	if s.Seconds <= 0 {
		return 0
	}
	return float64(s.N) / s.Seconds
}

// PerUnit is microseconds of processor time for each unit, of one process or, with an empty name, of all.
func (s Sample) PerUnit(process string) float64 {
	if s.N == 0 {
		return 0
	}
	total := 0.0
	for name, seconds := range s.CPU {
		if process == "" || process == name {
			total += seconds
		}
	}
	return total * 1e6 / float64(s.N)
}

// LatencyOf puts durations in order and reads off the percentiles.
func LatencyOf(all []time.Duration) *Latency {
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	at := func(q float64) float64 {
		return math.Round(all[int(math.Ceil(q*float64(len(all))))-1].Seconds()*1e6) / 1e3
	}
	return &Latency{P50: at(0.50), P95: at(0.95), P99: at(0.99), N: len(all)}
}

// Spread is the middle of several runs, and their ends.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Runs   int     `json:"runs"`
}

// SpreadOf reads it from values in any order.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	s := slices.Sorted(slices.Values(values))
	middle := s[len(s)/2]
	if len(s)%2 == 0 {
		middle = (middle + s[len(s)/2-1]) / 2
	}
	return Spread{Median: middle, Min: s[0], Max: s[len(s)-1], Runs: len(s)}
}
