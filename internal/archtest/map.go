// Package archtest keeps the house in the shape that docs/architecture.md
// gives it: the imports block of that document is the input, the source files
// are what it is held against.
//
// Start with [ParseMap] for the document and [Scan] for the tree. [Imports],
// [Comments] and [Environment] compare the two, [Rules] looks at the map
// alone. Each returns its findings, one sentence a finding; none is good.
//
// The files are parsed here and not asked of `go list`: so the files of other
// platforms count too, and `go test` knows what its cached answer rests on.
package archtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Words on the map that are not packages.
const (
	// Std allows the standard library, all but its testing packages.
	Std = "std"
	// Testing allows testing and testing/…, and makes the package a test kit:
	// only tests and other test kits may import it.
	Testing = "testing"
	// Env allows reading the environment of the process.
	Env = "env"
)

// A Map says which package may import what.
type Map struct {
	// Module is the import path of our own module.
	Module string
	// Words has the short names of other people's modules: word → import
	// path. A word allows that path and all below it.
	Words map[string]string
	// Lines has our packages, by path relative to the module, and the words
	// and packages that each may import.
	Lines map[string][]string
}

// ParseMap reads the first block of markdown that is fenced with "```imports".
// In the block a line is either `word = import/path`, which names somebody
// else's module, or `our/package : what it may import`. Empty lines and what
// follows a # are skipped. An error names the line that it is about.
func ParseMap(module, markdown string) (Map, error) {
	m := Map{Module: module, Words: map[string]string{}, Lines: map[string][]string{}}
	_, block, found := strings.Cut("\n"+markdown, "\n```imports\n")
	if !found {
		return Map{}, errors.New("the document has no ```imports block")
	}
	block, _, found = strings.Cut(block, "\n```")
	if !found {
		return Map{}, errors.New("the ```imports block is never closed")
	}
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if err := m.add(line); err != nil {
			return Map{}, fmt.Errorf("map line %q: %w", line, err)
		}
	}
	return m, m.known()
}

func (m Map) add(line string) error {
	if word, path, ok := strings.Cut(line, "="); ok {
		word, path = strings.TrimSpace(word), strings.TrimSpace(path)
		switch {
		case word == "" || path == "":
			return errors.New("want `word = import/path`")
		case word == Std || word == Testing || word == Env:
			return errors.New("the word has a meaning of its own")
		case m.Words[word] != "":
			return errors.New("the word is there twice")
		}
		m.Words[word] = path
		return nil
	}
	pkg, allowed, ok := strings.Cut(line, ":")
	pkg = strings.TrimSpace(pkg)
	switch {
	case !ok || pkg == "":
		return errors.New("want `package : imports`")
	case m.Lines[pkg] != nil:
		return errors.New("the package is there twice")
	}
	m.Lines[pkg] = append([]string{}, strings.Fields(allowed)...)
	return nil
}

// known reports the first line that allows something the map does not name.
func (m Map) known() error {
	for _, pkg := range m.packages() {
		for _, word := range m.Lines[pkg] {
			if word == Std || word == Testing || word == Env || m.Words[word] != "" || m.Lines[word] != nil {
				continue
			}
			return fmt.Errorf("map line of %s: %q is neither a package nor a word of the map", pkg, word)
		}
	}
	return nil
}

func (m Map) packages() []string {
	names := make([]string, 0, len(m.Lines))
	for pkg := range m.Lines {
		names = append(names, pkg)
	}
	slices.Sort(names)
	return names
}

// name is how the map would write an import: std, testing, one of its words,
// or a package of ours. Other people's packages that have no word, and ours
// that have no line, keep their import path.
func (m Map) name(imported string) string {
	if own, ok := strings.CutPrefix(imported, m.Module+"/"); ok {
		return own
	}
	if under(imported, Testing) {
		return Testing
	}
	for word, path := range m.Words {
		if under(imported, path) {
			return word
		}
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return Std
	}
	return imported
}

func (m Map) allows(pkg, word string) bool { return slices.Contains(m.Lines[pkg], word) }

// under reports whether path is root or lies below it.
func under(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}
