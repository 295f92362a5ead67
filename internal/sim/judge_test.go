package sim_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

// judge ends the world and says what does not hold: the invariants that obs
// check verifies on Postgres and on the streams, and those that only somebody
// knows who saw every run of every handler.
func (w *world) judge(ctx context.Context, took time.Duration) verdict {
	v := verdict{hits: w.hits, took: took, stories: map[string]string{}}
	w.mu.Lock()
	quiet := len(w.faults) == 0
	w.mu.Unlock()
	var streams *outbox.Check
	if quiet {
		streams = w.readStreams(ctx)
	}
	w.stop()
	for i, id := range w.ids {
		j, history, err := w.mem.Get(ctx, w.scopes[i], id)
		if err != nil {
			v.find("I15", id, "a client was told that it is there: %v", err)
			continue
		}
		found := events.Check(j, history, w.asksOf(ctx, id), func(string) bool { return true })
		if streams != nil {
			streams.Job(j, history, true)
		}
		found = append(found, w.judgeJob(j, history)...)
		if !j.Status.Settled() {
			found = append(found, events.Finding{Invariant: "I6", Subject: "job " + string(id), Text: "it is " + string(j.Status) + " though all should be done"})
		}
		v.findings = append(v.findings, found...)
		v.stories["job "+string(id)] = w.story(j, history)
	}
	if streams != nil {
		for _, f := range streams.Findings(true) {
			if f.Invariant != "I10" || !w.lostEvents { // what EVENTS has lost, it cannot tell
				v.findings = append(v.findings, f)
			}
		}
	}
	for _, f := range w.faults {
		v.findings = append(v.findings, events.Finding{Invariant: "run", Subject: "world " + w.prefix, Text: f})
	}
	w.clear(ctx)
	return v
}

// readStreams reads what the streams say once they are quiet, or at the end of
// the bound. A relay that was told of a job late, or was not told that its
// message had come, publishes one more of a job that is done; what is wrong is
// that it stays.
func (w *world) readStreams(ctx context.Context) *outbox.Check {
	for start := time.Now(); ; {
		streams, err := outbox.ReadStreams(ctx, w.broker.js, w.streams)
		switch {
		case err != nil:
			w.fault("read the streams: %v", err)
			return nil
		case streams.Quiet() || time.Since(start) > w.plan.bound():
			return streams
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func (v *verdict) find(invariant string, id events.ID, format string, args ...any) {
	v.findings = append(v.findings, events.Finding{Invariant: invariant, Subject: "job " + string(id), Text: fmt.Sprintf(format, args...)})
}

// judgeJob compares a job's history with what its handlers did and stored.
func (w *world) judgeJob(j events.Job, history []events.Event) []events.Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &verdict{}
	id := j.ID
	if w.added[id] != 1 {
		v.find("I14", id, "it was new to the store %d times", w.added[id])
	}
	effects, runs := w.effects[id], w.runs[id]
	switch done := j.Status == events.StatusCompleted; {
	case done && len(effects) != 1:
		v.find("I8", id, "it is completed and has %d effects", len(effects))
	case !done && len(effects) > 0:
		v.find("I8", id, "it is %s and has %d effects", j.Status, len(effects))
	case done:
		began := history[len(history)-2]
		e := effects[0]
		if w.plan.brief && e.version < began.Version { // what the relay noted meanwhile made it a later one
			if between := history[e.version-1 : began.Version-1]; !slices.ContainsFunc(between, func(n events.Event) bool { return n.Type != events.Enqueued }) {
				e.version = began.Version
			}
		}
		if began.Type != events.Processing || e.version != began.Version || e.worker != began.Process {
			v.find("I8", id, "its effect is of attempt %d by %s, it was completed by %d by %s", e.version, e.worker, began.Version, began.Process)
		}
	}
	type attempt struct {
		version int
		worker  string
	}
	seen := map[attempt]bool{}
	for _, r := range runs {
		if w.plan.brief && r.job.Asked == 1 {
			continue // it may be one that nobody was told of
		}
		a := attempt{r.job.Version, r.worker}
		began := history[r.job.Version-1]
		if began.Type != events.Processing || began.Process != r.worker {
			v.find("run", id, "%s ran attempt %d, which is %s by %s", r.worker, r.job.Version, began.Type, began.Process)
		}
		if seen[a] {
			v.find("run", id, "%s ran attempt %d twice", r.worker, r.job.Version)
		}
		seen[a] = true
		if len(history) > r.job.Version { // what came after it
			next := history[r.job.Version]
			ours := next.Actor == "worker" && next.Process == r.worker
			// A handler that was stopped and says for good all the same is believed.
			if ours && r.stopped && next.Type != events.Released && r.end != endPermanent {
				v.find("I5", id, "attempt %d was stopped by its worker, and is %s", r.job.Version, next.Type)
			}
			if ours && next.Type == events.Failed && r.end != endPermanent && next.Attempt < j.MaxAttempts {
				v.find("I5", id, "it failed after %d of %d attempts, by %s", next.Attempt, j.MaxAttempts, r.end)
			}
		}
	}
	var due time.Time
	for _, e := range history {
		if e.Type == events.Processing && e.At.Before(due) {
			v.find("due", id, "attempt %d began %v before it was due", e.Version, due.Sub(e.At))
		}
		if e.Type.Asks() {
			due = e.NextAt
		}
	}
	return v.findings
}

// asksOf lists the asks for a job, also those that are not due.
func (w *world) asksOf(ctx context.Context, id events.ID) (mine []events.Ask) {
	now, _ := w.mem.Asks(ctx, events.AskQuery{Limit: 1000})
	late, _ := w.mem.Asks(ctx, events.AskQuery{Delayed: true, Limit: 1000})
	for _, a := range w.shown(append(now, late...)) {
		if a.Envelope.Job == id {
			mine = append(mine, a)
		}
	}
	return mine
}

// story is a job's history for people.
func (w *world) story(j events.Job, history []events.Event) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "  job %d %s: %s, version %d, asked %d, attempts %d of %d, locked by %q\n",
		slices.Index(w.ids, j.ID), j.ID, j.Status, j.Version, j.Asked, j.Attempts, j.MaxAttempts, j.LockedBy)
	for _, e := range history {
		fmt.Fprintf(&b, "    %7.3fs %2d %-15s attempt %d by %s %s", e.At.Sub(w.started).Seconds(), e.Version, e.Type, e.Attempt, e.Actor, e.Process)
		if !e.NextAt.IsZero() {
			fmt.Fprintf(&b, ", due %.3fs", e.NextAt.Sub(w.started).Seconds())
		}
		if e.Reason != "" {
			fmt.Fprintf(&b, ", %q", e.Reason)
		}
		b.WriteByte('\n')
	}
	for _, r := range w.runs[j.ID] {
		fmt.Fprintf(&b, "    run of attempt %d by %s: %s, stopped %v\n", r.job.Version, r.worker, r.end, r.stopped)
	}
	for _, e := range w.effects[j.ID] {
		fmt.Fprintf(&b, "    effect of attempt %d by %s\n", e.version, e.worker)
	}
	return b.String()
}

// stop ends all processes as SIGTERM does, and those that do not end, as a
// finding, like SIGKILL.
func (w *world) stop() {
	w.end()
	ended := make(chan struct{})
	go func() {
		w.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-time.After(2 * time.Minute):
	}
	for _, s := range w.slots {
		s.mu.Lock()
		if s.life != nil {
			w.fault("%s does not end", s.life.name)
			s.life.kill(0)
		}
		s.mu.Unlock()
	}
	<-ended
}

// clear takes the world's streams away.
func (w *world) clear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, name := range []string{w.streams.JobsStream(), w.streams.EventsStream()} {
		_ = w.broker.js.DeleteStream(ctx, name) // it may be gone
	}
}
