package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// noteMost is how long a note may be to be shown whole, in bytes.
const noteMost = 800

// someNotes prints a few observations whole: of each kind the fullest one
// that is not too long.
func (t *story) someNotes(context.Context) error {
	t.s.title("Three of the %d notes, whole", len(t.notes))
	for _, kind := range []string{"bugfix", "decision", "discovery"} {
		best := -1
		for i, o := range t.notes {
			plain := len(o.Content) > noteMost || strings.HasPrefix(o.Metadata.Title, "Read ")
			if o.Kind == kind && !plain && (best < 0 || len(o.Content) > len(t.notes[best].Content)) {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		m := t.notes[best].Metadata
		t.s.blank()
		t.s.wrapped("  ", "", kind+": "+m.Title)
		if m.Narrative != "" {
			t.s.wrapped("    ", "", m.Narrative)
		}
		for _, f := range m.Facts {
			t.s.wrapped("    ", "  ", "- "+f)
		}
		if len(m.FilesModified) > 0 {
			t.s.wrapped("    ", "", "files: "+strings.Join(m.FilesModified, ", "))
		}
	}
	return nil
}

// summary prints the session's.
func (t *story) summary(ctx context.Context) error {
	t.s.title("The session's summary")
	// The words that every summary has; a note may have them too.
	found, err := t.api.search(ctx, t.l.project, "request completed", 100)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(found, func(o seenObservation) bool { return o.Kind == "summary" })
	if i < 0 {
		return errors.New("the session has no summary")
	}
	for part := range strings.SplitSeq(found[i].Content, "\n\n") {
		t.s.wrapped("  ", "  ", cut(part, 300))
	}
	return nil
}

// history prints the life of one job.
func (t *story) history(ctx context.Context, job string) error {
	t.s.title("The life of the job that wrote it, %s", job)
	history, err := t.api.history(ctx, job)
	if err != nil {
		return err
	}
	if len(history) == 0 {
		return fmt.Errorf("job %s has no history", job)
	}
	for i, e := range history {
		after := ""
		if i > 0 {
			after = "+" + short(e.At.Sub(history[i-1].At))
		}
		by := ""
		if e.Process != nil {
			by = "by " + *e.Process
		}
		t.s.line("  %d  %s  %8s  %-11s %-11s %s", e.Version, e.At.UTC().Format("15:04:05.000"), after, e.Type, e.Status, by)
	}
	return nil
}

// questions are what a colleague could look for the day after.
var questions = []string{"duplicate message id", "two clocks", "stale statistics"}

func (t *story) searches(ctx context.Context) error {
	hits := 0
	for i, q := range questions {
		if i > 0 {
			t.s.blank()
		}
		n, err := t.searchFor(ctx, q)
		if err != nil {
			return err
		}
		hits += n
	}
	if hits == 0 { // a model may choose other words than these: its own are found
		t.s.blank()
		var err error
		if hits, err = t.searchFor(ctx, t.notes[0].Metadata.Title); err != nil {
			return err
		}
	}
	if hits == 0 {
		return errors.New("the searches found nothing")
	}
	return nil
}

// searchFor prints what is found, and says how much it is.
func (t *story) searchFor(ctx context.Context, q string) (hits int, err error) {
	found, err := t.api.search(ctx, t.l.project, q, 3)
	if err != nil {
		return 0, err
	}
	t.s.title("Search: %s", q)
	for _, o := range found {
		title := o.Metadata.Title
		if title == "" {
			title, _, _ = strings.Cut(o.Content, "\n")
		}
		t.s.line("  %-10s %s", o.Kind, cut(title, wide-13))
	}
	if len(found) == 0 {
		t.s.line("  nothing")
	}
	return len(found), nil
}

// checkQuiet is how long the last acknowledgements may take to arrive.
const checkQuiet = 5 * time.Second

// check is what `obs check --quiet-system` does.
func (t *story) check(ctx context.Context) error {
	t.s.title("obs check: does every row, message and note fit its history?")
	var res checked
	for deadline := time.Now().Add(checkQuiet); ; {
		var err error
		if res, err = check(ctx, t.l.process.Jobs, t.l.links, t.l.process.Config, true, time.Time{}, nil); err != nil {
			return err
		}
		if len(res.found) == 0 || time.Now().After(deadline) {
			break
		}
		if err := t.wait(ctx, watchEvery); err != nil {
			return err
		}
	}
	for _, f := range res.found {
		t.s.line("  %s", f)
	}
	t.s.line("  %d jobs checked, %d findings", res.jobs, len(res.found))
	if len(res.found) > 0 {
		return fmt.Errorf("the check found %d violations", len(res.found))
	}
	return nil
}
