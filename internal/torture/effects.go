//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// effect is what one attempt was about to store, as its worker noted it
// outside the database.
type effect struct {
	Job     string   `json:"job"`
	Version int      `json:"version"` // of the claim
	Process string   `json:"process"`
	Keys    []string `json:"keys"`
}

// readEffects reads the workers' notes. A worker that was killed may leave the
// beginning of a line at the end of the file, or before the next line.
func readEffects(from io.Reader) ([]effect, error) {
	var effects []effect
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var e effect
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("line %d of the workers' notes: %w", n, err)
		}
		effects = append(effects, e)
	}
	return effects, lines.Err()
}

// ledger is the jobs as they are in the end, with their histories.
type ledger map[string]history

type history struct {
	job    events.Job
	events []events.Event
}

// checkEffects compares what is stored, the generation keys of each job, with
// what its attempts noted: all that is stored was noted by the attempt that
// completed the job, and nothing of that is missing, but for a summary in the
// place of which a later one of the same session is. A brief attempt is of a
// worker and a version: several may have been about to do the same one, of
// which the ledger knows of none before one is stored.
func checkEffects(jobs ledger, stored map[string][]string, effects []effect) []finding {
	type claim struct {
		job     string
		version int
	}
	noted := map[claim]effect{}
	var found []finding
	add := func(job, format string, args ...any) {
		found = append(found, finding{check: checkedEffects, job: job, text: fmt.Sprintf(format, args...)})
	}
	mine := map[string][]effect{} // of brief attempts, by job
	for _, e := range effects {
		if jobs[e.Job].first(e.Version) {
			mine[e.Job] = append(mine[e.Job], e)
			continue
		}
		at := claim{e.Job, e.Version}
		if before, twice := noted[at]; twice {
			add(e.Job, "two handlers did the attempt that version %d began: of %s and of %s", e.Version, before.Process, e.Process)
		}
		noted[at] = e
	}
	for id, h := range jobs {
		have := slices.Sorted(slices.Values(stored[id]))
		at := slices.IndexFunc(h.events, func(e events.Event) bool { return e.Type == events.Completed })
		if at < 0 {
			if len(have) > 0 {
				add(id, "it is %s, and has %d observations", h.job.Status, len(have))
			}
			continue
		}
		version := h.events[at].Version - 1
		e, ok := noted[claim{id, version}]
		if h.first(version) {
			e, ok = effect{}, false
			for _, one := range mine[id] { // the last one: an earlier one of this worker was lost
				if one.Process == h.events[at].Process {
					e, ok = one, true
				}
			}
		}
		if !ok {
			add(id, "the attempt that version %d began completed it, and its handler never ended", version)
			continue
		}
		if e.Process != h.events[at].Process {
			add(id, "%s did the attempt that %s completed", e.Process, h.events[at].Process)
		}
		if want := slices.Sorted(slices.Values(e.Keys)); !slices.Equal(have, want) && (len(have) > 0 || !replaced(h, jobs, stored)) {
			add(id, "stored are %q, and the attempt that completed it wrote %q", have, want)
		}
	}
	for id := range stored {
		if _, ok := jobs[id]; !ok {
			add(id, "it has observations, and is not there")
		}
	}
	return found
}

// first says whether the attempt that a version began is of the job's first
// ask: brief jobs are not claimed for that, and a note that the job waits may
// have come between.
func (h history) first(version int) bool {
	for _, e := range h.events {
		if e.Version > 1 && e.Version < version && e.Type != events.Enqueued {
			return false
		}
	}
	return true
}

// replaced says whether a session whose summary the job wrote has a later one.
func replaced(h history, jobs ledger, stored map[string][]string) bool {
	if h.job.Kind != observe.KindSummary {
		return false
	}
	for id, other := range jobs {
		if other.job.Kind == h.job.Kind && other.job.Scope == h.job.Scope && other.job.SourceID == h.job.SourceID &&
			len(stored[id]) > 0 && other.events[0].At.After(h.events[0].At) {
			return true
		}
	}
	return false
}
