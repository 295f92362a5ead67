package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/demo"
)

// story sends a session and tells what comes of it. All that it knows it
// knows from the API, over HTTP.
type story struct {
	l         *local
	s         *screen
	api       client
	pace      time.Duration
	recording demo.Recording

	mu    sync.Mutex
	sent  int
	byJob map[string][]string // job → the events that it is about

	// of the watcher
	jobs    []seenJob
	settled map[string]bool
	notes   []seenObservation
	known   map[string]bool // observations
}

// patience is how long jobs may take to settle after the last event.
const patience = 45 * time.Second

// watchEvery is how often the jobs are looked at.
const watchEvery = 100 * time.Millisecond

func (t *story) tell(ctx context.Context) error {
	t.byJob, t.settled, t.known = map[string][]string{}, map[string]bool{}, map[string]bool{}
	session, err := t.api.startSession(ctx, t.l.project, t.recording.ID, t.recording.Prompt)
	if err != nil {
		return err
	}
	t.s.blank()
	t.s.title("The session goes in, turn by turn; what is noted about it comes out")
	sending, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watched := make(chan error, 1)
	done := make(chan struct{}) // all is sent
	go func() { watched <- t.watch(ctx, done, stop) }()

	summary, err := t.send(sending, session)
	close(done)
	if err := errors.Join(err, <-watched); err != nil {
		return err
	}
	t.s.still()
	if err := t.outcome(); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		t.someNotes, t.summary, func(ctx context.Context) error { return t.history(ctx, summary) }, t.searches, t.check,
	} {
		t.s.blank()
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// send sends all events, some by themselves and some together, and ends the
// session. It gives the job of the summary.
func (t *story) send(ctx context.Context, session string) (string, error) {
	turn := 0
	for i := 0; i < len(t.recording.Events); {
		e := t.recording.Events[i]
		if e.EventType == "user_prompt" {
			if err := t.wait(ctx, 10*t.pace); err != nil {
				return "", err
			}
			turn++
			t.s.line("  %s", t.s.bold(cut(fmt.Sprintf("turn %d: %s", turn, prompt(e)), wide-2)))
		}
		// One, then a handful, and so on; never beyond the turn.
		n := 1
		for i%2 == 0 && n < 6 && i+n < len(t.recording.Events) && t.recording.Events[i+n].EventType != "user_prompt" {
			n++
		}
		batch := make([]map[string]any, n)
		for k := range batch {
			e := t.recording.Events[i+k]
			batch[k] = map[string]any{
				"projectId": t.l.project, "sourceType": "hook", "eventType": e.EventType, "occurredAtEpoch": e.OccurredAtEpoch,
				"contentSessionId": t.recording.ID, "platformSource": "claude", "payload": e.Payload,
			}
		}
		answers, err := t.api.send(ctx, batch)
		if err != nil {
			return "", err
		}
		t.mu.Lock()
		t.sent += len(answers)
		for _, a := range answers {
			if a.Job != nil {
				t.byJob[a.Job.ID] = append(t.byJob[a.Job.ID], a.Event.ID)
			}
		}
		t.mu.Unlock()
		i += n
		if err := t.wait(ctx, t.pace); err != nil {
			return "", err
		}
	}
	if err := t.caughtUp(ctx); err != nil {
		return "", err
	}
	job, err := t.api.endSession(ctx, session)
	if err != nil {
		return "", err
	}
	if job == nil {
		return "", errors.New("the end of the session asked for no summary")
	}
	t.s.line("  %s", t.s.bold("the session ends, its summary is asked for"))
	return job.ID, nil
}

// caughtUp waits until no job is open: the session's summary is made of its
// notes, so they are to be there first.
func (t *story) caughtUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the jobs are not settled in time"))
	defer cancel()
	for {
		jobs, err := t.api.jobs(ctx)
		if err != nil {
			return err
		}
		open := func(j seenJob) bool { return !events.Status(j.Status).Settled() }
		if !slices.ContainsFunc(jobs, open) {
			return nil
		}
		if err := t.wait(ctx, watchEvery); err != nil {
			return err
		}
	}
}

func prompt(e demo.Event) string {
	text := string(e.Payload)
	if _, after, ok := strings.Cut(text, `"prompt":"`); ok {
		text = after
	}
	text, _, _ = strings.Cut(text, `\n`) // below may be what is private
	return strings.TrimSuffix(text, `"}`)
}

func (t *story) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// watch tells of jobs and notes until all is sent and every job is settled.
func (t *story) watch(ctx context.Context, done <-chan struct{}, stop context.CancelCauseFunc) error {
	var deadline <-chan time.Time
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := false
	for {
		open, err := t.look(ctx)
		if err != nil {
			stop(err)
			return err
		}
		if last && open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline:
			return fmt.Errorf("%d jobs are not settled after %v", open, patience)
		case <-done:
			done, last, deadline = nil, true, time.After(patience)
		case <-tick.C:
		}
	}
}

// look asks how the jobs are and tells what is new. It gives the number of
// those that are not settled.
func (t *story) look(ctx context.Context) (open int, err error) {
	t.mu.Lock()
	sent := t.sent
	t.mu.Unlock()
	if t.jobs, err = t.api.jobs(ctx); err != nil {
		return 0, err
	}
	slices.Reverse(t.jobs) // the list has the newest first
	count := map[events.Status]int{}
	for _, j := range t.jobs {
		count[events.Status(j.Status)]++
		if !events.Status(j.Status).Settled() {
			open++
			continue
		}
		if t.settled[j.ID] {
			continue
		}
		t.settled[j.ID] = true
		if err := t.tellJob(ctx, j); err != nil {
			return 0, err
		}
	}
	t.s.now("%d/%d events | jobs %d queued, %d processing, %d completed, %d failed | %d notes",
		sent, len(t.recording.Events), count[events.StatusQueued], count[events.StatusProcessing],
		count[events.StatusCompleted], count[events.StatusFailed]+count[events.StatusCancelled], len(t.notes))
	return open, nil
}

// tellJob tells of a job that has just been settled, and its notes.
func (t *story) tellJob(ctx context.Context, j seenJob) error {
	history, err := t.api.history(ctx, j.ID)
	if err != nil {
		return err
	}
	var path []string
	for i, e := range history {
		step := e.Type
		if i > 0 {
			step += " +" + short(e.At.Sub(history[i-1].At))
		}
		path = append(path, step)
	}
	t.mu.Lock()
	about := slices.Clone(t.byJob[j.ID])
	t.mu.Unlock()
	var fresh []seenObservation
	for _, event := range about {
		found, err := t.api.observationsOf(ctx, event)
		if err != nil {
			return err
		}
		for _, o := range found {
			if !t.known[o.ID] {
				t.known[o.ID] = true
				fresh = append(fresh, o)
			}
		}
	}
	t.notes = append(t.notes, fresh...)
	if len(about) == 1 && len(fresh) == 0 && j.Status == string(events.StatusCompleted) {
		return nil // most events are worth no note
	}
	t.s.line("    %s", t.s.dim(cut("job "+cut(j.ID, 14)+" "+strings.Join(path, " > "), wide-4)))
	for _, o := range fresh {
		t.s.line("      %-10s %s", o.Kind, cut(cmp.Or(o.Metadata.Title, o.Content), wide-17))
	}
	return nil
}

// reasonsMost is how many jobs are told with their reasons when the demo fails.
const reasonsMost = 3

// outcome says whether everything went well.
func (t *story) outcome() error {
	var bad []string
	for _, j := range t.jobs {
		if events.Status(j.Status) != events.StatusCompleted {
			why := ""
			if j.LastError != nil {
				why = ": " + *j.LastError
			}
			bad = append(bad, fmt.Sprintf("job %s is %s%s", j.ID, j.Status, why))
		}
	}
	if n := len(bad); n > 0 {
		if n > reasonsMost {
			bad = append(bad[:reasonsMost], fmt.Sprintf("and %d more", n-reasonsMost))
		}
		return fmt.Errorf("%d of %d jobs are not completed: %s", n, len(t.jobs), strings.Join(bad, "; "))
	}
	if t.sent != len(t.recording.Events) || len(t.jobs) == 0 || len(t.notes) == 0 {
		return fmt.Errorf("%d of %d events gave %d jobs and %d notes", t.sent, len(t.recording.Events), len(t.jobs), len(t.notes))
	}
	return nil
}
