package api

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// isJSON reports whether body is one JSON text in UTF-8 that nests no deeper
// than it may: in one pass, which is all that most bodies need. It does not
// say what is wrong; see [wellFormed]. FuzzWellFormed compares it with
// encoding/json.
func isJSON(body []byte) bool {
	var inObject [maxDepth]bool // of what is open, whether it is an object
	depth, at := 0, skipBlank(body, 0)
	for {
		// A value begins here.
		if at == len(body) {
			return false
		}
		switch c := body[at]; c {
		case '{', '[':
			if depth == maxDepth {
				return false
			}
			inObject[depth] = c == '{'
			depth++
			if at = skipBlank(body, at+1); at == len(body) {
				return false
			}
			if body[at] != c+2 { // its end, in ASCII
				if c == '{' {
					if at = memberAt(body, at); at < 0 {
						return false
					}
				}
				continue
			}
		case '"':
			at = stringAt(body, at)
		default:
			at = literalAt(body, at)
		}
		if at < 0 {
			return false
		}
		// It ends here, or an empty list or object is about to.
		for more := false; !more; {
			if at < len(body) && depth > 0 && body[at] == closing(inObject[depth-1]) {
				depth--
				at++
			}
			if at = skipBlank(body, at); depth == 0 {
				return at == len(body)
			}
			if at == len(body) {
				return false
			}
			switch body[at] {
			case ',':
				at, more = skipBlank(body, at+1), true
				if inObject[depth-1] {
					if at = memberAt(body, at); at < 0 {
						return false
					}
				}
			case closing(inObject[depth-1]):
			default:
				return false
			}
		}
	}
}

func closing(object bool) byte {
	if object {
		return '}'
	}
	return ']'
}

// memberAt is where the value of the member begins whose name is at at; below 0
// where there is none.
func memberAt(body []byte, at int) int {
	if at == len(body) || body[at] != '"' {
		return -1
	}
	if at = stringAt(body, at); at < 0 {
		return -1
	}
	if at = skipBlank(body, at); at == len(body) || body[at] != ':' {
		return -1
	}
	return skipBlank(body, at+1)
}

// stringAt is where the string ends that begins at at.
func stringAt(body []byte, at int) int {
	for at++; at < len(body); {
		if at += plainText(body[at:]); at == len(body) {
			return -1
		}
		switch c := body[at]; {
		case c == '"':
			return at + 1
		case c == '\\':
			n := escape(body[at:])
			if n == 0 {
				return -1
			}
			at += n
		case c < utf8.RuneSelf:
			return -1 // a control character
		default:
			r, n := utf8.DecodeRune(body[at:])
			if r == utf8.RuneError && n == 1 {
				return -1
			}
			at += n
		}
	}
	return -1
}

// escape is how long the escape is that text begins with, 0 for none.
func escape(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(text) < 6 {
			return 0
		}
		for _, c := range text[2:6] {
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// literalAt is where the number or the word ends that begins at at.
func literalAt(body []byte, at int) int {
	for _, word := range [...]string{"null", "true", "false"} {
		if body[at] == word[0] {
			if len(body)-at < len(word) || string(body[at:at+len(word)]) != word {
				return -1
			}
			return at + len(word)
		}
	}
	digits := func() bool {
		begin := at
		for at < len(body) && body[at] >= '0' && body[at] <= '9' {
			at++
		}
		return at > begin
	}
	is := func(c byte) bool {
		if at < len(body) && body[at] == c {
			at++
			return true
		}
		return false
	}
	is('-')
	first := at
	if !digits() || body[first] == '0' && at > first+1 {
		return -1
	}
	if is('.') && !digits() {
		return -1
	}
	if is('e') || is('E') {
		if !is('+') {
			is('-')
		}
		if !digits() {
			return -1
		}
	}
	return at
}

// plainText is how many bytes of text stand for themselves in a string: up to
// a quote, a backslash, a control character, or what is not ASCII. Eight at a
// time.
func plainText(text []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	at := 0
	for ; len(text)-at >= 8; at += 8 {
		eight := binary.LittleEndian.Uint64(text[at:])
		quote, slash := eight^('"'*ones), eight^('\\'*ones)
		// A byte of a sum has its high bit where one of these is so; a borrow
		// can set it only behind such a byte, and the first one counts.
		special := (eight - ' '*ones) &^ eight & highs
		special |= (quote - ones) &^ quote & highs
		special |= (slash - ones) &^ slash & highs
		if special |= eight & highs; special != 0 {
			return at + bits.TrailingZeros64(special)/8
		}
	}
	for at < len(text) {
		if c := text[at]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
		at++
	}
	return at
}
