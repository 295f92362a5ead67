package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
)

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
}

type subjectKey struct {
	scope events.Scope
	kind  events.Kind
	typ   events.Type
}

// run tells until ctx ends.
func (f *follower) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var wait, failed time.Duration
	for ctx.Err() == nil {
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
			if err != nil {
				_ = pause(ctx, wait) // a ring does not heal a broker
			}
			wait = 0
		}
	}
}

// pass tells one batch. more says that there is another one.
func (f *follower) pass(ctx context.Context) (told int, more bool, err error) {
	limit := f.relay.cfg.Batch
	fresh, err := f.relay.feed.Fresh(ctx, limit)
	if err != nil {
		return 0, false, wrap("read the feed", err)
	}
	if len(fresh) == 0 {
		return 0, false, nil
	}
	msgs := make([]*nats.Msg, len(fresh))
	stream := []string{f.relay.cfg.Streams.EventsStream()}
	for i, e := range fresh {
		if msgs[i], err = f.msg(e, stream); err != nil {
			return 0, false, err
		}
	}
	acks := f.publish(ctx, fresh, msgs)
	fault.At("feed.published")
	var rows []int64
	for i, a := range acks {
		switch {
		case a.err == nil:
			rows = append(rows, fresh[i].Row)
		case isRefused(a.err): // the history has it; to wait would hold up everything behind it
			rows = append(rows, fresh[i].Row)
			f.relay.cfg.Log.ErrorContext(ctx, "broker refuses an event",
				"job", string(fresh[i].Event.Job), "version", fresh[i].Event.Version, "error", a.err.Error())
		case err == nil || isGone(a.err):
			err = a.err
		}
	}
	if err != nil {
		err = fmt.Errorf("tell %d of %d events: %w", len(fresh)-len(rows), len(fresh), err)
		if isGone(err) {
			_ = pause(ctx, goneGrace) // it ends early only with ctx
			ensureCtx, cancel := context.WithTimeout(ctx, f.pub.timeout)
			defer cancel()
			if e := Ensure(ensureCtx, f.pub.js, f.relay.cfg.Streams); e != nil {
				err = e
			}
		}
	}
	if len(rows) > 0 {
		if e := f.relay.feed.Told(ctx, rows); e != nil {
			return 0, false, wrap("take from the feed", e)
		}
		f.relay.count(func(s *State) { s.Told += uint64(len(rows)) })
	}
	return len(rows), err == nil && len(fresh) == limit, err
}

// publish tries all at once, and otherwise goes in waves: the n-th wave has
// each job's n-th event, without the jobs whose last one failed.
func (f *follower) publish(ctx context.Context, fresh []events.FeedEvent, msgs []*nats.Msg) []ack {
	ctx, cancel := context.WithTimeout(ctx, f.pub.timeout)
	defer cancel()
	if len(msgs) == 1 {
		return f.pub.publish(ctx, msgs)
	}
	if f.pub.batches() {
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
		for k, a := range f.pub.async(ctx, some) {
			acks[at[k]] = a
			if a.err != nil && !isRefused(a.err) {
				failed[fresh[at[k]].Event.Job] = a.err
			}
		}
	}
	return acks
}

func (f *follower) msg(e events.FeedEvent, stream []string) (*nats.Msg, error) {
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
			jetstream.ExpectedStreamHeader: stream,
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
