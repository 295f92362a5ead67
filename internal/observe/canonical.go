package observe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds how deep JSON may be nested. Nothing real comes near it,
// and what walks a document need not fear for its stack.
const maxDepth = 1000

var errDepth = fmt.Errorf("nested deeper than %d levels", maxDepth)

// Canonical gives the one text that stands for a JSON document, whatever its
// spaces, escapes and order of names: what JavaScript's JSON.stringify makes
// of it once each object has been built anew with its names sorted. Clients
// computed identities over that text, so its oddities are kept:
//
//   - names that are array indexes come first, in the order of their numbers;
//     the others in the order of their UTF-16 units
//   - of a name that is there twice the last one counts, and one that is
//     __proto__ vanishes
//   - numbers are printed as JavaScript prints doubles; one too large is null
//   - <, >, & and U+2028 stand as they are, half a surrogate pair as \udXXX
//
// jsontext has a canonical form too, RFC 8785: it agrees on numbers (its
// AppendFloat is used here) but not on index-like names, lone surrogates and
// duplicates, and it cannot be told to.
func Canonical(raw []byte) ([]byte, error) {
	d := newDecoder(raw)
	out, err := canonicalValue(nil, d, 0)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("canonical JSON: something follows the value")
	}
	return out, nil
}

func newDecoder(raw []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

type member struct {
	name  []uint16 // in UTF-16, with its lone surrogates
	index int64    // -1: no array index
	value []byte
}

func canonicalValue(out []byte, d *jsontext.Decoder, depth int) ([]byte, error) {
	switch d.PeekKind() {
	case '{':
		return canonicalObject(out, d, depth)
	case '[':
		return canonicalArray(out, d, depth)
	case '"':
		v, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		return appendQuoted(out, unquote(v)), nil
	case '0':
		v, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		return appendNumber(out, v), nil
	default:
		v, err := d.ReadValue()
		return append(out, v...), err
	}
}

func canonicalArray(out []byte, d *jsontext.Decoder, depth int) ([]byte, error) {
	if depth++; depth > maxDepth {
		return nil, errDepth
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	out = append(out, '[')
	for n := 0; d.PeekKind() != ']'; n++ {
		if n > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = canonicalValue(out, d, depth); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return append(out, ']'), err
}

func canonicalObject(out []byte, d *jsontext.Decoder, depth int) ([]byte, error) {
	if depth++; depth > maxDepth {
		return nil, errDepth
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	var members []member
	for d.PeekKind() != '}' {
		v, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		m := member{name: unquote(v)}
		m.index = arrayIndex(m.name)
		if m.value, err = canonicalValue(nil, d, depth); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	// Stable: of equal names the last one stays last.
	slices.SortStableFunc(members, func(a, b member) int {
		switch {
		case a.index >= 0 && b.index >= 0:
			return int(a.index - b.index)
		case a.index >= 0:
			return -1
		case b.index >= 0:
			return 1
		}
		return slices.Compare(a.name, b.name)
	})
	out = append(out, '{')
	first := true
	for i, m := range members {
		if i+1 < len(members) && slices.Equal(m.name, members[i+1].name) || slices.Equal(m.name, proto) {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(appendQuoted(out, m.name), ':')
		out = append(out, m.value...)
	}
	return append(out, '}'), nil
}

var proto = utf16.Encode([]rune("__proto__"))

// arrayIndex reads a name as ECMAScript reads an array index: a number from 0
// to 2^32-2 in its plain form. Otherwise -1.
func arrayIndex(name []uint16) int64 {
	if len(name) == 0 || len(name) > 10 || (name[0] == '0' && len(name) > 1) {
		return -1
	}
	var n int64
	for _, u := range name {
		if u < '0' || u > '9' {
			return -1
		}
		n = n*10 + int64(u-'0')
	}
	if n > math.MaxUint32-1 {
		return -1
	}
	return n
}

func appendNumber(out, literal []byte) []byte {
	f, _ := strconv.ParseFloat(string(literal), 64) // the syntax is checked; out of range gives ±Inf
	switch {
	case math.IsInf(f, 0):
		return append(out, "null"...)
	case f == 0:
		return append(out, '0') // also for -0
	}
	return jsontext.AppendFloat(out, f, 64)
}

// unquote reads a JSON string literal as JavaScript holds it: in UTF-16,
// surrogates paired or not. Bytes that are no UTF-8 are U+FFFD.
func unquote(literal []byte) []uint16 { return unquoted(literal[1 : len(literal)-1]) }

// unquoted is unquote for what stands between the quotes.
func unquoted(s []byte) []uint16 {
	units := make([]uint16, 0, len(s))
	for len(s) > 0 {
		if s[0] != '\\' {
			r, n := utf8.DecodeRune(s)
			units, s = utf16.AppendRune(units, r), s[n:]
			continue
		}
		switch s[1] {
		case 'u':
			n, _ := strconv.ParseUint(string(s[2:6]), 16, 16) // the syntax is checked
			units, s = append(units, uint16(n)), s[6:]
			continue
		case 'b':
			units = append(units, '\b')
		case 'f':
			units = append(units, '\f')
		case 'n':
			units = append(units, '\n')
		case 'r':
			units = append(units, '\r')
		case 't':
			units = append(units, '\t')
		default:
			units = append(units, uint16(s[1]))
		}
		s = s[2:]
	}
	return units
}

// appendQuoted writes a string as JSON.stringify does.
func appendQuoted(out []byte, units []uint16) []byte {
	out = append(out, '"')
	for i := 0; i < len(units); i++ {
		u := units[i]
		switch {
		case u < ' ' || u == '"' || u == '\\':
			out = appendEscaped(out, u)
		case !utf16.IsSurrogate(rune(u)):
			out = utf8.AppendRune(out, rune(u))
		default:
			if i+1 < len(units) {
				if r := utf16.DecodeRune(rune(u), rune(units[i+1])); r != utf8.RuneError {
					out = utf8.AppendRune(out, r)
					i++
					continue
				}
			}
			out = fmt.Appendf(out, `\u%04x`, u)
		}
	}
	return append(out, '"')
}

// appendEscaped writes a quote, a backslash or a control character.
func appendEscaped(out []byte, u uint16) []byte {
	switch short := "btn.fr"; {
	case u >= ' ':
		return append(out, '\\', byte(u))
	case u >= '\b' && u <= '\r' && u != '\v':
		return append(out, '\\', short[u-'\b'])
	}
	return fmt.Appendf(out, `\u%04x`, u)
}

// appendText writes a Go string, or its bytes, as JSON.stringify does.
func appendText[T string | []byte](out []byte, s T) []byte {
	out = append(out, '"')
	begin := 0 // of what stands as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := runeIn(s[i:])
			if r == utf8.RuneError && n == 1 {
				out = append(append(out, s[begin:i]...), "\uFFFD"...)
				begin = i + 1
			}
			i += n
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			out = appendEscaped(append(out, s[begin:i]...), uint16(c))
			begin = i + 1
		}
		i++
	}
	return append(append(out, s[begin:]...), '"')
}

func runeIn[T string | []byte](s T) (rune, int) {
	var room [utf8.UTFMax]byte
	return utf8.DecodeRune(room[:copy(room[:], s)])
}
