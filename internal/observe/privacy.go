package observe

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// privateTags name what an author, or an agent's host, put into text that is
// not to be read by others. What stands in such a tag stays with the event
// and goes nowhere else.
var privateTags = []string{
	"private", "claude-mem-context", "system_instruction", "system-instruction", "persisted-output", "system-reminder",
}

// privateTag finds where a tag begins: `<name` or `</name` in any case, with
// what makes the name end. JSON within a JSON string has its < as \u003c and
// its / as \/, behind any number of backslashes: a reader of that inner JSON
// would see the tag, so it is one here.
var privateTag = regexp.MustCompile(
	`(?i)(?:<|\\+u003c)(\s*\\*/\s*)?(` + strings.Join(privateTags, "|") + `)(\s|\\|/|>|$)`)

// tagEnd finds where a tag ends.
var tagEnd = regexp.MustCompile(`(?i)>|\\+u003e`)

// stripRounds bounds how often text is looked through again because taking
// something out has joined the halves of another tag. Nobody writes such text
// by accident.
const stripRounds = 8

// strip takes out of a text what privacy tags enclose, with the tags. Tags may
// have attributes and be nested. One that is never closed hides all that
// follows: better too little than too much. A closing tag that nothing opened
// is taken out alone.
func strip(s string) string {
	for range stripRounds {
		next := stripOnce(s)
		if next == s {
			return s
		}
		s = next
	}
	return ""
}

func stripOnce(s string) string {
	if !strings.ContainsRune(s, '<') && !strings.Contains(s, "u003") {
		return s
	}
	var out strings.Builder
	open := map[string]int{} // the tags that are open here; text is kept while none is
	rest, at := s, 0
	for at < len(rest) {
		m := privateTag.FindStringSubmatchIndex(rest[at:])
		if m == nil {
			break
		}
		for i := range m {
			if m[i] >= 0 {
				m[i] += at
			}
		}
		name := strings.ToLower(rest[m[4]:m[5]])
		if len(open) == 0 {
			out.WriteString(rest[at:m[0]])
		}
		// The tag goes to its >. One that has none is text to its end.
		end := tagEnd.FindStringIndex(rest[m[5]:])
		if end == nil {
			at = len(rest)
		} else {
			at = m[5] + end[1]
		}
		switch closing := m[2] >= 0; {
		case !closing:
			open[name]++
		case open[name] > 1:
			open[name]--
		default:
			delete(open, name)
		}
	}
	if len(open) == 0 {
		out.WriteString(rest[at:])
	}
	return out.String()
}

// stripDocument strips every string of a JSON document by itself, names of
// members included, so that a tag in one field cannot reach into another.
// Strings longer than most bytes are cut. gone is true when something was
// taken out and no string says anything any more.
func stripDocument(raw []byte, most int) (doc []byte, gone bool, err error) {
	stripped, said := false, false
	doc, err = rewrite(orEmpty(raw), func(s string) string {
		kept := strip(s)
		stripped = stripped || kept != s
		return cutMiddle(kept, most)
	})
	if err == nil && stripped {
		said, err = saysAnything(doc)
	}
	return doc, stripped && !said, err
}

// saysAnything reports whether a document holds a string, not a name, that is
// more than white space.
func saysAnything(doc []byte) (bool, error) {
	d := newDecoder(doc)
	for {
		kind, n := d.StackIndex(d.StackDepth())
		isName := kind == '{' && n%2 == 0
		t, err := d.ReadToken()
		if err != nil {
			return false, err
		}
		if t.Kind() == '"' && !isName && strings.TrimSpace(t.String()) != "" {
			return true, nil
		}
		if d.StackDepth() == 0 {
			return false, nil
		}
	}
}

// cut shortens text to at most n bytes, between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "…"
	n -= len(mark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:max(n, 0)] + mark
}

// cutMiddle shortens text to about n bytes and keeps its end too, which is
// where a command's output says what went wrong.
func cutMiddle(s string, n int) string {
	if len(s) <= n {
		return s
	}
	from := len(s) - n/4
	for from < len(s) && !utf8.RuneStart(s[from]) {
		from++
	}
	return cut(s, n-n/4) + "\n" + s[from:]
}
