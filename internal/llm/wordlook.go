package llm

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// wordLook is an expression that can only match where one of some words
// stands. Most sentences have none of them, and to see that takes a tenth of
// the time.
type wordLook struct {
	words map[string]bool
	expr  *regexp.Regexp
}

func look(words, expr string) wordLook {
	l := wordLook{map[string]bool{}, regexp.MustCompile(expr)}
	for w := range strings.FieldsSeq(words) {
		l.words[w] = true
	}
	return l
}

// MatchString reports whether the expression matches.
func (l wordLook) MatchString(s string) bool {
	var low [24]byte // a longer word is none of ours
	n := 0
	for i := range len(s) + 1 {
		c := byte(' ')
		if i < len(s) {
			c = s[i]
		}
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
			fallthrough
		case c >= 'a' && c <= 'z':
			if n < len(low) {
				low[n] = c //nolint:gosec // n is less than its length
			}
			n++
		case c >= utf8.RuneSelf && c != 0xe2: // folds to a letter, maybe; 0xe2 begins quotes
			return l.expr.MatchString(s)
		default:
			if n > 0 && n <= len(low) && l.words[string(low[:n])] {
				return l.expr.MatchString(s)
			}
			n = 0
		}
	}
	return false
}

// lineLook is an expression that can only match a line with some text in it.
// Few lines have it, and it is found far sooner than the expression is tried.
type lineLook struct {
	*regexp.Regexp
	text string
}

func having(text, expr string) lineLook { return lineLook{regexp.MustCompile(expr), text} }

// MatchString reports whether the expression matches.
func (l lineLook) MatchString(s string) bool {
	return strings.Contains(s, l.text) && l.Regexp.MatchString(s)
}
