package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// visit is what the middleware leaves of a request for the handler and the log.
type visit struct {
	id     string          // of the request
	caller observe.Caller  // the zero Caller on routes without a key
	place  *place          // nil: it takes none
	whole  context.Context // the request's, as it was before bounded
}

const keyVisit = "visit"

// visitOf is an empty one where identify has not been: outside of a server.
func visitOf(c echo.Context) *visit {
	if v, ok := c.Get(keyVisit).(*visit); ok {
		return v
	}
	return new(visit)
}

// by notes who asks.
func (v *visit) by(caller observe.Caller) {
	caller.RequestID = v.id
	v.caller = caller
}

// chain is h behind the middleware, the first outermost. Echo would put it
// together anew for each request.
func chain(h echo.HandlerFunc, all ...echo.MiddlewareFunc) echo.HandlerFunc {
	for _, one := range slices.Backward(all) {
		h = one(h)
	}
	return h
}

// matched calls the route that was found, or what says that there is none.
func matched(c echo.Context) error { return c.Handler()(c) }

var plainRequestID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// identify gives every request an id: the client's, where it is a plain word,
// or a new one. It is on the answer whatever becomes of the request, and goes
// with the job to the worker's log.
func identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if id == "" || !plainRequestID.MatchString(id) {
			id = uuid.NewString()
		}
		c.Set(keyVisit, &visit{id: id})
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

// The headers that keep a browser from making anything of an answer but data.
// Every answer has these very lists: nobody adds to one.
var harmless = map[string][]string{
	"X-Content-Type-Options":       {"nosniff"},
	"X-Frame-Options":              {"DENY"},
	"X-Dns-Prefetch-Control":       {"off"},
	"Referrer-Policy":              {"no-referrer"},
	"Cross-Origin-Opener-Policy":   {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Origin-Agent-Cluster":         {"?1"},
	"Cache-Control":                {"no-store"},
}

// secure sets the headers of harmless.
func secure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		maps.Copy(c.Response().Header(), harmless)
		return next(c)
	}
}

// crossOrigin lets the server's own pages and those of this machine call the
// API, and no others.
func crossOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Add(echo.HeaderVary, echo.HeaderOrigin)
		origin := c.Request().Header.Get(echo.HeaderOrigin)
		if origin == "" {
			return next(c)
		}
		if !local(origin) && !own(c.Request(), origin) {
			return &refusal{http.StatusForbidden, "CORS not allowed"}
		}
		h.Set(echo.HeaderAccessControlAllowOrigin, origin)
		h.Set(echo.HeaderAccessControlExposeHeaders, "X-Request-Id,ETag,Retry-After,X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset")
		if c.Request().Method != http.MethodOptions {
			return next(c)
		}
		h.Set(echo.HeaderAccessControlAllowMethods, "GET,HEAD,POST,PUT,PATCH,DELETE")
		h.Set(echo.HeaderAccessControlAllowHeaders, "Content-Type,Authorization,X-Requested-With,X-Api-Key,X-Request-Id,Idempotency-Key,If-None-Match,Last-Event-ID,Mcp-Protocol-Version")
		return c.NoContent(http.StatusNoContent)
	}
}

// own reports whether origin is a page of this server, as its client calls it.
// What such a page may do is what its reader's key allows.
func own(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && u.Host == r.Host
}

// local reports whether origin is a page served by this machine. The host is
// compared whole: http://localhost.example.org is somebody else's.
func local(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Path != "" || u.RawQuery != "" {
		return false
	}
	switch u.Hostname() {
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	return false
}

// recovered turns a panic into an error, with the stack for the log.
func recovered(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if r := recover(); r != nil {
				if r == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
					panic(r)
				}
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		return next(c)
	}
}

// logged writes one line a request, with the cause if it failed here. It
// answers errors itself, so that the line has the status that was sent.
func logged(log *slog.Logger) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			began, ctx := time.Now(), c.Request().Context()
			err := next(c)
			if err != nil {
				if errors.Is(ctx.Err(), context.Canceled) {
					err = fmt.Errorf("%w: %w", whoEnded(ctx), err)
				}
				c.Error(err)
			}
			route, level := c.Path(), slog.LevelInfo
			if route == "" {
				route = "unknown"
			}
			if !strings.HasPrefix(route, "/v1/") || route == "/v1/info" {
				level = slog.LevelDebug // probes, every few seconds
			}
			failed := err != nil && c.Response().Status >= http.StatusInternalServerError
			if !failed && !log.Enabled(ctx, level) {
				return nil
			}
			attrs := []slog.Attr{
				slog.String("method", c.Request().Method),
				slog.String("route", route),
				slog.Int("status", c.Response().Status),
				slog.Duration("took", time.Since(began)),
				slog.String("request_id", visitOf(c).id),
			}
			if key := visitOf(c).caller.KeyID; key != "" {
				attrs = append(attrs, slog.String("key", key))
			}
			if failed {
				level = slog.LevelError
				attrs = append(attrs, slog.Any("err", err))
			}
			log.LogAttrs(ctx, level, "request", attrs...)
			return nil
		}
	}
}

// whoEnded tells a client that left, whose context net/http ends without a
// cause, from a server that stops: it gives one.
func whoEnded(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return errAborted
	}
	return errCutOff
}

// asksToWait reports whether the answer is to come when the jobs are done. Most
// requests have no query that were worth taking apart.
func asksToWait(c echo.Context) bool {
	return c.Request().URL.RawQuery != "" && c.QueryParam("wait") == "true"
}

// bounded gives every request a deadline, so that a database that has stopped
// answering, without closing its connections, holds nobody for ever.
func (s *server) bounded(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		limit := s.cfg.Timeout
		if asksToWait(c) {
			limit += s.cfg.WaitLimit
		}
		visitOf(c).whole = c.Request().Context()
		ctx, cancel := context.WithTimeout(c.Request().Context(), limit)
		defer cancel()
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}

// keyed lets in who has a key with the scope, before anything else of the
// request is read. What the caller may do with which row is decided in observe.
// Where it records, a key that was good not long ago is presumed to be good:
// what stores the events looks.
func (s *server) keyed(scope string, records bool) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			key := presented(c.Request().Header)
			if key == "" {
				return observe.ErrNoKey
			}
			who := from(c)
			if wait := s.guard.wait(who, key); wait > 0 {
				return tooManyWrongKeys(c, wait)
			}
			authenticate := func() (observe.Caller, error) {
				caller, err := s.cfg.Service.Authenticate(c.Request().Context(), key)
				if err == nil || errors.Is(err, observe.ErrBadKey) {
					s.guard.note(who, key, err == nil)
				}
				return caller, err
			}
			if records {
				if caller, ok := s.cfg.Service.Presume(key); ok && caller.Has(scope) {
					visitOf(c).by(caller)
					err := next(c)
					if err != nil { // what is wrong is not for those whose key is good no more
						if _, bad := authenticate(); errors.Is(bad, observe.ErrBadKey) {
							return bad
						}
					}
					return err
				}
			}
			caller, err := authenticate()
			if err != nil {
				return err
			}
			visitOf(c).by(caller)
			if scope != anyKey && !caller.Has(scope) {
				return observe.ErrNoScope
			}
			if err := s.admit(c, caller, scope); err != nil {
				return err
			}
			return next(c)
		}
	}
}

// presented is the key that the request shows: as a bearer token, or else in
// X-Api-Key.
func presented(h http.Header) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(h.Get(echo.HeaderAuthorization)), " ")
	if token = strings.TrimSpace(token); strings.EqualFold(scheme, "Bearer") && token != "" {
		return token
	}
	return strings.TrimSpace(h.Get("X-Api-Key"))
}
