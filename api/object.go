package api

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// object is a JSON object whose members are asked for by name and type. Those
// that nobody asks for are dropped.
type object struct {
	in      *input
	path    []any
	members fields // nil when there was no object to read
}

func (o object) found(name string, i observe.Issue) {
	if o.members != nil { // otherwise the issue is that there is no object
		o.in.found(append(slices.Clone(o.path), name), i)
	}
}

func (o object) wrong(name, want string) { o.found(name, wrongType(want, typeOf(o.members.get(name)))) }

// given reports whether the member is there, be it null.
func (o object) given(name string) bool { return typeOf(o.members.get(name)) != "undefined" }

// has reports whether the member is there and not null.
func (o object) has(name string) bool {
	t := typeOf(o.members.get(name))
	return t != "undefined" && t != "null"
}

// text is a required string of 1 to limit bytes.
func (o object) text(name string, limit int) string {
	s, ok := stringIn(o.members.get(name))
	if !ok {
		o.wrong(name, "string")
		return ""
	}
	o.bounded(name, s, limit)
	return s
}

func (o object) bounded(name, s string, limit int) {
	switch {
	case s == "":
		o.found(name, tooSmall("string", 1, " characters"))
	case len(s) > limit:
		o.found(name, tooBig("string", int64(limit), " bytes"))
	}
}

// visible is a text with something in it besides blanks.
func (o object) visible(name string, limit int) string {
	s := o.text(name, limit)
	if s != "" && strings.TrimSpace(s) == "" {
		o.found(name, tooSmall("string", 1, " characters that are no blanks"))
	}
	return s
}

// name is a required string that is looked up or compared. A NUL is refused:
// it is stored nowhere, so nothing can have such a name.
func (o object) name(name string) string {
	s := o.text(name, maxName)
	if strings.ContainsRune(s, 0) {
		o.found(name, observe.Issue{Code: observe.CodeCustom, Message: "Invalid string: holds a NUL character"})
	}
	return s
}

// optionalName is a name or null or absent, which are nil.
func (o object) optionalName(name string) *string {
	if !o.has(name) {
		return nil
	}
	return new(o.name(name))
}

// optionalText is a string of at most limit bytes, which may be blank; null
// and absent are nil.
func (o object) optionalText(name string, limit int) *string {
	if !o.has(name) {
		return nil
	}
	s, ok := stringIn(o.members.get(name))
	if !ok {
		o.wrong(name, "string")
		return nil
	}
	if len(s) > limit {
		o.found(name, tooBig("string", int64(limit), " bytes"))
	}
	return &s
}

// oneOf is a required string of the given ones.
func (o object) oneOf(name string, options ...string) string {
	s, ok := stringIn(o.members.get(name))
	if !ok || !slices.Contains(options, s) {
		o.found(name, wrongOption(options...))
	}
	return s
}

// integer is a required whole number between low and high, both included. As
// in JavaScript, 1.0 and 1e3 are whole.
func (o object) integer(name string, low, high int64) int64 {
	raw := o.members.get(name)
	if typeOf(raw) != "number" {
		o.wrong(name, "number")
		return 0
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || f != math.Trunc(f) {
			o.found(name, wrongType("int", "number"))
			return 0
		}
		n = int64(max(min(f, 1<<62), -1<<62))
	}
	switch {
	case n < low:
		o.found(name, tooSmall("number", low, ""))
	case n > high:
		o.found(name, tooBig("number", high, ""))
	}
	return n
}

// optionalInteger is like integer; null or absent give the default.
func (o object) optionalInteger(name string, absent, low, high int64) int64 {
	if !o.has(name) {
		return absent
	}
	return o.integer(name, low, high)
}

// within is a number that is brought within low and high; null and absent
// give the default.
func (o object) within(name string, absent, low, high int64) int64 {
	if !o.has(name) {
		return absent
	}
	f, err := strconv.ParseFloat(string(o.members.get(name)), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		o.wrong(name, "number")
		return absent
	}
	return int64(min(max(f, float64(low)), float64(high)))
}

// yes is a boolean; null and absent give the default.
func (o object) yes(name string, absent bool) bool {
	if !o.has(name) {
		return absent
	}
	b := absent
	if json.Unmarshal(o.members.get(name), &b) != nil {
		o.wrong(name, "boolean")
	}
	return b
}

// anything is the member's JSON as it came; null and absent are nil.
func (o object) anything(name string) json.RawMessage {
	if !o.has(name) {
		return nil
	}
	return o.members.get(name)
}

// inner is a member that is an object.
func (o object) inner(name string) object {
	in := object{in: o.in, path: append(slices.Clone(o.path), name)}
	if raw := o.members.get(name); typeOf(raw) == "object" {
		in.members = members(raw)
	} else {
		o.wrong(name, "object")
	}
	return in
}

// record is a JSON object or null or absent, which are nil.
func (o object) record(name string) json.RawMessage { //nolint:unparam // metadata is the only one so far
	if !o.has(name) {
		return nil
	}
	if typeOf(o.members.get(name)) != "object" {
		o.wrong(name, "object")
	}
	return o.members.get(name)
}

// names is an array of 1 to limit names; null or absent are nil.
func (o object) names(name string, limit int) []string {
	out := o.texts(name, limit, maxName)
	if out != nil && len(out) == 0 {
		o.found(name, tooSmall("array", 1, " items"))
	}
	return out
}

// texts is an array of at most limit strings, each of 1 to each bytes; null or
// absent are nil.
func (o object) texts(name string, limit, each int) []string {
	if !o.has(name) {
		return nil
	}
	var out []string
	if typeOf(o.members.get(name)) != "array" || json.Unmarshal(o.members.get(name), &out) != nil {
		o.found(name, observe.Issue{
			Code: observe.CodeType, Message: "Invalid input: expected array of string", Facts: observe.Facts{Expected: "array"},
		})
		return nil
	}
	if len(out) > limit {
		o.found(name, tooBig("array", int64(limit), " items"))
	}
	for _, s := range out {
		o.bounded(name, s, each)
	}
	return out
}

// typeOf names the type of a JSON text as JavaScript does.
func typeOf(raw []byte) string {
	for _, b := range raw {
		switch b {
		case ' ', '\t', '\r', '\n':
		case '{':
			return "object"
		case '[':
			return "array"
		case '"':
			return "string"
		case 't', 'f':
			return "boolean"
		case 'n':
			return "null"
		default:
			return "number"
		}
	}
	return "undefined"
}
