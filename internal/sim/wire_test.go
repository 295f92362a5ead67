package sim_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// wire is a process's connection to the broker. It reads the protocol as it
// passes, so that a single message can be lost, come twice, late, or be the
// last one.
type wire struct {
	net.Conn
	p *process

	out     []byte // written by the client, not a whole frame yet
	writing sync.Mutex

	in      []byte // read from the broker, not a whole frame yet
	ready   []byte // for the client to read
	raw     [32 << 10]byte
	mu      sync.Mutex
	late    []byte // delayed frames that are due
	bounded bool   // the client has set a deadline of its own
}

// frame is one operation of the protocol.
type frame struct {
	bytes   []byte
	verb    string // PUB, HPUB, MSG, HMSG; others are not told apart
	subject string
	reply   string
	payload []byte // with the headers
}

// cutFrame takes the first whole frame off b; ok says that there was one.
func cutFrame(b []byte) (f frame, rest []byte, ok bool) {
	line, after, found := bytes.Cut(b, []byte("\r\n"))
	if !found {
		return frame{}, b, false
	}
	size := 0
	if verb, args, _ := strings.Cut(string(line), " "); len(line) > 0 {
		switch verb {
		case "PUB", "HPUB", "MSG", "HMSG":
			words := strings.Fields(args)
			f.verb, f.subject = verb, words[0]
			sizes, skip := 1, 1 // numbers at the end; words before the reply
			if verb[0] == 'H' {
				sizes = 2
			}
			if strings.HasSuffix(verb, "MSG") {
				skip = 2
			}
			if len(words) > skip+sizes {
				f.reply = words[skip]
			}
			size, _ = strconv.Atoi(words[len(words)-1])
			size += 2
		}
	}
	if len(after) < size {
		return frame{}, b, false
	}
	end := len(line) + 2 + size
	f.bytes = b[:end:end]
	if size > 0 {
		f.payload = after[:size-2]
	}
	return f, b[end:], true
}

// kind is the word by which rules name a frame; empty for those that no rule
// is about.
func (f frame) kind(prefix string) string {
	switch f.verb {
	case "PUB", "HPUB":
		switch {
		case strings.HasPrefix(f.subject, "$JS.ACK."):
			switch {
			case bytes.HasPrefix(f.payload, []byte("+WPI")):
				return "progress"
			case bytes.HasPrefix(f.payload, []byte("-NAK")), bytes.HasPrefix(f.payload, []byte("+TERM")):
				return ""
			}
			return "ack"
		case strings.HasPrefix(f.subject, "$JS.API.CONSUMER.MSG.NEXT."):
			return "pull"
		case strings.HasPrefix(f.subject, "$JS.API."):
			return "api"
		case strings.HasPrefix(f.subject, prefix+".jobs."):
			return "publish"
		case strings.HasPrefix(f.subject, prefix+".ev."):
			return "tell"
		}
	case "MSG", "HMSG":
		if strings.HasPrefix(f.reply, "$JS.ACK.") {
			return "deliver"
		}
		return "answer"
	}
	return ""
}

var errMuted = errors.New("nothing comes through")

// pass decides what of a frame goes on. err ends the connection.
func (c *wire) pass(f frame, deliver func(b []byte)) (goes []byte, err error) {
	if c.p.muted() && !c.shaking() {
		return nil, nil
	}
	kind := f.kind(c.p.w.prefix)
	if kind == "" {
		return f.bytes, nil
	}
	f.bytes = c.p.w.onFrame(c, kind, f)
	r := c.p.slot.match(kind, true, false)
	if r == nil {
		return f.bytes, nil
	}
	switch r.act {
	case actDrop:
		return nil, nil
	case actDup:
		if bytes.Contains(f.bytes, []byte("Nats-Batch-Id")) {
			return f.bytes, nil // within a batch this is not the transport's doing
		}
		return append(bytes.Clone(f.bytes), f.bytes...), nil
	case actDelay:
		late := bytes.Clone(f.bytes)
		time.AfterFunc(r.d, func() { deliver(late) })
		return nil, nil
	case actCut, actKill:
		if r.after {
			goes = f.bytes
		}
		if r.act == actKill {
			go c.p.kill(r.d)
		}
		return goes, net.ErrClosed
	case actPause:
		c.p.pause(r.d)
	case actStop:
		go c.p.stop(r.d)
	default: // not made here
	}
	return f.bytes, nil
}

// Write never blocks a paused process, for its client holds a lock here:
// what it writes goes out when it goes on.
func (c *wire) Write(b []byte) (int, error) {
	dead, held := c.p.state()
	if dead {
		return 0, errDead
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.out = append(c.out, b...)
	if held && !c.shaking() {
		return len(b), nil
	}
	var goes []byte
	var broken error
	for broken == nil {
		f, rest, ok := cutFrame(c.out)
		if !ok {
			break
		}
		c.out = rest
		var some []byte
		some, broken = c.pass(f, c.writeLate)
		goes = append(goes, some...)
	}
	if len(c.out) == 0 {
		c.out = nil
	}
	if len(goes) > 0 {
		if _, err := c.Conn.Write(goes); err != nil {
			return 0, err
		}
	}
	if broken != nil {
		_ = c.Conn.Close()
		return 0, broken
	}
	return len(b), nil
}

// goOn moves what was held while the process was paused.
func (c *wire) goOn() {
	_, _ = c.Write(nil) // a broken connection says so to its client
	c.readLate(nil)
}

// writeLate sends a delayed frame, which may be a ghost of a process that is
// gone: its connection is then gone too.
func (c *wire) writeLate(b []byte) {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, _ = c.Conn.Write(b) // a broken connection loses it
}

func (c *wire) Read(b []byte) (int, error) {
	for {
		dead, held := c.p.state()
		if dead {
			return 0, errDead
		}
		bounded := c.shaking()
		c.mu.Lock()
		c.ready = append(c.ready, c.late...)
		c.late = nil
		c.mu.Unlock()
		if !held || bounded { // a paused process takes nothing in, but for a handshake
			for {
				f, rest, ok := cutFrame(c.in)
				if !ok {
					break
				}
				c.in = rest
				goes, err := c.pass(f, c.readLate)
				c.ready = append(c.ready, goes...)
				if err != nil {
					_ = c.Conn.Close()
					return 0, err
				}
			}
			if len(c.ready) > 0 {
				n := copy(b, c.ready)
				c.ready = c.ready[n:]
				return n, nil
			}
		}
		n, err := c.Conn.Read(c.raw[:])
		if err != nil {
			if bounded || !errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, err
			}
			_ = c.Conn.SetReadDeadline(time.Time{}) // woken; a broken connection says so at the next read
		}
		c.in = append(c.in, c.raw[:n]...)
	}
}

func (c *wire) readLate(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = append(c.late, b...)
	if !c.bounded {
		_ = c.Conn.SetReadDeadline(time.Now()) // wakes Read
	}
}

func (c *wire) SetDeadline(t time.Time) error {
	c.bound(t)
	return c.Conn.SetDeadline(t)
}

func (c *wire) SetReadDeadline(t time.Time) error {
	c.bound(t)
	return c.Conn.SetReadDeadline(t)
}

// shaking reports whether the client is in its handshake. It holds a lock
// then, and who waits for a lock holds up virtual time: so a handshake comes
// through or fails, and is never held up.
func (c *wire) shaking() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bounded
}

func (c *wire) bound(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bounded = !t.IsZero()
}
