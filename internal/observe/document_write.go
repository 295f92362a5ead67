package observe

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// style is a way to write a document.
type style struct {
	comma, colon string
	compare      func(a, b *node) int // the order of names; of equal ones the last counts
	drop         func(name *node) bool
	text         func(out []byte, n *node) []byte
	number       func(out, literal []byte) []byte // of those that are not short
}

var (
	// What [Canonical] gives.
	asCanonical = style{
		comma: ",", colon: ":", compare: compareNames, drop: isProto, text: appendName, number: appendNumber,
	}
	// What Postgres prints of a jsonb: names by their length, numbers with
	// their own digits. What it could not hold is replaced, see [storable].
	asJSONB = style{
		comma: ", ", colon: ": ", compare: compareKeys, drop: func(*node) bool { return false }, text: appendStored,
		number: func(out, literal []byte) []byte { return appendNumeric(out, storableNumber(literal)) },
	}
)

func (t *tree) write(out []byte, at int32, s *style) []byte {
	switch n := &t.nodes[at]; n.kind {
	case '{':
		begin := len(t.order)
		for name := n.child; name != 0; name = t.nodes[t.nodes[name].next].next {
			t.order = append(t.order, name)
		}
		members := t.order[begin:]
		// Stable: of equal names the last one stays last.
		slices.SortStableFunc(members, func(a, b int32) int { return s.compare(&t.nodes[a], &t.nodes[b]) })
		out = append(out, '{')
		first := true
		for i, at := range members {
			name := &t.nodes[at]
			if i+1 < len(members) && s.compare(name, &t.nodes[members[i+1]]) == 0 || s.drop(name) {
				continue
			}
			if !first {
				out = append(out, s.comma...)
			}
			first = false
			out = append(s.text(out, name), s.colon...)
			out = t.write(out, name.next, s)
		}
		t.order = t.order[:begin]
		return append(out, '}')
	case '[':
		out = append(out, '[')
		for part := n.child; part != 0; part = t.nodes[part].next {
			if part != n.child {
				out = append(out, s.comma...)
			}
			out = t.write(out, part, s)
		}
		return append(out, ']')
	case '"':
		return s.text(out, n)
	case '0':
		if n.isShort() && n.text[0] != '-' {
			return append(out, n.text...)
		}
		return s.number(out, n.text)
	default:
		return append(out, n.text...)
	}
}

// isShort reports whether a number is whole and has the digits that a double
// surely holds.
func (n *node) isShort() bool { return len(n.text) <= 15 && !bytes.ContainsAny(n.text, ".eE") }

func isProto(n *node) bool {
	if n.plain {
		return string(n.text) == "__proto__"
	}
	return slices.Equal(n.units(), proto)
}

func appendName(out []byte, n *node) []byte {
	if n.clean {
		return append(append(append(out, '"'), n.text...), '"')
	}
	return appendQuoted(out, n.units())
}

// compareNames puts names as JavaScript does: array indexes first, then in the
// order of UTF-16.
func compareNames(a, b *node) int {
	if a.ascii && b.ascii && !isDigit(a.text) && !isDigit(b.text) {
		return bytes.Compare(a.text, b.text)
	}
	ua, ub := a.units(), b.units()
	ia, ib := arrayIndex(ua), arrayIndex(ub)
	switch {
	case ia >= 0 && ib >= 0:
		return cmp.Compare(ia, ib)
	case ia >= 0:
		return -1
	case ib >= 0:
		return 1
	}
	return slices.Compare(ua, ub)
}

func isDigit(text []byte) bool { return len(text) > 0 && text[0] >= '0' && text[0] <= '9' }

func compareKeys(a, b *node) int {
	na, nb := a.name(), b.name()
	return cmp.Or(cmp.Compare(len(na), len(nb)), bytes.Compare(na, nb))
}

func appendStored(out []byte, n *node) []byte {
	if n.clean {
		return appendName(out, n)
	}
	return appendText(out, string(n.name()))
}

// appendNumeric writes a number as Postgres' numeric does: all its digits, and
// no exponent.
func appendNumeric(out, literal []byte) []byte {
	text, negative := strings.CutPrefix(string(literal), "-")
	if text == "null" {
		return append(out, text...)
	}
	digits, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		digits = text[:i]
		exponent, _ = strconv.Atoi(text[i+1:]) // the syntax is checked; a double's exponent is small
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	if negative && strings.Trim(whole+fraction, "0") != "" {
		out = append(out, '-')
	}
	if exponent > 0 { // the point goes to the right
		n := min(exponent, len(fraction))
		whole, fraction = whole+fraction[:n]+strings.Repeat("0", exponent-n), fraction[n:]
	} else if exponent < 0 {
		whole = strings.Repeat("0", -exponent) + whole
		n := len(whole) + exponent
		whole, fraction = whole[:n], whole[n:]+fraction
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	out = append(out, whole...)
	if fraction != "" {
		out = append(append(out, '.'), fraction...)
	}
	return out
}
