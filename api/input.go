package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// maxIssues is how many issues an answer has: a batch of 500 bad events needs
// no longer one.
const maxIssues = 100

// maxName bounds ids and other names, in bytes: what is looked up or indexed.
const maxName = 256

// maxEpoch is the last instant of JavaScript's Date and of the year 9999, the
// earlier of the two, in ms: dates beyond it do not come back as they went in.
const maxEpoch = 253402300799999

// A reader is a request that takes itself from the input. What is wrong with
// the input is noted there, all of it; the handler is then not called.
type reader[T any] interface {
	*T
	read(in *input)
}

// none is the request that takes nothing.
type none struct{}

func (*none) read(*input) {}

// input is what a request consists of: path, query and, for those that ask,
// a body of JSON. Issues gather in it.
type input struct {
	c      echo.Context
	limit  int64
	issues []observe.Issue
	err    error // the body could not be read at all
}

func (in *input) issue(path []any, code, format string, args ...any) {
	in.found(path, observe.Issue{Code: code, Message: fmt.Sprintf(format, args...)})
}

func (in *input) found(path []any, i observe.Issue) {
	if len(in.issues) < maxIssues {
		i.Path = path
		in.issues = append(in.issues, i)
	}
}

// The issues that zod has, in its words.
func wrongType(expected, received string) observe.Issue {
	return observe.Issue{
		Code: observe.CodeType, Message: fmt.Sprintf("Invalid input: expected %s, received %s", expected, received),
		Facts: observe.Facts{Expected: expected},
	}
}

func wrongOption(values ...string) observe.Issue {
	return observe.Issue{
		Code: observe.CodeValue, Message: `Invalid option: expected one of "` + strings.Join(values, `"|"`) + `"`,
		Facts: observe.Facts{Values: values},
	}
}

// tooSmall and tooBig are bounds of a string, array or number. unit is what
// is counted, and empty for a number.
func tooSmall(origin string, low int64, unit string) observe.Issue {
	return observe.Issue{
		Code: observe.CodeTooSmall, Message: fmt.Sprintf("Too small: expected %s to %s >=%d%s", origin, bounded(unit), low, unit),
		Facts: observe.Facts{Origin: origin, Minimum: &low, Inclusive: true},
	}
}

func tooBig(origin string, high int64, unit string) observe.Issue {
	return observe.Issue{
		Code: observe.CodeTooBig, Message: fmt.Sprintf("Too big: expected %s to %s <=%d%s", origin, bounded(unit), high, unit),
		Facts: observe.Facts{Origin: origin, Maximum: &high, Inclusive: true},
	}
}

func bounded(unit string) string {
	if unit == "" {
		return "be"
	}
	return "have"
}

// failure is what is wrong with the input, or nil.
func (in *input) failure() error {
	if in.err != nil {
		return in.err
	}
	if len(in.issues) > 0 {
		return &observe.Invalid{Issues: in.issues}
	}
	return nil
}

// id is a name from the path. One that no row can have, because Postgres
// could not even compare it, is empty, and so found nowhere.
func (in *input) id(param string) string {
	id := in.c.Param(param)
	if in.c.Request().URL.RawPath != "" { // then Echo routes by that, and leaves the escapes in
		plain, err := url.PathUnescape(id)
		if err != nil {
			return ""
		}
		id = plain
	}
	if len(id) > maxName || !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
		return ""
	}
	return id
}

// flag is a query parameter that is true, false or absent.
func (in *input) flag(name string, absent bool) bool {
	if !in.c.QueryParams().Has(name) {
		return absent
	}
	switch in.c.QueryParam(name) {
	case "true":
		return true
	case "false":
		return false
	}
	in.found([]any{name}, wrongOption("true", "false"))
	return absent
}

// clamped is a query parameter that counts. What is not a number is as if
// absent, and what is out of bounds is brought within them.
func (in *input) clamped(name string, absent, low, high int) int {
	n, err := strconv.Atoi(in.c.QueryParam(name))
	if err != nil {
		return absent
	}
	return min(max(n, low), high)
}

// object takes the body for one JSON object.
func (in *input) object() object {
	body, ok := in.body()
	if !ok {
		return object{in: in}
	}
	return in.asObject(body, nil)
}

// objects takes the body for an array of low to high JSON objects.
func (in *input) objects(low, high int) []object {
	body, ok := in.body()
	if !ok {
		return nil
	}
	if got := typeOf(body); got != "array" {
		in.found(nil, wrongType("array", got))
		return nil
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		in.err = &syntaxError{err}
		return nil
	}
	switch {
	case len(elements) < low:
		in.found(nil, tooSmall("array", int64(low), " items"))
		return nil
	case len(elements) > high:
		in.found(nil, tooBig("array", int64(high), " items"))
		return nil
	}
	objects := make([]object, len(elements))
	for i, e := range elements {
		objects[i] = in.asObject(e, []any{i})
	}
	return objects
}

// body reads the JSON text once and checks it as a whole.
func (in *input) body() ([]byte, bool) {
	body, err := readBody(in.c, in.limit)
	if err == nil && len(body) > 0 {
		if bad := wellFormed(body); bad != nil {
			err = &syntaxError{bad}
		}
	}
	if err != nil {
		in.err = err
		return nil, false
	}
	return body, true
}

func (in *input) asObject(raw []byte, path []any) object {
	o := object{in: in, path: path}
	if got := typeOf(raw); got != "object" {
		in.found(path, wrongType("object", got))
		return o
	}
	// A member that comes twice counts as it came last. Names are compared
	// exactly, which decoding into a struct would not do.
	if err := json.Unmarshal(raw, &o.members); err != nil {
		in.err = &syntaxError{err}
	}
	return o
}

// object is a JSON object whose members are asked for by name and type. Those
// that nobody asks for are dropped.
type object struct {
	in      *input
	path    []any
	members map[string]json.RawMessage // nil when there was no object to read
}

func (o object) found(name string, i observe.Issue) {
	if o.members != nil { // otherwise the issue is that there is no object
		o.in.found(append(slices.Clone(o.path), name), i)
	}
}

func (o object) wrong(name, want string) { o.found(name, wrongType(want, typeOf(o.members[name]))) }

// has reports whether the member is there and not null.
func (o object) has(name string) bool {
	t := typeOf(o.members[name])
	return t != "undefined" && t != "null"
}

// text is a required string of 1 to limit bytes.
func (o object) text(name string, limit int) string {
	var s string
	raw, ok := o.members[name]
	if !ok || json.Unmarshal(raw, &s) != nil || typeOf(raw) != "string" {
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
	var s string
	if json.Unmarshal(o.members[name], &s) != nil {
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
	var s string
	if raw, ok := o.members[name]; !ok || json.Unmarshal(raw, &s) != nil || !slices.Contains(options, s) {
		o.found(name, wrongOption(options...))
	}
	return s
}

// integer is a required whole number between low and high, both included. As
// in JavaScript, 1.0 and 1e3 are whole.
func (o object) integer(name string, low, high int64) int64 {
	raw, ok := o.members[name]
	if !ok || typeOf(raw) != "number" {
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
	f, err := strconv.ParseFloat(string(o.members[name]), 64)
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
	if json.Unmarshal(o.members[name], &b) != nil {
		o.wrong(name, "boolean")
	}
	return b
}

// anything is the member's JSON as it came; null and absent are nil.
func (o object) anything(name string) json.RawMessage {
	if !o.has(name) {
		return nil
	}
	return o.members[name]
}

// record is a JSON object or null or absent, which are nil.
func (o object) record(name string) json.RawMessage { //nolint:unparam // metadata is the only one so far
	if !o.has(name) {
		return nil
	}
	if typeOf(o.members[name]) != "object" {
		o.wrong(name, "object")
	}
	return o.members[name]
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
	if typeOf(o.members[name]) != "array" || json.Unmarshal(o.members[name], &out) != nil {
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
