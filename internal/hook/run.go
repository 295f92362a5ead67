package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"
)

// Call is one call of a hook.
type Call struct {
	Event   string        // its name; empty: the JSON has it
	Timeout time.Duration // for all of it; zero means 2 s
	Stdin   io.Reader     // the hook's JSON
	Stdout  io.Writer     // gets what the agent should read

	// Configure gives the configuration for whoever works in the folder cwd.
	// It is called once at most. Its errors are the call's.
	Configure func(cwd string) (Config, error)
}

const defaultTimeout = 2 * time.Second

// Run does what a hook is to do. It returns when the time is over, whatever
// hangs, and does not panic. An error is for a log: the agent need not know.
func Run(ctx context.Context, c Call) error {
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	done := make(chan outcome, 1)
	go func() { // reading may hang, and so may a disk
		var o outcome
		defer func() {
			if r := recover(); r != nil {
				// What the panic says may have a payload in it.
				o.err = fmt.Errorf("panic: %T\n%s", r, debug.Stack())
			}
			done <- o
		}()
		o.out, o.err = c.do(ctx)
	}()
	var o outcome
	select {
	case o = <-done:
	case <-ctx.Done():
		select {
		case o = <-done: // what listens to ctx ends by itself
		case <-time.After(grace):
			return fmt.Errorf("%s: not done within %v: %w", c.Event, c.Timeout, context.Cause(ctx))
		}
	}
	_, err := c.Stdout.Write(o.out)
	return errors.Join(o.err, err)
}

type outcome struct {
	out []byte
	err error
}

// grace is for noticing that the time is over.
const grace = 50 * time.Millisecond

func (call Call) do(ctx context.Context) ([]byte, error) {
	in, err := ReadInput(call.Stdin, call.Event)
	if err != nil {
		return nil, err
	}
	c, err := call.Configure(in.Cwd)
	if err != nil {
		return nil, err
	}
	c = c.withDefaults()
	now := time.Now()
	what, err := newDelivery(in, c.Project, now)
	if err != nil {
		c.Log.WarnContext(ctx, "an odd input", "hook", in.Event, "err", err)
	}
	s, name, err := spooled(c, what, now)
	if err != nil {
		return nil, call.unspooled(ctx, c, what, err)
	}
	var out bytes.Buffer
	switch in.Event {
	case SessionStart:
		if s.paused(now) {
			return nil, nil
		}
		half, cancel := context.WithTimeout(ctx, call.Timeout/2)
		err := newClient(c).tell(half, c.Project, in, &out)
		cancel()
		if err != nil {
			c.Log.WarnContext(ctx, "no context for the session", "err", err)
			return nil, nil
		}
	case SessionEnd: // the last chance for now
	case UserPromptSubmit, PostToolUse, ToolFailure, Stop, SubagentStop, PreCompact:
		if s.paused(now) {
			return nil, nil
		}
	default:
		return nil, nil
	}
	return out.Bytes(), s.send(ctx, c, name, call.Timeout/2)
}

// spooled puts what there is to tell, if anything, into the spool.
func spooled(c Config, what *delivery, now time.Time) (s *spool, name string, err error) {
	if s, err = openSpool(c); err == nil && what != nil {
		name, err = s.add(what, now)
	}
	return s, name, err
}

// unspooled sends what could not be spooled, as on a disk that is full: the
// server may be there all the same. Nobody tries again.
func (call Call) unspooled(ctx context.Context, c Config, what *delivery, why error) error {
	if what == nil {
		return why
	}
	if err := newClient(c).deliver(ctx, what); err != nil {
		return fmt.Errorf("%w; and it is lost: %w", why, err)
	}
	return fmt.Errorf("sent without a spool: %w", why)
}

// send sends what waits in the project. ours is the file that this process
// has added, "" for none. A server that has not answered after slow is one that
// others should not wait for.
func (s *spool) send(ctx context.Context, c Config, ours string, slow time.Duration) error {
	names, err := s.names(c.Project)
	if err != nil || len(names) == 0 {
		return err
	}
	release, err := s.lock(ctx, ours)
	if err != nil || release == nil {
		return err
	}
	defer release()
	r, err := s.drain(ctx, newClient(c), c.Project, maxSends, slow)
	if r.Sent > 1 {
		c.Log.InfoContext(ctx, "sent what had waited", "sent", r.Sent, "waiting", r.Waiting)
	}
	return err
}
