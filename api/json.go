package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// maxDepth is how deep a body may nest. Postgres' own reader of JSON gives up
// at some thousands, and no hook's payload comes near this.
const maxDepth = 500

// wellFormed says what keeps body from being one JSON text that can be
// stored: its encoding, its nesting or its syntax. What else Postgres does not
// take, as a NUL or a number beyond a double, observe replaces.
func wellFormed(body []byte) error {
	if isJSON(body) {
		return nil
	}
	// The slow way knows what is wrong.
	if !utf8.Valid(body) {
		return errors.New("the body is not UTF-8")
	}
	if at := tooDeep(body); at > 0 {
		return fmt.Errorf("nested deeper than %d, at byte %d", maxDepth, at)
	}
	if json.Valid(body) {
		return nil
	}
	var whole json.RawMessage
	err := json.Unmarshal(body, &whole) // knows what is wrong
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("%w, at byte %d", err, syntax.Offset)
	}
	return err
}

// tooDeep is where body, counted from 1, nests deeper than it may; 0 means
// nowhere. It skips strings and leaves all other syntax to the parser, so it
// need not be right about what is not JSON.
func tooDeep(body []byte) int {
	depth := 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			if depth++; depth > maxDepth {
				return i + 1
			}
		case ']', '}':
			depth--
		}
	}
	return 0
}

// The following take apart what wellFormed has found to be good, without a
// copy: it is not checked again.

// fields are the members of an object, in order.
type fields []field

type field struct {
	name  []byte // as it is written, between its quotes
	value json.RawMessage
}

// get gives the value, nil where there is none. Of a member that comes twice
// the last one counts.
func (f fields) get(name string) json.RawMessage {
	for _, one := range slices.Backward(f) {
		if string(one.name) == name {
			return one.value
		}
	}
	return nil
}

// has also sees one that is null.
func (f fields) has(name string) bool { return f.get(name) != nil }

func (f *fields) set(name string, value json.RawMessage) { *f = append(*f, field{[]byte(name), value}) }

// members are those of an object.
func members(object []byte) fields {
	out := make(fields, 0, 12)
	for at := skipBlank(object, 0) + 1; ; {
		at = skipBlank(object, at)
		if object[at] == '}' {
			return out
		}
		end := skipValue(object, at)
		name := object[at+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			plain, ok := stringIn(object[at:end])
			if !ok {
				return out
			}
			name = []byte(plain)
		}
		at = skipBlank(object, end) + 1 // the colon
		at = skipBlank(object, at)
		end = skipValue(object, at)
		out = append(out, field{name, object[at:end:end]})
		if at = skipBlank(object, end); object[at] == ',' {
			at++
		}
	}
}

// elements are those of an array.
func elements(array []byte) (out []json.RawMessage) {
	for at := skipBlank(array, 0) + 1; ; {
		at = skipBlank(array, at)
		if array[at] == ']' {
			return out
		}
		end := skipValue(array, at)
		out = append(out, array[at:end:end])
		if at = skipBlank(array, end); array[at] == ',' {
			at++
		}
	}
}

func skipBlank(text []byte, at int) int {
	for at < len(text) && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r') {
		at++
	}
	return at
}

// skipValue is where the value ends that begins at at.
func skipValue(text []byte, at int) int {
	switch text[at] {
	case '"':
		return skipString(text, at)
	case '{', '[':
		for depth := 0; ; at++ {
			switch text[at] {
			case '"':
				at = skipString(text, at) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return at + 1
				}
			}
		}
	}
	for at < len(text) {
		switch text[at] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return at
		}
		at++
	}
	return at
}

func skipString(text []byte, at int) int {
	for at++; ; at += 2 { // over what is escaped
		if at += plainText(text[at:]); text[at] == '"' {
			return at + 1
		}
		if text[at] != '\\' {
			at-- // not ASCII
		}
	}
}

// stringIn is the string that a JSON text is; ok is false when it is another
// value. Most have nothing to decode.
func stringIn(raw []byte) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	return s, json.Unmarshal(raw, &s) == nil
}
