package secrets

import (
	"slices"
	"strings"
)

// assignedWords are what names of secrets have in them.
var assignedWords = []string{"password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "apikey", "key"}

// keys are the words before "key" that make it one of ours.
var keys = []string{
	"api", "access", "account", "auth", "private", "secret", "encryption", "encrypt", "signing", "shared", "master", "service", "license", "client", "deploy", "storage", "app",
}

// tails are what names end with whose values are no secrets.
var tails = []string{
	"name", "type", "count", "file", "path", "url", "uri", "expires", "expiry", "length", "limit", "size", "in", "out", "field", "label", "policy", "budget",
	"usage", "regex", "pattern", "rule", "version", "provider", "env", "ref", "header", "prefix", "hint", "id", "ids", "ttl", "izer", "ary", "kind", "format",
	"error", "errors", "status", "source", "arn", "manager", "store", "index", "test", "tests", "spec", "title", "text", "length",
}

// assignment looks at the name that holds the word at from, and at what comes
// after: `password = "…"` in its many spellings.
func (sc *scanning) assignment(from, to int) {
	low := sc.low
	if from < sc.upTo {
		return
	}
	kind, ok := wordKind(string(low[max(0, from-12):from]), string(low[from:to]))
	if !ok {
		return
	}
	begin := from // of the name
	for begin > 0 && from-begin < 60 && nameByte(low[begin-1]) {
		begin--
	}
	i := to
	for i < len(low) && i-to < 30 && nameByte(low[i]) {
		i++
	}
	if !tailFits(sc.s[to:i]) {
		return
	}
	element := begin > 0 && low[begin-1] == '<'
	flag := begin >= 2 && low[begin] == '-' && low[begin+1] == '-'
	i = skip(low, i, "\\\"'`])", 20) // JSON in JSON in JSON
	i = skip(low, i, " \t", 4)
	if strings.HasPrefix(string(low[i:min(len(low), i+7)]), "string ") {
		i = skip(low, i+7, " \t", 4)
	}
	spaced := i < len(low) && i > 0 && (low[i-1] == ' ' || low[i-1] == '\t')
	op := i
	i = skip(low, i, ":=>", 3)
	switch sign := string(low[op:i]); {
	case sign == "" && flag && spaced:
	case sign == ">" && !element, sign == "", sign == ">>", sign == "::":
		return
	}
	afterOp := i
	i = skip(low, i, " \t", 4)
	spaced = spaced || i > afterOp
	i = skip(low, i, "\\", 20)
	quote := byte(0)
	if i < len(low) && strings.IndexByte("\"'`", low[i]) >= 0 {
		quote = low[i]
		i++
	}
	end := i
	for end < len(low) && end-i < 4096 {
		c := low[end]
		if quote != 0 && (c == quote || c == '\n') || quote == 0 && (c <= ' ' || strings.IndexByte("\"'`,;)}<>&|(\\", c) >= 0) {
			break
		}
		end++
	}
	if end-i > 64 { // what looks like a name in there is part of it
		sc.upTo = end
	}
	value := sc.s[i:end]
	if quote != 0 {
		value = strings.TrimRight(value, `\`)
		end = i + len(value)
	}
	called := quote == 0 && end < len(low) && (low[end] == '(' || low[end] == '[')
	loose := quote != 0 || !spaced || op == afterOp || low[op] == ':' && (op+1 >= len(low) || low[op+1] != '=') // else it is code
	if !called && literal(value, kind, quote != 0, loose) {
		sc.spans = append(sc.spans, span{i, end, kind})
	}
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

func skip(low []byte, i int, these string, most int) int {
	for n := 0; n < most && i < len(low) && strings.IndexByte(these, low[i]) >= 0; n++ {
		i++
	}
	return i
}

// wordKind is what kind of secret a word names.
func wordKind(before, word string) (string, bool) {
	switch word {
	case "password", "passwd", "passphrase", "pwd":
		return kindPassword, true
	case "secret":
		return kindSecret, true
	case "token":
		return kindToken, true
	case "credential":
		return kindCredential, true
	case "apikey":
		return kindKey, true
	}
	before = strings.TrimRight(before, "_-. ")
	return kindKey, slices.ContainsFunc(keys, func(k string) bool { return strings.HasSuffix(before, k) })
}

// tailFits tells `tokenValue` and `PASSWORD_2` from `tokenizer` and
// `secretName`. tail is the rest of a name behind the word, as written.
func tailFits(tail string) bool {
	if tail == "" {
		return true
	}
	low := strings.ToLower(tail)
	last := low[strings.LastIndexAny(low, "_-.")+1:]
	for _, t := range tails {
		if last == t || low == t || strings.HasSuffix(tail, strings.ToUpper(t[:1])+t[1:]) {
			return false
		}
	}
	c := tail[0]
	return low == "s" || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c == '.'
}

// literal tells a secret that is written out from code, templates, paths and
// plain words. loose is true where no code is to be expected, or it is quoted.
func literal(v, kind string, quoted, loose bool) bool {
	least := 8
	if kind == kindPassword || kind == kindSecret && quoted {
		least = shortest
	}
	if len(v) < least || strings.Contains(v, markHead) || strings.ContainsAny(v[:1], "${%<*(") || strings.Contains(v, "${") || strings.Contains(v, "{{") {
		return false
	}
	if strings.Contains(v, "://") || v[0] == '/' && !(len(v) >= 40 && mixed(v) && strings.HasSuffix(v, "=")) || strings.HasPrefix(v, "./") || strings.HasPrefix(v, "~/") || strings.ContainsAny(v, " \t") {
		return false
	}
	var letters, figures, signs, other int
	for i := range len(v) {
		switch c := v[i]; {
		case c >= '0' && c <= '9':
			figures++
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			letters++
		case strings.IndexByte("!@#$%^&*+/=~?", c) >= 0:
			signs++
		default:
			other++
		}
	}
	bits := entropy(v)
	switch {
	case bits < 2 || other*2 > len(v):
		return false
	case letters == 0:
		return kind == kindPassword && signs+figures > 0 && other == 0
	case figures+signs == 0: // words, unless nobody speaks so
		return len(v) >= 20 && mixedCase(v) && bits >= 4 && strings.IndexByte(v, '.') < 0
	case quoted:
		return true
	case dotted(v):
		return bits >= 4 && figures > 3
	case loose:
		return true
	}
	return figures >= 2 && bits >= 3
}

func mixedCase(s string) bool { return strings.ToLower(s) != s && strings.ToUpper(s) != s }

// dotted reports whether v is a chain of names, as process.env.TOKEN2.
func dotted(v string) bool {
	if strings.IndexByte(v, '.') < 0 {
		return false
	}
	for part := range strings.SplitSeq(v, ".") {
		if part == "" || part[0] >= '0' && part[0] <= '9' || strings.ContainsFunc(part, func(r rune) bool {
			return !(r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
		}) {
			return false
		}
	}
	return true
}

func named(name, value string) (string, bool) {
	low := strings.ToLower(name)
	for _, w := range assignedWords {
		at := strings.LastIndex(low, w)
		if at < 0 {
			continue
		}
		if kind, ok := wordKind(low[:at], w); ok && tailFits(name[at+len(w):]) && literal(value, kind, true, true) {
			return kind, true
		}
	}
	return "", false
}
