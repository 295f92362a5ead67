package search

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxTerms is how many lexemes of a query count. Of a longer one, those
	// that say most by their looks.
	MaxTerms   = 16
	maxPhrases = 8
	maxPhrase  = 30 // words
)

// Query is what somebody looks for, as typed into a web search: words,
// "phrases", or, -not, and begin* for words that begin so.
type Query struct {
	Terms   []Term
	Phrases []string // regular expressions of Postgres that a text must match
	Without []string // and those that it must not

	all [][]option // all of these, each in one of its ways
	not [][]option
}

// Term is a lexeme that a query is about.
type Term struct {
	Lexeme string
	Word   string   // as it was typed, in lower case
	Whole  bool     // an identifier of several parts
	Prefix bool     // what begins so is meant
	Like   []string // lexemes that were perhaps meant instead
	weight float64
}

// option is one way to say something: an identifier as a whole, or by all of
// its parts.
type option struct {
	whole int // of the terms, or -1
	parts []int
}

// Parse reads a query. There is no wrong one.
func Parse(text string) *Query {
	q := &Query{}
	known := map[string]int{}
	or := false
	for text = strings.TrimLeftFunc(text, unicode.IsSpace); text != ""; text = strings.TrimLeftFunc(text, unicode.IsSpace) {
		negative := false
		if text[0] == '-' && len(text) > 1 {
			r, _ := utf8.DecodeRuneInString(text[1:])
			if wordly(r) || r == '"' {
				negative, text = true, text[1:]
			}
		}
		var chunk string
		quoted := false
		if rest, ok := strings.CutPrefix(text, `"`); ok {
			chunk, text, quoted = cutQuoted(rest)
		} else {
			n := strings.IndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '"' })
			if n < 0 {
				n = len(text)
			}
			chunk, text = text[:n], text[n:]
		}
		if !quoted && strings.EqualFold(chunk, "or") {
			or = true
			continue
		}
		if quoted && q.phrase(chunk, negative) && negative {
			continue // the words may stand there, in another order
		}
		options := q.options(chunk, quoted, known)
		switch {
		case len(options) == 0:
		case negative:
			q.not = append(q.not, options...)
		case or && len(q.all) > 0:
			last := len(q.all) - 1
			for _, o := range options {
				q.all[last] = append(q.all[last], o...)
			}
		default:
			q.all = append(q.all, options...)
		}
		or = false
	}
	q.shorten()
	return q
}

// cutQuoted splits behind the closing quote; without one, there is no phrase.
func cutQuoted(s string) (inside, rest string, quoted bool) {
	if inside, rest, ok := strings.Cut(s, `"`); ok {
		return inside, rest, true
	}
	return "", s, false
}

// options reads the words of a chunk. What stands between slashes and spaces
// are words of their own.
func (q *Query) options(chunk string, quoted bool, known map[string]int) [][]option {
	prefix := !quoted && strings.HasSuffix(chunk, "*")
	var out [][]option
	wholeEnd := 0 // of the identifier whose parts come
	scan(chunk, func(t token) {
		if t.whole && t.start < wholeEnd {
			return // a part of what is asked for as a whole
		}
		if t.single {
			return // its pairs say more
		}
		key := t.lexeme
		begins := (prefix && t.end == len(chunk)-1 || hash(t.word)) && !t.whole
		if begins {
			key = t.word + "*"
		}
		i, ok := known[key]
		if !ok {
			i = len(q.Terms)
			known[key] = i
			q.Terms = append(q.Terms, Term{Lexeme: strings.Clone(t.lexeme), Word: t.word, Whole: t.whole, Prefix: begins, weight: 1})
			if begins {
				q.Terms[i].Lexeme = t.word
			}
		}
		switch {
		case t.whole:
			out, wholeEnd = append(out, []option{{whole: i}}), t.end
		case t.end <= wholeEnd:
			last := &out[len(out)-1][0]
			last.parts = append(last.parts, i)
		default:
			out = append(out, []option{{whole: -1, parts: []int{i}}})
		}
	})
	return out
}

// hash reports that a word may be the beginning of a hash, as git shortens
// them.
func hash(word string) bool {
	return len(word) >= 5 && strings.Trim(word, "0123456789abcdef") == "" &&
		strings.ContainsAny(word, "0123456789") && strings.ContainsAny(word, "abcdef")
}

// phrase notes what a text must have word by word, and reports that it is
// more than one.
func (q *Query) phrase(text string, negative bool) bool {
	var words []string
	for i := 0; i < len(text) && len(words) < maxPhrase; {
		n := run(text[i:])
		if n == 0 {
			_, n = utf8.DecodeRuneInString(text[i:])
			i += n
			continue
		}
		w := strings.ToLower(text[i : i+n])
		begin := w
		if s := stem(w); s != "" { // any form of the word, which may end otherwise
			for !strings.HasPrefix(w, s) {
				s = s[:len(s)-1]
			}
			begin = s
		}
		end := `\M`
		if begin != w || plausible(w) && stem(w) != "" {
			end = `\w*`
		}
		words = append(words, regexp.QuoteMeta(begin)+end)
		i += n
	}
	if len(words) < 2 || len(q.Phrases)+len(q.Without) == maxPhrases {
		return false
	}
	expression := `\m` + strings.Join(words, `\W+`)
	if negative {
		q.Without = append(q.Without, expression)
	} else {
		q.Phrases = append(q.Phrases, expression)
	}
	return true
}

// shorten leaves the terms that say most by their looks: names, then long
// words.
func (q *Query) shorten() {
	if len(q.Terms) <= MaxTerms {
		return
	}
	order := make([]int, len(q.Terms))
	for i := range order {
		order[i] = i
	}
	looks := func(i int) int {
		t := q.Terms[i]
		if t.Whole {
			return 100 + len(t.Lexeme)
		}
		return min(len(t.Lexeme), 12)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(looks(b), looks(a)) })
	kept := slices.Sorted(slices.Values(order[:MaxTerms]))
	to := map[int]int{}
	var terms []Term
	for n, i := range kept {
		to[i] = n
		terms = append(terms, q.Terms[i])
	}
	q.Terms = terms
	q.all, q.not = renumber(q.all, to), renumber(q.not, to)
}

func renumber(clauses [][]option, to map[int]int) [][]option {
	var out [][]option
	for _, clause := range clauses {
		var options []option
		for _, o := range clause {
			next := option{whole: -1}
			if n, ok := to[o.whole]; ok && o.whole >= 0 {
				next.whole = n
			}
			for _, p := range o.parts {
				if n, ok := to[p]; ok {
					next.parts = append(next.parts, n)
				}
			}
			if next.whole >= 0 || len(next.parts) > 0 {
				options = append(options, next)
			}
		}
		if len(options) > 0 {
			out = append(out, options)
		}
	}
	return out
}

// Nothing reports that the query asks for nothing.
func (q *Query) Nothing() bool { return len(q.all) == 0 && len(q.not) == 0 && len(q.Without) == 0 }

// TSQuery is the question of the term for Postgres.
func (t Term) TSQuery() string {
	ways := []string{quote(t.Lexeme)}
	if t.Prefix {
		ways[0] += ":*"
	}
	for _, l := range t.Like {
		ways = append(ways, quote(l))
	}
	return strings.Join(ways, "|")
}

// quote is for lexemes, of which none has a quote or a backslash.
func quote(lexeme string) string { return "'" + lexeme + "'" }

// All asks for texts that have all words.
func (q *Query) All() string {
	var parts []string
	for _, clause := range q.all {
		parts = append(parts, q.clause(clause))
	}
	return q.but(strings.Join(parts, "&"))
}

// Any asks for texts that have one of these terms.
func (q *Query) Any(terms ...int) string {
	var parts []string
	for _, i := range terms {
		parts = append(parts, q.Terms[i].TSQuery())
	}
	return q.but(strings.Join(parts, "|"))
}

// But asks for texts that have nothing of what they must not; "" is any.
func (q *Query) But() string { return q.but("") }

// but adds what a text must not have.
func (q *Query) but(asked string) string {
	var parts []string
	if asked != "" {
		parts = append(parts, "("+asked+")")
	}
	for _, clause := range q.not {
		parts = append(parts, "!"+q.clause(clause))
	}
	return strings.Join(parts, "&")
}

func (q *Query) clause(options []option) string {
	var ways []string
	for _, o := range options {
		if o.whole >= 0 {
			ways = append(ways, q.Terms[o.whole].TSQuery())
		}
		var parts []string
		for _, p := range o.parts {
			parts = append(parts, "("+q.Terms[p].TSQuery()+")")
		}
		if len(parts) > 0 {
			ways = append(ways, strings.Join(parts, "&"))
		}
	}
	return "(" + strings.Join(ways, "|") + ")"
}

// Positive lists the terms that a text should have.
func (q *Query) Positive() []int {
	var out []int
	for _, clause := range q.all {
		for _, o := range clause {
			if o.whole >= 0 {
				out = append(out, o.whole)
			}
			out = append(out, o.parts...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Unsure lists the terms that may be mistyped or cut short: words that the
// project may have or not.
func (q *Query) Unsure() []int {
	var out []int
	for _, i := range q.Positive() {
		if t := q.Terms[i]; !t.Whole && !t.Prefix && plausible(t.Word) {
			out = append(out, i)
		}
	}
	return out
}

// Path asks for texts that name all parts of a path.
func Path(path string) string {
	q := Parse(strings.ReplaceAll(strings.ReplaceAll(path, `"`, " "), " ", "/"))
	q.not = nil
	return q.All()
}
