package observe

import (
	"cmp"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed-245eaa15/obs/internal/secrets"
)

// privateTags name what an author, or an agent's host, put into text that is
// not to be read by others. What stands in such a tag stays with the event
// and goes nowhere else.
var privateTags = [...]string{
	"private", "claude-mem-context", "system_instruction", "system-instruction", "persisted-output", "system-reminder",
}

// tags counts how often each of privateTags is open. Text is kept while none is.
type tags [len(privateTags)]int

// The ways to write < and > that a reader of the text would undo: JSON within
// a JSON string has \u003c, behind any number of backslashes, HTML has &lt;,
// a URL has %3c. All of them are tags here.
const (
	amp = `(?:&|\\+u0026|%26)(?:amp;)*`
	lt  = `(?:<|\\+u003c|\\+x3c|%3c|` + amp + `(?:lt|#0*60|#x0*3c);?)`
	gt  = `(?:>|\\+u003e|\\+x3e|%3e|` + amp + `(?:gt|#0*62|#x0*3e);?)`
)

// privateTag finds where a tag begins: `<name` or `</name` in any case, with
// what makes the name end.
var privateTag = regexp.MustCompile(`(?i)` + lt + `(\s*(?:\\*/|\\+u002f|%2f)\s*)?(` + strings.Join(privateTags[:], "|") + `)(?:[\s\\/>&%+]|$)`)

// tagEnd finds where a tag ends.
var tagEnd = regexp.MustCompile(`(?i)` + gt)

// stripRounds bounds how often text is looked through again because taking
// something out has joined the halves of another tag. Nobody writes such text
// by accident.
const stripRounds = 8

// strip takes out of a text what privacy tags enclose, with the tags. Tags may
// have attributes and be nested. One that is never closed hides all that
// follows: better too little than too much. A closing tag that nothing opened
// is taken out alone.
func strip(s string) string {
	kept, _ := stripFrom(s, tags{})
	return kept
}

// stripFrom is strip for text before which tags were open; it also gives those
// that are open behind it.
func stripFrom(s string, open tags) (kept string, after tags) {
	kept, after = stripOnce(s, open)
	for range stripRounds {
		again, more := stripOnce(kept, tags{})
		if again == kept {
			return kept, after
		}
		for i, n := range more {
			after[i] += n
		}
		kept = again
	}
	return "", after
}

func stripOnce(s string, open tags) (string, tags) {
	if !mayHoldTag(s) {
		if open != (tags{}) {
			s = ""
		}
		return s, open
	}
	var out strings.Builder
	at := 0
	for at < len(s) {
		m := privateTag.FindStringSubmatchIndex(s[at:])
		if m == nil {
			break
		}
		if open == (tags{}) {
			out.WriteString(s[at : at+m[0]])
		}
		name := s[at+m[4] : at+m[5]]
		i := slices.IndexFunc(privateTags[:], func(t string) bool { return strings.EqualFold(t, name) })
		if m[2] < 0 {
			open[i]++
		} else {
			open[i] = max(0, open[i]-1)
		}
		// The tag goes to its >. One that has none is text to its end.
		at += m[5]
		if end := tagEnd.FindStringIndex(s[at:]); end == nil {
			at = len(s)
		} else {
			at += end[1]
		}
	}
	if open == (tags{}) {
		out.WriteString(s[at:])
	}
	return out.String(), open
}

// mayHoldTag is quick where nothing in the text stands for < (see lt), or there
// is no tag's name in it.
func mayHoldTag[T string | []byte](s T) bool {
	opens := false
	for i := 0; i < len(s) && !opens; i++ {
		switch s[i] {
		case '<', '&':
			opens = true
		case '3':
			opens = i+1 < len(s) && s[i+1]|' ' == 'c'
		case '0', '%':
			opens = beginsWith(s[i:], "0026") || beginsWith(s[i:], "%26")
		}
	}
	if !opens {
		return false
	}
	for i := range len(s) {
		switch s[i] | ' ' {
		case 'p', 'c', 's': // what the names begin with
			for _, t := range privateTags {
				if beginsWith(s[i:], t) {
					return true
				}
			}
		}
	}
	return false
}

// beginsWith is whether s begins with what is all small letters and marks, in
// whatever case.
func beginsWith[T string | []byte](s T, small string) bool {
	if len(s) < len(small) {
		return false
	}
	for i := range len(small) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= ' '
		}
		if c != small[i] {
			return false
		}
	}
	return true
}

// hide is strip, and takes out what looks like a secret too: what it leaves may
// be shown to a provider, and stored with an observation.
func hide(s string) string {
	s, _ = secrets.Redact(strip(s))
	return s
}

// hideDocument hides in the strings of a JSON document, names of members
// included. What a list holds is one text in parts, as the lines of a patch or
// the blocks of a message are: a tag that one element opens is open in the
// next, until the list ends. The members of an object have no order: a tag in
// one does not reach into another. Strings longer than most bytes are cut.
// gone is true when privacy tags took something out and no string says
// anything any more.
func hideDocument(raw []byte, most int) (doc []byte, gone bool, err error) {
	p := &privacy{most: most, secrets: true, levels: []level{{}}}
	if doc, err = rewrite(orEmpty(raw), p); err != nil || !p.stripped {
		return doc, false, err
	}
	said, err := saysAnything(doc)
	return doc, !said, err
}

// showable is hideDocument for a stored payload, and quick where there is
// nothing to hide: then it is shown as it is, and quiet.
func showable(raw []byte) (doc []byte, quiet, gone bool, err error) {
	if len(raw) <= maxString && !secrets.SuspectJSON(raw) && !mayHoldTag(raw) {
		return orEmpty(raw), true, false, nil
	}
	doc, gone, err = hideDocument(raw, maxString)
	return doc, false, gone, err
}

// stripStored takes out of a document, before it is stored, what privacy tags
// enclose, and what looks like a secret if that is asked for as well.
func stripStored(raw []byte, alsoSecrets bool) ([]byte, error) {
	return rewrite(orEmpty(raw), &privacy{most: math.MaxInt, secrets: alsoSecrets, levels: []level{{}}})
}

// privacy is the editor of these.
type privacy struct {
	most     int
	secrets  bool    // takes out secrets too
	levels   []level // the lists and objects that are open here; the first is the document
	stripped bool    // tags took something out
	found    bool    // secrets were taken out
	depth    int     // of documents within strings
}

// level is a list or an object.
type level struct {
	list   bool
	before tags   // open where the next element, or any member, begins
	after  tags   // open behind an object: what its members change adds up
	name   string // of the member that comes, or that the list belongs to
	flag   string // in a list of words, the flag before the one that comes
	// What began in one element of a list and is not over.
	key      bool // a private key
	manifest bool // a Kubernetes secret
}

func (p *privacy) top() *level { return &p.levels[len(p.levels)-1] }

// leave notes what is open behind a value.
func (l *level) leave(open tags) {
	if l.list {
		l.before = open
		return
	}
	for i := range open {
		l.after[i] += open[i] - l.before[i]
	}
}

func (p *privacy) begin(list bool) {
	open := p.top().before
	p.levels = append(p.levels, level{list: list, before: open, after: open, name: p.top().name})
}

func (p *privacy) end() {
	l := *p.top()
	p.levels = p.levels[:len(p.levels)-1]
	if l.list {
		p.top().leave(l.before)
		return
	}
	for i := range l.after {
		l.after[i] = max(0, l.after[i])
	}
	p.top().leave(l.after)
}

func (p *privacy) text(s string, name bool) string {
	kept, open := stripFrom(s, p.top().before)
	p.stripped = p.stripped || kept != s
	if !name {
		p.top().leave(open)
	}
	if p.secrets {
		kept = p.redact(kept, name)
	}
	return cutMiddle(kept, p.most)
}

// redact also finds secrets that only the structure shows: by the name of the
// member, by the flag before, and keys of which each line is an element.
func (p *privacy) redact(s string, name bool) string {
	at := p.top()
	if name {
		at.name = s
	} else if at.key {
		at.key = !strings.Contains(s, "-----END")
		return secrets.Mark(privateKey)
	}
	called := cmp.Or(at.flag, at.name)
	if at.flag = ""; at.list && strings.HasPrefix(s, "-") && !strings.ContainsAny(s, " =\n") {
		at.flag = s
	}
	if kind, ok := secrets.Named(called, s); ok && !name {
		p.found = true
		return secrets.Mark(kind)
	}
	const manifest = "kind: secret\n"
	kept := p.within(s)
	if at.manifest {
		kept = manifest + kept
	}
	kept, found := secrets.Redact(kept)
	if kept = strings.TrimPrefix(kept, manifest); at.list && !at.manifest {
		at.manifest = strings.Contains(strings.ToLower(s), strings.TrimSpace(manifest))
	}
	p.found = p.found || len(found) > 0
	if at.list {
		at.key = slices.Contains(found, privateKey) && !strings.Contains(s, "-----END")
	}
	return kept
}

// within looks into a string that is a document itself, as a tool's answer is
// at times. Only one with a secret in it is written anew.
func (p *privacy) within(s string) string {
	t := strings.TrimSpace(s)
	if len(t) < 2 || t[0] != '{' && t[0] != '[' || p.depth == maxWithin || !json.Valid([]byte(t)) {
		return s
	}
	inner := &privacy{most: math.MaxInt, secrets: true, levels: []level{{name: p.top().name}}, depth: p.depth + 1}
	doc, err := rewrite([]byte(t), inner)
	if err != nil || !inner.found {
		return s
	}
	p.found = true
	return string(doc)
}

const (
	privateKey = "private-key" // the kind
	maxWithin  = 8             // documents in documents
)

func (p *privacy) hidden() bool {
	hidden := p.top().before != tags{}
	p.stripped = p.stripped || hidden
	return hidden
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
