package llm

import (
	"fmt"
	"html"
	"regexp"
	"strings"
)

var escapedRoot = regexp.MustCompile(`(?i)&lt;(?:observation|summary|skip_summary)\b`)

var roots = regexp.MustCompile(`(?i)<(?:observation|summary|skip_summary)\b[^>]*>`)

func firstTag(text string) int {
	if at := roots.FindStringIndex(text); at != nil {
		return at[0]
	}
	return -1
}

// element matches each element of that name, whatever its case.
func element(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?is)<` + name + `(?:\s[^>]*)?>(.*?)</` + name + `\s*>`)
}

var elements = func() map[string]*regexp.Regexp {
	all := map[string]*regexp.Regexp{}
	for _, name := range []string{
		"observation", "summary", "type", "title", "subtitle", "narrative", "facts", "fact", "concepts", "concept",
		"files_read", "files_modified", "file", "events", "event",
		"request", "investigated", "learned", "completed", "next_steps", "notes",
	} {
		all[name] = element(name)
	}
	return all
}()

func inner(text, name string) string {
	if m := elements[name].FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

func content(text, name string) loose { return loose(unescaped(inner(text, name))) }

var cdata = regexp.MustCompile(`(?s)<!\[CDATA\[(.*?)\]\]>`)

// unescaped is the text of an element. In CDATA nothing is escaped.
func unescaped(text string) string {
	var b strings.Builder
	at := 0
	for _, m := range cdata.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(html.UnescapeString(text[at:m[0]]))
		b.WriteString(text[m[2]:m[3]])
		at = m[1]
	}
	b.WriteString(html.UnescapeString(text[at:]))
	return strings.TrimSpace(b.String())
}

// contents are the items of a list. Where somebody forgot their tags, each line
// is one.
func contents(text, list, item string) looseList {
	var out looseList
	all := inner(text, list)
	found := elements[item].FindAllStringSubmatch(all, -1)
	for _, m := range found {
		if text := unescaped(m[1]); text != "" {
			out = append(out, text)
		}
	}
	if len(found) == 0 {
		for _, l := range lines(all) {
			out = out.and(strings.TrimSpace(listMark.ReplaceAllString(l, "")))
		}
	}
	return out
}

// readBlocks reads the grammar. It is read by search and not by an XML parser:
// models do not escape what they quote.
func readBlocks(text string) (written, error) {
	var w written
	for _, m := range elements["observation"].FindAllStringSubmatch(text, -1) {
		o := m[1]
		w.Observations = append(w.Observations, writtenNote{
			Type: content(o, "type"), Title: content(o, "title"), Subtitle: content(o, "subtitle"), Narrative: content(o, "narrative"),
			Facts: contents(o, "facts", "fact"), Concepts: contents(o, "concepts", "concept"),
			FilesRead: contents(o, "files_read", "file"), FilesModified: contents(o, "files_modified", "file"),
			Events: contents(o, "events", "event"),
		})
	}
	if len(w.Observations) == 0 {
		if m := elements["summary"].FindStringSubmatch(text); m != nil {
			s := m[1]
			w.Summary = &writtenSum{
				content(s, "request"), content(s, "investigated"), content(s, "learned"),
				content(s, "completed"), content(s, "next_steps"), content(s, "notes"),
			}
		}
	}
	switch first := roots.FindString(text); {
	case len(w.Observations) > 0 || w.Summary != nil:
	case first == "":
		return w, errProse
	case strings.HasPrefix(strings.ToLower(first), "<skip_summary"):
		w.Skip = true
	default:
		return w, fmt.Errorf("the answer breaks off: %s is not closed", strings.ToLower(first[:strings.IndexAny(first, " >\n\t")])+">")
	}
	return w, nil
}
