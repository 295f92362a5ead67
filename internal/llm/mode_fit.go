package llm

import (
	"slices"
	"strings"
	"unicode"
)

// saidAs has the words by which a mode's type is known for one of the
// extractor's, the best first, and the type that comes next to it.
var saidAs = map[string]struct {
	words []string
	next  string
}{
	typeBugfix:    {[]string{"bugfix", "fix", "bug", "defect", "incident", "problem", "repair", "error", "failure"}, typeChange},
	typeFeature:   {[]string{"feature", "addition", "added", "new", "built", "build", "made"}, typeChange},
	typeRefactor:  {[]string{"refactor", "refactoring", "restructuring", "cleanup", "moved", "renamed"}, typeChange},
	typeSecurity:  {[]string{"security", "safety", "risk", "vulnerability", "leak", "warning"}, typeDiscovery},
	typeDecision:  {[]string{"decision", "choice", "agreement", "plan", "chosen", "decided", "agreed"}, typeDiscovery},
	typeChange:    {[]string{"change", "update", "edit", "modification", "changed", "work", "task"}, typeDiscovery},
	typeDiscovery: {[]string{"discovery", "finding", "insight", "learning", "observation", "fact", "note", "result", "found", "learnt", "learned"}, ""},
}

// fitting has what the extractor's types and concepts are in a mode. nil: they
// are the mode's own.
type fitting struct {
	types    map[string]string
	concepts map[string]bool
}

// fit is what the extractor has to know of the mode.
func (m *Mode) fit() *fitting {
	f := &fitting{map[string]string{}, map[string]bool{}}
	same := true
	for own := range saidAs {
		f.types[own] = m.typeFor(own)
		same = same && f.types[own] == own
	}
	for _, c := range []string{howItWorks, problemSolution, gotcha, pattern, tradeOff, whatChanged, whyItExists} {
		f.concepts[c] = slices.ContainsFunc(m.Concepts, func(t Term) bool { return t.Name == c })
		same = same && f.concepts[c]
	}
	if same {
		return nil
	}
	return f
}

// typeOf is the mode's type for what a model called it, which is as a rule one
// of them; a model that is not held to the schema may say something else.
func (m *Mode) typeOf(said string) string {
	if _, own := saidAs[said]; own || slices.ContainsFunc(m.Types, func(t Term) bool { return t.Name == said }) {
		return m.typeFor(said)
	}
	plain := strings.NewReplacer("-", "", "_", "", " ", "")
	for _, t := range m.Types {
		if plain.Replace(t.Name) == plain.Replace(said) {
			return t.Name
		}
	}
	for own, as := range saidAs {
		if slices.Contains(as.words, said) {
			return m.typeFor(own)
		}
	}
	return m.typeFor(typeDiscovery)
}

// typeFor is the mode's type for one of the extractor's: that of the same name;
// one whose name says so, or whose description; one for what comes next to
// it; or else the mode's first.
func (m *Mode) typeFor(own string) string {
	plain := strings.NewReplacer("-", "", "_", "")
	for _, t := range m.Types {
		if plain.Replace(t.Name) == plain.Replace(own) {
			return t.Name
		}
	}
	for at := own; at != ""; at = saidAs[at].next {
		for _, part := range []func(Term) string{func(t Term) string { return t.Name }, func(t Term) string { return t.Description }} {
			for _, word := range saidAs[at].words {
				for _, t := range m.Types {
					if slices.Contains(strings.FieldsFunc(strings.ToLower(part(t)), func(r rune) bool { return !unicode.IsLetter(r) }), word) {
						return t.Name
					}
				}
			}
		}
	}
	return m.Types[0].Name
}

// in gives the observation the words of the mode.
func (o *Observation) in(f *fitting) {
	if f == nil {
		return
	}
	o.Type = f.types[o.Type]
	o.Concepts = slices.DeleteFunc(slices.Clone(o.Concepts), func(c string) bool { return !f.concepts[c] })
}

// own is the extractor's type of a note that has one of the mode: the one that
// became it, or else what its files say.
func (f *fitting) own(n Observation) string {
	if f == nil {
		return n.Type
	}
	own := ""
	for typ, as := range f.types {
		if as != n.Type {
			continue
		}
		if own != "" { // more than one did
			own = typeDiscovery
			if len(n.FilesModified) > 0 {
				own = typeChange
			}
			return own
		}
		own = typ
	}
	return orElse(own, n.Type)
}
