package llm

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what the extractor writes, in characters and items.
const (
	maxTitle     = 120
	maxSubtitle  = 160
	maxNarrative = 1000
	maxFact      = 240
	maxFacts     = 12
	maxFiles     = 40
	maxPath      = 300
	maxPart      = 1000 // a part of a Summary
	maxNotes     = 24   // observations in one answer
)

var ansi = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// plain makes s safe to store: valid UTF-8, no colour codes, no control
// characters but tab and newline.
func plain(s string) string {
	if isPlain(s) {
		return s
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.Contains(s, "\x1b") {
		s = ansi.ReplaceAllString(s, "")
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.IsControl(r) {
			return r
		}
		return -1
	}, s)
}

// isPlain is quick: false does not mean that there is something to take out.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\n' && c != '\t' || c > '~' {
			return false
		}
	}
	return true
}

// oneLine joins all runs of white space into single spaces.
func oneLine(s string) string {
	if isOneLine(s) {
		return s
	}
	return strings.Join(strings.Fields(s), " ")
}

// isOneLine reports that nothing is to be joined, of text without other
// characters than ASCII's: some of those are spaces.
func isOneLine(s string) bool {
	before := byte(' ')
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || c == ' ' && before == ' ' {
			return false
		}
		before = c
	}
	return before != ' ' || s == ""
}

// clip shortens s to at most n characters, at a word's end when there is one
// near, and marks the cut with an ellipsis.
func clip(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	cut := cutAt(s, n-1)
	if strings.Count(cut, "`")%2 == 1 {
		if cut = cutAt(s, n-2); strings.Count(cut, "`")%2 == 1 {
			return cut + "…`"
		}
	}
	return cut + "…"
}

// cutAt returns at most n characters of a longer s.
func cutAt(s string, n int) string {
	end, count := 0, 0
	for i := range s {
		if end = i; count == n {
			break
		}
		count++
	}
	cut := s[:end]
	if i := strings.LastIndexByte(cut, ' '); i > len(cut)*2/3 {
		cut = cut[:i]
	}
	return strings.TrimRight(cut, " ,;:(")
}

// quote puts s in backticks. What stands in backticks in a note is, white
// space apart, the events' own text; a cut ends in an ellipsis.
func quote(s string, n int) string {
	return "`" + clip(strings.ReplaceAll(oneLine(s), "`", "'"), n) + "`"
}

// lines splits s, dropping the carriage returns of other systems.
func lines(s string) []string {
	return strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
}

func firstLine(s string) string {
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			return l
		}
	}
	return ""
}

// list joins names as a person would: "A, B and C", or "A, B and 7 more".
func list(names []string, limit int) string {
	switch n := len(names); {
	case n == 0:
		return ""
	case n == 1:
		return names[0]
	case n <= limit:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	default:
		return strings.Join(names[:limit], ", ") + " and " + plural(n-limit, "more")
	}
}

// upperFirst capitalises a sentence, but leaves a leading name in code alone.
func upperFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	word, _, _ := strings.Cut(s, " ")
	if strings.ContainsAny(word, "._/`()") || strings.ToLower(word) != word {
		return s
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

var (
	listMark = regexp.MustCompile(`^\s*(?:[-*•]|\d{1,2}[.)])\s+`)
	heading  = regexp.MustCompile(`^\s*#{1,6}\s+`)
	// abbreviation matches text whose last full stop ends no sentence.
	abbreviation = regexp.MustCompile(`(?i)(?:^|[\s(])(?:e\.g|i\.e|etc|vs|cf|dr|mr|mrs|ms|st|no|fig|approx|resp|incl|p|pp|al)\.$`)
	emphasis     = strings.NewReplacer("**", "", "__", "")
)

// sentences splits prose, Markdown included: fenced code and headings are left
// out, a list item is a sentence of its own, and a full stop inside backticks,
// a version, a file name or an abbreviation ends nothing.
func sentences(text string) []string {
	var out []string
	for _, p := range paragraphs(text) {
		out = append(out, p...)
	}
	return out
}

// paragraphs is sentences, kept together as the author did.
func paragraphs(text string) [][]string {
	var out [][]string
	var para []string
	flush := func() {
		if len(para) > 0 {
			out = append(out, splitParagraph(strings.Join(para, " ")))
			para = nil
		}
	}
	fenced := false
	for _, l := range lines(text) {
		trimmed := strings.TrimSpace(l)
		if strings.HasPrefix(trimmed, "```") {
			fenced = !fenced
			flush()
			continue
		}
		switch {
		case fenced:
		case trimmed == "", heading.MatchString(l), strings.HasPrefix(trimmed, "|"):
			flush()
		case listMark.MatchString(l):
			flush()
			para = append(para, listMark.ReplaceAllString(trimmed, ""))
		default:
			para = append(para, trimmed)
		}
	}
	flush()
	return out
}

func splitParagraph(p string) []string {
	p = oneLine(emphasis.Replace(p))
	var out []string
	start, code, deep := 0, false, 0
	for i, r := range p {
		switch r {
		case '`':
			code = !code
		case '(':
			deep++
		case ')':
			deep = max(0, deep-1)
		case '.', '!', '?':
			rest := p[i+1:]
			if code || deep > 0 || !strings.HasPrefix(rest, " ") || abbreviation.MatchString(p[max(start, i-12):i+1]) {
				continue
			}
			next, _ := utf8.DecodeRuneInString(rest[1:])
			if unicode.IsLower(next) {
				continue
			}
			out = append(out, p[start:i+1])
			start = i + 2
		}
	}
	if start < len(p) {
		out = append(out, p[start:])
	}
	return out
}

// opening returns the first n sentences of text.
func opening(text string, n int) string {
	s := sentences(text)
	return strings.Join(s[:min(n, len(s))], " ")
}

// unstop drops a title's closing full stop.
func unstop(s string) string { return strings.TrimRight(strings.TrimSpace(s), ".:;,") }

var clause = regexp.MustCompile(`(?:, (?:because|since|so that|so|but|and with it|and not)\b|; |: |, which )`)

var aside = regexp.MustCompile(` \([^()]{12,}\)`)

// headOf shortens a long sentence to its main clause: the reason is told in
// the narrative.
func headOf(s string) string {
	if utf8.RuneCountInString(s) <= 80 {
		return s
	}
	s = aside.ReplaceAllString(s, "")
	for _, at := range clause.FindAllStringIndex(s, -1) {
		head := s[:at[0]]
		if n := utf8.RuneCountInString(head); n >= 28 && n <= maxTitle && len(strings.Fields(head)) > 4 && strings.Count(head, "`")%2 == 0 {
			return head
		}
	}
	return s
}

// add appends the values not in list yet, leaving out empty ones.
func add(list []string, values ...string) []string {
	for _, v := range values {
		if v != "" && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}
