package llm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// firstLine is the first new line that says something: no comment, no brace.
// A line that only changed comes after one that is new altogether.
func (d diff) firstLine() string {
	changed := ""
	for _, h := range d.hunks {
		var before []string
		for _, l := range h.del {
			before = add(before, firstWord(l))
		}
		for _, l := range h.add {
			if _, comment := commentText(d.file, l); comment || !meaty(l) {
				continue
			}
			if !slices.Contains(before, firstWord(l)) {
				return strings.TrimSpace(l)
			}
			if changed == "" {
				changed = strings.TrimSpace(l)
			}
		}
	}
	return changed
}

func firstWord(l string) string {
	w, _, _ := strings.Cut(strings.TrimSpace(l), " ")
	return w
}

// says reports whether the change is more than white space and imports.
func (d diff) says() bool {
	return d.firstLine() != "" || d.firstGone() != "lines" || len(d.reasons()) > 0
}

func (d diff) firstGone() string {
	for _, h := range d.hunks {
		for _, l := range h.del {
			if _, comment := commentText(d.file, l); !comment && meaty(l) {
				return strings.TrimSpace(l)
			}
		}
	}
	return "lines"
}

func meaty(line string) bool {
	t := strings.TrimSpace(line)
	if len(t) > 1 && t[0] == '"' && strings.Trim(t, `",`) == t[1:len(strings.TrimRight(t, `",`))] {
		return false // an import
	}
	if bare.MatchString(t) {
		return false
	}
	return len(t) > 4 && strings.Trim(t, "{}()[];,*/#-") != "" && !strings.HasPrefix(t, "import ")
}

// bare matches what stands in any code: a return of nothing in particular, a
// call without arguments.
var bare = regexp.MustCompile(`^(?:defer |go )?(?:return(?: (?:nil|err|true|false|None|null))?|[\w.]+\(\));?$`)

// facts lists what a change holds: names, values, the lines themselves.
func (d diff) facts() []string {
	var facts []string
	added, removed := d.names()
	if d.created && isADR(d.file) {
		for _, s := range sentences(strings.Join(sectionLines(d.whole, "Consequences"), "\n")) {
			facts = append(facts, clip(s, maxFact))
		}
		return facts[:min(6, len(facts))]
	}
	if named := foremost(d.file, added); len(named) > 0 {
		now := " now "
		if d.created {
			now = " "
		}
		facts = append(facts, d.file+now+verbFor2(d.file)+" "+quoteAll(named, 8))
	}
	if len(removed) > 0 {
		facts = append(facts, d.file+" no longer "+verbFor2(d.file)+" "+quoteAll(removed, 8))
	}
	if d.created && d.part {
		return append(facts, d.file+" is new")
	}
	if d.created {
		return append(facts, fmt.Sprintf("%s is new: %s", d.file, plural(len(trimEnd(d.whole)), "line")))
	}
	values := d.values()
	for _, v := range values[:min(4, len(values))] {
		facts = append(facts, quote(v.name, 60)+" in "+d.file+": "+quote(v.from, 60)+" → "+quote(v.to, 60))
	}
	if from, to, n := d.renamed(); from != "" && n > 1 && len(values) == 0 {
		facts = append(facts, quote(from, 60)+" became "+quote(to, 60)+" in "+plural(n, "line"))
		return facts
	}
	if !isProse(d.file) && len(added) == 0 && len(values) == 0 {
		n := 0
		for _, h := range d.hunks {
			if n == 3 {
				break
			}
			if f := h.fact(d.file); f != "" {
				facts = append(facts, f)
				n++
			}
		}
	}
	return facts
}

func (h hunk) fact(file string) string {
	if len(h.add) == len(h.del) && len(h.add) == 1 {
		return quote(h.del[0], 110) + " became " + quote(h.add[0], 110)
	}
	one := diff{file: file, hunks: []hunk{h}}
	gone, now := one.firstGone(), one.firstLine()
	if gone == "lines" {
		gone = ""
	}
	switch {
	case gone != "" && now != "" && firstWord(gone) == firstWord(now):
		return quote(gone, 110) + " became " + quote(now, 110)
	case now != "":
		return "new in " + file + ": " + quote(now, 140)
	case gone != "":
		return "gone from " + file + ": " + quote(gone, 140)
	}
	return ""
}

func verbFor2(file string) string {
	if isProse(file) {
		return "has"
	}
	return "declares"
}

func trimEnd(text []string) []string {
	for len(text) > 0 && strings.TrimSpace(text[len(text)-1]) == "" {
		text = text[:len(text)-1]
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 || what == "more" {
		return fmt.Sprintf("%d %s", n, what)
	}
	if strings.HasSuffix(what, "ch") {
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
