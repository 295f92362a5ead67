package search

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/kljensen/snowball/english"
	"golang.org/x/text/unicode/norm"
)

// maxLexeme is how much of a word counts, in bytes. Postgres takes 2046.
const maxLexeme = 64

// token is a lexeme where it stands in a text.
type token struct {
	lexeme     string
	word       string // as it was written, in lower case
	start, end int    // in bytes of the text
	whole      bool   // an identifier of several parts, which follow
	single     bool   // a sign by itself, of a script without spaces, that stands in pairs too
}

// scan cuts a text into tokens and hands them over in order. Words that say
// nothing by themselves are left out, except inside of an identifier as a
// whole.
func scan(text string, emit func(token)) {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r >= utf8.RuneSelf && spaceless(r) {
			i += grams(text[i:], i, emit)
			continue
		}
		if !wordly(r) {
			if r >= firstEmoji && unicode.Is(unicode.So, r) {
				emit(token{lexeme: text[i : i+size], word: text[i : i+size], start: i, end: i + size})
			}
			i += size
			// What follows an apostrophe is the end of a word: s, t, ll.
			if r == '\'' || r == '’' {
				if n := run(text[i:]); n > 0 && n <= 2 && i > size {
					i += n
				}
			}
			continue
		}
		n := segment(text[i:])
		if n == 1 {
			if name, signs := language(text[i:]); name != "" && (i == 0 || text[i-1] < utf8.RuneSelf && !wordly(rune(text[i-1]))) {
				emit(token{lexeme: name, word: name, start: i, end: i + n + signs})
				i += n + signs
				continue
			}
		}
		identifier(text[i:i+n], i, emit)
		i += n
	}
}

func wordly(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

const firstEmoji = 0x1F000

// language gives the languages that are called by a letter and signs a name
// that is a word, and how many signs they have.
func language(s string) (name string, signs int) {
	c := s[0] | 0x20
	switch rest := s[1:]; {
	case c == 'c' && strings.HasPrefix(rest, "++"):
		name, signs = "cpp", 2
	case (c == 'c' || c == 'f') && strings.HasPrefix(rest, "#"):
		name, signs = map[byte]string{'c': "csharp", 'f': "fsharp"}[c], 1
	}
	if r, _ := utf8.DecodeRuneInString(s[1+signs:]); wordly(r) {
		return "", 0
	}
	return name, signs
}

// spaceless reports that a letter is of a script whose words no spaces part,
// or too few of them. Their words are not known here: each pair of letters is
// one.
func spaceless(r rune) bool {
	return r >= 0x0E00 && wordly(r) && (r == 'ー' || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar))
}

// grams hands over the pairs of such letters at the beginning, and each by
// itself. It gives how many bytes they have.
func grams(s string, at int, emit func(token)) int {
	before, n := -1, 0
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if !spaceless(r) {
			break
		}
		if before >= 0 {
			emit(token{lexeme: s[before : n+size], word: s[before : n+size], start: at + before, end: at + n + size})
		}
		next, _ := utf8.DecodeRuneInString(s[n+size:])
		emit(token{lexeme: s[n : n+size], word: s[n : n+size], start: at + n, end: at + n + size, single: before >= 0 || spaceless(next)})
		before, n = n, n+size
	}
	return n
}

// fold is a word in lower case, without what is written above and below its
// letters: people leave that out when they type.
func fold(s string) string {
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	s = strings.ToLower(s)
	if ascii {
		return s
	}
	var b strings.Builder
	for _, r := range norm.NFD.String(s) {
		switch {
		case r >= 0x0300 && r <= 0x036F: // what was above or below
		case unfold[r] != "":
			b.WriteString(unfold[r])
		default:
			b.WriteRune(r)
		}
	}
	return norm.NFC.String(b.String())
}

// unfold has the letters that are more than a letter with a mark.
var unfold = map[rune]string{
	'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'ł': "l", 'đ': "d", 'ð': "d", 'þ': "th", 'ı': "i", 'ς': "σ",
}

// run is the length of the letters and digits at the beginning.
func run(s string) int {
	for i, r := range s {
		if !wordly(r) || r >= utf8.RuneSelf && spaceless(r) {
			return i
		}
	}
	return len(s)
}

// segment is the length of an identifier at the beginning: words, joined by
// one of _ - . each.
func segment(s string) int {
	n := run(s)
	for n < len(s) && (s[n] == '_' || s[n] == '-' || s[n] == '.') {
		more := run(s[n+1:])
		if more == 0 {
			break
		}
		n += 1 + more
	}
	return n
}

// identifier hands over one as a whole, when it has parts, and its parts. A
// name in it, as in a file's name, is whole as well, also without the number
// at its end.
func identifier(s string, at int, emit func(token)) {
	if part, ok := simple(s); ok {
		word(part, s, at, emit)
		return
	}
	whole := func(from, to int) {
		if name := squeeze(s[from:to]); name != "" && len(name) <= maxLexeme && !digit(name[0]) {
			emit(token{lexeme: name, word: name, start: at + from, end: at + to, whole: true})
		}
	}
	var room [8][2]int
	parts := room[:0]
	for i := 0; i < len(s); {
		n := run(s[i:])
		if n == 0 {
			i++
			continue
		}
		before := len(parts)
		parts = cuts(parts, s[i:i+n], i)
		if i == 0 && n == len(s) {
			if len(parts) > 1 {
				whole(0, n)
			}
		} else if i == 0 {
			whole(0, len(s))
		}
		if n < len(s) && len(parts)-before > 1 {
			whole(i, i+n)
		}
		if last := parts[len(parts)-1]; len(parts)-before > 2 && digit(s[last[0]]) {
			whole(i, last[0])
		}
		i += n
	}
	for _, p := range parts {
		w := s[p[0]:p[1]]
		word(fold(w), w, at+p[0], emit)
	}
}

// simple reports that s is one word without a join, and gives it in lower
// case. Most are.
func simple(s string) (string, bool) {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || c < 'a' || c > 'z' {
			if i == 0 && 'A' <= c && c <= 'Z' {
				continue
			}
			return "", false
		}
	}
	if s[0] < 'a' {
		return strings.ToLower(s), true
	}
	return s, true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// squeeze is an identifier in the form that does not tell who wrote it how:
// getUserById, get_user_by_id and get-user-by-id are the same.
func squeeze(s string) string {
	var b strings.Builder
	plain := true
	for _, r := range s {
		if wordly(r) {
			plain = plain && r < utf8.RuneSelf
			b.WriteRune(unicode.ToLower(r))
		}
	}
	if plain {
		return b.String()
	}
	return fold(b.String())
}

// cuts splits a word where a capital begins a new one, HTTPServer into HTTP
// and Server, and digits at its end: Batch2. What mixes both more than that,
// as a hash does, stays whole. The parts are appended to out.
func cuts(out [][2]int, s string, at int) [][2]int {
	known := len(out)
	start, changes := 0, 0
	var before rune
	last := 0 // where before is
	for i, r := range s {
		if i > 0 {
			number := unicode.IsDigit(r)
			switch {
			case number != unicode.IsDigit(before):
				changes++
				out, start = append(out, [2]int{at + start, at + i}), i
			case unicode.IsUpper(r) && !unicode.IsUpper(before):
				out, start = append(out, [2]int{at + start, at + i}), i
			case unicode.IsLower(r) && unicode.IsUpper(before) && last > start:
				out, start = append(out, [2]int{at + start, at + last}), last
			}
		}
		before, last = r, i
	}
	if changes > 1 || changes == 1 && digit(s[0]) {
		return append(out[:known], [2]int{at, at + len(s)})
	}
	return append(out, [2]int{at + start, at + len(s)})
}

// word hands over a word by its stem, unless it says nothing.
func word(lower, as string, at int, emit func(token)) {
	if len(lower) < 2 && (lower == "" || !digit(lower[0])) {
		return
	}
	if lexeme := stem(clip(lower)); lexeme != "" {
		emit(token{lexeme: lexeme, word: lower, start: at, end: at + len(as)})
	}
}

func clip(s string) string {
	if len(s) <= maxLexeme {
		return s
	}
	n := maxLexeme
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// stems remembers those of words, because agents say the same ones.
var stems = struct {
	sync.RWMutex
	of map[string]string
}{of: map[string]string{}}

const maxStems = 1 << 16

// stem is the form of a word that stands for all of its forms, or "" for one
// that says nothing.
func stem(lower string) string {
	stems.RLock()
	s, ok := stems.of[lower]
	stems.RUnlock()
	if ok {
		return s
	}
	switch {
	case stop[lower]:
	case plausible(lower):
		s = english.Stem(lower, false)
	default:
		return lower
	}
	stems.Lock()
	defer stems.Unlock()
	if len(stems.of) >= maxStems {
		clear(stems.of)
	}
	stems.of[strings.Clone(lower)] = strings.Clone(s)
	return s
}

var stop = func() map[string]bool {
	all := map[string]bool{}
	for w := range strings.FieldsSeq(`a about above after again against all am an and any are as at be because been before being
		below between both but by can could did didn do does doesn doing don down during each few for from further had has hasn
		have haven having he her here hers him his how i if in into is isn it its itself just let me more most my no nor not
		now of off on once only or other our ours out over own same shall she should shouldn so some such than that the their
		them then there these they this those through to too under until up us very was wasn we were weren what when where
		which while who whom whose why will with won would wouldn you your yours`) {
		all[w] = true
	}
	return all
}()
