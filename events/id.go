package events

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// ID names a job. It holds only letters, digits, '_' and '-', so that it can
// stand in a subject, a header and a URL as it is.
type ID string

// Kind says which handler does a job. It is one lower-case word and is on the
// wire for ever.
type Kind string

// base32 in lower case without padding: no character that a subject, a file
// name or a URL gives a meaning to, and no two that differ only by case.
var lower32 = base32.NewEncoding(idDigits).WithPadding(base32.NoPadding)

// NewID names the work that kind and parts describe: the same work has the
// same name in every process and for ever. Each part is hashed behind its own
// length, so parts that contain separators cannot collide with other parts.
// The name is the kind, '_', and 160 bits of SHA-256 in 32 characters; a kind
// that is longer than 31 characters, or has others than letters, digits, '_'
// and '-', stands there as a hash too.
func NewID(kind Kind, parts ...string) ID {
	return ID(idWord(kind) + "_" + idHash(kind, parts))
}

// NewIDAt names the work as NewID does, and says in front of the hash when the
// work came to be, so that the names of one moment are neighbours in an index:
// with millions of jobs a new one then finds the pages that it needs in
// memory. The moment is a part of the name, so it must be one that is known
// whenever the work is named again, such as the time that is stored with what
// the work is about. Of the time whole seconds count; the hash has 125 bits.
// The zero time, and one before 1970 or after 3058, stands for none: the name
// is that of NewID.
func NewIDAt(kind Kind, at time.Time, parts ...string) ID {
	return idAt(kind, at, 0, parts)
}

// NewIDAtMilli is NewIDAt for work of which thousands come in a second: of the
// time 1/1024 of a second counts, and the hash has 115 bits. The names of a
// batch then stand together, and behind all others, where indexes are quick.
// The time must be known as exactly whenever the work is named again.
func NewIDAtMilli(kind Kind, at time.Time, parts ...string) ID {
	return idAt(kind, at, 2, parts)
}

// idAt has the time in front of the hash: its seconds, and so many characters
// of what a second has.
func idAt(kind Kind, at time.Time, more int, parts []string) ID {
	sec := at.Unix()
	if sec < 0 || sec >= 1<<(5*idTime) {
		return NewID(kind, parts...)
	}
	ticks := sec<<(5*more) | int64(at.Nanosecond())<<(5*more)/int64(time.Second)
	when := make([]byte, idTime+more, 32)
	for i := range when {
		when[i] = idDigits[ticks>>(5*(len(when)-1-i))&31]
	}
	return ID(idWord(kind) + "_" + string(when) + idHash(kind, parts)[:32-len(when)])
}

const (
	idTime   = 7 // characters of the seconds, in front
	idDigits = "0123456789abcdefghijklmnopqrstuv"
)

func idWord(kind Kind) string {
	word := string(kind)
	if len(word) > maxWord || !isToken(word) {
		sum := sha256.Sum256([]byte(word))
		word = "k" + lower32.EncodeToString(sum[:15])
	}
	return word
}

func idHash(kind Kind, parts []string) string {
	room := [512]byte{}
	b := appendPart(room[:0], string(kind))
	for _, p := range parts {
		b = appendPart(b, p)
	}
	sum := sha256.Sum256(b)
	return lower32.EncodeToString(sum[:20])
}

// maxWord leaves room for '_' and the hash in the 64 characters of an id.
const maxWord = 31

func appendPart(b []byte, p string) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(len(p))), p...)
}

// isToken reports whether s is 1 to 64 letters, digits, '_' or '-'.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// Token makes one subject token of s: s itself where it is made of letters,
// digits, '_' and '-' and has at most 64 of them, otherwise '~' and 22
// characters of its SHA-256. The server stores subjects literally, so an
// unchecked id could hold a wildcard or close the connection by its length.
func Token(s string) string {
	if isToken(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "~" + base64.RawURLEncoding.EncodeToString(sum[:])[:22]
}
