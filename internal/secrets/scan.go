package secrets

import (
	"encoding/base64"
	"strings"
	"sync"
	"unicode/utf8"
)

// span is where a secret stands.
type span struct {
	from, to int
	kind     string
}

// How far a rule with a keyword some way off looks, in bytes, before it goes
// on to the end of a long value.
const (
	wideBefore = 64
	wideAfter  = 300
	longest    = 64 << 10 // bytes of a value
)

type scanning struct {
	s     string
	low   []byte
	spans []span
	depth int         // of base64 in base64
	seen  map[int]int // rule → up to where it has looked
	upTo  int         // the end of the last long value of an assignment
}

// scan finds what is to be taken out, also where a line goes on behind a
// backslash.
func scan(s string) []span {
	spans := scanAt(s, 0)
	if !strings.Contains(s, continued) {
		return spans
	}
	var one []byte // the text without the breaks
	var at []int   // where its bytes are
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], continued) {
			if i++; i+1 < len(s) && strings.IndexByte("+- ", s[i+1]) >= 0 { // in a diff
				i++
			}
			continue
		}
		one, at = append(one, s[i]), append(at, i)
	}
	for _, p := range scanAt(string(one), 0) {
		spans = append(spans, span{at[p.from], at[p.to-1] + 1, p.kind})
	}
	return spans
}

const continued = "\\\n"

func scanAt(s string, depth int) []span {
	sc := scanning{s: s, depth: depth}
	set := rules()
	lower([]byte(s), func(low []byte) {
		sc.low = low
		set.words.trie.Walk(low, func(end, n, word int64) bool {
			from, to := int(end-n+1), int(end+1)
			if int(word) >= set.mark {
				sc.assignment(from, to)
				return true
			}
			for _, r := range set.called[word] {
				sc.apply(set, r, from, to)
			}
			return true
		})
	})
	sc.runs()
	return sc.spans
}

// apply looks with a rule around its keyword.
func (sc *scanning) apply(set *set, number, from, to int) {
	if sc.seen[number] > from {
		return
	}
	r := &set.rules[number]
	begin, end := sc.runBefore(from), sc.runAfter(to)
	switch {
	case r.far:
		begin, end = max(0, from-wideBefore), min(len(sc.s), from+longest)
	case r.wide:
		begin, end = max(0, from-wideBefore), sc.runAfter(min(len(sc.s), to+wideAfter))
	case end-begin < 16:
		return // no token is that short
	}
	if sc.seen == nil {
		sc.seen = map[int]int{}
	}
	sc.seen[number] = end
	expr := r.expr()
	for at := begin; at < end; {
		m := expr.FindStringSubmatchIndex(sc.s[at:end])
		if m == nil {
			return
		}
		a, b := m[0], m[1]
		if r.group > 0 {
			a, b = m[2*r.group], m[2*r.group+1]
		} else {
			for g := 2; g < len(m); g += 2 {
				if m[g] >= 0 && m[g+1] > m[g] {
					a, b = m[g], m[g+1]
					break
				}
			}
		}
		secret := sc.s[at+a : at+b]
		if len(secret) >= shortest && (r.entropy == 0 || entropy(secret) >= r.entropy) && (r.sure == nil || r.sure(secret)) && !strings.Contains(secret, markHead) {
			sc.spans = append(sc.spans, span{at + a, at + b, r.kind})
		}
		at += max(m[1], 1)
	}
}

// inRun reports whether a byte can stand within a token or a URL.
var inRun = func() (in [256]bool) {
	for c := range in {
		in[c] = c > ' ' && c < 0x7f && !strings.ContainsRune("\"'`<>(){}[],;\\", rune(c))
	}
	return in
}()

func (sc *scanning) runBefore(at int) int {
	for least := max(0, at-1024); at > least && inRun[sc.s[at-1]]; {
		at--
	}
	return at
}

func (sc *scanning) runAfter(at int) int {
	for most := min(len(sc.s), at+longest); at < most && inRun[sc.s[at]]; {
		at++
	}
	return at
}

// base64Byte are the bytes of base64, of both alphabets, and so of hex and of
// base32.
var base64Byte = func() (in [256]bool) {
	for c := range in {
		in[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '+' || c == '/' || c == '=' || c == '-' || c == '_'
	}
	return in
}()

// runs looks at what has no keyword: a seed, a key's id, a line of a key's
// body on its own.
func (sc *scanning) runs() {
	s := sc.s
	for i := nextRun(s, 0); i >= 0; i = nextRun(s, i) {
		from := i
		for i < len(s) && base64Byte[s[i]] {
			i++
		}
		run := s[from:i]
		switch {
		case len(run) == 58 && run[0] == 'S' && strings.IndexByte("UAONCX", run[1]) >= 0 && strings.Trim(run, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "":
			sc.spans = append(sc.spans, span{from, i, "nats-seed"})
		case len(run) == 34 && strings.HasPrefix(run, "SK") && strings.Trim(run[2:], "0123456789abcdefABCDEF") == "" && entropy(run) >= 3:
			sc.spans = append(sc.spans, span{from, i, "twilio-api-key"})
		case len(run) >= 64 && len(run) <= 76 && mixed(run) && strings.IndexByte(run, '_') < 0 && alone(s, from, i):
			sc.spans = append(sc.spans, span{from, i, kindBlock})
		default:
			if kind := sc.within(run); kind != "" {
				sc.spans = append(sc.spans, span{from, i, kind})
			}
		}
	}
}

const maxDepth = 2 // of base64 in base64

// within is the kind of a secret in what a run is the base64 of, if that is a
// text.
func (sc *scanning) within(run string) (kind string) {
	run = strings.TrimRight(run, "=")
	if sc.depth == maxDepth || len(run) < 32 || len(run)%4 == 1 {
		return ""
	}
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(run, "-_") {
		encoding = base64.RawURLEncoding
	}
	var head [24]byte // most runs are no text, which shows soon
	if n, err := encoding.Decode(head[:], []byte(run[:32])); err != nil || !isText(head[:n]) {
		return ""
	}
	text, err := encoding.DecodeString(run)
	if err != nil || !isText(text) {
		return ""
	}
	for _, s := range scanAt(string(text), sc.depth+1) {
		return s.kind
	}
	return ""
}

func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			return false
		}
	}
	for n := range min(utf8.UTFMax, len(b)) { // it may end within a letter
		if utf8.Valid(b[:len(b)-n]) {
			return true
		}
	}
	return false
}

const leastRun = 34

// nextRun gives where the next run of at least leastRun bytes begins, -1 when
// there is none. It looks at the end of where one could be first, and so at few
// bytes of most texts.
func nextRun[T string | []byte](s T, at int) int {
	for end := at + leastRun - 1; end < len(s); {
		i := end
		for i >= at && base64Byte[s[i]] {
			i--
		}
		if end-i >= leastRun {
			for i >= 0 && base64Byte[s[i]] { // it may begin before
				i--
			}
			return i + 1
		}
		at = i + 1
		end = at + leastRun - 1
	}
	return -1
}

// alone reports whether s[from:to] has its line for itself, a diff's mark
// apart.
func alone(s string, from, to int) bool {
	before := strings.TrimRight(s[strings.LastIndexByte(s[:from], '\n')+1:from], " \t+-")
	after, _, _ := strings.Cut(s[to:], "\n")
	return before == "" && strings.TrimSpace(after) == ""
}

// mixed tells base64 from hex digests, long words and rulers.
func mixed(s string) bool {
	return strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") &&
		strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") && strings.ContainsAny(s, "0123456789")
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// lower hands fn the text with its ASCII letters in lower case; the bytes are
// where they were.
func lower(text []byte, fn func(low []byte)) {
	buf, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	if cap(*buf) < len(text) {
		*buf = make([]byte, len(text)+len(text)/4)
	}
	low := (*buf)[:len(text)]
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	fn(low)
}
