package llm

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Types and concepts of observations.
const (
	typeDiscovery = "discovery"
	typeBugfix    = "bugfix"
	typeFeature   = "feature"
	typeRefactor  = "refactor"
	typeChange    = "change"
	typeDecision  = "decision"
	typeSecurity  = "security_note"

	howItWorks      = "how-it-works"
	problemSolution = "problem-solution"
	gotcha          = "gotcha"
	pattern         = "pattern"
	tradeOff        = "trade-off"
	whatChanged     = "what-changed"
	whyItExists     = "why-it-exists"
)

// fileRead is what a Read, or a cat, showed.
type fileRead struct {
	file  string
	text  []string
	names []string
	doc   string
	from  int // first line shown, 1 for the file's start
	total int // lines in the file; 0 when unknown
}

func readOf(s *step) (fileRead, bool) {
	r := fileRead{file: s.file(), from: 1}
	f := s.out.get("file")
	body := f.get("content").text()
	if n, ok := f.get("startLine").num(); ok && n > 1 {
		r.from = n
	}
	if n, ok := f.get("totalLines").num(); ok {
		r.total = n
	}
	if body == "" {
		body = unnumber(s.out.text())
	}
	if r.file == "" || strings.TrimSpace(body) == "" || s.err != "" {
		return r, false
	}
	r.text = lines(body)
	r.names = declaredIn(r.file, r.text)
	if r.from == 1 || isProse(r.file) {
		r.doc = docOf(r.file, r.text)
	}
	return r, len(r.names) > 0 || r.doc != ""
}

// unnumber takes off the line numbers that some senders keep before each line.
func unnumber(body string) string {
	all := lines(body)
	for i, l := range all {
		num, rest, ok := strings.Cut(l, "→")
		if !ok {
			num, rest, ok = strings.Cut(l, "\t")
		}
		if !ok || strings.Trim(num, " 0123456789") != "" || strings.TrimSpace(num) == "" {
			return body
		}
		all[i] = rest
	}
	return strings.Join(all, "\n")
}

// note writes one observation on one or more files that were read together.
func noteReads(reads []fileRead) Observation {
	o := Observation{Type: typeDiscovery, Concepts: []string{howItWorks}}
	for _, r := range reads {
		o.FilesRead = add(o.FilesRead, r.file)
	}
	first := reads[0]
	names := foremost(first.file, first.names)
	what := list(names, 4)
	if isProse(first.file) && len(names) > 0 {
		what = list(names, 3)
	}
	if what == "" {
		what = unstop(first.doc)
	}
	if len(reads) == 1 {
		o.Title = "Read " + first.file + ": " + what
		o.Subtitle = first.span()
	} else {
		var files []string
		for _, r := range reads {
			files = append(files, r.file)
		}
		o.Title = "Read " + list(files, 4)
		if dir := path.Dir(first.file); dir != "." && sameDir(reads) {
			for i := range files {
				files[i] = path.Base(files[i])
			}
			o.Title = "Read " + dir + ": " + list(files, 5)
		}
	}
	var docs []string
	for _, r := range reads {
		if r.doc != "" && len(docs) < 3 {
			docs = append(docs, r.doc)
		}
		if len(r.names) > 0 {
			o.Facts = append(o.Facts, r.file+" "+verbFor(r.file)+" "+quoteAll(foremost(r.file, r.names), 10))
		}
	}
	o.Narrative = strings.Join(docs, " ")
	return o
}

func (r fileRead) span() string {
	last := r.from + len(r.text) - 1
	switch {
	case r.from > 1:
		return fmt.Sprintf("lines %d to %d", r.from, last)
	case r.total > len(r.text):
		return fmt.Sprintf("the first %d of %d lines", len(r.text), r.total)
	}
	return ""
}

func sameDir(reads []fileRead) bool {
	for _, r := range reads {
		if path.Dir(r.file) != path.Dir(reads[0].file) {
			return false
		}
	}
	return true
}

func verbFor(file string) string {
	if isProse(file) {
		return "has the sections"
	}
	return "declares"
}

func quoteAll(names []string, limit int) string {
	var out []string
	for _, n := range names {
		out = append(out, quote(n, 60))
	}
	return list(out, limit)
}

// noteEdits writes one observation on the changes to one or more files. The
// files are one piece of work: a source file with its tests, or what fixed a
// failure.
func noteEdits(diffs []diff) Observation {
	main := leading(diffs)
	o := Observation{Concepts: []string{whatChanged}}
	o.Type, o.Title = headline(main)
	together := newPackage(main, diffs)
	if together != "" {
		o.Type, o.Title = typeFeature, together
	}
	var also, reasons []string
	for _, d := range diffs {
		o.FilesModified = add(o.FilesModified, d.file)
		if d.file != main.file {
			also = add(also, d.file)
		}
	}
	if len(also) > 0 && together == "" {
		o.Subtitle = "together with " + list(also, 3)
	}
	ordered := append([]diff{main}, diffs...)
	for i, d := range ordered {
		if i > 0 && d.file == main.file {
			continue
		}
		reasons = add(reasons, d.reasons()...)
		o.Facts = add(o.Facts, d.facts()...)
	}
	for _, r := range weightiest(reasons, 3) {
		o.Narrative = strings.TrimSpace(o.Narrative + " " + r)
		if why.MatchString(r) {
			o.Concepts = add(o.Concepts, whyItExists)
		}
	}
	if o.Type == typeDecision {
		o.Concepts = []string{tradeOff, whyItExists}
	}
	return o
}

var why = regexp.MustCompile(`(?i)\b(?:because|so that|since|otherwise|never|must|cannot|instead|rather|only|would)\b`)

// weightiest keeps the n comments that say most, in their order: those that
// give a reason, then the longest.
func weightiest(comments []string, n int) []string {
	score := func(c string) int {
		s := min(len(c), 400)
		if why.MatchString(c) {
			s += 1000
		}
		return s
	}
	ranked := slices.Clone(comments)
	slices.SortStableFunc(ranked, func(a, b string) int { return score(b) - score(a) })
	return slices.DeleteFunc(slices.Clone(comments), func(c string) bool {
		return !contains(ranked[:min(n, len(ranked))], c)
	})
}

// leading picks the change that the others belong to: code before tests before
// prose, then the largest.
func leading(diffs []diff) diff {
	best, bestScore := diffs[0], -1
	for _, d := range diffs {
		score := min(d.add+d.del, 999)
		switch {
		case isTest(d.file):
			score += 1000
		case !isProse(d.file):
			score += 2000
		}
		if score > bestScore {
			best, bestScore = d, score
		}
	}
	return best
}

// reasons are the sentences in which the author says why.
func (d diff) reasons() []string {
	if d.created {
		if isADR(d.file) {
			if s := section(d.whole, "Decision"); s != "" {
				return []string{s}
			}
		}
		doc := docOf(d.file, d.whole)
		if isProse(d.file) {
			return nonEmpty(doc)
		}
		return add(nonEmpty(doc), weightiest(d.comments(), 2)...)
	}
	if isProse(d.file) {
		var added []string
		for _, h := range d.hunks {
			added = append(added, h.add...)
			added = append(added, "")
		}
		if s := opening(strings.Join(added, "\n"), 2); s != "" {
			return []string{s}
		}
		return nil
	}
	return add(d.comments(), d.remarks()...)
}

func isADR(file string) bool { return isProse(file) && strings.Contains("/"+file, "/adr/") }

// newPackage is the title for files that were made together.
func newPackage(main diff, diffs []diff) string {
	var files, names []string
	whole := false
	seen := map[string]bool{}
	for _, d := range append([]diff{main}, diffs...) {
		if seen[d.file] || !d.created || isTest(d.file) || isProse(d.file) {
			continue
		}
		seen[d.file] = true
		files = add(files, path.Base(d.file))
		added, _ := d.names()
		names = add(names, added...)
		whole = whole || strings.HasPrefix(docOf(d.file, d.whole), "Package ")
	}
	dir := path.Dir(main.file)
	switch {
	case len(files) < 2:
		return ""
	case whole:
		return "New package " + dir + colon(list(foremost(main.file, names), 5))
	}
	return "New in " + dir + ": " + list(files, 4)
}

// section returns the opening of a document's section.
func section(text []string, title string) string {
	return opening(strings.Join(sectionLines(text, title), "\n"), 3)
}

func sectionLines(text []string, title string) []string {
	for i, l := range text {
		if !heading.MatchString(l) || !strings.Contains(strings.ToLower(l), strings.ToLower(title)) {
			continue
		}
		rest := text[i+1:]
		if end := slices.IndexFunc(rest, heading.MatchString); end >= 0 {
			rest = rest[:end]
		}
		return rest
	}
	return nil
}

// headline says in one line what a change is.
func headline(d diff) (typ, title string) {
	added, removed := d.names()
	added, removed = foremost(d.file, added), foremost(d.file, removed)
	values := d.values()
	from, to, _ := d.renamed()
	touched := d.touched()
	switch {
	case d.created && isADR(d.file):
		return typeDecision, "ADR " + strings.TrimPrefix(first(added, path.Base(d.file)), "ADR ")
	case d.created && isProse(d.file):
		return typeChange, "Wrote " + d.file + colon(list(added[:min(1, len(added))], 1))
	case d.created && isTest(d.file):
		return typeChange, "Tests in " + d.file + colon(list(testsFirst(added), 3))
	case d.created:
		return typeFeature, "New " + d.file + colon(list(added, 4))
	case isProse(d.file):
		return typeChange, d.file + colon(first(without(added, changelog), first(without(touched, changelog), headOf(unstop(first(sentences(first(d.reasons(), "")), d.firstLine()))))))
	case len(values) == 1 && len(d.hunks) == 1:
		return typeChange, values[0].name + " in " + d.file + ": " + values[0].from + " → " + values[0].to
	case from != "" && len(values) == 0:
		return typeRefactor, "Renamed " + from + " to " + to + " in " + d.file
	case len(added) > 0 && len(removed) > 0:
		return typeRefactor, list(added, 3) + replace(len(added)) + list(removed, 2) + " in " + d.file
	case len(added) > 0 && isTest(d.file):
		return typeChange, "Tests in " + d.file + colon(list(testsFirst(added), 3))
	case len(added) > 0:
		return typeFeature, "Added " + list(added, 3) + " to " + d.file
	case len(removed) > 0:
		return typeRefactor, "Removed " + list(removed, 3) + " from " + d.file
	case len(values) > 1 && len(values) == d.add:
		return typeChange, d.file + ": " + values[0].name + " " + values[0].from + " → " + values[0].to + ", " + values[1].name + " " + values[1].from + " → " + values[1].to
	}
	subject := d.file
	if len(touched) > 0 {
		subject = list(touched, 2) + " in " + d.file
	}
	if why := d.comments(); len(why) > 0 {
		return typeChange, subject + ": " + headOf(unstop(sentences(why[0])[0]))
	}
	if l := d.firstLine(); l != "" {
		return typeChange, subject + ": " + quote(l, 70)
	}
	return typeChange, "Removed " + quote(d.firstGone(), 60) + " from " + subject
}

// changelog are headings that name a kind of entry and no subject.
var changelog = []string{"Unreleased", "Added", "Changed", "Fixed", "Removed", "Deprecated", "Security"}

func replace(n int) string {
	if n == 1 {
		return " replaces "
	}
	return " replace "
}

func first(list []string, otherwise string) string {
	if len(list) > 0 {
		return list[0]
	}
	return otherwise
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func testsFirst(names []string) []string {
	var tests, rest []string
	for _, n := range names {
		if strings.HasPrefix(strings.ToLower(n), "test") || strings.HasPrefix(n, "Fuzz") || strings.HasPrefix(n, "Bench") || strings.HasPrefix(n, "Example") {
			tests = append(tests, n)
		} else {
			rest = append(rest, n)
		}
	}
	if len(tests) > 0 {
		return tests
	}
	return rest
}

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
			if !contains(before, firstWord(l)) {
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
	return len(t) > 4 && strings.Trim(t, "{}()[];,*/#-") != "" && t != "return" && !strings.HasPrefix(t, "import ") && t != "return nil" && t != "return err"
}

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
