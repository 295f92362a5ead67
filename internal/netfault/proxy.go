// Package netfault is a TCP proxy that does to connections what networks do:
// cut them, leave them half open, slow them down.
//
// Put [Listen] between two programs and call the proxy's methods while they
// talk.
package netfault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Proxy passes connections on to one address. Its methods may be called at any
// time from anywhere; each fault stays until [Proxy.Heal].
type Proxy struct {
	target string
	l      net.Listener
	ctx    context.Context //nolint:containedctx // the life of the goroutines of a server
	stop   context.CancelFunc
	all    sync.WaitGroup

	mu      sync.Mutex
	faults  faults
	changed chan struct{} // closed when faults change
	pairs   map[*pair]struct{}
	taken   int // connections
}

// faults is what goes wrong now.
type faults struct {
	cut     bool          // no connection lives
	hold    [2]bool       // bytes of a direction wait
	delay   time.Duration // of each byte, in each direction
	perByte time.Duration // of each connection, in each direction
}

// The directions of a connection.
const (
	toTarget = iota
	toClient
)

// Listen starts a proxy to target, a host:port or the path of a socket, on a
// free port of loopback.
func Listen(target string) (*Proxy, error) { return ListenOn("127.0.0.1:0", target) }

// ListenOn starts a proxy to target at addr.
func ListenOn(addr, target string) (*Proxy, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("proxy to %s: %w", target, err)
	}
	p := &Proxy{target: target, l: l, changed: make(chan struct{}), pairs: make(map[*pair]struct{})}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.all.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens, as host:port.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Taken counts the connections that were accepted so far.
func (p *Proxy) Taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// Cut resets every connection, and resets new ones at once.
func (p *Proxy) Cut() {
	p.set(func(f *faults) { f.cut = true })
	p.Reset()
}

// Reset resets every connection there is. New ones are welcome.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		c.reset()
	}
}

// HalfOpen lets no byte and no end of a connection through, while every
// connection stays open, as when a cable is pulled. What waits is delivered
// after Heal.
func (p *Proxy) HalfOpen() { p.set(func(f *faults) { f.hold = [2]bool{true, true} }) }

// HoldAnswers lets through what clients say and holds what they are answered.
func (p *Proxy) HoldAnswers() { p.set(func(f *faults) { f.hold = [2]bool{toClient: true} }) }

// Delay lets each byte arrive later by d, in both directions.
func (p *Proxy) Delay(d time.Duration) { p.set(func(f *faults) { f.delay = d }) }

// Limit lets through so many bytes a second, in each direction of each
// connection.
func (p *Proxy) Limit(bytesPerSecond int) {
	p.set(func(f *faults) { f.perByte = time.Second / time.Duration(max(bytesPerSecond, 1)) })
}

// Heal ends every fault. Connections that were reset stay so.
func (p *Proxy) Heal() { p.set(func(f *faults) { *f = faults{} }) }

// Close stops listening and resets what is open.
func (p *Proxy) Close() error {
	p.stop()
	err := p.l.Close()
	p.Cut()
	p.all.Wait()
	if errors.Is(err, net.ErrClosed) { // the second time
		return nil
	}
	return err
}

func (p *Proxy) set(change func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) now() (faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

func (p *Proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return // closed
		}
		p.all.Go(func() { p.serve(client) })
	}
}

// serve passes one connection on until it ends.
func (p *Proxy) serve(client net.Conn) {
	c := &pair{p: p, client: client}
	c.ctx, c.end = context.WithCancel(p.ctx)
	defer c.end()
	p.mu.Lock()
	p.taken++
	p.pairs[c] = struct{}{}
	cut := p.faults.cut
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.pairs, c)
		p.mu.Unlock()
	}()
	if cut || !c.open(toTarget) {
		c.reset()
		return
	}
	network := "tcp"
	if strings.HasPrefix(p.target, "/") {
		network = "unix"
	}
	target, err := new(net.Dialer).DialContext(c.ctx, network, p.target)
	if err != nil {
		c.reset()
		return
	}
	if !c.connected(target) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { c.pass(toTarget, client, target) })
	both.Go(func() { c.pass(toClient, target, client) })
	both.Wait()
	_, _ = client.Close(), target.Close()
}

// pair is one connection of a client with its other half.
type pair struct {
	p   *Proxy
	ctx context.Context //nolint:containedctx // ends with the pair
	end context.CancelFunc

	client net.Conn
	mu     sync.Mutex
	target net.Conn
	dead   bool
}

// connected keeps the other half, unless the pair was reset meanwhile.
func (c *pair) connected(target net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		abort(target)
		return false
	}
	c.target = target
	return true
}

// reset ends the pair with RST on both sides, as a dead host's router would.
func (c *pair) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	c.end()
	abort(c.client)
	if c.target != nil {
		abort(c.target)
	}
}

func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // RST in place of FIN
	}
	_ = conn.Close()
}

// open waits until bytes may pass in the direction. It reports false when the
// pair has ended.
func (c *pair) open(direction int) bool {
	for {
		f, changed := c.p.now()
		if !f.hold[direction] {
			return c.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
			return false
		}
	}
}

// chunk is what was read at once, or the end of what there is to read.
type chunk struct {
	bytes []byte
	read  time.Time
	err   error
}

// ahead is how many chunks may be under way in one direction.
const ahead = 64

// pass copies one direction until its end.
func (c *pair) pass(direction int, from, to net.Conn) {
	chunks := make(chan chunk, ahead)
	c.p.all.Go(func() {
		defer close(chunks)
		for {
			buf := make([]byte, 16<<10)
			n, err := from.Read(buf)
			select {
			case chunks <- chunk{buf[:n], time.Now(), err}:
			case <-c.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	for k := range chunks {
		f, _ := c.p.now()
		if !c.wait(time.Until(k.read.Add(f.delay)) + f.perByte*time.Duration(len(k.bytes))) {
			return
		}
		if !c.open(direction) {
			return
		}
		if _, err := to.Write(k.bytes); err != nil {
			c.reset()
			return
		}
		switch {
		case k.err == nil:
		case errors.Is(k.err, io.EOF):
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			return
		default:
			c.reset()
			return
		}
	}
}

func (c *pair) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}
