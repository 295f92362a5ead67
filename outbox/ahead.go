package outbox

import (
	"context"
	"runtime"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// mostAhead is how many asks may be remembered of which rings have told and that
// were not read yet.
const mostAhead = 1024

// mostMet is how many rows are looked through for one that a ring names: a read
// may have been faster. Where there are more, something waits, and all is read.
const mostMet = 128

// ahead publishes what rings have named, and reports whether that was all they
// rang for: then nothing has to be read. It does no more than save the read. What is
// named is believed only as far as a message is: it goes out under the message
// id that the row's would have, so that of both the stream keeps one, and the
// claim compares it with the job. Where anything is not plain (something waits
// already, the window is full, the broker is in trouble) the rows are read.
func (t *term) ahead(ctx context.Context) bool {
	asks, all := t.cfg.Named()
	if len(asks) == 0 || !t.caughtUp || !t.ensured || t.storeWait > 0 || t.now() < t.pubAt || t.cfg.TenantCap > 0 ||
		t.inFlight >= t.cfg.InFlight || len(t.named)+len(asks) > mostAhead || len(t.rows) > mostMet {
		return all && len(asks) == 0
	}
	var rows []*row
	for _, e := range asks {
		if t.met(e) {
			continue
		}
		if !t.idle(e.Kind) {
			all = false
			continue
		}
		l := t.lane(e.Kind)
		r := &row{ask: events.Ask{Envelope: e}, tenant: l.tenant(e.Scope), place: flying, unread: true, since: t.now()}
		t.named[e] = r
		r.tenant.out++
		l.flight++
		rows = append(rows, r)
	}
	if len(rows) > 0 {
		t.launch(ctx, rows)
		t.hush()
		runtime.Gosched() // the message goes before we see to what else there is
	}
	return all
}

// met reports whether an ask is on its way already, by a ring or by a read.
func (t *term) met(e events.Envelope) bool {
	if t.named[e] != nil {
		return true
	}
	for _, r := range t.rows {
		if r.ask.Envelope == e {
			return true
		}
	}
	return false
}

// idle reports whether nothing of a kind waits for room, so that one more can go
// at once. It never asks the broker: a window of which nothing is known has none.
func (t *term) idle(kind events.Kind) bool {
	l := t.lanes[kind]
	if l == nil {
		return false
	}
	l.window.resize(t.slots[kind], t.cfg.WindowMin, t.cfg.WindowMax)
	return l.rows == 0 && len(l.hungry) == 0 && t.now() >= l.window.next && l.window.known && l.window.room(l.flight) > 0
}

// adopt makes the ask that was read of the one that a ring named: it is on its
// way already.
func (t *term) adopt(r *row, a events.Ask) {
	delete(t.named, a.Envelope)
	// Not all of ask: who publishes it may be reading the envelope.
	r.unread, r.ask.Row, r.ask.Priority, r.ask.DueAt = false, a.Row, a.Priority, a.DueAt
	r.read = t.now()
	t.rows[a.Row] = r
	if r.place == sent {
		t.sent = append(t.sent, r)
	}
}

// forgetNamed forgets what rings had named before a read began that has come to
// the end: it is not there, so it was begun, or it never was.
func (t *term) forgetNamed(began time.Duration) {
	for _, r := range t.named {
		if r.place == sent && r.since < began {
			t.release(r)
		}
	}
}

// dropNamed forgets one whose publishing came to nothing, and has the rows read.
func (t *term) dropNamed(r *row) {
	if r.place == flying {
		r.tenant.lane.flight--
	}
	t.release(r)
	t.readAt, t.readWait, t.calm = 0, 0, 0
}
