package events

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"regexp"
)

// ID names a job. It holds only letters, digits, '_' and '-', so that it can
// stand in a subject, a header and a URL as it is.
type ID string

// Kind says which handler does a job. It is one lower-case word and is on the
// wire for ever.
type Kind string

// base32 in lower case without padding: no character that a subject, a file
// name or a URL gives a meaning to, and no two that differ only by case.
var lower32 = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// NewID names the work that kind and parts describe: the same work has the
// same name in every process and for ever. Each part is hashed behind its own
// length, so parts that contain separators cannot collide with other parts.
// The name is the kind, '_', and 160 bits of SHA-256 in 32 characters; a kind
// that is longer than 31 characters, or has others than letters, digits, '_'
// and '-', stands there as a hash too.
func NewID(kind Kind, parts ...string) ID {
	h := sha256.New()
	writePart(h, string(kind))
	for _, p := range parts {
		writePart(h, p)
	}
	word := string(kind)
	if len(word) > maxWord || !plainToken.MatchString(word) {
		sum := sha256.Sum256([]byte(word))
		word = "k" + lower32.EncodeToString(sum[:15])
	}
	return ID(word + "_" + lower32.EncodeToString(h.Sum(nil)[:20]))
}

// maxWord leaves room for '_' and the hash in the 64 characters of an id.
const maxWord = 31

func writePart(h hash.Hash, p string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(p)))
	h.Write(n[:])
	h.Write([]byte(p))
}

var plainToken = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Token makes one subject token of s: s itself where it is made of letters,
// digits, '_' and '-' and has at most 64 of them, otherwise '~' and 22
// characters of its SHA-256. The server stores subjects literally, so an
// unchecked id could hold a wildcard or close the connection by its length.
func Token(s string) string {
	if plainToken.MatchString(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "~" + base64.RawURLEncoding.EncodeToString(sum[:])[:22]
}
