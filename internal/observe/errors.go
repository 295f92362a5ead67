package observe

import (
	"errors"
	"fmt"
)

// The states that a caller branches on. Test for them with errors.Is.
var (
	ErrNoKey     = errors.New("no API key")
	ErrBadKey    = errors.New("unknown, revoked or expired API key")
	ErrNoScope   = errors.New("the API key lacks the scope")
	ErrForbidden = errors.New("forbidden")
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("conflict")
	ErrInvalid   = errors.New("invalid")
)

// A Problem is one of the states above with a sentence that the client may
// read.
type Problem struct {
	Kind    error  // one of the sentinels of this package
	Message string // as "Event not found"
}

func (p *Problem) Error() string { return p.Kind.Error() + ": " + p.Message }

// Unwrap gives the sentinel.
func (p *Problem) Unwrap() error { return p.Kind }

func notFound(what string) error     { return &Problem{ErrNotFound, what + " not found"} }
func forbidden(message string) error { return &Problem{ErrForbidden, message} }
func conflict(format string, args ...any) error {
	return &Problem{ErrConflict, fmt.Sprintf(format, args...)}
}

// The codes of an [Issue].
const (
	CodeType     = "invalid_type"
	CodeValue    = "invalid_value"
	CodeTooSmall = "too_small"
	CodeTooBig   = "too_big"
	CodeCustom   = "custom"
)

// An Issue is one thing that is wrong with a request.
type Issue struct {
	Path    []any // names and indexes from the top of the body
	Code    string
	Message string
	Facts
}

// Facts are what an issue says to programs, by its code. They are named as
// zod names them, which claude-mem's clients know. The zero value says nothing.
type Facts struct {
	Expected  string   `json:"expected,omitempty"` // a type, of CodeType
	Values    []string `json:"values,omitempty"`   // all that may be, of CodeValue
	Origin    string   `json:"origin,omitempty"`   // what is too small or too big: "string", "number", "array"
	Minimum   *int64   `json:"minimum,omitempty"`
	Maximum   *int64   `json:"maximum,omitempty"`
	Inclusive bool     `json:"inclusive,omitempty"` // the bound itself is well
}

// Invalid says what is wrong with a request. It is an ErrInvalid.
type Invalid struct {
	Issues []Issue // at least one
}

func (e *Invalid) Error() string {
	return fmt.Sprintf("%v: %d issues, first at %v: %s", ErrInvalid, len(e.Issues), e.Issues[0].Path, e.Issues[0].Message)
}

// Unwrap gives ErrInvalid.
func (e *Invalid) Unwrap() error { return ErrInvalid }

// issues collects what is wrong with a request.
type issues []Issue

func (l *issues) add(code, message string, path ...any) {
	*l = append(*l, Issue{Path: path, Code: code, Message: message})
}

func (l issues) err() error {
	if len(l) == 0 {
		return nil
	}
	return &Invalid{Issues: l}
}
