package sim_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

// slot is where processes of one name follow one another, as under a process
// manager.
type slot struct {
	w     *world
	name  string
	relay bool

	mu    sync.Mutex
	armed []*fault // that wait for their call or frame
	lives int
	life  *process
	back  time.Duration // from one life to the next
	muted time.Time     // until then the network swallows everything
	away  time.Time     // until then it refuses connections
}

// match takes the first armed fault for this call or frame. frames says
// whether op is one: there, whether the fault comes before or after is the
// frame's own business.
func (s *slot) match(op string, frames, after bool) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.armed {
		if f.op != op || !frames && f.after != after {
			continue
		}
		hit := *f
		if f.times--; f.times <= 0 {
			s.armed = append(s.armed[:i:i], s.armed[i+1:]...)
		}
		s.w.hit(hit)
		return &hit
	}
	return nil
}

// strike makes a fault happen to the process that lives here now.
func (s *slot) strike(f fault) {
	s.mu.Lock()
	p := s.life
	switch {
	case f.op != "":
		s.armed = append(s.armed, &f)
		s.mu.Unlock()
		return
	case f.act == actMute:
		s.muted = time.Now().Add(f.d)
	case f.act == actAway:
		s.away = time.Now().Add(f.d)
	}
	s.mu.Unlock()
	if p == nil {
		return
	}
	s.w.hit(f)
	switch f.act {
	case actKill:
		p.kill(f.d)
	case actStop:
		p.stop(f.d)
	case actPause:
		p.pause(f.d)
	case actAway:
		p.hangUp()
	case actMute: // what was swallowed does not come back: a connection loses nothing and goes on
		time.AfterFunc(f.d, p.hangUp)
	default: // is done by others
	}
}

// heal ends whatever goes wrong here.
func (s *slot) heal() {
	s.mu.Lock()
	muted := time.Now().Before(s.muted)
	s.armed, s.muted, s.away = nil, time.Time{}, time.Time{}
	p := s.life
	s.mu.Unlock()
	if p != nil {
		p.resume(nil)
		if muted {
			p.hangUp()
		}
	}
}

// run is the process manager: it starts a process whenever there is none,
// until the world is over.
func (s *slot) run() {
	for s.w.ctx.Err() == nil {
		ctx, cancel := context.WithCancel(s.w.ctx)
		p := &process{w: s.w, slot: s, cancel: cancel, over: make(chan struct{})}
		s.mu.Lock()
		s.lives++
		p.name = fmt.Sprintf("%s.%d", s.name, s.lives)
		s.life, s.back = p, 0
		s.mu.Unlock()
		ran := make(chan struct{})
		s.w.wg.Go(func() {
			defer close(ran)
			defer cancel()
			p.live(ctx)
		})
		select {
		case <-ran:
		case <-p.over: // killed: what is left of it is nobody's business
		}
		s.mu.Lock()
		s.life = nil
		back := max(s.back, 50*time.Millisecond)
		s.mu.Unlock()
		select {
		case <-time.After(back):
		case <-s.w.healed:
			pause(s.w.ctx, 50*time.Millisecond)
		case <-s.w.ctx.Done():
		}
	}
}

// process is one life of a relay or a worker.
type process struct {
	w      *world
	slot   *slot
	name   string
	cancel context.CancelFunc
	over   chan struct{} // closed when it was killed

	mu      sync.Mutex
	dead    bool
	held    chan struct{} // not nil while it is paused; closed when it goes on
	wires   []*wire
	release func() // gives back its leadership
	trouble func() string
}

var errDead = errors.New("the process was killed")

// pass holds up a paused process, and ends a killed one: everything that it
// does to the outside goes through here.
func (p *process) pass() error {
	for {
		p.mu.Lock()
		dead, held := p.dead, p.held
		p.mu.Unlock()
		switch {
		case dead:
			return errDead
		case held == nil:
			return nil
		}
		<-held
	}
}

func (p *process) state() (dead, held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead, p.held != nil
}

func (p *process) kill(back time.Duration) {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.dead = true
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
	release := p.release
	p.mu.Unlock()
	p.slot.mu.Lock()
	p.slot.back = back
	p.slot.mu.Unlock()
	close(p.over)
	p.cancel()
	p.hangUp()
	if release != nil { // the store finds out by itself
		time.AfterFunc(p.w.plan.notice, release)
	}
}

// stop is SIGTERM.
func (p *process) stop(back time.Duration) {
	p.slot.mu.Lock()
	p.slot.back = back
	p.slot.mu.Unlock()
	p.cancel()
}

// silentLead is how long the store bears with a leader that says nothing.
const silentLead = 5 * time.Second

func (p *process) pause(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead || p.held != nil {
		return
	}
	held := make(chan struct{})
	p.held = held
	time.AfterFunc(d, func() { p.resume(held) })
	if p.release != nil {
		time.AfterFunc(silentLead, func() {
			p.mu.Lock()
			release := p.release
			still := p.held == held
			p.mu.Unlock()
			if still && release != nil {
				release()
			}
		})
	}
}

// resume ends one pause; nil: whichever there is.
func (p *process) resume(which chan struct{}) {
	p.mu.Lock()
	if p.held == nil || which != nil && which != p.held {
		p.mu.Unlock()
		return
	}
	close(p.held)
	p.held = nil
	wires := p.wires
	p.mu.Unlock()
	for _, c := range wires {
		c.goOn()
	}
}

func (p *process) muted() bool {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	return time.Now().Before(p.slot.muted)
}

// hangUp breaks its connections.
func (p *process) hangUp() {
	p.mu.Lock()
	wires := p.wires
	p.wires = nil
	p.mu.Unlock()
	for _, c := range wires {
		_ = c.Conn.Close()
	}
}

// InProcessConn is the process's way to the broker.
func (p *process) InProcessConn() (net.Conn, error) {
	if dead, held := p.state(); dead || held { // it must not block: the client holds a lock
		return nil, errDead
	}
	p.slot.mu.Lock()
	away := time.Now().Before(p.slot.away) || time.Now().Before(p.slot.muted)
	p.slot.mu.Unlock()
	if away {
		return nil, errMuted
	}
	conn, err := p.w.broker.InProcessConn()
	if err != nil {
		return nil, err
	}
	c := &wire{Conn: conn, p: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wires = append(p.wires, c)
	return c, nil
}

// live is the whole of a process, as cmd puts it together.
func (p *process) live(ctx context.Context) {
	nc, err := nats.Connect("", nats.InProcessServer(p), nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond), nats.ReconnectBufSize(-1), nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2), nats.Timeout(time.Second), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return // as the programs: the process manager tries again
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		p.w.fault("%s: %v", p.name, err)
		return
	}
	run := p.worker
	if p.slot.relay {
		run = p.relay
	}
	if err := run(ctx, nc, js); err != nil && p.pass() == nil && ctx.Err() == nil {
		p.w.fault("%s ended by itself: %v", p.name, err)
	}
}

func (p *process) relay(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
	cfg := outbox.Config{
		Streams: p.w.streams, Lease: p.w.plan.lease, TenantCap: p.w.plan.tenantCap, PublishTimeout: 2 * time.Second, Mode: outbox.Atomic,
		Log: p.w.log.With("process", p.name),
	}
	if p.w.plan.async {
		cfg.Mode = outbox.Async
	}
	if p.w.plan.bell {
		bell := outbox.NewBell(nc, p.w.prefix)
		wake, wakeFeed, err := bell.Listen(ctx)
		if err != nil {
			return nil //nolint:nilerr // the connection is gone already: the program would end and be started again
		}
		cfg.Wake, cfg.WakeFeed, cfg.Named = wake, wakeFeed, bell.Named
	}
	r := outbox.New(door{p}, door{p}, js, cfg)
	p.mu.Lock()
	p.trouble = func() string { return r.State().Error }
	p.mu.Unlock()
	return r.Run(ctx)
}

func (p *process) worker(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
	cfg := pipeline.Config{
		ID: p.name, Stream: p.w.streams.JobsStream(), Lease: p.w.plan.lease, Grace: time.Second, Heartbeat: 2 * time.Second,
		Backoff: pipeline.Exponential(500*time.Millisecond, 2, 2*time.Second),
		Log:     p.w.log.With("process", p.name),
	}
	if p.w.plan.bell {
		bell := outbox.NewBell(nc, p.w.prefix)
		cfg.Settled = bell.Settled
	}
	w := pipeline.New(door{p}, js, cfg)
	opts := []pipeline.Option{pipeline.Slots(p.w.plan.slots), pipeline.Timeout(handlerTimeout)}
	if p.w.plan.brief {
		opts = append(opts, pipeline.Brief())
	}
	pipeline.Handle(w, kind, p.handle, opts...)
	p.mu.Lock()
	p.trouble = func() string {
		s := w.State()
		if !s.Held {
			return "no lease"
		}
		return s.Lanes[0].Trouble
	}
	p.mu.Unlock()
	return w.Run(ctx)
}

// pause waits, unless ctx ends first, which it reports.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
