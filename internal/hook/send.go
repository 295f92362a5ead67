package hook

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"
)

const (
	maxSends  = 500 // deliveries that one call of a hook sends at most
	maxBroken = 3   // times that the server may stumble before we let it be
)

// Report is what became of what was in the spool.
type Report struct {
	Sent     int // the server has it
	Rejected int // the server will never take it; it is put aside
	Waiting  int // it is still in the spool
	// Err is why something waits, nil when nothing does. It is about the first
	// delivery that could not be sent.
	Err error
}

// Flush sends what is in the spool, of all projects, until ctx ends. With
// again, what was rejected is tried once more. The error is about the spool
// itself; why something still waits is in the report.
func Flush(ctx context.Context, c Config, again bool) (Report, error) {
	c = c.withDefaults()
	s, err := openSpool(c)
	if err != nil {
		return Report{}, err
	}
	if again {
		if _, err := s.restore(); err != nil {
			return Report{}, err
		}
	}
	release, err := s.lock(ctx, "")
	if err != nil {
		return Report{}, err
	}
	if release == nil {
		return Report{Err: errors.New("another process is sending")}, nil
	}
	defer release()
	return s.drain(ctx, newClient(c), "", 0, time.Second)
}

// drain sends deliveries in the order in which they came, of one project or of
// all for "", and at most that many; 0 means all. The lock is held.
func (s *spool) drain(ctx context.Context, c *client, project string, most int, slow time.Duration) (Report, error) {
	d := drain{spool: s, client: c, slow: slow, skip: map[string]bool{}}
	for {
		names, err := s.names(project)
		if err != nil {
			return d.report, err
		}
		fresh := 0
		for _, name := range names {
			if d.skip[name] {
				continue
			}
			fresh++
			if d.over || most > 0 && d.report.Sent >= most || ctx.Err() != nil {
				break
			}
			if err := d.one(ctx, name); err != nil {
				return d.report, err
			}
		}
		if fresh == 0 || d.over || most > 0 && d.report.Sent >= most || ctx.Err() != nil {
			left, err := s.names(project)
			d.report.Waiting = len(left)
			if len(left) > 0 && d.report.Err == nil {
				d.report.Err = ctx.Err()
			}
			return d.report, err
		}
	}
}

// drain is one time that a spool is sent.
type drain struct {
	spool  *spool
	client *client
	report Report
	slow   time.Duration   // so long without an answer means that the server has no time
	over   bool            // the server is away
	broken int             // how often it stumbled
	skip   map[string]bool // names that wait, and sessions and projects whose deliveries do
}

func (d *drain) one(ctx context.Context, name string) error {
	s := d.spool
	what, err := s.read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, errUnreadable):
		s.log.ErrorContext(ctx, "a file of the spool cannot be read", "name", name, "err", err)
		d.report.Rejected++
		return s.reject(name)
	case err != nil:
		return err
	}
	// What follows on something that waits has to wait as well, or an event
	// would come before its session.
	session, project := "session "+what.Project+" "+what.Session, "project "+what.Project
	if d.skip[session] || d.skip[project] {
		d.skip[name] = true
		return nil
	}
	began := time.Now()
	err = d.client.deliver(ctx, what)
	if err == nil {
		d.report.Sent++
		return s.done(name)
	}
	attributes := []any{"hook", what.Hook, "name", name, "err", err}
	if d.report.Err == nil {
		d.report.Err = err
	}
	r, _ := errors.AsType[*refusal](err)
	if r == nil {
		r = &refusal{}
	}
	switch r.verdict() {
	case hopeless:
		s.log.ErrorContext(ctx, "the server rejects what a hook reported", attributes...)
		d.report.Rejected++
		return s.reject(name)
	case unknown:
		s.log.ErrorContext(ctx, "the key is not good for this project", attributes...)
		d.skip[name], d.skip[project] = true, true
	case broken:
		s.log.WarnContext(ctx, "the server stumbles", attributes...)
		d.skip[name], d.skip[session] = true, true
		d.broken++
		d.over = d.broken >= maxBroken
	case later:
		s.log.WarnContext(ctx, "the server is away", attributes...)
		d.over = true
		switch {
		case r.status == http.StatusTooManyRequests || r.after > 0:
			s.pause(time.Now(), max(r.after, time.Second))
		case errors.Is(err, context.DeadlineExceeded) && time.Since(began) >= d.slow:
			s.pause(time.Now(), slowPause)
		}
	}
	return nil
}
