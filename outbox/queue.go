package outbox

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

const (
	// roomyRows is how many asks of one tenant, lane and priority are kept in
	// memory. What comes behind is only remembered as "from row x on", and read
	// once more.
	roomyRows = 8 << 10
	// tenantRows is the same when someRows are kept in all.
	tenantRows = 512
	someRows   = 16 << 10
	// crowdedRows is the same when memoryRows are kept in all.
	crowdedRows = 16
	memoryRows  = 128 << 10
	// refillAt is the part of what is kept that is left when a tenant's asks are
	// read on: there is something to publish meanwhile.
	refillAt = 4
)

// place says where an ask is.
type place uint8

const (
	queued  place = iota // in its tenant's queue
	flying               // published, not confirmed yet
	sent                 // confirmed by the broker
	refused              // the broker does not take it
)

// row is an ask that the relay knows.
type row struct {
	ask    events.Ask
	tenant *tenant
	place  place
	unread bool          // a ring named it, and it was not read yet: it is among the named and has no row
	noted  bool          // the store has been told that the broker has it
	since  time.Duration // when the relay met it; this and the others by the term's clock
	read   time.Duration // when the store last had it
	sent   time.Duration // when the broker confirmed it
	looked time.Duration // when its message was last looked for
	seq    uint64        // of its message on the stream
}

// tenant is one tenant's asks in one lane.
type tenant struct {
	scope  events.Scope
	lane   *lane
	queues []*queue // by priority
	rows   int      // in its queues
	out    int      // flying and sent: on the stream, as far as we know
	from   int64    // 0, or the first row that was left in the store
	hungry bool     // is in its lane's hungry
}

// queue is one tenant's asks of one priority, in order of rows.
type queue struct {
	tenant *tenant
	prio   int
	rows   fifo[*row]
	full   bool // some were left in the store
	dealt  bool // is in its level's ring
}

// level is the tenants that have asks of one priority, in turn.
type level struct {
	prio int
	ring fifo[*queue]
}

// lane is one kind's asks.
type lane struct {
	kind      events.Kind
	subject   string
	levels    []*level // the highest priority first
	tenants   map[events.Scope]*tenant
	hungry    []*tenant // have asks in the store and few in memory
	low       int       // a queue of which some is left in the store is read on when it is shorter
	rows      int       // in queues
	flight    int       // flying
	window    window
	inspected time.Duration // when its consumer was last looked at
	capped    bool          // at the last deal, the tenant cap held something back
}

func newLane(kind events.Kind, subject string) *lane {
	return &lane{kind: kind, subject: subject, tenants: map[events.Scope]*tenant{}}
}

func (l *lane) tenant(scope events.Scope) *tenant {
	t := l.tenants[scope]
	if t == nil {
		t = &tenant{scope: scope, lane: l}
		l.tenants[scope] = t
	}
	return t
}

// forget drops a tenant that has nothing any more.
func (l *lane) forget(t *tenant) {
	if t.rows == 0 && t.out == 0 && t.from == 0 && l.tenants[t.scope] == t {
		delete(l.tenants, t.scope)
	}
}

func (l *lane) level(prio int) *level {
	i, ok := slices.BinarySearchFunc(l.levels, prio, func(v *level, prio int) int { return cmp.Compare(prio, v.prio) })
	if !ok {
		l.levels = slices.Insert(l.levels, i, &level{prio: prio})
	}
	return l.levels[i]
}

func (t *tenant) queue(prio int) *queue {
	for _, q := range t.queues {
		if q.prio == prio {
			return q
		}
	}
	q := &queue{tenant: t, prio: prio}
	t.queues = append(t.queues, q)
	return q
}

// push puts a row at the end of its queue, or with front at its head.
func (l *lane) push(r *row, front bool) {
	q := r.tenant.queue(r.ask.Priority)
	if front {
		q.rows.pushFront(r)
	} else {
		q.rows.push(r)
	}
	r.place = queued
	l.capped = false
	r.tenant.rows++
	l.rows++
	if !q.dealt {
		q.dealt = true
		ring := &l.level(r.ask.Priority).ring
		if front {
			ring.pushFront(q)
		} else {
			ring.push(q)
		}
	}
}

// deal takes at most n rows: the highest priority first, and within it one
// row a tenant in turn. A tenant that has tenantCap messages out waits.
func (l *lane) deal(n, tenantCap int, into []*row) []*row {
	l.capped = false
	for _, v := range l.levels {
		var held []*queue
		for n > 0 && v.ring.len() > 0 {
			q := v.ring.pop()
			t := q.tenant
			if tenantCap > 0 && t.out >= tenantCap {
				held = append(held, q)
				continue
			}
			r := q.rows.pop()
			r.place = flying
			t.rows--
			t.out++
			l.rows--
			l.flight++
			n--
			into = append(into, r)
			if q.rows.len() > 0 {
				v.ring.push(q)
			} else {
				q.dealt = false
			}
			l.feed(t)
		}
		for _, q := range slices.Backward(held) {
			v.ring.pushFront(q)
		}
		l.capped = l.capped || n > 0 && len(held) > 0
	}
	return into
}

// feed notes that a tenant's asks have to be read on: a queue of which some
// were left in the store runs low.
func (l *lane) feed(t *tenant) {
	if t.from == 0 || t.hungry || t.rows > 2*roomyRows {
		return
	}
	for _, q := range t.queues {
		if q.full && q.rows.len() < t.lane.low {
			t.hungry = true
			l.hungry = append(l.hungry, t)
			return
		}
	}
}

// fifo is a queue of which both ends are cheap.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) first() T { return f.items[f.head] }

func (f *fifo[T]) push(v T) { f.items = append(f.items, v) }

func (f *fifo[T]) pushFront(v T) {
	if f.head == 0 {
		room := max(8, f.len()/2)
		items := make([]T, room+f.len(), 2*room+f.len())
		copy(items[room:], f.items)
		f.items, f.head = items, room
	}
	f.head--
	f.items[f.head] = v
}

func (f *fifo[T]) pop() T {
	var none T
	v := f.items[f.head]
	f.items[f.head] = none
	f.head++
	switch {
	case f.head == len(f.items):
		f.items, f.head = f.items[:0], 0
	case f.head > 64 && f.head > len(f.items)/2:
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	return v
}
