package observe

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Peppers are the server's secrets that API keys are hashed with, so that who
// reads the database, or writes into it, has no key by that. New keys are
// hashed with the first; the others are older ones that are still accepted. A
// key that was hashed with an older one, or with none, is hashed anew when it
// is next used. None at all means a plain SHA-256.
type Peppers struct{ list []pepper }

type pepper struct {
	secret []byte
	mark   string // what the database calls it
}

const (
	minPepper  = 16 // characters
	maxPeppers = 8  // each costs every request a hash
)

// ParsePeppers reads the peppers, one a line or with commas, the one for new
// keys first. No error repeats them.
func ParsePeppers(text string) (Peppers, error) {
	var p Peppers
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' || r == ',' }) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case len(line) < minPepper:
			return Peppers{}, fmt.Errorf("a pepper has at least %d characters", minPepper)
		case len(p.list) == maxPeppers:
			return Peppers{}, fmt.Errorf("at most %d peppers", maxPeppers)
		}
		mark := sha256.Sum256([]byte("obs pepper " + line))
		p.list = append(p.list, pepper{[]byte(line), hex.EncodeToString(mark[:4])})
	}
	if len(p.list) == 0 {
		return p, errors.New("there is no pepper in it")
	}
	return p, nil
}

// Any reports whether there is one.
func (p Peppers) Any() bool { return len(p.list) > 0 }

// keyHash is what the database has of a key.
type keyHash struct {
	sum    []byte
	pepper string
}

// hashes are all that a key may be stored as, the one for new keys first.
func (p Peppers) hashes(secret string) []keyHash {
	out := make([]keyHash, 0, len(p.list)+1)
	for _, one := range p.list {
		mac := hmac.New(sha256.New, one.secret)
		mac.Write([]byte(secret))
		out = append(out, keyHash{mac.Sum(nil), one.mark})
	}
	plain := sha256.Sum256([]byte(secret))
	return append(out, keyHash{sum: plain[:]})
}

// which is the place of a stored hash among those of the key that was shown,
// or -1. It takes as long whichever it is.
func which(hashes []keyHash, stored []byte) int {
	at := -1
	for i, h := range hashes {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(h.sum, stored), i, at)
	}
	return at
}
