package llm

import (
	"regexp"
	"slices"
	"strings"
)

var ahead = regexp.MustCompile(`(?i)\b(?:next(?: steps?)?\b|remain(?:s|ing)\b|still (?:to|needs?|open|missing|todo)|left to do|follow[- ]up|not yet|to do\b|todo\b|later\b|afterwards|open:|should (?:also )?(?:be|add|test|measure))`)

var label = regexp.MustCompile(`(?i)^(?:next(?: steps?)?|to ?do|follow[- ]?ups?|remaining|(?:still )?open)\s*:\s*`)

// summarize writes what a session came to from its prompts, its notes and the
// last message. It returns nil when nothing of it is known.
func summarize(q Question, steps []step) *Summary {
	notes, f := q.Notes, (*fitting)(nil)
	if len(notes) == 0 {
		notes = observe(steps, nil)
	} else if q.Mode != nil {
		f = q.Mode.fitting
	}
	last, _ := redact(plain(q.LastMessage))
	var prompts []string
	for i := range steps {
		switch s := &steps[i]; s.kind {
		case kindPrompt:
			if p := request(s.words, len(prompts) == 0); p != "" {
				prompts = add(prompts, p)
			}
		case kindTool, kindOther:
		case kindMessage:
			if q.LastMessage == "" && strings.TrimSpace(s.words) != "" {
				last = s.words
			}
		}
	}

	var sum Summary
	sum.Request = gather(prompts, " Then: ")
	var looked, learned, decided, done, files []string
	for _, n := range notes {
		n.Type = f.own(n)
		switch {
		case n.Type == typeDecision:
			decided = add(decided, stop(n.Title))
		case n.Type == typeSecurity || slices.Contains(n.Concepts, gotcha):
			learned = add(learned, stop(n.Title))
		case n.Type == typeDiscovery:
			looked = add(looked, stop(n.Title))
		default:
			done = add(done, stop(n.Title))
			learned = add(learned, causeIn(n))
		}
		files = add(files, n.FilesModified...)
	}
	sum.Investigated, sum.Completed = gather(looked, " "), gather(done, " ")
	sum.Learned = gather(append(decided, learned...), " ")

	var next []string
	for _, s := range sentences(last) {
		if ahead.MatchString(s) && len(strings.Fields(s)) > 3 && !strings.HasSuffix(s, "?") {
			next = add(next, upperFirst(label.ReplaceAllString(s, "")))
		}
	}
	sum.NextSteps = gather(next, " ")
	if sum.Completed == "" {
		sum.Completed = tidy(opening(last, 2), maxPart)
	}
	if len(files) > 0 {
		sum.Notes = tidy(plural(len(files), "file")+" changed: "+list(files, 12), maxPart)
	}
	if sum == (Summary{}) {
		return nil
	}
	return &sum
}

// causeIn is why something had failed, as the note on its fix tells it.
func causeIn(n Observation) string {
	failure, why, ok := strings.Cut(n.Narrative, "`. ")
	if n.Type != typeBugfix || !ok || !strings.Contains(failure, " failed: ") {
		return ""
	}
	return opening(why, 1)
}

// request is what a prompt asks for: two sentences of the first prompt, one of
// each later one, without words such as "Good.".
func request(words string, whole bool) string {
	all := sentences(words)
	for len(all) > 1 && len(strings.Fields(all[0])) < 4 {
		all = all[1:]
	}
	n := 1
	if whole {
		n = 2
	}
	return strings.Join(all[:min(n, len(all))], " ")
}

// gather joins as many sentences as a part has room for.
func gather(list []string, between string) string {
	out := ""
	for i, s := range list {
		if i == 12 {
			return tidy(out+" And "+plural(len(list)-i, "more")+".", maxPart)
		}
		if s = tidy(s, maxPart); len(out)+len(between)+len(s) > maxPart-16 && i > 0 {
			return tidy(out+" And "+plural(len(list)-i, "more")+".", maxPart)
		}
		if out != "" {
			out += between
		}
		out += s
	}
	return tidy(out, maxPart)
}

func stop(s string) string {
	if s = strings.TrimSpace(s); s == "" || strings.HasSuffix(s, "…") || strings.HasSuffix(s, "…`") || strings.ContainsAny(s[len(s)-1:], ".!?") {
		return s
	}
	return s + "."
}
