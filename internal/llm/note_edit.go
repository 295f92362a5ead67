package llm

import (
	"path"
	"slices"
	"strings"
)

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

var why = look("because so since otherwise never must cannot instead rather only would", `(?i)\b(?:because|so that|since|otherwise|never|must|cannot|instead|rather|only|would)\b`)

// weightiest keeps the n comments that say most, in their order: those that
// give a reason, then the longest.
func weightiest(comments []string, n int) []string {
	if len(comments) <= n {
		return comments
	}
	type scored struct{ at, score int }
	ranked := make([]scored, len(comments))
	for i, c := range comments {
		ranked[i] = scored{i, min(len(c), 400)}
		if why.MatchString(c) {
			ranked[i].score += 1000
		}
	}
	slices.SortStableFunc(ranked, func(a, b scored) int { return b.score - a.score })
	ranked = ranked[:n]
	slices.SortFunc(ranked, func(a, b scored) int { return a.at - b.at })
	out := make([]string, n)
	for i, r := range ranked {
		out[i] = comments[r.at]
	}
	return out
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
