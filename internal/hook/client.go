package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxAnswer is how much of a server's answer is read, in bytes. It repeats the
// event that it was sent.
const maxAnswer = 8 << 20

// client speaks to a server's HTTP API.
type client struct {
	base, key string
	http      *http.Client
}

func newClient(c Config) *client {
	return &client{base: c.URL, key: c.Key, http: &http.Client{
		// A request that was sent elsewhere, perhaps as a GET, has not arrived.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// refusal is an answer that is not the one that was hoped for.
type refusal struct {
	path   string
	status int
	code   string        // the problem's "error"
	after  time.Duration // of Retry-After, 0 when there is none
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: the server answers %d %s", r.path, r.status, r.code)
}

// verdict is what follows from an error for the delivery that it came from.
type verdict int

const (
	later    verdict = iota // the server is not there, or has no time
	broken                  // the server stumbles over this one
	unknown                 // the key is not good for this project
	hopeless                // it will never be taken
)

func (r *refusal) verdict() verdict {
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusPaymentRequired:
		return unknown
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusNotFound, http.StatusMethodNotAllowed:
		// A path that is not there says that this is no server of obs, or one
		// behind a gateway that has lost it.
		return later
	case http.StatusInternalServerError:
		return broken
	}
	if r.status/100 == 4 {
		return hopeless
	}
	return later
}

// deliver sends all requests of a delivery. Each of them may have been sent
// before.
func (c *client) deliver(ctx context.Context, d *delivery) error {
	var session string
	if d.Start != nil {
		var answer struct {
			Session struct {
				ID string `json:"id"`
			} `json:"session"`
		}
		if err := c.post(ctx, "/v1/sessions/start", d.Start, &answer); err != nil {
			return err
		}
		if session = answer.Session.ID; session == "" {
			return fmt.Errorf("/v1/sessions/start: %w", errForeign)
		}
	}
	if d.Event != nil {
		event := *d.Event
		event.ServerSessionID = session
		var answer struct {
			Event struct {
				ID string `json:"id"`
			} `json:"event"`
		}
		if err := c.post(ctx, "/v1/events", event, &answer); err != nil {
			return err
		}
		if answer.Event.ID == "" {
			return fmt.Errorf("/v1/events: %w", errForeign)
		}
	}
	if d.End && session != "" {
		return c.post(ctx, "/v1/sessions/"+url.PathEscape(session)+"/end", struct{}{}, nil)
	}
	return nil
}

// errForeign is a success of a server that is not ours: a proxy's login page
// has stored nothing.
var errForeign = fmt.Errorf("the answer is not that of a server of obs")

// post sends in and reads the answer into out, which may be nil.
func (c *client) post(ctx context.Context, path string, in, out any) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(in); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, &body)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return err // it names method and URL
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if res.StatusCode/100 != 2 {
		return refused(path, res, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", path, errForeign)
	}
	return nil
}

func refused(path string, res *http.Response, answer []byte) error {
	r := &refusal{path: path, status: res.StatusCode}
	var problem struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(answer, &problem) == nil && len(problem.Error) <= 40 {
		r.code = problem.Error
	}
	if seconds, err := time.ParseDuration(res.Header.Get("Retry-After") + "s"); err == nil && seconds > 0 {
		r.after = seconds
	}
	return r
}
