package llm

import (
	"strings"
)

// words writes on prompts and messages. A cause that was found explains the
// fix of the same question, if there is one.
func (st *story) words() {
	for i := range st.steps {
		s := &st.steps[i]
		if s.kind != kindPrompt && s.kind != kindMessage {
			continue
		}
		decisions, insights := noteWords(s)
		for _, o := range decisions {
			if !st.said(o) {
				st.put(o, i)
			}
		}
		for _, o := range insights {
			if fix := st.explained(o); fix != nil {
				fix.Title = "Fixed " + fix.fixed + ": " + lowerFirst(o.Title)
				fix.Narrative += " " + o.Narrative
				fix.from = append(fix.from, i)
				continue
			}
			st.put(o, i)
		}
	}
}

// explained finds the fix whose cause an insight tells: they name the same
// things.
func (st *story) explained(o Observation) *draft {
	for i := range st.drafts {
		d := &st.drafts[i]
		if d.fixed == "" {
			continue
		}
		have := d.Title + " " + d.Narrative + " " + strings.Join(d.Facts, " ")
		named, hits := inCode(o.Narrative), 0
		for _, name := range named {
			if strings.Contains(have, name) {
				hits++
			}
		}
		if hits > 0 && hits*2 >= len(named) || len(named) == 0 && overlap(have, o.Narrative) > 0.35 {
			return d
		}
	}
	return nil
}

func lowerFirst(s string) string {
	for _, article := range []string{"The ", "A ", "An ", "It ", "This ", "That "} {
		if strings.HasPrefix(s, article) {
			return strings.ToLower(s[:1]) + s[1:]
		}
	}
	return s
}

// inCode returns what a text has in backticks.
func inCode(text string) []string {
	var out []string
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			out = add(out, strings.Trim(part, "()"))
		}
	}
	return out
}

// said tells a decision that another note of the question has already.
func (st *story) said(o Observation) bool {
	for _, d := range st.drafts {
		if d.Type == typeDecision && overlap(d.Title+" "+d.Narrative, o.Title) > 0.7 {
			return true
		}
	}
	return false
}

// overlap is the share of the long words of b that are in a.
func overlap(a, b string) float64 {
	have := map[string]bool{}
	for w := range strings.FieldsSeq(strings.ToLower(a)) {
		have[strings.Trim(w, "`.,:;()")] = true
	}
	n, hit := 0, 0
	for w := range strings.FieldsSeq(strings.ToLower(b)) {
		if w = strings.Trim(w, "`.,:;()"); len(w) > 3 {
			n++
			if have[w] {
				hit++
			}
		}
	}
	if n == 0 {
		return 0
	}
	return float64(hit) / float64(n)
}
