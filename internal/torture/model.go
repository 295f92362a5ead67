//go:build unix

package main

import (
	"fmt"
	"hash/fnv"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// phase is what clients can know of where a job stands. Between two of their
// calls a live job moves by itself; all other phases stay until a client
// changes them.
type phase int

const (
	absent phase = iota
	live         // queued or processing, or it has ended and nobody has seen it yet
	completed
	failed
	cancelled
)

var phaseNames = [...]string{"absent", "live", "completed", "failed", "cancelled"}

func (p phase) String() string { return phaseNames[p] }

// jobState is a job as its clients can know it.
type jobState struct {
	phase phase
	least int    // its version is at least this
	exact bool   // its version is this
	seen  int    // the version up to which somebody read its history
	sum   uint64 // of the history up to seen
}

func (s jobState) String() string {
	return fmt.Sprintf("%s, version %d or more, history known to %d", s.phase, s.least, s.seen)
}

// model is the job as its clients may see it: every answer has to fit one
// order of all calls, in which each takes effect between its beginning and
// its end. A call without an answer may take effect whenever it likes after
// it began, or never.
var model = func() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{jobState{}} },
		Step: func(state, input, _ any) []any {
			var out []any
			for _, next := range step(state.(jobState), input.(call)) {
				out = append(out, next)
			}
			return out
		},
		DescribeOperation: func(input, _ any) string { return input.(call).describe() },
		DescribeState:     func(state any) string { return fmt.Sprint(state) },
	}
	return m.ToModel()
}()

// step gives the states in which the job may be after the call, none when the
// call's answer does not fit.
func step(s jobState, c call) []jobState {
	if c.unknown() {
		return unanswered(s, c.Op)
	}
	refused := ""
	if m := refusal.FindStringSubmatch(c.Error); m != nil {
		refused = m[1]
	}
	switch {
	case c.Code == 404:
		if s.phase == absent && c.Op != opSubmit {
			return []jobState{s}
		}
		return nil
	case c.Op == opSubmit && c.Code >= 300:
		return nil // whatever our clients submit is right
	case c.Op == opSubmit:
		if s.phase == absent {
			s.phase, s.least = live, 1
			if c.Status != "" && c.Status != "queued" {
				return nil
			}
			return []jobState{s}
		}
		return stands(s, c.Status)
	case s.phase == absent:
		return nil
	case c.Op == opStatus:
		return stands(s, c.Status)
	case c.Op == opRead:
		return read(s, c)
	case c.Code == 409 && refused != "": // it says why
		if c.Op == opCancel && refused == "cancelled" || c.Op == opRetry && (refused == "failed" || refused == "cancelled") {
			return nil
		}
		return stands(s, refused)
	case c.Code == 409: // the job was moving
		return []jobState{s}
	case c.Op == opCancel && c.Already:
		return when(s, s.phase == cancelled)
	case c.Op == opCancel:
		return when(moved(s, cancelled), s.phase == live)
	case c.Op == opRetry && c.Already:
		return when(s, s.phase == live)
	case c.Op == opRetry:
		return when(moved(s, live), s.phase != completed)
	}
	return nil
}

// refusal is how the API says which status was in the way.
var refusal = regexp.MustCompile(`a (\w+) job cannot be`)

func when(s jobState, fits bool) []jobState {
	if fits {
		return []jobState{s}
	}
	return nil
}

// moved is the job after a client moved it.
func moved(s jobState, to phase) jobState {
	s.phase, s.least, s.exact = to, s.least+1, false
	return s
}

// unanswered gives what may have come of a call that was not answered.
func unanswered(s jobState, op string) []jobState {
	next := []jobState{s}
	switch {
	case op == opSubmit && s.phase == absent:
		s.phase, s.least = live, 1
		next = append(next, s)
	case op == opCancel && s.phase == live:
		next = append(next, moved(s, cancelled))
	case op == opRetry && s.phase != absent && s.phase != completed:
		next = append(next, moved(s, live))
	}
	return next
}

// stands gives what is known once a client was told the status.
func stands(s jobState, status string) []jobState {
	var now phase
	switch status {
	case "":
		return []jobState{s}
	case "queued", "processing":
		return when(s, s.phase == live)
	case "completed":
		now = completed
	case "failed":
		now = failed
	case "cancelled":
		return when(s, s.phase == cancelled)
	default:
		return nil
	}
	if s.phase != live && s.phase != now {
		return nil
	}
	if s.phase != now {
		s.exact = false
	}
	s.phase = now
	return []jobState{s}
}

// read gives what is known once a client has read the history.
func read(s jobState, c call) []jobState {
	n := len(c.Versions)
	if n < s.least || s.exact && n != s.least || n == 0 { // it went back, or what is final went on
		return nil
	}
	if s.seen > 0 && c.Versions[s.seen-1] != s.sum { // the past is another one
		return nil
	}
	next := stands(s, c.Status)
	for i := range next {
		next[i].seen, next[i].sum, next[i].least = n, c.Versions[n-1], n
		next[i].exact = next[i].phase > live
	}
	return next
}

// sums is a hash of each beginning of a history, so that two reads can be
// compared without keeping them.
func sums(events []string) []uint64 {
	h := fnv.New64a()
	out := make([]uint64, len(events))
	for i, e := range events {
		_, _ = h.Write([]byte(e + "\n")) // a hash takes everything
		out[i] = h.Sum64()
	}
	return out
}

func (c call) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s → ", c.Op)
	switch {
	case c.unknown():
		fmt.Fprintf(&b, "? (%d %s)", c.Code, c.Error)
		return b.String()
	case c.Code >= 400:
		fmt.Fprintf(&b, "%d %s", c.Code, c.Error)
		return b.String()
	}
	fmt.Fprintf(&b, "%d %s", c.Code, c.Status)
	if c.Already {
		b.WriteString(" already")
	}
	if n := len(c.Versions); n > 0 {
		fmt.Fprintf(&b, " at version %d", n)
	}
	return b.String()
}

// byJob deals the calls out to the jobs that they are about. A submit that
// was not answered may be about each job that those with the same key were told
// of: a session has as many summaries as it was ended anew.
func byJob(calls []call) map[string][]call {
	type name struct {
		tenant int
		key    string
	}
	known := map[name][]string{}
	for _, c := range calls {
		if at := (name{c.Tenant, c.Key}); c.Op == opSubmit && c.Job != "" && !slices.Contains(known[at], c.Job) {
			known[at] = append(known[at], c.Job)
		}
	}
	jobs := map[string][]call{}
	for _, c := range calls {
		var about []string
		switch {
		case c.Job != "":
			about = []string{c.Job}
		case c.Op == opSubmit:
			about = known[name{c.Tenant, c.Key}]
		}
		for _, job := range about {
			c.Job = job
			jobs[job] = append(jobs[job], c)
		}
	}
	return jobs
}

// operations are one job's calls for porcupine.
func operations(calls []call) []porcupine.Operation {
	ops := make([]porcupine.Operation, len(calls))
	for i, c := range calls {
		ops[i] = porcupine.Operation{ClientId: c.Client, Input: c, Call: int64(c.Start), Return: int64(c.End)}
		if c.unknown() {
			ops[i].Return = math.MaxInt64
		}
	}
	return ops
}

// searchFor is how long porcupine may look at one job.
const searchFor = 20 * time.Second

// linear reports whether the calls of one job fit one order. Of those that do
// not, and those that took too long to tell, a drawing is left in the file
// that draw names; none where it is empty.
func linear(calls []call, draw string) (porcupine.CheckResult, error) {
	ops := operations(calls)
	if res := porcupine.CheckOperationsTimeout(model, ops, searchFor); res == porcupine.Ok || draw == "" {
		return res, nil
	}
	// A client of the drawing has one call at a time.
	for i := range ops {
		ops[i].ClientId = i
	}
	end := int64(0)
	for _, c := range calls {
		end = max(end, int64(c.End))
	}
	for i := range ops {
		ops[i].Return = min(ops[i].Return, end+1)
	}
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	res, info := porcupine.CheckOperationsVerbose(model, ops, searchFor)
	return res, porcupine.VisualizePath(model, info, draw)
}
