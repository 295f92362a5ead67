package events

import (
	"bytes"
	"encoding/binary"
)

// maxNesting is how deep JSON may be nested, as in encoding/json.
const maxNesting = 10_000

// isJSON is json.Valid, which takes half of the time of making a job: nearly all
// of its arguments are inside of strings, and what is there is read eight bytes
// at a time.
func isJSON(b []byte) bool {
	i := jsonValue(b, jsonSpace(b, 0), 0)
	return i > 0 && jsonSpace(b, i) == len(b)
}

// Each of the following reads b from i on and says where what it reads has
// ended; 0: it is not there, or is no JSON. They may be given an i behind b.

func jsonSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

func jsonValue(b []byte, i, depth int) int {
	switch at(b, i) {
	case '"':
		return jsonString(b, i)
	case '{':
		return jsonList(b, i, '}', depth+1)
	case '[':
		return jsonList(b, i, ']', depth+1)
	case 't':
		return jsonWord(b, i, "true")
	case 'f':
		return jsonWord(b, i, "false")
	case 'n':
		return jsonWord(b, i, "null")
	default:
		return jsonNumber(b, i)
	}
}

// at gives 0, which nothing begins with, behind the end.
func at(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

func jsonWord(b []byte, i int, word string) int {
	if bytes.HasPrefix(b[i:], []byte(word)) {
		return i + len(word)
	}
	return 0
}

// jsonList reads an object or an array.
func jsonList(b []byte, i int, end byte, depth int) int {
	if depth > maxNesting {
		return 0
	}
	if i = jsonSpace(b, i+1); at(b, i) == end {
		return i + 1
	}
	for {
		if end == '}' {
			if at(b, i) != '"' {
				return 0
			}
			if i = jsonString(b, i); i == 0 {
				return 0
			}
			if i = jsonSpace(b, i); at(b, i) != ':' {
				return 0
			}
			i = jsonSpace(b, i+1)
		}
		if i = jsonValue(b, i, depth); i == 0 {
			return 0
		}
		switch i = jsonSpace(b, i); at(b, i) {
		case end:
			return i + 1
		case ',':
			i = jsonSpace(b, i+1)
		default:
			return 0
		}
	}
}

func jsonString(b []byte, i int) int {
	for i++; ; {
		for i+8 <= len(b) && !marked(binary.LittleEndian.Uint64(b[i:])) {
			i += 8
		}
		switch c := at(b, i); {
		case c < ' ':
			return 0
		case c == '"':
			return i + 1
		case c != '\\':
			i++
			continue
		}
		switch at(b, i+1) {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			for k := i + 2; k < i+6; k++ {
				if c := at(b, k); (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
					return 0
				}
			}
			i += 6
		default:
			return 0
		}
	}
}

// marked reports whether any of eight bytes is a quote, a backslash, or below a
// space.
func marked(x uint64) bool {
	const each, high = 0x0101_0101_0101_0101, 0x8080_8080_8080_8080
	quote, slash := x^each*'"', x^each*'\\'
	return ((x-each*' ')&^x|(quote-each)&^quote|(slash-each)&^slash)&high != 0
}

func jsonNumber(b []byte, i int) int {
	if at(b, i) == '-' {
		i++
	}
	begin := i
	if i = jsonDigits(b, i); i == 0 || b[begin] == '0' && i > begin+1 {
		return 0
	}
	if at(b, i) == '.' {
		if i = jsonDigits(b, i+1); i == 0 {
			return 0
		}
	}
	if at(b, i)|0x20 == 'e' {
		if i++; at(b, i) == '+' || at(b, i) == '-' {
			i++
		}
		return jsonDigits(b, i)
	}
	return i
}

func jsonDigits(b []byte, i int) int {
	begin := i
	for c := at(b, i); c >= '0' && c <= '9'; c = at(b, i) {
		i++
	}
	if i == begin {
		return 0
	}
	return i
}
