package observe

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// plain makes text that Postgres can store: NUL and what is no UTF-8 become
// U+FFFD. Losing the text would be worse.
func plain(s string) string {
	if strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// plainPtr is plain for text that may be missing.
func plainPtr(s *string) *string {
	if s == nil {
		return nil
	}
	return new(plain(*s))
}

// storable makes a JSON document that a jsonb column takes, and changes
// nothing else: NUL, half a surrogate pair and what is no UTF-8 become U+FFFD,
// and a number that no double holds is null, as in JavaScript. The document
// has been through [Canonical], so its syntax and its depth are good.
func storable(raw []byte) ([]byte, error) {
	return rewrite(raw, plain)
}

// rewrite gives the document with every string in it, names of members
// included, put through edit.
func rewrite(raw []byte, edit func(string) string) ([]byte, error) {
	var b bytes.Buffer
	d := newDecoder(raw)
	// Not checking for duplicates is also what lets two names become one.
	e := jsontext.NewEncoder(&b, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		switch d.PeekKind() {
		case '"':
			v, err := d.ReadValue()
			if err != nil {
				return nil, err
			}
			if err := e.WriteToken(jsontext.String(edit(string(utf16.Decode(unquote(v)))))); err != nil {
				return nil, err
			}
		case '0':
			v, err := d.ReadValue()
			if err != nil {
				return nil, err
			}
			if err := e.WriteValue(storableNumber(v)); err != nil {
				return nil, err
			}
		default:
			t, err := d.ReadToken()
			if err != nil {
				return nil, err
			}
			if err := e.WriteToken(t); err != nil {
				return nil, err
			}
		}
		if d.StackDepth() == 0 {
			return bytes.TrimRight(b.Bytes(), "\n"), nil
		}
	}
}

// storableNumber keeps a number's own digits where Postgres' numeric surely
// holds them.
func storableNumber(literal jsontext.Value) jsontext.Value {
	f, _ := strconv.ParseFloat(string(literal), 64) // out of range gives ±Inf or 0
	switch {
	case math.IsInf(f, 0):
		return jsontext.Value("null")
	case len(literal) <= 300 && (f != 0 || !bytes.ContainsAny(literal, "eE")):
		return literal.Clone()
	default:
		return appendNumber(nil, literal)
	}
}
