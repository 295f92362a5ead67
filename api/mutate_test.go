package api_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
)

// raw is JSON, or what only looks like it, that stands in a tree as it is.
type raw string

// oddValues stand where any value may.
var oddValues = []raw{
	`null`, `true`, `false`, `0`, `-0`, `-1`, `1.5`, `1e400`, `-1e400`, `1e-400`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775809`,
	`253402300799999`, `253402300800000`, `1.7976931348623157e308`, `123456789012345678901234567890`, `01`, `+1`, `.5`, `NaN`, `Infinity`, `-`, `0x10`,
	`""`, `" "`, `"\u0000"`, `"\ud800"`, `"\udc00\ud800"`, `"a\u0000b"`, `"\uffff\ufffe"`, `"\u202e\u200b\u2028"`, "\"\xff\xfe\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"",
	`"\x"`, `"\u12"`, "\"\n\"", "\"\x00\"", `"😀"`, `"ﷺİıß"`, `"e\u0301"`, `"'; DROP TABLE teams; --"`, `"%s%n%d"`, `"../../etc/passwd"`, `"<private>"`, `"</private><private>x"`,
	`"1970-01-01"`, `"2026-02-30T25:61:61Z"`, `"9999-12-31T23:59:60+99:99"`, `"-0001-01-01"`, `"infinity"`, `"now"`, `"00000000-0000-0000-0000-000000000000"`,
	`[]`, `{}`, `[null]`, `[[[]]]`, `{"":""}`, `{"__proto__":{"a":1},"constructor":null}`, `{"a":1,"a":2}`, `{"\u0000":"\u0000"}`, `{"\ud800":1}`, ``, `undefined`, `,`, `}`, `]`, `"`,
}

// oddTexts stand in ids, queries and headers.
var oddTexts = []string{
	"", " ", "0", "-1", "null", "true", "false", "\x00", "a\x00b", "\xff\xfe", "\xed\xa0\x80", "é", "😀", "\u202e", "e\u0301", "İ", "'", `"`, `\`, "%", "%00", "%ff", "%zz", "..", "../..", "a/b", "*", ">", "a.b",
	"9223372036854775808", "-9223372036854775809", "1e9", "NaN", "99999999999999999999", "0x10", "1_000",
	"2026-02-30", "2026-01-01T00:00:00Z", "0000-01-01", "9999-12-31T23:59:59.999999999Z", "292277026596-12-04T15:30:08Z", "-292277022399-01-01T00:00:00Z", "infinity", "253402300800000", "-62135596800001",
	"x'; DROP TABLE teams; --", "a&b=c", "a;b", "\r\nX-Odd: 1", strings.Repeat("x", 300), strings.Repeat("é", 200), strings.Repeat("9", 400), strings.Repeat("a-", 4000),
	"*/*", "application/json", "application/json; charset=\"", "multipart/form-data; boundary=", "gzip", "identity", "http://localhost", "http://evil.example.org", "Bearer", "Bearer a b",
}

// mutator changes good requests into bad ones, the same for the same seed.
type mutator struct{ *rand.Rand }

func pick[T any](m mutator, of []T) T { return of[m.IntN(len(of))] }

// request is r with one to three things changed.
func (m mutator) request(r request, keys []string) request {
	r.header = maps.Clone(r.header)
	for range 1 + m.IntN(3) {
		switch n := m.IntN(20); {
		case n < 11 && r.body != "":
			r.body = m.body(r.body)
		case n < 14:
			r.path = m.query(r.path)
		case n < 16:
			r.path = m.path(r.path)
		case n < 17:
			r.key = pick(m, keys)
		case n < 18:
			r.method = pick(m, []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ODD"})
		case r.body == "" && n < 19:
			r.body = string(pick(m, oddValues))
		default:
			if r.header == nil {
				r.header = map[string]string{}
			}
			r.header[pick(m, []string{
				"Content-Type", "Content-Encoding", "Accept", "X-Request-Id", "Idempotency-Key", "Origin", "Last-Event-Id", "X-Api-Key", "Host",
				"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Mcp-Session-Id", "Mcp-Protocol-Version", "Accept-Encoding", "Range", "Expect", "Cookie",
			})] = m.text()
		}
	}
	return r
}

func (m mutator) text() string { return pick(m, oddTexts) }

// body changes a JSON text: as a tree where it is one, else byte by byte.
func (m mutator) body(text string) string {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var tree any
	if d.Decode(&tree) == nil && m.IntN(10) > 0 {
		var b strings.Builder
		m.write(&b, m.tree(tree))
		return b.String()
	}
	b := []byte(text)
	at := m.IntN(len(b) + 1)
	switch m.IntN(4) {
	case 0:
		return string(b[:at])
	case 1:
		return string(slices.Insert(b, at, []byte(pick(m, oddTexts))...))
	case 2:
		return text + text
	default:
		if at < len(b) {
			b[at] = byte(m.IntN(256))
		}
		return string(b)
	}
}

// tree changes one node of v, of which all have about the same chance.
func (m mutator) tree(v any) any {
	n := m.IntN(size(v))
	return m.at(v, &n)
}

func size(v any) int {
	n := 1
	switch x := v.(type) {
	case map[string]any:
		for _, member := range x {
			n += size(member)
		}
	case []any:
		for _, element := range x {
			n += size(element)
		}
	}
	return n
}

// at changes the node that is n further on.
func (m mutator) at(v any, n *int) any {
	if *n--; *n < 0 {
		return m.node(v)
	}
	switch x := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(x)) {
			if x[name] = m.at(x[name], n); *n < 0 {
				return x
			}
		}
	case []any:
		for i := range x {
			if x[i] = m.at(x[i], n); *n < 0 {
				return x
			}
		}
	}
	return v
}

// twice is an object with a member that comes twice.
type twice struct {
	object map[string]any
	name   string
	value  any
}

// wrapped is a value inside of that many lists or objects.
type wrapped struct {
	value any
	depth int
	open  string
}

// many is a list of one value again and again.
type many struct {
	value any
	n     int
}

func (m mutator) node(v any) any {
	switch n := m.IntN(12); {
	case n == 0:
		return wrapped{v, pick(m, []int{1, 2, 490, 499, 500, 501, 10_000}), pick(m, []string{"[", `{"a":`})}
	case n == 1:
		return many{v, pick(m, []int{2, 100, 501, 10_000})}
	case n == 2:
		return strings.Repeat(pick(m, []string{"x", "é", "😀", "\x00", "<private>", `"`, "a b "}), pick(m, []int{65, 257, 4097, 70_000, 300_000}))
	case n < 6:
		if x, ok := v.(map[string]any); ok && len(x) > 0 {
			name := pick(m, slices.Sorted(maps.Keys(x)))
			switch m.IntN(4) {
			case 0:
				delete(x, name)
			case 1:
				return twice{x, name, pick(m, oddValues)}
			case 2:
				x[m.text()] = x[name]
			default:
				x[strings.ToUpper(name)] = x[name]
				delete(x, name)
			}
			return x
		}
		if s, ok := v.(string); ok {
			at := m.IntN(len(s) + 1)
			return s[:at] + m.text() + s[at:]
		}
	}
	return pick(m, oddValues)
}

// write is json.Marshal for the nodes above.
func (m mutator) write(b *strings.Builder, v any) {
	switch x := v.(type) {
	case raw:
		b.WriteString(string(x))
	case map[string]any:
		m.object(b, x, nil)
	case twice:
		m.object(b, x.object, &x)
	case []any:
		b.WriteByte('[')
		for i, e := range x {
			if i > 0 {
				b.WriteByte(',')
			}
			m.write(b, e)
		}
		b.WriteByte(']')
	case many:
		var one strings.Builder
		m.write(&one, x.value)
		n := max(1, min(x.n, (2<<20)/(one.Len()+1)))
		b.WriteString("[" + strings.Repeat(one.String()+",", n-1) + one.String() + "]")
	case wrapped:
		b.WriteString(strings.Repeat(x.open, x.depth))
		m.write(b, x.value)
		b.WriteString(strings.Repeat(map[string]string{"[": "]"}[x.open]+map[string]string{`{"a":`: "}"}[x.open], x.depth))
	default:
		text, err := json.Marshal(x)
		if err != nil {
			panic(err) // a test made what is no JSON
		}
		b.Write(text)
	}
}

func (m mutator) object(b *strings.Builder, members map[string]any, again *twice) {
	b.WriteByte('{')
	sep := ""
	put := func(name string, v any) {
		text, _ := json.Marshal(name) // a string always is JSON
		b.WriteString(sep)
		b.Write(text)
		b.WriteByte(':')
		m.write(b, v)
		sep = ","
	}
	if again != nil && m.IntN(2) == 0 {
		put(again.name, again.value)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		put(name, members[name])
	}
	if again != nil {
		put(again.name, again.value)
	}
	b.WriteByte('}')
}

// query changes or adds a parameter.
func (m mutator) query(path string) string {
	path, query, _ := strings.Cut(path, "?")
	switch m.IntN(8) {
	case 0:
		return path + "?" + visible(m.text()) + query
	case 1:
		return path + "?" + query + "&" + query
	}
	name := pick(m, []string{
		"generate", "wait", "status", "source_type", "since", "until", "limit", "offset", "include", "project", "projectId", "lastEventId", "action", "actor", "before", "after", "cursor", "kind", "q",
	})
	return path + "?" + query + "&" + name + "=" + url.QueryEscape(m.text())
}

// path changes one segment, most often the last but one or the last: an id.
func (m mutator) path(path string) string {
	path, query, asked := strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	i := len(parts) - 1 - m.IntN(min(2, len(parts)))
	parts[i] = url.PathEscape(m.text())
	if path = strings.Join(parts, "/"); !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if asked {
		path += "?" + query
	}
	return path
}

// visible is s without what cannot be in the first line of a request.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
