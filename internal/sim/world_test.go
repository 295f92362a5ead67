package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/outbox"
)

const kind = events.Kind("note")

// world is one schedule as it runs: a store in memory, the real broker, and
// the relays and workers that the plan asks for.
type world struct {
	plan    plan
	plant   plant
	broker  *broker
	log     *slog.Logger
	prefix  string
	streams outbox.Streams
	mem     *eventstest.Memory
	slots   []*slot
	ids     []events.ID // of the plan's jobs
	scopes  []events.Scope

	ctx     context.Context // the world's, until everything is to end
	end     context.CancelFunc
	healed  chan struct{}   // closed when nothing goes wrong any more
	united  context.Context // ended when only one may lead again
	unite   context.CancelFunc
	wg      sync.WaitGroup
	inHand  sync.WaitGroup // handlers; a worker does not wait for one that is deaf
	started time.Time

	mu         sync.Mutex
	splitUntil time.Time
	added      map[events.ID]int           // how often the store said that a job was new
	effects    map[events.ID][]effect      // that were stored
	runs       map[events.ID][]*handlerRun // of handlers
	removed    map[events.Envelope]bool    // asks that plantRemoveFirst took away
	lostEvents bool                        // EVENTS was deleted, or set back
	faults     []string                    // what the harness itself found wrong
	hits       map[act]int                 // faults that happened
}

// handlerRun is one run of a handler.
type handlerRun struct {
	job     events.Job
	worker  string
	stopped bool   // its context ended, because the worker stopped, lost its lease, or was superseded
	end     string // of ending
}

// verdict is what became of a schedule.
type verdict struct {
	findings []events.Finding
	hits     map[act]int
	took     time.Duration // from the healing until all was quiet
	stories  map[string]string
}

var worlds struct {
	sync.Mutex
	n int
}

// play runs a plan to its end, and says what does not hold.
func play(ctx context.Context, b *broker, p plan, bug plant, log *slog.Logger) verdict {
	worlds.Lock()
	worlds.n++
	prefix := fmt.Sprint("w", worlds.n)
	worlds.Unlock()
	w := &world{
		plan: p, plant: bug, broker: b, log: log, prefix: prefix, mem: eventstest.NewMemory(), started: time.Now(),
		streams: outbox.Streams{
			Prefix: prefix, Kinds: []events.Kind{kind}, AckWait: p.ackWait, DuplicateWindow: p.window, Storage: jetstream.MemoryStorage,
		},
		healed: make(chan struct{}), added: map[events.ID]int{}, effects: map[events.ID][]effect{}, runs: map[events.ID][]*handlerRun{},
		removed: map[events.Envelope]bool{}, hits: map[act]int{},
	}
	if p.file {
		w.streams.Storage = jetstream.FileStorage
	}
	w.ctx, w.end = context.WithCancel(ctx)
	w.united, w.unite = context.WithCancel(ctx)
	for i := range p.jobs {
		scope := events.Scope{Team: fmt.Sprint("t", p.jobs[i].tenant), Project: "p"}
		w.scopes = append(w.scopes, scope)
		w.ids = append(w.ids, events.NewID(kind, scope.Team, fmt.Sprint(i)))
	}
	for i := range p.relays {
		w.slots = append(w.slots, &slot{w: w, name: fmt.Sprint("relay", i), relay: true})
	}
	for i := range p.workers {
		w.slots = append(w.slots, &slot{w: w, name: fmt.Sprint("worker", i)})
	}
	for _, s := range w.slots {
		w.wg.Go(s.run)
	}
	w.act()
	took := w.heal()
	w.inHand.Wait()
	return w.judge(ctx, took)
}

// act lets happen what the plan says, when it says so.
func (w *world) act() {
	next := 0
	var wg sync.WaitGroup
	for i, j := range w.plan.jobs {
		wg.Go(func() {
			pause(w.ctx, j.at)
			w.enqueue(i, j)
		})
	}
	for ; next < len(w.plan.faults); next++ {
		f := w.plan.faults[next]
		pause(w.ctx, w.plan.faults[next].at-time.Since(w.started))
		w.strike(&wg, f)
	}
	pause(w.ctx, w.plan.span-time.Since(w.started))
	wg.Wait()
}

func (w *world) strike(wg *sync.WaitGroup, f fault) {
	if f.on != "" {
		for _, s := range w.slots {
			if s.name == f.on {
				s.strike(f)
			}
		}
		return
	}
	w.hit(f)
	switch f.act {
	case actRestart, actSave, actRollback:
		w.restart(f)
	case actCancel, actRetry:
		wg.Go(func() { w.operate(f) })
	case actAgain:
		wg.Go(func() { w.send(f.n) })
	case actDepose:
		w.mem.Depose()
	case actSplit:
		w.mu.Lock()
		w.splitUntil = time.Now().Add(f.d)
		w.mu.Unlock()
		w.mem.Depose() // so that somebody asks
	default:
		wg.Go(func() { w.onStreams(f) })
	}
}

func (w *world) restart(f fault) {
	var between func() error
	switch f.act {
	case actSave:
		between = w.broker.save
	case actRollback:
		between = w.broker.rollback
		w.mu.Lock()
		w.lostEvents = true
		w.mu.Unlock()
	default: // is done by others
	}
	if !w.plan.file {
		w.mu.Lock()
		w.lostEvents = true
		w.mu.Unlock()
	}
	if err := w.broker.restart(w.ctx, f.d, between); err != nil {
		w.fault("%v", err)
	}
}

// onStreams does to the streams what nobody should.
func (w *world) onStreams(f fault) {
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	js, name := w.broker.js, w.streams.JobsStream()
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return // it is not there yet, or gone: nothing to break
	}
	switch f.act {
	case actPurge:
		err = stream.Purge(ctx)
	case actEat:
		state := stream.CachedInfo().State
		if state.Msgs > 0 {
			err = stream.DeleteMsg(ctx, state.FirstSeq+uint64(f.n))
		}
	case actDeleteJobs, actRemakeJobs:
		err = js.DeleteStream(ctx, name)
		if err == nil && f.act == actRemakeJobs {
			err = outbox.Ensure(ctx, js, w.streams)
		}
	case actDeleteConsumer:
		err = stream.DeleteConsumer(ctx, w.streams.Consumer(kind))
	case actDeleteEvents:
		w.mu.Lock()
		w.lostEvents = true
		w.mu.Unlock()
		err = js.DeleteStream(ctx, w.streams.EventsStream())
	case actForge:
		err = w.forge(ctx, f.n)
	default: // is done by others
	}
	_ = err // another fault was faster
}

// forge publishes what no relay would.
func (w *world) forge(ctx context.Context, variant int) error {
	j, _, err := w.mem.Get(ctx, w.scopes[0], w.ids[0])
	if err != nil {
		return nil //nolint:nilerr // nobody has asked for it yet
	}
	e := j.Envelope()
	body := e.Marshal()
	switch variant {
	case 0: // as it is: a second message for the same ask
	case 1:
		e.Scope.Project = "theirs"
	case 2:
		e.Job = "nobody"
	case 3:
		e.Asked = 99
	case 4:
		e.Asked = 1 // long past
	case 5:
		e.Kind = "other"
	}
	if e == j.Envelope() && j.NextAt.After(time.Now()) {
		return nil // a claim does not ask whether the job is due: that is the relay's part
	}
	if variant < 6 {
		body = e.Marshal()
	} else {
		body = append([]byte("no job "), body...)
	}
	_, err = w.broker.js.Publish(ctx, w.streams.JobSubject(kind), body)
	return err
}

func (w *world) step(i int) events.Step {
	j := w.plan.jobs[i]
	s, err := events.New(events.Job{
		ID: w.ids[i], Kind: kind, Scope: w.scopes[i], SourceType: "sim", SourceID: fmt.Sprint(i), Args: []byte(`{}`),
		Priority: j.priority, MaxAttempts: j.maxAttempts, RequestID: fmt.Sprint("r", i),
	}, events.Event{Actor: "client"})
	if err != nil {
		w.fault("%v", err)
	}
	s.Delay = j.delay
	return s
}

func (w *world) enqueue(i int, j jobPlan) {
	w.send(i)
	if j.unsure {
		w.send(i)
	}
}

// send is a client's request, which may be one that it has sent before.
func (w *world) send(i int) {
	added, err := w.mem.Enqueue(w.ctx, w.step(i))
	switch {
	case err != nil:
		w.fault("enqueue: %v", err)
	case added[0]:
		w.mu.Lock()
		w.added[w.ids[i]]++
		w.mu.Unlock()
	}
	if w.plan.jobs[i].delay > 0 {
		w.ring()
	} else { // which may be done, or asked for anew, where this was sent before
		w.ring(events.Envelope{Job: w.ids[i], Kind: kind, Asked: 1, Scope: w.scopes[i]})
	}
}

func (w *world) ring(queued ...events.Envelope) {
	if w.plan.bell {
		outbox.NewBell(w.broker.nc, w.prefix).Ring(queued...)
	}
}

// operate cancels a job or asks for it again, as an operator does who read it
// just before.
func (w *world) operate(f fault) {
	j, _, err := w.mem.Get(w.ctx, w.scopes[f.n], w.ids[f.n])
	if err != nil {
		return // nobody has asked for it yet
	}
	e := events.Event{Type: events.Cancelled, Actor: "operator", Reason: "sim"}
	if f.act == actRetry {
		e = events.Event{Type: events.Queued, Actor: "operator"}
	}
	errs, err := w.mem.Move(w.ctx, []events.Step{{Job: j, Event: e}})
	switch {
	case err != nil:
		w.fault("operator: %v", err)
	case errs[0] != nil && !errors.Is(errs[0], events.ErrHeld) && !errors.Is(errs[0], events.ErrSettled):
		w.fault("operator: %v", errs[0])
	}
	w.ring()
}

// split reports whether whoever asks leads.
func (w *world) split() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Before(w.splitUntil) || w.plant == plantAllLead && !w.over()
}

// heal ends all faults and waits until nothing is left to do, within a bound.
func (w *world) heal() time.Duration {
	start := time.Now()
	w.mu.Lock()
	w.splitUntil = time.Time{}
	w.mu.Unlock()
	w.unite()
	close(w.healed)
	for _, s := range w.slots {
		s.heal()
	}
	bound := w.plan.bound()
	for {
		busy := w.busy()
		if busy == "" {
			return time.Since(start)
		}
		if time.Since(start) > bound {
			w.fault("not quiet %v after the last fault: %s", bound, busy)
			return time.Since(start)
		}
		pause(w.ctx, 200*time.Millisecond)
	}
}

// busy says what is still to be done; nothing: "".
func (w *world) busy() string {
	for i, id := range w.ids {
		j, _, err := w.mem.Get(w.ctx, w.scopes[i], id)
		if err != nil {
			return err.Error()
		}
		if !j.Status.Settled() {
			return fmt.Sprintf("job %s is %s; %s", id, j.Status, w.troubles())
		}
	}
	if fresh, err := w.mem.Fresh(w.ctx, 1000); err != nil || len(fresh) > 0 {
		return fmt.Sprintf("EVENTS was not told %d rows %v; %s", len(fresh), err, w.troubles())
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Second)
	defer cancel()
	c, err := w.broker.js.Consumer(ctx, w.streams.JobsStream(), w.streams.Consumer(kind))
	if err != nil {
		return fmt.Sprintf("the workers' consumer: %v; %s", err, w.troubles())
	}
	if i := c.CachedInfo(); i.NumPending > 0 || i.NumAckPending > 0 {
		return fmt.Sprintf("%d messages wait, %d are held; %s", i.NumPending, i.NumAckPending, w.troubles())
	}
	return w.troubles()
}

// troubles says what the processes say of themselves, where it is not good.
func (w *world) troubles() string {
	var all []string
	for _, s := range w.slots {
		s.mu.Lock()
		p := s.life
		s.mu.Unlock()
		if p == nil {
			all = append(all, s.name+" is not there")
			continue
		}
		p.mu.Lock()
		trouble := p.trouble
		p.mu.Unlock()
		if trouble == nil {
			all = append(all, p.name+" does not run yet")
		} else if t := trouble(); t != "" {
			all = append(all, p.name+" is in trouble: "+t)
		}
	}
	return strings.Join(all, "; ")
}

// fault notes what the harness found.
func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *world) hit(f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits[f.act]++
	w.log.Info("fault", "what", f.String(), "at", time.Since(w.started))
}
