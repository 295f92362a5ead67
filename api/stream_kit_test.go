package api_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

const (
	patience = time.Minute
	look     = 5 * time.Millisecond
)

// live is a world with all behind it: a broker, a relay, a worker with the
// application's handlers, and the door on a port.
type live struct {
	*world
	js      jetstream.JetStream
	nc      *nats.Conn
	streams outbox.Streams
	srv     *httptest.Server
	hurry   context.CancelFunc // ends the requests, as a server does that stops
	broker  func() *embedded.NATS
	running *embedded.NATS
}

// stopBroker ends the broker; broker starts it again.
func (l *live) stopBroker() { l.running.Stop() }

func newLive(t testing.TB, notes int, change func(*api.Config)) *live {
	t.Helper()
	l := &live{streams: outbox.Streams{Kinds: observe.Kinds()}}
	dir, port := t.TempDir(), freePort(t)
	l.broker = func() *embedded.NATS {
		n, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Dir: dir, Port: port})
		require.NoError(t, err)
		t.Cleanup(n.Stop)
		l.running = n
		return n
	}
	url := l.broker().ClientURL()
	var err error
	l.nc, err = nats.Connect(url, nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	require.NoError(t, err)
	t.Cleanup(l.nc.Close)
	l.js, err = jetstream.New(l.nc)
	require.NoError(t, err)
	require.NoError(t, outbox.Ensure(t.Context(), l.js, l.streams))
	l.world = newWorld(t, func(c *api.Config) {
		c.Stream.Beat = 50 * time.Millisecond
		c.Feed = func(ctx context.Context, scope events.Scope, after events.Cursor, tell func(events.Heard) error) error {
			return outbox.Follow(ctx, l.js, outbox.Following{Streams: l.streams, Scope: scope, After: after, Beat: 50 * time.Millisecond}, tell)
		}
		if change != nil {
			change(c)
		}
	})
	relay := outbox.New(l.jobs, l.jobs, l.js, outbox.Config{Streams: l.streams, PollMax: 20 * time.Millisecond})
	worker := pipeline.New(l.jobs, l.js, pipeline.Config{Stream: l.streams.JobsStream(), Consumer: l.streams.Consumer})
	observe.New(observe.Config{
		Pool: l.pool, Jobs: l.jobs, Provider: talkative{llm.NewOffline(), notes}, Process: "worker-1",
	}).Register(worker)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = relay.Run(ctx) })
	wg.Go(func() { _ = worker.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })

	requests, hurry := context.WithCancel(context.Background())
	l.hurry = hurry
	l.srv = httptest.NewUnstartedServer(l.http)
	l.srv.Config.BaseContext = func(net.Listener) context.Context { return requests }
	l.srv.Config.ReadTimeout, l.srv.Config.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond // streams live longer
	l.srv.Listener = smallBuffers{l.srv.Listener}
	l.srv.Start()
	t.Cleanup(func() { hurry(); l.srv.Close() })
	return l
}

// talkative is a provider that says more of one event.
type talkative struct {
	llm.Provider
	notes int
}

func (p talkative) Answer(_ context.Context, q llm.Question) (llm.Answer, error) {
	a := llm.Answer{Model: "m"}
	for _, e := range q.Events {
		for i := range p.notes {
			a.Observations = append(a.Observations, llm.Observation{
				Type: "discovery", Title: fmt.Sprint("note ", i), Narrative: strings.Repeat("long ", 400), Events: []string{e.ID},
				Facts: []string{string(e.Payload)},
			})
		}
	}
	return a, nil
}

// smallBuffers makes a client that does not read felt soon.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(4 << 10)
	}
	return c, err
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// wire is a dispatched event, or with no name a comment.
type wire struct {
	id, name string
	data     map[string]any
	comment  bool
}

// what names the thing that it tells of.
func (w wire) what() string {
	if w.name == "job" {
		return fmt.Sprint("job ", w.data["jobId"], " ", w.data["version"])
	}
	return fmt.Sprint(w.name, " ", w.data["id"])
}

// client is a reader of server-sent events as the standard has it.
type client struct {
	t      testing.TB
	res    *http.Response
	lines  *bufio.Reader
	lastID string
	close  func()
}

func (l *live) connect(key, query, last string, transport http.RoundTripper) (*client, error) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.srv.URL+"/v1/stream"+query, nil)
	require.NoError(l.t, err)
	req.Header.Set("Authorization", "Bearer "+l.secrets[key])
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := (&http.Client{Transport: transport}).Do(req) //nolint:bodyclose // client.close does, or the test's end
	if err != nil {
		cancel()
		return nil, err
	}
	l.t.Cleanup(cancel)
	return &client{
		t: l.t, res: res, lines: bufio.NewReader(res.Body), lastID: cmp.Or(last, req.URL.Query().Get("lastEventId")),
		close: func() { cancel(); _ = res.Body.Close() },
	}, nil
}

// open connects, and waits until it is known where the stream is.
func (l *live) open(key, query, last string) *client {
	l.t.Helper()
	c, err := l.connect(key, query, last, nil)
	require.NoError(l.t, err)
	require.Equal(l.t, http.StatusOK, c.res.StatusCode)
	for c.lastID == "" {
		_, err := c.word()
		require.NoError(l.t, err)
	}
	return c
}

// word reads up to the next event or comment, or moves lastID, which is a
// word without a name.
func (c *client) word() (wire, error) {
	w := wire{id: c.lastID}
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return wire{}, err
		}
		line = strings.TrimSuffix(line, "\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			w.id = value
		case "event":
			w.name = value
		case "data":
			if err := json.Unmarshal([]byte(value), &w.data); err != nil {
				return wire{}, err
			}
		case "":
			if line != "" {
				w.comment = true
				continue
			}
			c.lastID = w.id
			if w.name == "" {
				return w, nil
			}
			contract, err := theContract()
			if err != nil {
				return wire{}, err
			}
			schema := contract.frames[w.name]
			if schema == nil {
				return wire{}, fmt.Errorf("the document has no event %q", w.name)
			}
			return w, schema.Validate(any(w.data))
		}
	}
}

// next is the next event. A test that waits for one that does not come is
// ended by closing the connection.
func (c *client) next() wire {
	c.t.Helper()
	alarm := time.AfterFunc(patience, c.close)
	defer alarm.Stop()
	for {
		w, err := c.word()
		require.NoError(c.t, err)
		if w.name != "" {
			return w
		}
	}
}

// all reads until a job's event of that type came n times.
func (c *client) all(n int, typ string) []wire {
	c.t.Helper()
	var out []wire
	for n > 0 {
		w := c.next()
		out = append(out, w)
		if w.name == "job" && w.data["type"] == typ {
			n--
		}
	}
	return out
}

// ends reads to the end of the stream.
func (c *client) ends() {
	c.t.Helper()
	alarm := time.AfterFunc(patience, func() { c.close() })
	for {
		if _, err := c.word(); err != nil {
			break
		}
	}
	require.True(c.t, alarm.Stop(), "the stream goes on")
}

func (l *live) postAs(key, project, name string) string {
	l.t.Helper()
	a := l.do(request{method: "POST", path: "/v1/events", key: key, body: eventOf(project, name)})
	require.Equal(l.t, http.StatusCreated, a.status, a.text)
	return a.str("generationJob.id")
}
