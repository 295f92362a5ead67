package api

import (
	"fmt"
	"net/url"
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
	if in.c.Request().URL.RawQuery == "" || !in.c.QueryParams().Has(name) {
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
	parts := elements(body)
	switch {
	case len(parts) < low:
		in.found(nil, tooSmall("array", int64(low), " items"))
		return nil
	case len(parts) > high:
		in.found(nil, tooBig("array", int64(high), " items"))
		return nil
	}
	objects := make([]object, len(parts))
	for i, e := range parts {
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
	// Names are compared exactly, which decoding into a struct would not do.
	o.members = members(raw)
	return o
}
