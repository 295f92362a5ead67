package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var jsonSeeds = []string{
	``, ` `, `{}`, `[]`, `""`, `0`, `-0`, `00`, `01`, `-`, `-01`, `1.`, `.1`, `1.5`, `1e`, `1e+`, `1E-9`, `1.e1`, `0e0`, `12.5e+10`, `--1`,
	`true`, `false`, `null`, `tru`, `nul`, `truefalse`, `true false`, `[true,false,null]`, `[1,]`, `[,1]`, `[1 2]`, `[`, `]`, `{`, `}`, `{"a"}`, `{"a":}`,
	`{"a":1,}`, `{,}`, `{"a":1 "b":2}`, `{1:2}`, `{"a":{"b":[{"c":"d"}]}}`, " {\n\t\"a\" :\r[ 1 , 2 ] } ", `"`, `"a`, `"\`, `"\"`, `"\u12"`, `"\u12g4"`,
	`"\uABcd"`, `"\u0000"`, `"\x"`, `"\/\b\f\n\r\t\\\""`, "\"a\nb\"", "\"\x00\"", "\"\x7f\x80\xff\"", `"0123456789abcdef"`, "\"0123456\x1f89abcdef\"",
	"\x00", "1\x00", "\"\"\x00", `[[[[]]]`, "\v1", `{"n":17,"pad":"0123456789abcdef0123456789abcdef"}`, `"\u123`, `"\u00-1"`, `"\u0` + "\x10" + `11"`,
}

// It says what encoding/json says, of whatever there is.
func FuzzIsJSON(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		require.Equal(t, json.Valid(b), isJSON(b), "%q", b)
	})
}

// What is JSON is so at each place in a string, and is none any more when a byte
// is another: json.Valid says which.
func TestIsJSON(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, seed := range jsonSeeds {
		require.Equal(t, json.Valid([]byte(seed)), isJSON([]byte(seed)), "%q", seed)
		for range 200 {
			b := []byte(seed)
			for range 1 + random.IntN(2) {
				if k := random.IntN(len(b) + 1); k < len(b) && random.IntN(2) == 0 {
					b[k] = byte(random.Uint32())
				} else {
					b = append(b[:k:k], append([]byte{`"\{}[]:,0e.-u `[random.IntN(14)]}, b[k:]...)...)
				}
			}
			require.Equal(t, json.Valid(b), isJSON(b), "%q", b)
		}
	}
	for n := range 40 {
		for c := range 256 {
			b := fmt.Appendf(nil, `"%s%c%s"`, strings.Repeat("x", n), 'y', strings.Repeat("z", 20))
			b[n+1] = byte(c)
			require.Equal(t, json.Valid(b), isJSON(b), "%q", b)
		}
	}
	for _, deep := range []int{maxNesting, maxNesting + 1} {
		b := append(bytes.Repeat([]byte{'['}, deep), bytes.Repeat([]byte{']'}, deep)...)
		require.Equal(t, json.Valid(b), isJSON(b), "%d deep", deep)
	}
}
