package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth is how deep a body may nest. Postgres' own reader of JSON gives up
// at some thousands, and no hook's payload comes near this.
const maxDepth = 500

// maxDigits is how long a number in a body may be written. A double needs 17.
const maxDigits = 400

// wellFormed says what keeps body from being one JSON text that Postgres can
// store: the syntax, the encoding, the nesting, and numbers beyond a double
// (which JavaScript would read as infinite).
func wellFormed(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("the body is not UTF-8")
	}
	if err := shape(body); err != nil {
		return err
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("%s, at byte %d", syntax.Error(), syntax.Offset)
		}
		return err
	}
	return nil
}

// shape checks nesting and numbers. It skips strings and leaves all other
// syntax to the parser, so that it must not be right about what is not JSON.
func shape(body []byte) error {
	depth := 0
	for i := 0; i < len(body); i++ {
		switch b := body[i]; {
		case b == '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		case b == '[' || b == '{':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested deeper than %d, at byte %d", maxDepth, i+1)
			}
		case b == ']' || b == '}':
			depth--
		case b == '-' || '0' <= b && b <= '9':
			end := i + 1
			for end < len(body) && numeric(body[end]) {
				end++
			}
			if err := number(body[i:end]); err != nil {
				return fmt.Errorf("%w, at byte %d", err, i+1)
			}
			i = end - 1
		}
	}
	return nil
}

func numeric(b byte) bool {
	return '0' <= b && b <= '9' || b == '.' || b == '-' || b == '+' || b == 'e' || b == 'E'
}

func number(text []byte) error {
	if len(text) <= 17 && !exponent(text) {
		return nil // the usual case, and in range however it is written
	}
	if len(text) > maxDigits {
		return fmt.Errorf("a number of more than %d characters", maxDigits)
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("a number beyond the range of a double")
	}
	if err == nil && f == 0 && exponent(text) && nonZeroMantissa(text) {
		return errors.New("a number below the range of a double")
	}
	return nil // what is no number at all is the parser's to say
}

func exponent(text []byte) bool {
	for _, b := range text {
		if b == 'e' || b == 'E' {
			return true
		}
	}
	return false
}

func nonZeroMantissa(text []byte) bool {
	for _, b := range text {
		switch {
		case b == 'e' || b == 'E':
			return false
		case '1' <= b && b <= '9':
			return true
		}
	}
	return false
}
