package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// HTTP is a server under load. The client is a bare one: on a machine that both share, what it costs is missing to
// the server. Make it with [DialHTTP], and Close it.
type HTTP struct {
	conns []*httpConn
	next  atomic.Int64 // numbers the bodies
}

// Request says what is asked. Body gives the body of request n, written to buf, and how many units are in it.
type Request struct {
	Path  string
	Body  func(buf []byte, n int64) []byte
	Units int
}

// answered is the status of success that every answer must have.
const answered = 201

// DialHTTP opens so many connections to a server, for requests with this key.
func DialHTTP(ctx context.Context, base, key string, conns int) (*HTTP, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	h := &HTTP{}
	for range conns {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", u.Host)
		if err != nil {
			h.Close()
			return nil, err
		}
		h.conns = append(h.conns, &httpConn{c: c, r: bufio.NewReader(c), host: u.Host, key: key})
	}
	return h, nil
}

// Close ends the connections.
func (h *HTTP) Close() {
	for _, c := range h.conns {
		_ = c.c.Close() // nothing is on its way
	}
}

// Flood sends one request after the other on every connection, for so long, or until n units are accepted when n is
// not 0.
func (h *HTTP) Flood(ctx context.Context, m Meter, r Request, lasting time.Duration, n int) (Sample, error) {
	stop := h.cutOff(ctx)
	defer stop()
	each := make([][]time.Duration, len(h.conns))
	var units atomic.Int64
	before, began := m.Start(), time.Now()
	var g errgroup.Group
	for i, c := range h.conns {
		g.Go(func() error {
			for last := time.Now(); ; {
				if n > 0 && int(units.Add(int64(r.Units))) > n || n == 0 && last.Sub(began) >= lasting {
					return nil
				}
				if err := c.ask(r, h.next.Add(1)); err != nil {
					return err
				}
				now := time.Now()
				each[i] = append(each[i], now.Sub(last))
				last = now
			}
		})
	}
	if err := g.Wait(); err != nil {
		return Sample{}, because(ctx, err)
	}
	took := time.Since(began)
	var all []time.Duration
	for _, some := range each {
		all = append(all, some...)
	}
	out := Sample{N: r.Units * len(all), Seconds: took.Seconds(), Latency: LatencyOf(all)}
	m.Complete(&out, before)
	return out, nil
}

// Pace sends requests at a rate of requests a second. An answer's time counts from when the request was due.
func (h *HTTP) Pace(ctx context.Context, m Meter, r Request, rate float64, lasting time.Duration) (Sample, error) {
	stop := h.cutOff(ctx)
	defer stop()
	n := max(1, int(rate*lasting.Seconds()))
	free := make(chan *httpConn, len(h.conns))
	for _, c := range h.conns {
		free <- c
	}
	before, began := m.Start(), time.Now()
	took, err := Paced(ctx, len(h.conns), n, rate, func(context.Context, int) error {
		c := <-free
		defer func() { free <- c }()
		return c.ask(r, h.next.Add(1))
	})
	if err != nil {
		return Sample{}, because(ctx, err)
	}
	out := Sample{N: r.Units * n, Seconds: time.Since(began).Seconds(), Latency: LatencyOf(took)}
	m.Complete(&out, before)
	return out, nil
}

// One sends one request.
func (h *HTTP) One(ctx context.Context, r Request) error {
	stop := h.cutOff(ctx)
	defer stop()
	return because(ctx, h.conns[0].ask(r, h.next.Add(1)))
}

// cutOff ends what hangs when ctx ends.
func (h *HTTP) cutOff(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		for _, c := range h.conns {
			_ = c.c.SetDeadline(time.Unix(1, 0)) // it fails when the connection is closed: then nothing hangs
		}
	})
}

func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

type httpConn struct {
	c    net.Conn
	r    *bufio.Reader
	host string
	key  string
	head []byte
	body []byte
}

// ask sends one request and reads all of the answer.
func (c *httpConn) ask(r Request, n int64) error {
	c.body = r.Body(c.body[:0], n)
	c.head = fmt.Appendf(c.head[:0], "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		r.Path, c.host, c.key, len(c.body))
	if _, err := c.c.Write(append(c.head, c.body...)); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	return c.answer()
}

func (c *httpConn) answer() error {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	_, rest, _ := bytes.Cut(line, []byte(" "))
	status, _ := strconv.Atoi(string(rest[:min(3, len(rest))])) // 0 is no status
	size, chunked, err := c.headers()
	switch {
	case err != nil:
	case chunked:
		err = c.chunks()
	case size < 0:
		err = errors.New("it does not say how long it is")
	case status != answered:
		start := make([]byte, min(size, 300))
		if _, err := io.ReadFull(c.r, start); err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		return fmt.Errorf("the server answered %d: %s", status, start)
	default:
		_, err = c.r.Discard(size)
	}
	switch {
	case err != nil:
		return fmt.Errorf("read an answer: %w", err)
	case status != answered:
		return fmt.Errorf("the server answered %d", status)
	}
	return nil
}

var (
	lengthHeader  = []byte("Content-Length: ")
	chunkedHeader = []byte("Transfer-Encoding: chunked")
)

// headers reads all headers, and of them how long the body is; less than zero is not said.
func (c *httpConn) headers() (size int, chunked bool, err error) {
	for size = -1; ; {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return size, chunked, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return size, chunked, nil
		}
		if n := len(lengthHeader); len(line) > n && bytes.EqualFold(line[:n], lengthHeader) {
			if size, err = strconv.Atoi(string(line[n:])); err != nil {
				return size, chunked, err
			}
		}
		chunked = chunked || bytes.EqualFold(line, chunkedHeader)
	}
}

// chunks reads a body that comes in pieces.
func (c *httpConn) chunks() error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 32)
		if err != nil {
			return err
		}
		if _, err := c.r.Discard(int(size) + 2); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}
