package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"
)

// frame is one event as it is on the wire. Without a name it only moves the
// client's last id: by the standard nothing is dispatched.
func frame(id, name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	if name != "" {
		fmt.Fprintf(&b, "event: %s\ndata: ", name)
		enc := json.NewEncoder(&b) // one line, for JSON has no line breaks of its own
		enc.SetEscapeHTML(false)
		if err := enc.Encode(data); err != nil {
			return nil, fmt.Errorf("encode a frame: %w", err)
		}
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// sse writes to a client, each time within a limit.
type sse struct {
	c     echo.Context
	rc    *http.ResponseController
	stall time.Duration
	sent  int // frames
}

func newSSE(c echo.Context, stall time.Duration) *sse {
	return &sse{c: c, rc: http.NewResponseController(c.Response().Writer), stall: stall} // Echo's own Flush keeps its error to itself
}

func (o *sse) open() error {
	// The server's own limits are for requests that end.
	if err := o.rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	h := o.c.Response().Header()
	h.Set(echo.HeaderContentType, "text/event-stream")
	h.Set(echo.HeaderCacheControl, "no-store, no-transform") // a proxy that compresses holds back what is small
	h.Set("X-Accel-Buffering", "no")
	o.c.Response().WriteHeader(http.StatusOK)
	return o.write([]byte(reconnectHint), nil)
}

// write sends a frame, and then those that wait behind it, at most as many as
// may wait: who has much to read has its key looked at all the same.
func (o *sse) write(f []byte, more <-chan []byte) error {
	for n := 1; ; n++ {
		if err := o.rc.SetWriteDeadline(time.Now().Add(o.stall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return o.broken(err)
		}
		if _, err := o.c.Response().Write(f); err != nil {
			return o.broken(err)
		}
		o.sent++
		if n == framesAhead || len(more) == 0 { // nobody else takes from more
			break
		}
		f = <-more
	}
	if err := o.rc.Flush(); err != nil {
		return o.broken(err)
	}
	return nil
}

func (o *sse) broken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlow
	}
	return fmt.Errorf("%w: %w", errLeft, err)
}
