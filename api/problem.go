package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/labstack/echo/v4"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// problem is the body of every answer that is not a success: claude-mem's
// error, message and issues, which its clients read, and the members of
// RFC 9457, which everybody else's do.
type problem struct {
	Err       string  `json:"error"`
	Message   string  `json:"message"`
	Issues    []issue `json:"issues,omitempty"`
	Type      string  `json:"type"`
	Title     string  `json:"title"`
	Status    int     `json:"status"`
	Detail    string  `json:"detail"`
	Instance  string  `json:"instance"`
	RequestID string  `json:"requestId"`
	Used      *int64  `json:"used,omitempty"` // of a quota
	Cap       *int64  `json:"cap,omitempty"`

	nowhere bool // there is no such route
}

type issue struct {
	Code    string `json:"code"`
	Path    []any  `json:"path"`
	Message string `json:"message"`
	observe.Facts
}

func asIssues(found []observe.Issue) []issue {
	var out []issue
	for _, i := range found[:min(len(found), maxIssues)] {
		if i.Path == nil {
			i.Path = []any{} // about the whole
		}
		out = append(out, issue{i.Code, i.Path, i.Message, i.Facts})
	}
	return out
}

// refusal is an error of the door's own: the request does not get as far as
// the application.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

// called is an error that has another name in the member error than its
// status has, as clients know it from claude-mem.
type called struct {
	name string
	error
}

func (c called) Unwrap() error { return c.error }

// syntaxError is a body that is not JSON, or none that could be stored.
type syntaxError struct{ err error }

func (e *syntaxError) Error() string { return "JSON Parse error: " + e.err.Error() }
func (e *syntaxError) Unwrap() error { return e.err }

// Why the context of a request ended before its answer.
var (
	errAborted = errors.New("the client left before the answer")
	errCutOff  = errors.New("the server stops and could not wait for the answer")
)

// answers says what the application's errors are at the door. The first that
// fits counts. What is not here is 500 and tells nothing.
var answers = []struct {
	err     error
	status  int
	message string // empty: the error's own
}{
	{observe.ErrNoKey, http.StatusUnauthorized, "Missing API key (Authorization: Bearer <key> or X-Api-Key: <key>)"},
	{observe.ErrBadKey, http.StatusForbidden, "Invalid API key or insufficient scope"},
	{observe.ErrNoScope, http.StatusForbidden, "Invalid API key or insufficient scope"},
	{observe.ErrForbidden, http.StatusForbidden, ""},
	{observe.ErrNotFound, http.StatusNotFound, ""},
	{observe.ErrConflict, http.StatusConflict, ""},
	{observe.ErrInvalid, http.StatusBadRequest, ""},
	{errAborted, statusClientClosed, ""},
	{errCutOff, http.StatusServiceUnavailable, "The server is stopping. Try again."},
}

// statusClientClosed is nginx's number for a client that did not wait. Nobody
// receives it; it is for the log.
const statusClientClosed = 499

// names are what claude-mem calls the statuses in the member error.
var names = map[int]string{
	http.StatusBadRequest:            "ValidationError",
	http.StatusUnauthorized:          "Unauthorized",
	http.StatusForbidden:             "Forbidden",
	http.StatusNotFound:              "NotFound",
	http.StatusMethodNotAllowed:      "MethodNotAllowed",
	http.StatusConflict:              "Conflict",
	http.StatusRequestEntityTooLarge: "PayloadTooLargeError",
	http.StatusUnsupportedMediaType:  "UnsupportedMediaType",
	statusClientClosed:               "ClientClosedRequest",
	http.StatusInternalServerError:   "InternalError",
	http.StatusServiceUnavailable:    "ServiceUnavailable",
}

// answerTo is the problem that the answer to c's request tells.
func answerTo(c echo.Context, err error) problem {
	p := problemOf(err)
	if p.nowhere {
		p.Message = fmt.Sprintf("Cannot %.20s %.200s", c.Request().Method, c.Request().URL.Path)
		p.Detail = p.Message
	}
	p.RequestID = visitOf(c).id
	p.Instance = "urn:obs:request:" + p.RequestID
	return p
}

// problemOf turns any error into the problem that the client may see.
func problemOf(err error) problem {
	p := problem{Status: http.StatusInternalServerError}
	if r, ok := errors.AsType[*refusal](err); ok {
		p.Status, p.Message = r.status, r.message
	} else if s, ok := errors.AsType[*syntaxError](err); ok {
		p.Status, p.Err, p.Message = http.StatusBadRequest, "SyntaxError", s.Error()
	} else if invalid, ok := errors.AsType[*observe.Invalid](err); ok {
		p.Status, p.Issues = http.StatusBadRequest, asIssues(invalid.Issues)
		p.Message = summary(invalid.Issues)
	} else if he, ok := errors.AsType[*echo.HTTPError](err); ok {
		p.Status, p.Message = he.Code, http.StatusText(he.Code)
		p.nowhere = he.Code == http.StatusNotFound || he.Code == http.StatusMethodNotAllowed
	} else {
		p.Status, p.Message = lookUp(err)
	}
	if other, ok := errors.AsType[called](err); ok {
		p.Err = other.name
	}
	if quota, ok := errors.AsType[*overQuota](err); ok {
		p.Used, p.Cap = &quota.quota.Used, &quota.quota.Cap
	}

	switch p.Status {
	case http.StatusInternalServerError:
		p.Message = "Something went wrong here. The log has the cause under this request's id."
	case http.StatusServiceUnavailable:
		p.Message = cmp.Or(p.Message, "The database does not answer. Try again.")
	}
	p.Err = cmp.Or(p.Err, names[p.Status], http.StatusText(p.Status))
	p.Message = cmp.Or(p.Message, http.StatusText(p.Status))
	p.Type = "about:blank"
	p.Title = cmp.Or(http.StatusText(p.Status), p.Err)
	p.Detail = p.Message
	return p
}

func lookUp(err error) (int, string) {
	for _, a := range answers {
		if !errors.Is(err, a.err) {
			continue
		}
		if a.message != "" {
			return a.status, a.message
		}
		if told, ok := errors.AsType[*observe.Problem](err); ok {
			return a.status, told.Message
		}
		return a.status, upper(a.err.Error())
	}
	if unavailable(err) {
		return http.StatusServiceUnavailable, ""
	}
	return http.StatusInternalServerError, ""
}

// unavailable reports whether err says that Postgres is away, full or in the
// middle of something, so that the same request may well succeed later.
func unavailable(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	var unsent interface{ SafeToRetry() bool } // an error of package pgconn, by its shape, as that below
	if errors.As(err, &unsent) && unsent.SafeToRetry() {
		return true // the connection was found to be gone before anything was sent
	}
	var state interface{ SQLState() string } // a *pgconn.PgError, by its shape: the door speaks no SQL
	if !errors.As(err, &state) {
		return false
	}
	switch s := state.SQLState(); {
	case strings.HasPrefix(s, "08"), strings.HasPrefix(s, "53"), strings.HasPrefix(s, "57P"):
		return true // connection lost, out of something, shutting down or starting up
	case s == "57014", s == "40001", s == "40P01", s == "25P03":
		return true // cancelled, lost a race, or waited too long in a transaction
	}
	return false
}

// summary is what people read of a validation's issues.
func summary(issues []observe.Issue) string {
	if len(issues) == 0 {
		return "The request is not valid"
	}
	var b strings.Builder
	for i, p := range issues[0].Path {
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprint(&b, p)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(issues[0].Message)
	if more := len(issues) - 1; more > 0 {
		fmt.Fprintf(&b, " (and %d more)", more)
	}
	return b.String()
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// fail writes the problem that err is. The request log has the cause.
func fail(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := answerTo(c, err)
	h := c.Response().Header()
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set(echo.HeaderWWWAuthenticate, "Bearer")
	case http.StatusServiceUnavailable:
		if h.Get(echo.HeaderRetryAfter) == "" {
			h.Set(echo.HeaderRetryAfter, "1")
		}
	case http.StatusRequestEntityTooLarge:
		h.Set(echo.HeaderConnection, "close") // do not read the rest
	}
	_ = write(c, p.Status, "application/problem+json", p) // the client is gone, or p is not JSON; both end here
}

// write sends v as JSON. It encodes before it writes, so that what cannot be
// encoded is a 500 and not half an answer.
func write(c echo.Context, status int, contentType string, v any) error {
	room := rooms.Get().(*[]byte)
	body, err := appendAnswer((*room)[:0], v)
	if *room = body; cap(body) <= 1<<20 { // one large answer is not to stay for ever
		defer rooms.Put(room)
	}
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	if status < http.StatusMultipleChoices && unchanged(c, status, body) {
		return c.NoContent(http.StatusNotModified)
	}
	c.Response().Header().Set(echo.HeaderContentLength, strconv.Itoa(len(body)))
	return c.Blob(status, contentType, body)
}

// rooms are what answers are written in. Nobody keeps one: net/http copies it
// or sends it before write returns.
var rooms = sync.Pool{New: func() any { return new(make([]byte, 0, 2048)) }}

func encode(v any) ([]byte, error) { return appendAnswer(nil, v) }

func appendAnswer(b []byte, v any) ([]byte, error) {
	if a, ok := v.(appender); ok {
		b, err := a.appendJSON(b)
		return append(b, '\n'), err
	}
	out := bytes.NewBuffer(b)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return out.Bytes(), err
}

// unchanged tags the answer with what it says, and reports whether the client
// has told that it holds just that. The tag is weak: the same JSON, not the
// same bytes on the wire.
func unchanged(c echo.Context, status int, body []byte) bool {
	sum := sha256.Sum256(body)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	c.Response().Header().Set("ETag", "W/"+tag)
	if m := c.Request().Method; status != http.StatusOK || m != http.MethodGet && m != http.MethodHead {
		return false
	}
	for _, line := range c.Request().Header.Values("If-None-Match") {
		for one := range strings.SplitSeq(line, ",") { // no tag of ours has a comma
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}
