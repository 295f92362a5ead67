package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	json "github.com/go-json-experiment/json/v1" // as encoding/json reads, in a third of the time
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
)

// Handler does one attempt of one job, and returns what is left to write: a
// nil Commit means nothing. The context ends when the attempt is not worth
// going on with; its cause is one of ErrTimeout, ErrDraining, ErrLeaseLost,
// ErrSuperseded and ErrTaken. A panic is an error.
type Handler = func(ctx context.Context, job events.Job) (Commit, error)

// Worker does the jobs of the kinds it was given handlers for.
type Worker struct {
	ledger Ledger
	js     jetstream.JetStream
	cfg    Config
	holder events.Holder
	began  time.Time
	lanes  []*lane
	lease  lease
	ran    atomic.Bool

	halt  atomic.Pointer[error] // &ErrLeaseLost or &ErrDraining while no handler should go on
	open  atomic.Int64          // attempts in hand
	quiet chan struct{}         // told when open comes to zero
}

// New makes a worker. Give it handlers with [Handle], then call Run.
func New(ledger Ledger, js jetstream.JetStream, cfg Config) *Worker {
	cfg = cfg.withDefaults()
	cfg.Log = cfg.Log.With("worker", cfg.ID)
	return &Worker{
		ledger: ledger,
		js:     js,
		cfg:    cfg,
		holder: events.Holder{ID: cfg.ID, Name: cfg.Name, Build: cfg.Build, Slots: map[events.Kind]int{}},
		began:  time.Now(),
		quiet:  make(chan struct{}, 1),
	}
}

// Handle makes h the handler of a kind. The job's Args are read into A as
// JSON; those that do not fit fail the job for good, and none at all leave A
// zero. It must be called before Run, and panics when the kind has a handler.
func Handle[A any](w *Worker, kind events.Kind, h func(ctx context.Context, job events.Job, args A) (Commit, error), opts ...Option) {
	w.handle(kind, func(ctx context.Context, job events.Job) (Commit, error) {
		var args A
		if len(bytes.TrimSpace(job.Args)) > 0 {
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return nil, Permanent(fmt.Errorf("args: %w", err))
			}
		}
		return h(ctx, job, args)
	}, opts)
}

func (w *Worker) handle(kind events.Kind, h Handler, opts []Option) {
	if w.ran.Load() {
		panic(fmt.Sprintf("pipeline: the handler of %q comes after Run", kind))
	}
	if slices.ContainsFunc(w.lanes, func(l *lane) bool { return l.kind == kind }) {
		panic(fmt.Sprintf("pipeline: two handlers of %q", kind))
	}
	lane := newLane(w, kind, w.cfg.lane(kind, opts), h)
	if lane.cfg.Slots > 0 {
		w.lanes = append(w.lanes, lane)
		w.holder.Slots[kind] = lane.cfg.Slots
	}
}

// Run works until ctx is done. Then it takes nothing new, lets the handlers
// that run finish within Config.Grace, ends the context of those that do not,
// gives their jobs back, and returns: nil when nothing was left behind. It
// returns at most half the grace and three seconds after it, also when handlers
// and the ledger do not answer. A Worker runs once.
//
// A ledger or a broker that does not answer is waited for.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return errors.New("run a worker: it ran before")
	}
	// What was begun has to be finished after ctx is done: this is the only
	// place where its end is not passed on.
	work, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	defer w.lease.stop()
	if !w.greet(ctx, work) {
		return w.leave(context.WithoutCancel(ctx))
	}

	var fetchers, others sync.WaitGroup
	others.Go(func() { w.renew(work) })
	for _, l := range w.lanes {
		for range l.fetchers() {
			fetchers.Go(func() { (&fetcher{lane: l, seen: map[events.ID]int{}}).fetchLoop(ctx, work) })
		}
		others.Go(func() { l.keepAlive(work) })
		for range settlers {
			others.Go(func() { l.settleLoop(work) })
		}
	}
	fetched := make(chan struct{})
	go func() {
		fetchers.Wait()
		close(fetched)
	}()

	<-ctx.Done()
	w.cfg.Log.InfoContext(work, "draining", "active", w.open.Load(), "grace", w.cfg.Grace)
	left := w.drain(fetched)
	giveUp(ErrDraining)
	<-fetched
	others.Wait()
	err := w.leave(context.WithoutCancel(ctx))
	if left > 0 {
		err = errors.Join(fmt.Errorf("drain: %d attempts are not settled, they will be reclaimed", left), err)
	}
	return err
}

// hurry is how long handlers have to return once their context has ended, and
// then how long the ledger has to take what came of it.
func (w *Worker) hurry() time.Duration { return max(w.cfg.Grace/5, 500*time.Millisecond) }

// drain waits until nothing is in hand, with more and more force, and returns
// how many attempts it had to leave.
func (w *Worker) drain(fetched <-chan struct{}) int64 {
	if w.idle(fetched, w.cfg.Grace) {
		return 0
	}
	w.halt.Store(&ErrDraining)
	w.cancelAll(ErrDraining)
	if w.idle(fetched, w.hurry()) {
		return 0
	}
	for _, l := range w.lanes { // those that do not listen
		for _, a := range l.inHand() {
			a.finish(nil, fmt.Errorf("the handler does not stop: %w", ErrDraining))
		}
	}
	w.idle(fetched, w.hurry())
	return w.open.Load()
}

// idle waits until nothing more comes and nothing is in hand.
func (w *Worker) idle(fetched <-chan struct{}, most time.Duration) bool {
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-fetched:
	case <-late.C:
		return false
	}
	for w.open.Load() > 0 {
		select {
		case <-w.quiet:
		case <-late.C:
			return false
		}
	}
	return true
}

// leave says goodbye, so that what was left is reclaimed at once and not
// after the lease.
func (w *Worker) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var err error
	if e := w.ledger.Gone(ctx, w.holder); e != nil {
		err = fmt.Errorf("say that worker %s is gone: %w", w.holder.ID, e)
	}
	// The acks are on their way, a lost one only costs a redelivery.
	if e := w.js.Conn().FlushWithContext(ctx); e != nil {
		w.cfg.Log.WarnContext(ctx, "acks may be lost", "err", e)
	}
	return err
}

// cancelAll ends the context of every attempt in hand. The caller has set
// halt, for those that are just being begun.
func (w *Worker) cancelAll(cause error) {
	for _, l := range w.lanes {
		for _, a := range l.inHand() {
			a.cancel(cause)
		}
	}
}

// closed counts down the attempts in hand.
func (w *Worker) closed(n int) {
	if w.open.Add(-int64(n)) == 0 {
		select {
		case w.quiet <- struct{}{}:
		default:
		}
	}
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

// trouble is a wait that grows: 50 ms, doubled each time, up to longest.
func trouble(tries int, longest time.Duration) time.Duration {
	return min(50*time.Millisecond<<min(tries, 16), longest)
}
