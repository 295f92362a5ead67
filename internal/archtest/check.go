package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Imports finds the packages that have no line on the map, the lines that
// have no package, and the imports that their line does not list. What tests
// import is their own affair; what is no test never imports a test kit.
func Imports(m Map, packages []Package) []string {
	var findings []string
	seen := map[string]bool{}
	for _, p := range packages {
		seen[p.Path] = true
		if m.Lines[p.Path] == nil {
			findings = append(findings, p.Path+" has no line on the map")
			continue
		}
		for _, imported := range p.Imports {
			word := m.name(imported)
			switch {
			case !m.allows(p.Path, word):
				findings = append(findings, fmt.Sprintf("%s imports %s, and its line does not list %s", p.Path, imported, word))
			case m.allows(word, Testing) && !m.allows(p.Path, Testing):
				findings = append(findings, fmt.Sprintf("%s imports %s, which is for tests only", p.Path, imported))
			}
		}
	}
	for _, pkg := range m.packages() {
		if !seen[pkg] {
			findings = append(findings, pkg+" is on the map and not in the tree")
		}
	}
	return findings
}

// Comments finds the packages without a comment that says what they are. A
// library's begins with "Package name", a program's with "Command name".
func Comments(packages []Package) []string {
	var findings []string
	for _, p := range packages {
		if p.Name == "" {
			continue
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + p.Path[strings.LastIndex(p.Path, "/")+1:] + " "
		}
		if !strings.HasPrefix(p.Doc, want) {
			findings = append(findings, fmt.Sprintf("%s: its package comment should begin with %q", p.Path, want))
		}
	}
	return findings
}

// Environment finds the places outside tests that read the environment in a
// package whose line does not say env.
func Environment(m Map, packages []Package) []string {
	var findings []string
	for _, p := range packages {
		if m.allows(p.Path, Env) {
			continue
		}
		for _, place := range p.Environment {
			findings = append(findings, p.Path+"/"+place)
		}
	}
	return findings
}

// A Rule is a limit that no line of the map may lift.
type Rule struct {
	// Allow is what the rule is about: a word or a package of the map, or
	// with a "/..." behind it a package and all below it.
	Allow string
	// But is what it leaves alone though Allow covers it; empty means nothing.
	But string
	// Only has the lines that may list it, written in the same way.
	Only []string
	// Why is the sentence of docs/architecture.md that the rule stands for.
	Why string
}

// Rules finds the lines of the map that list what a rule keeps from them.
func Rules(m Map, rules []Rule) []string {
	var findings []string
	for _, pkg := range m.packages() {
		for _, word := range m.Lines[pkg] {
			for _, rule := range rules {
				may := func(only string) bool { return matches(only, pkg) }
				if matches(rule.Allow, word) && word != rule.But && !slices.ContainsFunc(rule.Only, may) {
					findings = append(findings, fmt.Sprintf("the line of %s lists %s: %s", pkg, word, rule.Why))
				}
			}
		}
	}
	return findings
}

func matches(pattern, name string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return under(name, root)
	}
	return pattern == name
}
