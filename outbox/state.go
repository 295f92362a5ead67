package outbox

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// State is what a relay says of itself, for health and metrics. The totals
// count since the process started.
type State struct {
	Leader     bool
	Error      string      // what goes wrong now; empty when all is well
	Lanes      []LaneState // by kind; empty for a stand-by
	Waiting    int         // asks in memory that are not published
	Oldest     time.Time   // when the relay met the oldest of them; zero: there is none
	Published  uint64      // messages that were new to the broker
	Duplicates uint64      // messages that it knew already: usual after a relay's crash, else a purge
	Refused    uint64      // messages that it will never take
	Reclaimed  uint64      // jobs asked for again: their message or their worker was lost
	Failed     uint64      // lost jobs whose attempts were spent
	Told       uint64      // events that followers were told
}

// LaneState is one kind of job.
type LaneState struct {
	Kind     events.Kind
	Window   int     // messages that may be on the stream
	OnStream int     // messages that are, when last looked, and those confirmed since
	InFlight int     // published and not confirmed
	Waiting  int     // asks in memory
	Spilled  int     // tenants that have more asks in the store than in memory
	Rate     float64 // messages that workers begin in a second
}

// State says how the relay is. It is at most a quarter of a second old.
func (r *Relay) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Lanes = slices.Clone(s.Lanes)
	var all []string
	for _, area := range slices.Sorted(maps.Keys(r.errors)) {
		all = append(all, area+": "+r.errors[area])
	}
	s.Error = strings.Join(all, "; ")
	return s
}

func (r *Relay) setLeader(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Leader = yes
	if !yes && r.once == nil { // what Once has learned is kept
		r.state.Lanes, r.state.Waiting, r.state.Oldest = nil, 0, time.Time{}
		clear(r.errors) // what went wrong then is the next leader's to meet
	}
}

func (r *Relay) count(add func(*State)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.state)
}

// trouble notes what an area's last attempt came to, and logs it when it
// begins and when it is over.
func (r *Relay) trouble(ctx context.Context, area string, err error) {
	r.mu.Lock()
	_, was := r.errors[area]
	if err != nil {
		r.errors[area] = err.Error()
	} else {
		delete(r.errors, area)
	}
	r.mu.Unlock()
	switch {
	case err != nil && !was:
		r.cfg.Log.WarnContext(ctx, "relay in trouble", "area", area, "error", err.Error())
	case err == nil && was:
		r.cfg.Log.InfoContext(ctx, "relay recovered", "area", area)
	}
}

// report publishes how the term stands.
func (t *term) report() {
	lanes := make([]LaneState, 0, len(t.lanes))
	waiting := 0
	oldest := time.Duration(-1)
	for _, l := range t.lanes {
		s := LaneState{
			Kind: l.kind, Window: l.window.size, OnStream: l.window.occupied + l.window.added,
			InFlight: l.flight, Waiting: l.rows, Rate: l.window.rate,
		}
		for _, tenant := range l.tenants {
			if tenant.from > 0 {
				s.Spilled++
			}
			for _, q := range tenant.queues {
				if q.rows.len() > 0 && (oldest < 0 || q.rows.first().since < oldest) {
					oldest = q.rows.first().since
				}
			}
		}
		waiting += l.rows
		lanes = append(lanes, s)
	}
	slices.SortFunc(lanes, func(a, b LaneState) int { return strings.Compare(string(a.Kind), string(b.Kind)) })
	t.relay.count(func(s *State) {
		s.Lanes, s.Waiting, s.Oldest = lanes, waiting, time.Time{}
		if oldest >= 0 {
			s.Oldest = t.start.Add(oldest)
		}
	})
}
