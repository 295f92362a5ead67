package llm

import (
	"context"
	"slices"
	"strings"
)

const (
	// NameOffline is the provider that needs no key and no network.
	NameOffline = "offline"
	// offlineModel changes when the rules change what is written.
	offlineModel = "extractor-2"
)

// Offline is the extractor: it reads hook events by rule and writes notes. The
// same question gets the same answer. What a note has in backticks is quoted
// from the events; what looks like a credential is never written.
type Offline struct{}

// NewOffline returns the extractor. It has no settings.
func NewOffline() *Offline { return &Offline{} }

// Name implements [Provider].
func (*Offline) Name() string { return NameOffline }

// Answer implements [Provider]. The only error is the one of ctx.
func (*Offline) Answer(ctx context.Context, q Question) (Answer, error) {
	a := Answer{Provider: NameOffline, Model: offlineModel}
	steps := make([]step, 0, len(q.Events))
	for _, e := range q.Events {
		if err := ctx.Err(); err != nil {
			return Answer{}, err
		}
		steps = append(steps, decode(e))
	}
	if q.Task == TaskSummarize {
		a.Summary = summarize(q, steps)
		a.Skipped = a.Summary == nil
		return a, ctx.Err()
	}
	a.Observations = observe(steps, q.Mode)
	a.Skipped = len(a.Observations) == 0
	return a, ctx.Err()
}

// observe writes the notes of some events, in the order of what happened, with
// the types and concepts of the mode; nil is the extractor's own.
func observe(steps []step, m *Mode) []Observation {
	var f *fitting
	if m != nil {
		f = m.fitting
	}
	drafts := tell(steps)
	var out []Observation
	seen := map[string]bool{}
	for _, d := range keep(drafts) {
		o := bound(d.Observation)
		o.in(f)
		for _, i := range slices.Compact(slices.Sorted(slices.Values(d.from))) {
			if id := steps[i].id; id != "" {
				o.Events = add(o.Events, id)
			}
		}
		if key := o.Type + o.Title; o.Title != "" && !seen[key] {
			seen[key] = true
			out = append(out, o)
		}
	}
	return out
}

// weight says which notes stay when there are too many for one answer.
var weight = map[string]int{
	typeSecurity: 7, typeBugfix: 6, typeDecision: 5, typeFeature: 4, typeRefactor: 3, typeChange: 2, typeDiscovery: 1,
}

func keep(drafts []draft) []draft {
	slices.SortStableFunc(drafts, func(a, b draft) int { return slices.Min(a.from) - slices.Min(b.from) })
	for len(drafts) > maxNotes {
		least := 0
		for i, d := range drafts {
			if weight[d.Type] < weight[drafts[least].Type] {
				least = i
			}
		}
		drafts = slices.Delete(drafts, least, least+1)
	}
	return drafts
}

// bound makes an observation fit the limits and takes out what looks like a
// credential once more: quoting can join what the events kept apart.
func bound(o Observation) Observation {
	o.Title = tidy(o.Title, maxTitle)
	o.Subtitle = tidy(o.Subtitle, maxSubtitle)
	o.Narrative = tidy(o.Narrative, maxNarrative)
	if unstop(o.Narrative) == o.Title {
		o.Narrative = ""
	}
	o.Facts = tidyAll(o.Facts, maxFacts, maxFact)
	o.Concepts = tidyAll(o.Concepts, maxFacts, maxFact)
	o.FilesRead = tidyAll(without(o.FilesRead, o.FilesModified), maxFiles, maxPath)
	o.FilesModified = tidyAll(o.FilesModified, maxFiles, maxPath)
	return o
}

func tidy(s string, n int) string {
	s, _ = redact(oneLine(plain(s)))
	return clip(s, n)
}

func tidyAll(list []string, count, n int) []string {
	var out []string
	for _, s := range list {
		if len(out) == count {
			break
		}
		out = add(out, tidy(s, n))
	}
	return out
}

// isQuiet tells events that announce something and say nothing.
func isQuiet(s *step) bool {
	t := strings.ToLower(s.typ)
	for _, prefix := range []string{"session_", "sessionstart", "sessionend", "pre_", "pretool", "precompact", "notification"} {
		if strings.HasPrefix(t, prefix) {
			return true
		}
	}
	return false
}
