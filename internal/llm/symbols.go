package llm

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// maxScan bounds the lines of one file that are looked at.
const maxScan = 20_000

var declarations = map[string][]*regexp.Regexp{
	".go":    {declaring(`^func (?:\([^)]*\) )?(\w+)`), declaring(`^type (\w+)`), declaring(`^(?:const|var) (\w+)`)},
	".py":    {declaring(`^\s*(?:async )?def (\w+)`), declaring(`^class (\w+)`)},
	".js":    {declaring(`^(?:export )?(?:default )?(?:async )?function\*? (\w+)`), declaring(`^(?:export )?(?:default )?(?:abstract )?class (\w+)`), declaring(`^(?:export )?(?:const|let) (\w+) = (?:async )?(?:\(|function|\w+ =>)`), declaring(`^(?:export )?(?:interface|type|enum) (\w+)`)},
	".rs":    {declaring(`^\s*(?:pub(?:\([^)]*\))? )?(?:async )?(?:fn|struct|enum|trait|type) (\w+)`)},
	".java":  {declaring(`^\s*(?:public |private |protected |static |final |abstract )*(?:class|interface|enum|record) (\w+)`), declaring(`^\s+(?:public|private|protected)[\w<>\[\], ]* (\w+)\(`)},
	".rb":    {declaring(`^\s*(?:def|class|module) ([\w.?!]+)`)},
	".sql":   {declaring(`(?i)^\s*create (?:or replace )?(?:unique )?(?:table|index|view|function|trigger|type)(?: concurrently)? (?:if not exists )?([\w."]+)`), declaring(`^-- name: (\w+)`), declaring(`(?i)^\s*alter table (?:if exists )?([\w."]+)`)},
	".sh":    {declaring(`^(?:function )?(\w+) ?\(\) ?\{`)},
	".proto": {declaring(`^\s*(?:message|service|enum|rpc) (\w+)`)},
	".md":    {declaring(`^#{1,3} +(.+?)\s*#*$`)},
}

// declaring compiles the form of a declaration. Names may have any letters.
func declaring(form string) *regexp.Regexp {
	const letters = `\pL\pN_`
	return regexp.MustCompile(strings.NewReplacer(`[\w`, `[`+letters, `\w`, `[`+letters+`]`).Replace(form))
}

var sameAs = map[string]string{
	".ts": ".js", ".tsx": ".js", ".jsx": ".js", ".mjs": ".js", ".cjs": ".js", ".kt": ".java", ".bash": ".sh", ".markdown": ".md",
}

func language(file string) string {
	ext := strings.ToLower(path.Ext(file))
	if other, ok := sameAs[ext]; ok {
		return other
	}
	return ext
}

// declared returns the name that a line of the file declares, or "".
func declared(file, line string) string {
	if len(line) > 400 {
		return ""
	}
	for _, re := range declarations[language(file)] {
		if m := re.FindStringSubmatch(line); m != nil && m[1] != "_" {
			return strings.TrimSpace(m[1])
		}
	}
	return ""
}

// declaredIn returns the names declared in text, each once, in order.
func declaredIn(file string, text []string) []string {
	var names []string
	seen := map[string]bool{}
	fenced := false
	for _, l := range text[:min(len(text), maxScan)] {
		if strings.HasPrefix(l, "```") {
			fenced = !fenced
		}
		if name := declared(file, l); name != "" && !fenced && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// foremost orders names for a title: exported and distinctive ones first.
func foremost(file string, names []string) []string {
	if language(file) != ".go" {
		return names
	}
	var exported, errs, rest []string
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "Err") && n != "Error":
			errs = append(errs, n)
		case n[0] >= 'A' && n[0] <= 'Z':
			exported = append(exported, n)
		case n != "main" && n != "init":
			rest = append(rest, n)
		}
	}
	return slices.Concat(exported, errs, rest)
}

func isTest(file string) bool {
	base := path.Base(file)
	return strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, "test_") || strings.Contains(base, ".test.") ||
		strings.Contains(base, ".spec.") || strings.HasSuffix(base, "_test.py") || strings.HasSuffix(base, "_spec.rb")
}

func isProse(file string) bool {
	switch language(file) {
	case ".md", ".txt", ".rst", ".adoc":
		return true
	}
	return false
}

var commentMark = regexp.MustCompile(`^\s*(?://+|#+|--+|\*+|/\*+|;+|<!--)\s?`)

// commentText returns the words of a line that is all comment.
func commentText(file, line string) (string, bool) {
	if isProse(file) {
		return "", false
	}
	mark := commentMark.FindString(line)
	if mark == "" || strings.HasPrefix(strings.TrimSpace(line), "#!") {
		return "", false
	}
	lang := language(file)
	m := strings.TrimSpace(mark)
	switch {
	case lang == ".go" || lang == ".js" || lang == ".java" || lang == ".rs" || lang == ".proto":
		if m[0] != '/' && m[0] != '*' {
			return "", false
		}
	case lang == ".sql":
		if m[0] != '-' {
			return "", false
		}
	default:
		if m[0] != '#' && m[0] != '/' {
			return "", false
		}
	}
	text := strings.TrimSpace(strings.TrimSuffix(line[len(mark):], "*/"))
	for _, directive := range []string{"go:", "nolint", "eslint", "noqa", "name:", "+goose", "Output:", "TODO"} {
		if strings.HasPrefix(text, directive) {
			return "", false
		}
	}
	return text, true
}

// docOf returns what a file says of itself: the comment at its top, or a
// document's first paragraph.
func docOf(file string, text []string) string {
	if isProse(file) {
		return opening(strings.Join(text[:min(len(text), 60)], "\n"), 2)
	}
	var doc []string
	for _, l := range text[:min(len(text), 60)] {
		if c, ok := commentText(file, l); ok {
			if strings.HasPrefix(c, "Copyright") || strings.Contains(c, "generated") && strings.Contains(c, "DO NOT EDIT") {
				return ""
			}
			doc = append(doc, c)
			continue
		}
		t := strings.TrimSpace(l)
		if len(doc) > 0 && (t == "" || declared(file, l) != "" || strings.HasPrefix(t, "package ")) {
			break
		}
		if t != "" && !strings.HasPrefix(t, "package ") && !strings.HasPrefix(t, "#!") && len(doc) == 0 {
			return ""
		}
	}
	return opening(strings.Join(doc, "\n"), 2)
}
