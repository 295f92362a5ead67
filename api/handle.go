package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// A statuser is an answer that is not always 200.
type statuser interface{ status() int }

// handle makes a route of fn. It reads Req from the request, calls fn with
// the caller that keyed found, and encodes Resp. An error becomes its problem
// document. A route can forget none of it.
func handle[Req, Resp any, P reader[Req]](s *server, fn func(context.Context, observe.Caller, Req) (Resp, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		var req Req
		if err := decode(c, s.cfg.BodyLimit, P(&req)); err != nil {
			return err
		}
		v, ctx := visitOf(c), c.Request().Context()
		if v.place != nil {
			ctx = observe.OnHold(ctx, v.place.wait)
		}
		resp, err := fn(ctx, v.caller, req)
		if err != nil {
			return err
		}
		var answer any = resp
		status := http.StatusOK
		if r, ok := answer.(statuser); ok {
			status = r.status()
		}
		return write(c, status, echo.MIMEApplicationJSON, answer)
	}
}

// decode lets req read itself from the request, and gives what is wrong with that.
func decode(c echo.Context, limit int64, req interface{ read(in *input) }) error {
	in := &input{c: c, limit: limit}
	req.read(in)
	return in.failure()
}

// bodyTime is how long a client may take to send a body.
const bodyTime = 15 * time.Second

// readBody reads the whole body, if it is JSON and no longer than limit.
func readBody(c echo.Context, limit int64) ([]byte, error) {
	r := c.Request()
	if e := r.Header.Get(echo.HeaderContentEncoding); e != "" && !strings.EqualFold(e, "identity") {
		return nil, &refusal{http.StatusUnsupportedMediaType, "Content-Encoding is not supported: send the JSON as it is"}
	}
	if ct := r.Header.Get(echo.HeaderContentType); ct != "" && ct != echo.MIMEApplicationJSON {
		kind, params, err := mime.ParseMediaType(ct)
		charset := params["charset"]
		// curl says form when it is told nothing: what the body is, its own
		// text says. No browser sends our keys by itself, so nothing is risked.
		json := kind == echo.MIMEApplicationJSON || kind == echo.MIMEApplicationForm || kind == echo.MIMETextPlain
		if err != nil || !json || charset != "" && !strings.EqualFold(charset, "utf-8") {
			return nil, &refusal{http.StatusUnsupportedMediaType, "Content-Type must be application/json, in UTF-8"}
		}
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	// Who sends slowly holds a place that others wait for. That the server has
	// no such deadline, as in a test, is no trouble.
	slow := http.NewResponseController(c.Response())
	_ = slow.SetReadDeadline(time.Now().Add(bodyTime))
	defer func() { _ = slow.SetReadDeadline(time.Time{}) }()
	body, err := readAll(c, limit)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(limit)
	}
	switch {
	case err == nil:
		return body, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.Response().Header().Set(echo.HeaderConnection, "close")
		return nil, &refusal{http.StatusRequestTimeout, fmt.Sprintf("The body did not come within %v", bodyTime)}
	case r.Context().Err() != nil:
		return nil, fmt.Errorf("read the body: %w", err)
	default:
		return nil, &refusal{http.StatusBadRequest, "The body ended early"}
	}
}

// exactBody is how long a body may be for which there is room before it comes.
const exactBody = 1 << 20

func readAll(c echo.Context, limit int64) ([]byte, error) {
	r := c.Request()
	if r.ContentLength <= 0 {
		return io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, limit))
	}
	if r.ContentLength <= exactBody {
		b := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, b)
		return b, err
	}
	var b bytes.Buffer
	b.Grow(exactBody + bytes.MinRead) // no more than comes is kept for one who only says so
	_, err := b.ReadFrom(r.Body)      // net/http gives no more than was said
	return b.Bytes(), err
}

func tooLarge(limit int64) error {
	return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("The body is larger than %d bytes", limit)}
}
