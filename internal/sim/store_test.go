package sim_test

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-245eaa15/obs/events"
)

// door is the store as one process reaches it: what it asks may fail before
// or after it was done, come late, or be the last thing it does.
type door struct{ p *process }

// outage is what the way to Postgres may say.
func outage(n int) error {
	switch n {
	case 0:
		return io.ErrUnexpectedEOF
	case 1:
		return &pgconn.PgError{Code: "57P01", Message: "terminating connection"}
	case 2:
		return &pgconn.PgError{Code: "40001", Message: "could not serialize access"}
	case 3:
		return &pgconn.PgError{Code: "53300", Message: "too many clients"}
	default:
		return context.DeadlineExceeded
	}
}

// call makes one call of the store for a process, with what goes wrong.
func call[T any](ctx context.Context, d door, op string, f func() (T, error)) (T, error) {
	var none T
	if err := d.meet(ctx, op, false); err != nil {
		return none, err
	}
	v, err := f()
	if e := d.meet(ctx, op, true); e != nil {
		return none, e
	}
	return v, err
}

func (d door) meet(ctx context.Context, op string, after bool) error {
	if err := d.p.pass(); err != nil {
		return err
	}
	f := d.p.slot.match(op, false, after)
	if f == nil {
		return nil
	}
	switch f.act {
	case actKill:
		d.p.kill(f.d)
	case actStop:
		d.p.stop(f.d)
	case actPause:
		d.p.pause(f.d)
	case actFail:
		return outage(f.n)
	case actRefuse:
		if op == "begin" { // what it could not read, it cannot have stored before
			return &pgconn.PgError{Code: "0A000", Message: "cached plan must not change result type"}
		}
		return &pgconn.PgError{Code: "22021", Message: "invalid byte sequence"}
	case actSlow:
		pause(ctx, f.d)
	default: // is done by others
	}
	return d.p.pass()
}

// done makes a call that answers nothing.
func done(ctx context.Context, d door, op string, f func() error) error {
	_, err := call(ctx, d, op, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

func (d door) Asks(ctx context.Context, q events.AskQuery) ([]events.Ask, error) {
	return call(ctx, d, "asks", func() ([]events.Ask, error) {
		asks, err := d.p.w.mem.Asks(ctx, q)
		return d.p.w.shown(asks), err
	})
}

func (d door) Waiting(ctx context.Context, rows []int64) ([]int64, error) {
	return call(ctx, d, "waiting", func() ([]int64, error) {
		there, err := d.p.w.mem.Waiting(ctx, rows)
		return d.p.w.shownRows(there), err
	})
}

func (d door) Enqueued(ctx context.Context, rows []int64) error {
	return done(ctx, d, "enqueued", func() error { return d.p.w.mem.Enqueued(ctx, rows) })
}

func (d door) Again(ctx context.Context, rows []int64) (events.Lost, error) {
	return call(ctx, d, "again", func() (events.Lost, error) {
		if d.p.w.plant == plantNoReconciliation {
			return events.Lost{}, nil
		}
		return d.p.w.mem.Again(ctx, rows)
	})
}

func (d door) Reclaim(ctx context.Context, lease time.Duration) (events.Lost, error) {
	return call(ctx, d, "reclaim", func() (events.Lost, error) {
		if d.p.w.plant == plantNoReconciliation {
			return events.Lost{}, nil
		}
		return d.p.w.mem.Reclaim(ctx, lease)
	})
}

func (d door) Slots(ctx context.Context, lease time.Duration) (map[events.Kind]int, error) {
	return call(ctx, d, "slots", func() (map[events.Kind]int, error) { return d.p.w.mem.Slots(ctx, lease) })
}

// Lead lets a relay that has lost its lead go on for a while, as one does that
// was not told yet; and while whoever asks leads, it asks nobody.
func (d door) Lead(ctx context.Context) (context.Context, func(), error) {
	type lead struct {
		led     context.Context
		release func()
	}
	l, err := call(ctx, d, "lead", func() (lead, error) {
		led, cancel := context.WithCancel(ctx)
		if d.p.w.split() {
			context.AfterFunc(d.p.w.united, cancel)
			return lead{led, cancel}, nil
		}
		truly, release, err := d.p.w.mem.Lead(ctx)
		if err != nil {
			cancel()
			return lead{}, err
		}
		context.AfterFunc(truly, func() { time.AfterFunc(d.p.w.plan.notice, cancel) })
		d.p.mu.Lock()
		d.p.release = release
		if d.p.dead {
			time.AfterFunc(d.p.w.plan.notice, release)
		}
		d.p.mu.Unlock()
		return lead{led, func() {
			d.p.mu.Lock()
			d.p.release = nil
			dead := d.p.dead
			d.p.mu.Unlock()
			if !dead { // otherwise its death gives it back
				release()
			}
			cancel()
		}}, nil
	})
	if err != nil && l.release == nil {
		d.p.lostLead()
	}
	return l.led, l.release, err
}

// lostLead gives back a leadership whose answer got lost: the store's session
// has ended with it.
func (p *process) lostLead() {
	p.mu.Lock()
	release := p.release
	p.mu.Unlock()
	if release != nil {
		release()
	}
}

func (d door) Fresh(ctx context.Context, limit int) ([]events.FeedRow, error) {
	return call(ctx, d, "fresh", func() ([]events.FeedRow, error) {
		fresh, err := d.p.w.mem.Fresh(ctx, limit)
		if d.p.w.plant == plantToldFirst {
			for _, e := range fresh {
				_ = d.p.w.mem.Told(ctx, []int64{e.Row})
			}
		}
		return fresh, err
	})
}

func (d door) Told(ctx context.Context, rows []int64) error {
	return done(ctx, d, "told", func() error { return d.p.w.mem.Told(ctx, rows) })
}

func (d door) Begin(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error) {
	return call(ctx, d, "begin", func() ([]events.Claim, error) {
		claims, err := d.p.w.mem.Begin(ctx, worker, d.p.w.plant.envelopes(d.p.w, es))
		return d.p.w.plant.claims(d.p.w, es, claims), err
	})
}

func (d door) Look(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error) {
	return call(ctx, d, "look", func() ([]events.Claim, error) {
		return d.p.w.mem.Look(ctx, worker, d.p.w.plant.envelopes(d.p.w, es))
	})
}

func (d door) Settle(ctx context.Context, steps []events.Step, commits []func(context.Context, pgx.Tx) error, last ...func(context.Context, pgx.Tx) error) ([]error, error) {
	if d.p.w.plant == plantAckBeforeSettle {
		ctx := context.WithoutCancel(ctx)
		d.p.w.wg.Go(func() { _, _ = d.settle(ctx, steps, commits, last...) })
		return make([]error, len(steps)), nil
	}
	return d.settle(ctx, steps, commits, last...)
}

func (d door) settle(ctx context.Context, steps []events.Step, commits []func(context.Context, pgx.Tx) error, last ...func(context.Context, pgx.Tx) error) ([]error, error) {
	return call(ctx, d, "settle", func() ([]error, error) {
		tx := &transaction{effects: map[events.ID]effect{}}
		errs, err := d.p.w.mem.Settle(context.WithValue(ctx, inTransaction{}, tx), d.p.w.plant.steps(d.p.w, steps), commits, last...)
		if err == nil || d.p.w.plant == plantEffectsOutside {
			d.p.w.commit(tx, steps, errs)
		}
		return errs, err
	})
}

func (d door) Seen(ctx context.Context, worker events.Holder) error {
	return done(ctx, d, "seen", func() error { return d.p.w.mem.Seen(ctx, worker) })
}

func (d door) Gone(ctx context.Context, worker events.Holder) error {
	return done(ctx, d, "gone", func() error { return d.p.w.mem.Gone(ctx, worker) })
}

// transaction collects what commits write. Memory has none: what is in here
// counts only when the whole of a Settle was stored.
type transaction struct{ effects map[events.ID]effect }

type inTransaction struct{}

// effect is what one attempt wrote.
type effect struct {
	job     events.ID
	version int // of the claim
	worker  string
}
