package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth is how deep a body may nest. Postgres' own reader of JSON gives up
// at some thousands, and no hook's payload comes near this.
const maxDepth = 500

// wellFormed says what keeps body from being one JSON text that can be
// stored: its encoding, its nesting or its syntax. What else Postgres does not
// take, as a NUL or a number beyond a double, observe replaces.
func wellFormed(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("the body is not UTF-8")
	}
	if at := tooDeep(body); at > 0 {
		return fmt.Errorf("nested deeper than %d, at byte %d", maxDepth, at)
	}
	var whole json.RawMessage
	err := json.Unmarshal(body, &whole)
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
