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
	return rewrite(raw, plainly{})
}

// An editor says what becomes of a document's values, in the order in which
// they stand there.
type editor interface {
	text(s string, name bool) string // name: of a member
	hidden() bool                    // whether a number, true or false here becomes null
	begin(list bool)                 // a list, or an object
	end()
}

type plainly struct{}

func (plainly) text(s string, _ bool) string { return plain(s) }
func (plainly) hidden() bool                 { return false }
func (plainly) begin(bool)                   {}
func (plainly) end()                         {}

// rewrite gives the document as the editor wants it.
func rewrite(raw []byte, edit editor) ([]byte, error) {
	var b bytes.Buffer
	d := newDecoder(raw)
	// Not checking for duplicates is also what lets two names become one.
	e := jsontext.NewEncoder(&b, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		kind := d.PeekKind()
		var err error
		switch kind {
		case '"':
			in, n := d.StackIndex(d.StackDepth())
			var v jsontext.Value
			if v, err = d.ReadValue(); err == nil {
				err = e.WriteToken(jsontext.String(edit.text(textOf(v), in == '{' && n%2 == 0)))
			}
		case '0':
			var v jsontext.Value
			if v, err = d.ReadValue(); err == nil {
				if v = storableNumber(v); edit.hidden() {
					v = jsontext.Value("null")
				}
				err = e.WriteValue(v)
			}
		default:
			var t jsontext.Token
			if t, err = d.ReadToken(); err == nil {
				if (kind == 't' || kind == 'f') && edit.hidden() {
					t = jsontext.Null
				}
				err = e.WriteToken(t)
			}
		}
		if err != nil {
			return nil, err
		}
		if kind == '{' || kind == '[' {
			edit.begin(kind == '[')
		}
		if kind == '}' || kind == ']' {
			edit.end()
		}
		if d.StackDepth() == 0 {
			return bytes.TrimRight(b.Bytes(), "\n"), nil
		}
	}
}

// textOf reads a JSON string literal; half a surrogate pair is U+FFFD.
func textOf(literal jsontext.Value) string {
	if bytes.IndexByte(literal, '\\') < 0 && utf8.Valid(literal) {
		return string(literal[1 : len(literal)-1])
	}
	return string(utf16.Decode(unquote(literal)))
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
