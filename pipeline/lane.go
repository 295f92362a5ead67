package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
)

const (
	maxBatch    = 500              // attempts claimed or settled in one transaction
	settlers    = 2                // transactions that settle a lane's attempts at once
	callTimeout = 30 * time.Second // for one transaction
)

// lane does the jobs of one kind. A slot is taken before a message is asked
// for, and freed when the attempt is settled: so nothing waits in memory
// while its AckWait runs, and a ledger that is away stops the fetching.
type lane struct {
	w      *Worker
	kind   events.Kind
	cfg    Lane
	handle Handler
	free   *slots
	done   *ended

	breaker *breaker
	runners runners

	collecting chan struct{} // has room for the settler that collects
	pace       pace          // belongs to whoever collects
	storing    atomic.Int64  // transactions under way, or about to be
	stored     chan struct{} // told when one has ended
	handling   atomic.Int64  // attempts whose handler has not returned
	ackWait    atomic.Int64  // of the consumer, in nanoseconds
	changed    chan struct{} // told when ackWait changes

	mu      sync.Mutex
	running map[events.ID]*attempt // begun and not settled
	watched bool                   // somebody looks for brief ones that are not finished in time
	counts  counts
}

func newLane(w *Worker, kind events.Kind, cfg Lane, h Handler) *lane {
	l := &lane{w: w, kind: kind, cfg: cfg, handle: h, breaker: newBreaker(w.cfg.Breaker), running: map[events.ID]*attempt{}}
	l.free, l.done = newSlots(max(cfg.Slots, 0)), newEnded()
	l.ackWait.Store(int64(callTimeout))
	l.changed, l.stored, l.collecting = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	return l
}

// fetchers is how many pulls may be under way: two where there are slots
// enough that one batch can be claimed while the next one is on its way.
func (l *lane) fetchers() int {
	if l.cfg.Slots >= maxBatch/2 {
		return 2
	}
	return 1
}

// fetcher is one of those who bring a lane's messages in.
type fetcher struct {
	*lane
	deliveries []delivery // room for those of a batch
	envelopes  []events.Envelope
	seen       map[events.ID]int
}

// fetchLoop brings messages in until ctx is done. What is wrong with the
// broker is waited out: making streams and consumers is not our work.
func (l *fetcher) fetchLoop(ctx, work context.Context) {
	log := l.w.cfg.Log.With("kind", l.kind)
	var consumer jetstream.Consumer
	for tries := 0; ; {
		n := l.free.take(ctx)
		if n == 0 {
			return
		}
		if !l.w.lease.wait(ctx) {
			l.free.give(n)
			return
		}
		admitted, rest := l.breaker.admit(ctx, n)
		l.free.give(n - admitted)
		if admitted == 0 {
			return
		}
		var err error
		if consumer == nil {
			consumer, err = l.consumer(ctx)
		}
		begun := 0
		if err == nil {
			begun, err = l.fetch(ctx, work, consumer, admitted, rest)
		} else {
			l.free.give(admitted)
		}
		if rest == nil && begun == 0 {
			if l.breaker.untried(err == nil && ctx.Err() == nil) {
				log.InfoContext(ctx, "the lane has rested, and there is no job to try with")
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			consumer = nil
			l.broken(err)
			if tries == 0 {
				log.WarnContext(ctx, "the lane has no messages to take", "err", err)
			}
			if !pause(ctx, trouble(tries, 2*time.Second)) {
				return
			}
			tries++
		case tries > 0:
			tries = 0
			l.broken(nil)
			log.InfoContext(ctx, "the lane works again")
		}
	}
}

func (l *lane) consumer(ctx context.Context) (jetstream.Consumer, error) {
	name := l.w.cfg.Consumer(l.kind)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := l.w.js.Consumer(ctx, l.w.cfg.Stream, name)
	if err != nil {
		return nil, fmt.Errorf("consumer %s of stream %s: %w", name, l.w.cfg.Stream, err)
	}
	if wait := int64(c.CachedInfo().Config.AckWait); wait > 0 && l.ackWait.Swap(wait) != wait {
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
	return c, nil
}

// fetch asks for n messages, for which the caller has taken slots, and begins
// them as they come: those that are there together are claimed together. It
// gives back the slots that it had no use for, and says how many it begun.
// When the lane comes to rest it takes no more.
func (l *fetcher) fetch(ctx, work context.Context, c jetstream.Consumer, n int, rest <-chan struct{}) (begun int, err error) {
	unused := n
	defer func() { l.free.give(unused) }()
	// The deadline is the pull's expiry and a tenth of it.
	pull, cancel := context.WithTimeout(ctx, together(time.Since(l.w.began), 5*l.w.cfg.Heartbeat))
	defer cancel()
	if rest != nil {
		go func() {
			select {
			case <-rest:
				cancel()
			case <-pull.Done():
			}
		}()
	}
	batch, err := c.Fetch(n, jetstream.FetchContext(pull), jetstream.FetchHeartbeat(l.w.cfg.Heartbeat))
	if err != nil {
		return 0, fmt.Errorf("pull: %w", err)
	}
	msgs := batch.Messages()
	for first := range msgs {
		got := gather(first, msgs)
		if len(got) < unused {
			got = l.restOf(got, unused, msgs)
		}
		unused -= len(got)
		if over(rest) {
			l.putBack(work, got)
			continue
		}
		begun += l.begin(ctx, work, got)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && !over(rest) {
		return begun, fmt.Errorf("pull: %w", err)
	}
	return begun, nil
}

// restOf waits for the messages that the broker has and that were asked for:
// they come one after the other, and are worth being claimed together. Where
// there are few, another pull may have got them.
func (l *lane) restOf(got []jetstream.Msg, asked int, more <-chan jetstream.Msg) []jetstream.Msg {
	meta, err := got[len(got)-1].Metadata()
	if err != nil {
		return got
	}
	most := len(got) + int(min(meta.NumPending, uint64(maxBatch)))
	long := linger
	if meta.NumPending >= uint64(l.cfg.Slots) { // there are enough for all who ask
		long = lingerBy
	}
	return gatherMore(got, min(most, asked), more, long, nil)
}

// gatherMore takes what comes until there are most, or enough is told, and not
// for longer than that.
func gatherMore[T any](got []T, most int, more <-chan T, long time.Duration, enough <-chan struct{}) []T {
	if len(got) >= most {
		return got
	}
	late := time.NewTimer(long)
	defer late.Stop()
	for len(got) < min(most, maxBatch) {
		select {
		case v, ok := <-more:
			if !ok {
				return got
			}
			got = append(got, v)
		case <-enough:
			return got
		case <-late.C:
			return got
		}
	}
	return got
}

// together is about as long as usual, and ends for all lanes at the same time:
// then their pulls are made together, and the broker and we wake once for the
// heartbeats of all.
func together(now, usual time.Duration) time.Duration {
	left := usual - now%usual
	if left < usual/2 {
		left += usual
	}
	return left
}

func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// gather takes what is there without waiting for more.
func gather[T any](first T, more <-chan T) []T {
	got := []T{first}
	for len(got) < maxBatch {
		select {
		case v, ok := <-more:
			if !ok {
				return got
			}
			got = append(got, v)
		default:
			return got
		}
	}
	return got
}

// keepAlive tells the broker about the messages in hand, well within their
// AckWait, until ctx is done.
func (l *lane) keepAlive(ctx context.Context) {
	every := func() time.Duration { return max(time.Duration(l.ackWait.Load())/3, time.Millisecond) }
	tick := time.NewTicker(every())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			lost := l.w.halt.Load() == &ErrLeaseLost
			for _, a := range l.inHand() {
				// Without a lease, what the ledger does not know of is for others.
				if m, brief := a.message(); !brief || !lost {
					l.inProgress(ctx, m)
				}
			}
		case <-l.changed:
			tick.Reset(every())
		case <-ctx.Done():
			return
		}
	}
}

func (l *lane) inProgress(ctx context.Context, m jetstream.Msg) {
	if err := m.InProgress(); err != nil {
		l.w.cfg.Log.DebugContext(ctx, "a message may be delivered again", "kind", l.kind, "err", err)
	}
}

// inHand lists the attempts that are begun and not settled.
func (l *lane) inHand() []*attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	as := make([]*attempt, 0, len(l.running))
	for _, a := range l.running {
		as = append(as, a)
	}
	return as
}
