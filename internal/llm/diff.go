package llm

import (
	"regexp"
	"slices"
	"strings"
)

// hunk is one place where a file changed.
type hunk struct {
	within   string   // the declaration that the change is in, if known
	lead     []string // the comment lines right above the change
	del, add []string // changed lines, indentation kept
}

// diff is what was done to one file.
type diff struct {
	file     string
	hunks    []hunk
	created  bool
	whole    []string // the new content, when the event carries it
	part     bool     // or some of it: its lines cannot be counted
	del, add int      // lines
}

const maxDiffLines = 4000

// diffOf reads the change an edit tool made: the patch in its response where
// there is one, otherwise the old and new text of its input.
func diffOf(s *step) diff {
	d := diff{file: s.file()}
	original := lines(s.out.get("originalFile", "originalFileContents").str())
	for _, h := range s.out.get("structuredPatch").list() {
		start, _ := h.get("oldStart").num()
		d.patch(h.get("lines").list(), start, original)
	}
	if len(d.hunks) > 0 {
		return d
	}
	edits := s.in.get("edits").list()
	if len(edits) == 0 {
		edits = []node{s.in}
	}
	for _, e := range edits {
		d.replace(e.get("old_string", "oldString", "old_str").str(), e.get("new_string", "newString", "new_str", "new_source").str())
	}
	return d
}

// patch adds one hunk of a structured patch, split where unchanged lines part
// two changes.
func (d *diff) patch(text []node, start int, original []string) {
	var h hunk
	within := enclosing(d.file, original, start-1)
	flush := func() {
		if len(h.del)+len(h.add) > 0 {
			d.push(h)
		}
		h = hunk{}
	}
	gap := 0
	var above []string
	for _, n := range text[:min(len(text), maxDiffLines)] {
		l := n.str()
		if l == "" {
			l = " "
		}
		body := l[1:]
		switch l[0] {
		case '-', '+':
			if gap > 0 {
				flush()
			}
			gap = 0
			if len(h.del)+len(h.add) == 0 {
				h.within, h.lead = within, above
			}
			if l[0] == '-' {
				h.del = append(h.del, body)
			} else {
				h.add = append(h.add, body)
			}
		case ' ':
			gap++
			if _, ok := commentText(d.file, body); ok {
				above = append(above, body)
			} else {
				above = nil
			}
		}
		if block.MatchString(body) {
			within = ""
		}
		if name := declared(d.file, body); name != "" && l[0] != '-' {
			within = name
		}
	}
	flush()
}

// replace adds the change from one text to another.
func (d *diff) replace(before, after string) {
	var above []string
	a, b := lines(before), lines(after)
	if before == "" {
		a = nil
	}
	if after == "" {
		b = nil
	}
	within := ""
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		if name := declared(d.file, a[0]); name != "" {
			within = name
		}
		if block.MatchString(a[0]) {
			within = ""
		}
		if _, ok := commentText(d.file, a[0]); ok {
			above = append(above, a[0])
		} else {
			above = nil
		}
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a)+len(b) > 0 {
		d.push(hunk{within: within, lead: above, del: a[:min(len(a), maxDiffLines)], add: b[:min(len(b), maxDiffLines)]})
	}
}

func (d *diff) push(h hunk) {
	d.hunks = append(d.hunks, h)
	d.del += countText(h.del)
	d.add += countText(h.add)
}

func countText(ls []string) (n int) {
	for _, l := range ls {
		if strings.TrimSpace(l) != "" {
			n++
		}
	}
	return n
}

// block opens a group of declarations that have no name together.
var block = regexp.MustCompile(`^(?:const|var|import|type) \($`)

// enclosing finds the declaration above line number at (from 0).
func enclosing(file string, text []string, at int) string {
	for i := min(at, len(text)-1); i >= 0 && i > at-400; i-- {
		if name := declared(file, text[i]); name != "" {
			return name
		}
		if text[i] == "}" || text[i] == ")" || block.MatchString(text[i]) {
			return ""
		}
	}
	return ""
}

// names returns what the change declares anew and what it takes away.
func (d *diff) names() (added, removed []string) {
	for _, h := range d.hunks {
		added = add(added, declaredIn(d.file, h.add)...)
		removed = add(removed, declaredIn(d.file, h.del)...)
	}
	return without(added, removed), without(removed, added)
}

// touched returns the declarations that were changed inside.
func (d *diff) touched() []string {
	var names []string
	for _, h := range d.hunks {
		both := declaredIn(d.file, h.del)
		for _, n := range declaredIn(d.file, h.add) {
			if slices.Contains(both, n) {
				names = add(names, n)
			}
		}
		if len(both) == 0 {
			names = add(names, h.within)
		}
	}
	return names
}

func without(list, drop []string) []string {
	var out []string
	for _, v := range list {
		if !slices.Contains(drop, v) {
			out = append(out, v)
		}
	}
	return out
}

// comments returns the new comments: the reasons, in the author's own words.
// A comment that grew is told by its new sentences.
func (d *diff) comments() []string {
	var out []string
	for _, h := range d.hunks {
		names := declaredIn(d.file, h.add)
		var lead, para []string
		for _, l := range h.lead {
			c, _ := commentText(d.file, l)
			lead = append(lead, c)
		}
		flush := func() {
			old := oneLine(strings.Join(lead, " "))
			all := sentences(strings.Join(append(lead, para...), "\n"))
			for n := 0; len(all) > 0 && n+len(all[0]) <= len(old); {
				n += len(all[0]) + 1
				all = all[1:]
			}
			if len(all) > 0 && isFragment(all[0], append(names, h.within)) {
				all = all[1:]
			}
			if text := strings.Join(all[:min(2, len(all))], " "); len(para) > 0 && len(strings.Fields(text)) > 5 {
				out = add(out, text)
			}
			lead, para = nil, nil
		}
		for _, l := range h.add {
			if c, ok := commentText(d.file, l); ok {
				para = append(para, c)
			} else {
				flush()
			}
		}
		flush()
	}
	return out
}

// isFragment tells the tail of a sentence whose beginning is not in the patch.
func isFragment(s string, names []string) bool {
	first, _, _ := strings.Cut(s, " ")
	return first != "" && strings.ToLower(first) == first && !slices.Contains(names, first) && !strings.ContainsAny(first, "`_.0123456789")
}

var trailing = regexp.MustCompile(`^\s*([A-Za-z_]\w*).*\S\s+(?://|--|#) (\S.*)$`)

// remarks returns the comments at the end of new lines, each with the name it
// is about.
func (d *diff) remarks() []string {
	var out []string
	for _, h := range d.hunks {
		for _, l := range h.add {
			if _, whole := commentText(d.file, l); whole || len(l) > 300 || isProse(d.file) {
				continue
			}
			if m := trailing.FindStringSubmatch(l); m != nil && len(strings.Fields(m[2])) > 3 {
				out = append(out, quote(m[1], 60)+": "+upperStop(m[2]))
			}
		}
	}
	return out
}

func upperStop(s string) string { return unstop(s) + "." }

// change is one value that became another.
type change struct{ name, from, to string }

var (
	token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z_][\w.]*|\d[\w.]*|:=|[!=<>]=|\s+|.`)
	word  = regexp.MustCompile(`^[A-Za-z_][\w.]*$`)
)

// values returns the changes of a single value in a line that otherwise stayed.
func (d *diff) values() []change {
	var out []change
	for _, h := range d.hunks {
		if len(h.del) != len(h.add) || len(h.del) > 20 {
			continue
		}
		for i := range h.del {
			if c, ok := valueChange(h.del[i], h.add[i]); ok {
				out = append(out, c)
			}
		}
	}
	return out
}

func valueChange(before, after string) (change, bool) {
	if len(before) > 300 || len(after) > 300 {
		return change{}, false
	}
	a, b := token.FindAllString(strings.TrimSpace(before), -1), token.FindAllString(strings.TrimSpace(after), -1)
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && a[endA-1] == b[endB-1] {
		endA--
		endB--
	}
	from, to := strings.TrimSpace(strings.Join(a[start:endA], "")), strings.TrimSpace(strings.Join(b[start:endB], ""))
	if from == "" || to == "" || len(from) > 40 || len(to) > 40 {
		return change{}, false
	}
	// What stands before the value must be a name and a sign: "max = 3".
	name, sign := "", false
	for i := start - 1; i >= 0; i-- {
		t := a[i]
		switch {
		case strings.TrimSpace(t) == "":
			continue
		case !sign && (t == "=" || t == ":=" || t == ":" || t == "<" || t == ">" || t == "<=" || t == ">=" || t == "=="):
			sign = true
			continue
		case sign && word.MatchString(t):
			name = t
		}
		break
	}
	if name == "" || endA < len(a) && strings.TrimSpace(strings.Join(a[endA:], "")) != "" && !strings.ContainsAny(a[endA], ",;)} /*") {
		return change{}, false
	}
	// Widen to the whole value: "30" in "30 * time.Second" reads better whole.
	for endA < len(a) && !strings.ContainsAny(a[endA], ",;)}{") && !strings.HasPrefix(strings.TrimSpace(a[endA]), "//") && a[endA] != "/" && a[endA] != "#" {
		from += a[endA]
		to += a[endA]
		endA++
	}
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	if len(from) > 40 || len(to) > 40 {
		return change{}, false
	}
	return change{name, from, to}, true
}

// renamed returns the one identifier that became another in each changed line,
// with the number of lines.
func (d *diff) renamed() (from, to string, n int) {
	for _, h := range d.hunks {
		if len(h.del) != len(h.add) {
			return "", "", 0
		}
		for i := range h.del {
			a, b := token.FindAllString(h.del[i], -1), token.FindAllString(h.add[i], -1)
			if len(a) != len(b) {
				return "", "", 0
			}
			for j := range a {
				if a[j] == b[j] {
					continue
				}
				if !word.MatchString(a[j]) || !word.MatchString(b[j]) || from != "" && (a[j] != from || b[j] != to) {
					return "", "", 0
				}
				from, to = a[j], b[j]
			}
			n++
		}
	}
	return from, to, n
}
