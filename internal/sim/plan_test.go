package sim_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// plan is all that a seed decides: the size and the settings of a world, what
// its clients ask for, and what goes wrong when. It is the same for a seed in
// every run; what the scheduler makes of it is not.
type plan struct {
	seed      uint64
	relays    int
	workers   int
	slots     int           // of each worker
	brief     bool          // its jobs are brief, whatever they take
	lease     time.Duration // of relays and workers
	ackWait   time.Duration
	window    time.Duration // in which the broker knows message ids
	notice    time.Duration // until a relay finds out that its lead is over
	async     bool          // publish one by one
	bell      bool          // ring when something was committed
	file      bool          // streams are kept in files
	tenantCap int
	span      time.Duration // from the start until all faults are over
	jobs      []jobPlan
	faults    []fault
}

type jobPlan struct {
	at          time.Duration
	tenant      int
	delay       time.Duration // before it is due
	maxAttempts int
	priority    int
	unsure      bool     // the client does not get the answer, and sends again
	ends        []ending // of its attempts; those after the last one end like it
}

// ending is what one run of a handler comes to.
type ending struct {
	how string
	d   time.Duration // how long it works, or how long it wants to wait
}

const (
	endOK         = "ok"
	endErr        = "err"
	endPanic      = "panic"
	endRetryAfter = "retry after"
	endPermanent  = "permanent"
	endHang       = "hang"         // until its context ends
	endDeaf       = "deaf"         // works on though its context has ended
	endRefused    = "refused"      // the database does not take what it commits
	endTrouble    = "trouble"      // the database is in trouble when it commits, once
	endCommitDies = "commit panic" //
)

// act is what goes wrong.
type act string

const (
	actKill  act = "kill"  // the process is gone, without a word
	actStop  act = "stop"  // SIGTERM
	actPause act = "pause" // SIGSTOP, and later SIGCONT

	actFail   act = "fail"   // a call of the store: its answer is an error
	actRefuse act = "refuse" // … that says that the database does not take what was asked
	actSlow   act = "slow"   // … comes late

	actDrop  act = "drop"  // a frame on the wire: is lost
	actDup   act = "dup"   // … comes twice
	actDelay act = "delay" // … comes late, behind others
	actCut   act = "cut"   // … and the connection breaks
	actMute  act = "mute"  // the connection is half open: nothing comes through
	actAway  act = "away"  // the process cannot reach the broker

	actPurge          act = "purge JOBS"
	actEat            act = "eat a message"
	actDeleteJobs     act = "delete JOBS"
	actRemakeJobs     act = "delete JOBS, make it anew"
	actDeleteConsumer act = "delete the consumer"
	actDeleteEvents   act = "delete EVENTS"
	actRestart        act = "restart the broker"
	actSave           act = "restart the broker, keep a copy"
	actRollback       act = "set the broker back to the copy"

	actDepose act = "depose the leader"
	actSplit  act = "whoever asks leads"
	actCancel act = "cancel"
	actRetry  act = "retry"
	actAgain  act = "enqueue again"
	actForge  act = "forge a message"
)

// acts lists them all.
var acts = []act{
	actKill, actStop, actPause, actFail, actRefuse, actSlow, actDrop, actDup, actDelay,
	actCut, actMute, actAway, actPurge, actEat, actDeleteJobs, actRemakeJobs, actDeleteConsumer,
	actDeleteEvents, actRestart, actSave, actRollback, actDepose, actSplit, actCancel, actRetry, actAgain, actForge,
}

// fault is one thing that goes wrong.
type fault struct {
	at    time.Duration
	act   act
	on    string        // the process: relay0, worker1
	op    string        // the call or frame at which it happens; empty: at once
	after bool          // once the call has happened
	times int           // calls or frames, one after the other
	d     time.Duration // how long
	n     int           // the job, or the variant
}

func (f fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%6.2fs %s", f.at.Seconds(), f.act)
	if f.on != "" {
		fmt.Fprintf(&b, " %s", f.on)
	}
	if f.op != "" {
		fmt.Fprintf(&b, " %s %s", map[bool]string{false: "at", true: "after"}[f.after], f.op)
	}
	if f.times > 1 {
		fmt.Fprintf(&b, " ×%d", f.times)
	}
	if f.d > 0 {
		fmt.Fprintf(&b, " for %v", f.d)
	}
	switch f.act {
	case actCancel, actRetry, actAgain, actForge, actEat:
		fmt.Fprintf(&b, " #%d", f.n)
	default: // is done by others
	}
	return b.String()
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d relays, %d workers of %d slots, brief %v, lease %v, ack wait %v, window %v, notice %v, async %v, bell %v, file %v, tenant cap %d, span %v\n",
		p.seed, p.relays, p.workers, p.slots, p.brief, p.lease, p.ackWait, p.window, p.notice, p.async, p.bell, p.file, p.tenantCap, p.span)
	for i, j := range p.jobs {
		fmt.Fprintf(&b, "  job %d: at %.2fs, tenant %d, delay %v, at most %d attempts, priority %d, unsure %v:", i, j.at.Seconds(), j.tenant, j.delay, j.maxAttempts, j.priority, j.unsure)
		for _, e := range j.ends {
			fmt.Fprintf(&b, " %s %v;", e.how, e.d)
		}
		b.WriteByte('\n')
	}
	for i, f := range p.faults {
		fmt.Fprintf(&b, "  fault %d: %v\n", i, f)
	}
	return b.String()
}

// bound is how long it may take until all is done once nothing goes wrong any
// more: each attempt of a job may have to wait for a lease to run out, for a
// message to be delivered again, for its handler and for its retry; and
// whatever eats messages makes the relay ask less and less often, up to a
// lease. Much of it again for a machine that is not ideal either.
func (p plan) bound() time.Duration {
	attempt := 2*p.lease + p.ackWait + 6*time.Second + longestRetry
	return 3*attempt + 30*time.Second
}

// without leaves some of the faults out.
func (p plan) without(drop []int) plan {
	kept := p.faults
	p.faults = nil
	for i, f := range kept {
		if !slices.Contains(drop, i) {
			p.faults = append(p.faults, f)
		}
	}
	return p
}

// dice is a seed's own randomness.
type dice struct{ *rand.Rand }

func (d dice) one(in int) bool { return d.IntN(in) == 0 }

func (d dice) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.Int64N(int64(most-least)/int64(10*time.Millisecond)+1))*10*time.Millisecond
}

func pick[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

const (
	handlerTimeout = 3 * time.Second // of a lane
	longestRetry   = 3 * time.Second // that a handler asks for
)

// newPlan makes the plan of a seed. Few kinds of fault go into one plan, so
// that each is also met with nothing else in its way.
func newPlan(seed uint64) plan {
	d := dice{rand.New(rand.NewPCG(seed, 0x6f6273))}
	p := plan{
		seed:    seed,
		relays:  pick(d, 1, 2, 2, 2, 3),
		workers: pick(d, 1, 2, 2, 2, 3),
		slots:   d.IntN(3) + 1,
		brief:   seed%2 == 0,
		lease:   pick[time.Duration](d, 2, 3, 4, 6) * time.Second,
		ackWait: pick[time.Duration](d, 1, 2, 4, 6) * time.Second,
		window:  pick[time.Duration](d, 1, 5, 120, 120) * time.Second,
		notice:  pick(d, 0, 0, 500*time.Millisecond, 3*time.Second),
		async:   d.one(4),
		bell:    d.one(2),
		file:    d.one(16),
		span:    d.between(3*time.Second, 9*time.Second),
	}
	if d.one(4) {
		p.tenantCap = 1 + d.IntN(2)
	}
	if d.one(50) {
		p.span = d.between(time.Minute, 3*time.Minute) // past every window and lease
	}
	rush := d.between(0, p.span*2/3)
	for range 2 + d.IntN(5) {
		p.jobs = append(p.jobs, newJob(d, p.span, rush))
	}
	menu := classes(p)
	d.Shuffle(len(menu), func(i, j int) { menu[i], menu[j] = menu[j], menu[i] })
	menu = menu[:1+d.IntN(4)]
	for range 1 + d.IntN(7) {
		f := menu[d.IntN(len(menu))](d, p)
		f.at = d.between(0, p.span*4/5)
		if d.one(3) { // where much is going on
			f.at = min(rush+d.between(0, 500*time.Millisecond), p.span*4/5)
		}
		p.faults = append(p.faults, f)
	}
	slices.SortStableFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return p
}

func newJob(d dice, span, rush time.Duration) jobPlan {
	j := jobPlan{
		at: rush, tenant: d.IntN(2), maxAttempts: 1 + d.IntN(3), unsure: d.one(8),
	}
	if d.one(2) {
		j.at = d.between(0, span*2/3)
	}
	if d.one(6) {
		j.delay = d.between(0, 3*time.Second)
	}
	if d.one(6) {
		j.priority = 1
	}
	for range 1 + d.IntN(3) {
		e := ending{how: endOK}
		if d.one(2) {
			e.how = pick(d, endErr, endErr, endPanic, endRetryAfter, endPermanent, endHang, endDeaf, endRefused, endTrouble, endCommitDies)
		}
		switch e.how {
		case endRetryAfter:
			e.d = d.between(0, longestRetry)
		case endDeaf:
			e.d = d.between(time.Second, 6*time.Second)
		default:
			if d.one(2) {
				e.d = d.between(0, 2*time.Second)
			}
		}
		j.ends = append(j.ends, e)
	}
	return j
}

// The calls of the store, and the frames on the wire.
var (
	relayCalls   = []string{"asks", "waiting", "enqueued", "again", "reclaim", "slots", "lead", "fresh", "told"}
	workerCalls  = []string{"begin", "begin", "settle", "settle", "settle", "seen", "gone"}
	briefCalls   = []string{"look", "look", "begin", "settle", "settle", "settle", "seen", "gone"}
	relayFrames  = []string{"publish", "publish", "tell", "tell", "api", "answer"}
	workerFrames = []string{"pull", "ack", "ack", "progress", "deliver", "deliver", "api", "answer"}
)

func (p plan) process(d dice) (name string, calls, frames []string) {
	if d.one(2) {
		return fmt.Sprint("relay", d.IntN(p.relays)), relayCalls, relayFrames
	}
	if p.brief {
		return fmt.Sprint("worker", d.IntN(p.workers)), briefCalls, workerFrames
	}
	return fmt.Sprint("worker", d.IntN(p.workers)), workerCalls, workerFrames
}

// classes are the kinds of fault that a plan may choose from.
func classes(p plan) []func(dice, plan) fault {
	atPoint := func(d dice, p plan, f fault) fault {
		name, calls, frames := p.process(d)
		f.on, f.times = name, 1
		switch d.IntN(4) {
		case 0: // whatever it does
		case 1:
			f.op, f.after = frames[d.IntN(len(frames))], d.one(2)
		default:
			f.op, f.after = calls[d.IntN(len(calls))], d.one(2)
		}
		return f
	}
	// A worker that comes back with what it has lost meanwhile.
	late := func(d dice, p plan) fault {
		return fault{
			act: actPause, on: fmt.Sprint("worker", d.IntN(p.workers)), op: "settle", times: 1,
			d: d.between(p.lease, 2*p.lease+2*time.Second),
		}
	}
	menu := []func(dice, plan) fault{
		late, late,
		func(d dice, p plan) fault { return atPoint(d, p, fault{act: actKill, d: d.between(0, 3*time.Second)}) },
		func(d dice, p plan) fault { return atPoint(d, p, fault{act: actKill, d: d.between(0, 3*time.Second)}) },
		func(d dice, p plan) fault { return atPoint(d, p, fault{act: actStop, d: d.between(0, 2*time.Second)}) },
		func(d dice, p plan) fault {
			return atPoint(d, p, fault{act: actPause, d: d.between(p.lease/2, 2*p.lease+2*time.Second)})
		},
		func(d dice, p plan) fault { // the store
			name, calls, _ := p.process(d)
			f := fault{on: name, act: actFail, op: calls[d.IntN(len(calls))], after: d.one(2), times: 1 + d.IntN(4), n: d.IntN(5)}
			switch {
			case d.one(5):
				f.act, f.after, f.d = actSlow, d.one(2), d.between(0, 2*p.lease)
			case d.one(5) && (f.op == "begin" || f.op == "settle"):
				f.act, f.after = actRefuse, false
			}
			return f
		},
		func(d dice, p plan) fault { // the wire
			name, _, frames := p.process(d)
			return fault{
				on: name, act: pick(d, actDrop, actDrop, actDup, actDelay, actCut), op: frames[d.IntN(len(frames))], after: d.one(2),
				times: 1 + d.IntN(4), d: d.between(10*time.Millisecond, p.ackWait+2*time.Second),
			}
		},
		func(d dice, p plan) fault { // the network
			name, _, _ := p.process(d)
			return fault{on: name, act: pick(d, actMute, actAway), d: d.between(100*time.Millisecond, 2*p.lease)}
		},
		func(d dice, _ plan) fault { // the streams
			return fault{act: pick(d, actPurge, actEat, actEat, actDeleteJobs, actRemakeJobs, actDeleteConsumer), n: d.IntN(3)}
		},
		func(d dice, p plan) fault { // leadership
			return fault{act: pick(d, actDepose, actSplit), d: d.between(0, p.span/2)}
		},
		func(d dice, p plan) fault { // operators and clients
			return fault{act: pick(d, actCancel, actCancel, actRetry, actRetry, actAgain), n: d.IntN(len(p.jobs))}
		},
		func(d dice, _ plan) fault { return fault{act: actForge, n: d.IntN(7)} },
	}
	if p.file {
		broker := func(d dice, _ plan) fault {
			return fault{act: pick(d, actRestart, actSave, actRollback), d: d.between(0, time.Second)}
		}
		menu = append(menu, broker, broker, broker, broker)
	}
	if p.seed%32 == 0 { // rare: all is lost with the broker, or what followers read
		menu = append(menu, func(d dice, _ plan) fault {
			return fault{act: pick(d, actRestart, actDeleteEvents), d: d.between(0, time.Second)}
		})
	}
	return menu
}
