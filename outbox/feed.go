package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
)

// feedGap is between two passes, however often it rings: a job that is done by
// itself has three events, and a pass each would be most of what it costs.
const feedGap = 5 * time.Millisecond

// subjectsKept is how many subjects a follower remembers.
const subjectsKept = 4096

// follower tells the EVENTS stream what happens to jobs. No event of a job is
// published before the one before it is confirmed, or else together with it in
// a batch that is stored whole or not at all.
type follower struct {
	relay    *Relay
	pub      *publisher
	wake     chan struct{}
	subjects map[subjectKey]string
	stream   []string // the header of every message
}

type subjectKey struct {
	scope events.Scope
	kind  events.Kind
	typ   events.Type
}

func newFollower(r *Relay, pub *publisher, wake chan struct{}) *follower {
	return &follower{relay: r, pub: pub, wake: wake, stream: []string{r.cfg.Streams.EventsStream()}}
}

// run tells until ctx ends.
func (f *follower) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var wait, failed time.Duration
	for ctx.Err() == nil {
		began := time.Now()
		told, more, err := f.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		f.relay.trouble(ctx, "feed", err)
		switch {
		case err != nil:
			failed = min(max(2*failed, retryFirst), retryMax)
			wait = failed
		case more:
			failed, wait = 0, 0
			continue
		case told > 0:
			failed, wait = 0, f.relay.cfg.PollMin
		default:
			failed, wait = 0, min(max(2*wait, firstReadWait), f.relay.cfg.PollMax)
		}
		timer.Reset(jitter(wait))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-f.wake:
			if err == nil { // a ring does not heal a broker
				wait = feedGap - time.Since(began)
			}
			_ = pause(ctx, wait)
			wait = 0
		}
	}
}

// pass tells one read of the feed. more says that there is another one.
func (f *follower) pass(ctx context.Context) (told int, more bool, err error) {
	limit := f.relay.cfg.Batch
	fresh, err := f.relay.feed.Fresh(ctx, limit)
	if err != nil {
		return 0, false, wrap("read the feed", err)
	}
	kept := map[int64]bool{} // rows with an event that was not told
	var failed int
	for some := range slices.Chunk(fresh, limit) { // the last row may have brought more
		if err != nil { // a later event of a job must not go before an earlier one
			for _, e := range some {
				kept[e.Row] = true
			}
			failed += len(some)
			continue
		}
		var n int
		n, err = f.tell(ctx, some, kept)
		failed += n
	}
	if err != nil {
		err = fmt.Errorf("tell %d of %d events: %w", failed, len(fresh), err)
		if isGone(err) {
			_ = pause(ctx, goneGrace) // it ends early only with ctx
			ensureCtx, cancel := context.WithTimeout(ctx, f.pub.timeout)
			defer cancel()
			if e := Ensure(ensureCtx, f.pub.js, f.relay.cfg.Streams); e != nil {
				err = e
			}
		}
	}
	var rows []int64
	for _, e := range fresh {
		if !kept[e.Row] && (len(rows) == 0 || rows[len(rows)-1] != e.Row) {
			rows = append(rows, e.Row)
		}
	}
	if len(rows) > 0 {
		if e := f.relay.feed.Told(ctx, rows); e != nil {
			return 0, false, wrap("take from the feed", e)
		}
		f.relay.count(func(s *State) { s.Told += uint64(len(fresh) - failed) })
	}
	return len(rows), err == nil && len(fresh) >= limit, err
}

// tell publishes some events. It adds to kept the rows of those that failed,
// counts them, and gives the worst of their errors.
func (f *follower) tell(ctx context.Context, some []events.FeedEvent, kept map[int64]bool) (failed int, err error) {
	msgs := make([]*nats.Msg, len(some))
	for i, e := range some {
		if msgs[i], err = f.msg(e); err != nil {
			for _, e := range some {
				kept[e.Row] = true
			}
			return len(some), err
		}
	}
	acks := f.publish(ctx, some, msgs)
	fault.At("feed.published")
	for i, a := range acks {
		switch {
		case a.err == nil:
		case isRefused(a.err): // the history has it; to wait would hold up everything behind it
			f.relay.cfg.Log.ErrorContext(ctx, "broker refuses an event",
				"job", string(some[i].Event.Job), "version", some[i].Event.Version, "error", a.err.Error())
		default:
			kept[some[i].Row] = true
			failed++
			if err == nil || isGone(a.err) {
				err = a.err
			}
		}
	}
	return failed, err
}

// publish tries all at once, and otherwise goes in waves: the n-th wave has
// each job's n-th event, without the jobs whose last one failed.
func (f *follower) publish(ctx context.Context, fresh []events.FeedEvent, msgs []*nats.Msg) []ack {
	ctx, cancel := context.WithTimeout(ctx, f.pub.timeout)
	defer cancel()
	if f.pub.batches(len(msgs)) {
		if acks, err := f.pub.batch(ctx, msgs); err == nil {
			return acks
		}
	}
	acks := make([]ack, len(msgs))
	wave := make([]int, len(msgs)) // :: message → its event's place among its job's
	count := map[events.ID]int{}
	last := 0
	for i, e := range fresh {
		wave[i] = count[e.Event.Job]
		count[e.Event.Job]++
		last = max(last, wave[i])
	}
	failed := map[events.ID]error{}
	for n := range last + 1 {
		var some []*nats.Msg
		var at []int
		for i := range msgs {
			if wave[i] != n {
				continue
			}
			if err := failed[fresh[i].Event.Job]; err != nil {
				acks[i].err = fmt.Errorf("the event before it: %w", err)
				continue
			}
			some, at = append(some, msgs[i]), append(at, i)
		}
		for k, a := range f.pub.singly(ctx, some) {
			acks[at[k]] = a
			if a.err != nil && !isRefused(a.err) {
				failed[fresh[at[k]].Event.Job] = a.err
			}
		}
	}
	return acks
}

func (f *follower) msg(e events.FeedEvent) (*nats.Msg, error) {
	m := message(e)
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("event %d of job %s: %w", m.Version, m.Job, err) // a year beyond 9999
	}
	return &nats.Msg{
		Subject: f.subject(e),
		Data:    body,
		Header: nats.Header{
			jetstream.MsgIDHeader:          {m.MsgID()},
			jetstream.ExpectedStreamHeader: f.stream,
			HeaderJob:                      {string(m.Job)},
			HeaderVersion:                  {strconv.Itoa(m.Version)},
			HeaderType:                     {string(m.Type)},
		},
	}, nil
}

func (f *follower) subject(e events.FeedEvent) string {
	key := subjectKey{e.Scope, e.Kind, e.Event.Type}
	s, ok := f.subjects[key]
	if !ok {
		if len(f.subjects) >= subjectsKept || f.subjects == nil {
			f.subjects = map[subjectKey]string{}
		}
		s = f.relay.cfg.Streams.EventSubject(e.Scope, e.Kind, e.Event.Type)
		f.subjects[key] = s
	}
	return s
}
