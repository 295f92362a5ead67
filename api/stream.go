package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// A Feed tells what happens to the jobs of a scope, whose Project may be
// empty for all of the team's, behind a place or from now on. It ends when ctx
// does, or with the error of tell, and waits while tell does not return.
type Feed func(ctx context.Context, scope events.Scope, after events.Cursor, tell func(events.Heard) error) error

// StreamConfig bounds GET /v1/stream. The zero value is right for a server.
type StreamConfig struct {
	Limit    int           // streams at once in this process; zero means 256
	KeyLimit int           // streams at once of one key; zero means 16
	Beat     time.Duration // the longest silence, and half the time a revoked key may go on; zero means 15 s
	Stall    time.Duration // how long a client may take nothing; zero means 10 s
}

func (c StreamConfig) withDefaults() StreamConfig {
	if c.Limit == 0 {
		c.Limit = 256
	}
	if c.KeyLimit == 0 {
		c.KeyLimit = 16
	}
	if c.Beat == 0 {
		c.Beat = 15 * time.Second
	}
	if c.Stall == 0 {
		c.Stall = 10 * time.Second
	}
	return c
}

const (
	framesAhead   = 16              // that wait for a slow client
	keyCheckLimit = 5 * time.Second // for one look at the key
	loadLimit     = 10 * time.Second
	loadAgain     = time.Second
	reconnectHint = "retry: 2000\n\n" // ms, what a browser waits before it comes back
)

// Why a stream ended, for the log.
var (
	errRevoked  = errors.New("the key is no longer good")
	errSlow     = errors.New("the client does not read")
	errLeft     = errors.New("the client left")
	errStopping = errors.New("the client left or the server stops")
)

type streamRequest struct {
	project string
	after   events.Cursor
	seen    string // the last observation that was sent of the event just behind after
}

func (r *streamRequest) read(in *input) {
	r.project = in.c.QueryParam("project")
	if strings.ContainsRune(r.project, 0) || len(r.project) > maxName {
		in.issue([]any{"project"}, observe.CodeTooBig, "Invalid input: expected a name of at most %d bytes without NUL", maxName)
	}
	// A browser that comes back sends the header, with the URL that it began with.
	last := in.c.Request().Header.Get("Last-Event-Id")
	if last == "" {
		last = in.c.QueryParam("lastEventId")
	}
	var ok bool
	if r.after, r.seen, ok = parseEventID(last); !ok {
		in.issue([]any{"lastEventId"}, observe.CodeValue, "Invalid input: expected an id that this stream has sent")
	}
}

// The ids of the stream: a place says that all up to there was sent, and with
// "-observation" behind it, of the event that comes then the observations up
// to that one.
func eventID(at events.Cursor, observation string) string {
	if observation == "" {
		return at.String()
	}
	return at.String() + "-" + observation
}

func parseEventID(s string) (after events.Cursor, seen string, ok bool) {
	place := s
	if parts := strings.SplitN(s, "-", 3); len(parts) == 3 {
		place, seen = parts[0]+"-"+parts[1], parts[2]
	}
	after, err := events.ParseCursor(place)
	if err != nil || seen != "" && events.Token(seen) != seen || strings.HasSuffix(s, "-") {
		return events.Cursor{}, "", false
	}
	return after, seen, true
}

// streams counts who is connected. The zero value is ready.
type streams struct {
	mu   sync.Mutex
	all  int
	keys map[string]int
}

func (s *streams) enter(key string, c StreamConfig) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.keys[key] >= c.KeyLimit:
		return nil, &refusal{http.StatusTooManyRequests, fmt.Sprintf("This key has %d streams open, and may have no more", c.KeyLimit)}
	case s.all >= c.Limit:
		return nil, &refusal{http.StatusTooManyRequests, "Too many streams are open here"}
	}
	if s.keys == nil {
		s.keys = map[string]int{}
	}
	s.all++
	s.keys[key]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.keys[key]--; s.keys[key] == 0 {
			delete(s.keys, key)
		}
	}, nil
}

// stream serves GET /v1/stream. It ends without a word: whoever follows comes
// back with the last id, and is told by the status if it may not.
func (s *server) stream(c echo.Context) error {
	var req streamRequest
	if err := decode(c, s.cfg.BodyLimit, &req); err != nil {
		return err
	}
	caller := visitOf(c).caller
	if c.Request().Method == http.MethodHead {
		c.Response().Header().Set(echo.HeaderContentType, "text/event-stream")
		return c.NoContent(http.StatusOK)
	}
	leave, err := s.streams.enter(caller.KeyID, s.cfg.Stream)
	if err != nil {
		c.Response().Header().Set(echo.HeaderRetryAfter, "10")
		return err
	}
	defer leave()
	scope, err := s.cfg.Service.Follow(c.Request().Context(), caller, req.project)
	if err != nil {
		return err
	}
	whole := visitOf(c).whole // a stream takes longer than a request may
	out := newSSE(c, s.cfg.Stream.Stall)
	if err := out.open(); err != nil {
		return nil // the client left before it began
	}
	why := s.serve(whole, out, &tail{s: s, scope: scope, req: req}, caller, presented(c.Request().Header))
	s.cfg.Log.LogAttrs(whole, slog.LevelInfo, "stream ended", slog.String("why", why.Error()),
		slog.Int("sent", out.sent), slog.String("request_id", caller.RequestID))
	return nil
}

// serve writes what the tail finds until there is a reason to stop.
func (s *server) serve(ctx context.Context, out *sse, t *tail, caller observe.Caller, key string) error {
	ctx, cancel := context.WithCancel(ctx)
	frames, ended := make(chan []byte, framesAhead), make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- t.run(ctx, frames) })
	defer wg.Wait() // the stream counts until the broker's part is given back
	defer cancel()

	beat := time.NewTicker(s.cfg.Stream.Beat)
	defer beat.Stop()
	for n := 0; ; {
		select {
		case f := <-frames:
			if err := out.write(f, frames); err != nil {
				return err
			}
		case <-beat.C:
			if err := out.write([]byte(":\n\n"), nil); err != nil {
				return err
			}
			if n++; n%2 == 0 && s.revoked(ctx, caller, key) {
				return errRevoked
			}
		case err := <-ended:
			if err != nil && ctx.Err() == nil {
				return err
			}
			return errStopping
		case <-ctx.Done():
			return errStopping
		}
	}
}

// revoked looks whether the key is still good for what it opened. While
// Postgres is away nobody can revoke a key, so that is no reason to end.
func (s *server) revoked(ctx context.Context, caller observe.Caller, key string) bool {
	ctx, cancel := context.WithTimeout(ctx, keyCheckLimit)
	defer cancel()
	now, err := s.cfg.Service.Authenticate(ctx, key)
	if err != nil {
		return errors.Is(err, observe.ErrBadKey)
	}
	return now.Team != caller.Team || now.Project != caller.Project || !now.Has(observe.ScopeRead)
}
