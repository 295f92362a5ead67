package observe

import (
	"bytes"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// texts gives the two texts of a JSON document, read once: the one that its
// identity is computed from, see [Canonical], and the one that Postgres makes
// of what it is given, see [storable]: so that an answer can hold what is
// stored without asking for it.
func texts(raw []byte) (canonical, stored []byte, err error) { return textsOf(raw, true) }

// textsOf is texts, without the canonical one where nobody needs it.
func textsOf(raw []byte, identity bool) (canonical, stored []byte, err error) {
	if string(raw) == "{}" {
		return raw, raw, nil
	}
	t := trees.Get().(*tree)
	defer t.free()
	if t.read(raw) {
		if identity {
			canonical = t.write(make([]byte, 0, len(raw)+8), 0, &asCanonical)
		}
		return canonical, t.write(make([]byte, 0, len(raw)+len(raw)/8+8), 0, &asJSONB), nil
	}
	// The slow way knows what is wrong.
	if canonical, err = Canonical(raw); err != nil {
		return nil, nil, err
	}
	stored, err = storable(raw)
	return canonical, stored, err
}

// tree is a document in parts. The parts of a list or an object are linked,
// since nothing is known of their number before.
type tree struct {
	raw   []byte
	at    int
	nodes []node
	order []int32 // of the members of the objects that are being written
}

type node struct {
	kind  byte   // { [ " 0 or the first letter of a word
	clean bool   // a string in UTF-8 whose escapes are those that everybody writes: it is stored as it was sent
	plain bool   // and has none
	ascii bool   // and without anything else
	text  []byte // of a scalar, as it was sent; of a string, what is in its quotes
	child int32  // the first part of a list or an object, 0 for none; in an object each name is followed by its value
	next  int32  // part of the same list or object, 0 for none
}

var trees = sync.Pool{New: func() any { return new(tree) }}

func (t *tree) free() {
	if cap(t.nodes) > 10_000 {
		return // one large document is not to stay for ever
	}
	clear(t.nodes)
	t.raw, t.nodes, t.order = nil, t.nodes[:0], t.order[:0]
	trees.Put(t)
}

// read reports whether raw is one JSON value.
func (t *tree) read(raw []byte) bool {
	t.raw, t.at = raw, 0
	t.blank()
	_, ok := t.value(0)
	t.blank()
	return ok && t.at == len(raw)
}

func (t *tree) blank() {
	for t.at < len(t.raw) {
		switch t.raw[t.at] {
		case ' ', '\t', '\n', '\r':
			t.at++
		default:
			return
		}
	}
}

// is takes the byte, if it is the next.
func (t *tree) is(b byte) bool {
	if t.at < len(t.raw) && t.raw[t.at] == b {
		t.at++
		return true
	}
	return false
}

func (t *tree) add(n node) int32 {
	t.nodes = append(t.nodes, n)
	return int32(len(t.nodes) - 1)
}

func (t *tree) value(depth int) (int32, bool) {
	if t.at == len(t.raw) {
		return 0, false
	}
	switch c := t.raw[t.at]; c {
	case '{', '[':
		return t.nested(c, depth+1)
	case '"':
		return t.text()
	case 't':
		return t.word("true")
	case 'f':
		return t.word("false")
	case 'n':
		return t.word("null")
	default:
		return t.number()
	}
}

func (t *tree) word(w string) (int32, bool) {
	if !bytes.HasPrefix(t.raw[t.at:], []byte(w)) {
		return 0, false
	}
	t.at += len(w)
	return t.add(node{kind: w[0], text: t.raw[t.at-len(w) : t.at]}), true
}

func (t *tree) nested(open byte, depth int) (int32, bool) {
	if depth > maxDepth {
		return 0, false
	}
	t.at++
	n := t.add(node{kind: open})
	end := open + 2 // in ASCII
	t.blank()
	if t.is(end) {
		return n, true
	}
	last := int32(0)
	link := func(part int32) {
		if last == 0 {
			t.nodes[n].child = part
		} else {
			t.nodes[last].next = part
		}
		last = part
	}
	for {
		if open == '{' {
			t.blank()
			if t.at == len(t.raw) || t.raw[t.at] != '"' {
				return 0, false
			}
			name, ok := t.text()
			if !ok {
				return 0, false
			}
			link(name)
			t.blank()
			if !t.is(':') {
				return 0, false
			}
		}
		t.blank()
		v, ok := t.value(depth)
		if !ok {
			return 0, false
		}
		link(v)
		t.blank()
		switch {
		case t.is(','):
		case t.is(end):
			return n, true
		default:
			return 0, false
		}
	}
}

func (t *tree) text() (int32, bool) {
	t.at++
	begin := t.at
	clean, plain, ascii := true, true, true
	for t.at < len(t.raw) {
		switch c := t.raw[t.at]; {
		case c == '"':
			text := t.raw[begin:t.at]
			t.at++
			clean = clean && (ascii || utf8.Valid(text))
			plain = plain && clean
			return t.add(node{kind: '"', clean: clean, plain: plain, ascii: plain && ascii, text: text}), true
		case c < ' ':
			return 0, false
		case c >= utf8.RuneSelf:
			ascii = false
			t.at++
		case c == '\\':
			plain = false
			if !t.escape() {
				return 0, false
			}
			clean = clean && t.raw[t.at-1] != '/' && t.raw[t.at-2] == '\\' // a short one, and not of what needs none
		default:
			t.at++
		}
	}
	return 0, false
}

func (t *tree) escape() bool {
	rest := t.raw[t.at:]
	if len(rest) < 2 {
		return false
	}
	switch rest[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		t.at += 2
		return true
	case 'u':
		if len(rest) < 6 {
			return false
		}
		for _, c := range rest[2:6] {
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
		}
		t.at += 6
		return true
	}
	return false
}

func (t *tree) digits() (n int) {
	for t.at < len(t.raw) && t.raw[t.at] >= '0' && t.raw[t.at] <= '9' {
		t.at++
		n++
	}
	return n
}

func (t *tree) number() (int32, bool) {
	begin := t.at
	t.is('-')
	if first := t.at; t.digits() == 0 || t.raw[first] == '0' && t.at > first+1 {
		return 0, false
	}
	if t.is('.') && t.digits() == 0 {
		return 0, false
	}
	if t.is('e') || t.is('E') {
		if !t.is('+') {
			t.is('-')
		}
		if t.digits() == 0 {
			return 0, false
		}
	}
	return t.add(node{kind: '0', text: t.raw[begin:t.at]}), true
}

// units is a string as JavaScript holds it.
func (n *node) units() []uint16 { return unquoted(n.text) }

// name is a string as Postgres holds it.
func (n *node) name() []byte {
	if n.plain {
		return n.text
	}
	return []byte(plain(string(utf16.Decode(n.units()))))
}
