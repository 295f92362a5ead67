package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
)

const (
	// feedGap is between two passes, however often it rings: a job that is done
	// by itself has three events, and a pass each would be most of what it costs.
	// Where more happens it is longer, up to feedGapMost for a busy system: then
	// a pass tells some hundreds of events, and costs as much as one of twenty.
	feedGap     = 5 * time.Millisecond
	feedGapMost = 25 * time.Millisecond
	feedGapOf   = 16 // events in the pass before that make it longer by feedGap
	// quietFeed is how long the feed is left alone after something was told, by
	// a follower that is woken when there is more.
	quietFeed = 100 * time.Millisecond
	// tellAtOnce is how many messages are published before the rows that they
	// tell of are taken away. What is told again after a crash is within it, and
	// so is what a follower that comes back has to look at (see followBack).
	tellAtOnce = 128
	// feedBatches is how many batches of the relay's a pass reads at most: here a
	// unit is a line, there it is a message.
	feedBatches = 5
	// mostEvents is how many events a message has at most: a message costs what
	// writing a hundred events does, and a follower reads whole ones.
	mostEvents = 256
	// roomEvents is how many bytes several events have in a message: with its
	// headers it is within MaxEvent.
	roomEvents = MaxEvent - roomForHeaders
)

// follower tells the EVENTS stream what happens to jobs: the events of a row
// of the feed, which share a subject, as one message or as few as they fit in.
// All messages are put on the stream in the order of the feed, so no event of
// a job comes before an earlier one.
type follower struct {
	relay  *Relay
	pub    *publisher
	wake   chan struct{}
	look   <-chan struct{} // holds a value when the relay is awake for its own idle look; nil: it never is
	stream []string        // the header of every message
}

// letter is a message and what it tells.
type letter struct {
	msg   *nats.Msg
	row   *events.FeedRow
	from  int // its events in the row, at least one
	to    int // behind them
	whole int // if it is the last one of its place in the feed, how many events stand there; else 0
}

func newFollower(r *Relay, pub *publisher, wake, look chan struct{}) *follower {
	return &follower{relay: r, pub: pub, wake: wake, look: look, stream: []string{r.cfg.Streams.EventsStream()}}
}

// run tells until ctx ends.
func (f *follower) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var wait, failed time.Duration
	for ctx.Err() == nil {
		began := time.Now()
		told, more, err := f.pass(ctx)
		gap := min(time.Duration(1+told/feedGapOf)*feedGap, feedGapMost)
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
			failed, wait = 0, max(f.relay.cfg.PollMin, gap-time.Since(began))
			if f.relay.cfg.WakeFeed != nil { // what comes next rings
				wait = max(wait, quietFeed)
			}
		default:
			failed, wait = 0, min(max(2*wait, firstReadWait), f.relay.cfg.PollMax)
		}
		late := wait
		if wait == f.relay.cfg.PollMax { // an idle relay looks before that, and wakes for both at once
			late += wait / 2
		}
		timer.Reset(jitter(late))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-f.look:
		case <-f.wake:
			if err == nil { // a ring does not heal a broker
				wait = gap - time.Since(began)
			}
			_ = pause(ctx, wait)
			wait = 0
		}
	}
}

// pass tells one read of the feed. more says that there is another one.
func (f *follower) pass(ctx context.Context) (told int, more bool, err error) {
	limit := feedBatches * f.relay.cfg.Batch
	fresh, err := f.relay.feed.Fresh(ctx, limit)
	if err != nil {
		return 0, false, wrap("read the feed", err)
	}
	all := 0
	for i := range fresh {
		all += len(fresh[i].Jobs)
	}
	for some := range slices.Chunk(f.letters(fresh), tellAtOnce) {
		n, err := f.publish(ctx, some)
		fault.At("feed.published")
		var rows []int64
		whole := 0
		for _, l := range some[:n] {
			if l.whole > 0 {
				rows, whole = append(rows, l.row.Row), whole+l.whole
			}
		}
		if len(rows) > 0 {
			if err := f.relay.feed.Told(ctx, rows); err != nil {
				return told, false, wrap("take from the feed", err)
			}
			told += whole
			f.relay.count(func(s *State) { s.Told += uint64(whole) })
		}
		if err != nil {
			return told, false, f.failed(ctx, fmt.Errorf("tell %d of %d events: %w", all-told, all, err))
		}
	}
	return told, all >= limit, nil
}

// failed makes the streams again if that is what is wrong.
func (f *follower) failed(ctx context.Context, err error) error {
	if !isGone(err) {
		return err
	}
	_ = pause(ctx, goneGrace) // it ends early only with ctx
	ensureCtx, cancel := context.WithTimeout(ctx, f.pub.timeout)
	defer cancel()
	if e := Ensure(ensureCtx, f.pub.js, f.relay.cfg.Streams); e != nil {
		return e
	}
	return err
}

// letters puts events into messages. What a row comes to is always the same,
// so that the stream drops what is told again.
func (f *follower) letters(fresh []events.FeedRow) []letter {
	all := make([]letter, 0, len(fresh))
	whole := 0
	for i := range fresh {
		row := &fresh[i]
		whole += len(row.Jobs)
		for from := 0; from < len(row.Jobs); from = all[len(all)-1].to {
			all = append(all, f.letter(row, from, len(row.Jobs)))
		}
		if i+1 == len(fresh) || fresh[i+1].Row != row.Row {
			all[len(all)-1].whole, whole = whole, 0
		}
	}
	return all
}

// letter is a message of as many of these events of a row as fit.
func (f *follower) letter(row *events.FeedRow, from, to int) letter {
	room := roomEvents
	if most := int(f.pub.js.Conn().MaxPayload()); most > 0 {
		room = min(room, most-roomForHeaders)
	}
	first := row.At(from)
	e, most := &first.Event, min(to, from+mostEvents)
	body := appendEvent(nil, &first)
	body = slices.Grow(body, (most-from-1)*(len(e.Job)+16))
	for to = from + 1; to < most; to++ {
		before := len(body)
		if body = appendNext(append(body, '\n'), row, to); len(body) > room {
			body = body[:before]
			break
		}
	}
	header := nats.Header{jetstream.ExpectedStreamHeader: f.stream, HeaderType: {string(e.Type)}}
	if to == from+1 {
		header[jetstream.MsgIDHeader] = []string{string(appendName(nil, e.Job, e.Version))}
		header[HeaderJob] = []string{string(e.Job)}
		header[HeaderVersion] = []string{strconv.Itoa(e.Version)}
	} else {
		sum := sha256.Sum256(body)
		header[jetstream.MsgIDHeader] = []string{base64.RawURLEncoding.EncodeToString(sum[:16])}
		header[HeaderEvents] = []string{strconv.Itoa(to - from)}
	}
	subject := f.relay.cfg.Streams.EventSubject(row.Scope, row.Kind, e.Type)
	return letter{msg: &nats.Msg{Subject: subject, Data: body, Header: header}, row: row, from: from, to: to}
}

// publish puts letters on the stream in their order, and says how many of the
// first ones are there, or never will be. Those behind a failed one wait.
func (f *follower) publish(ctx context.Context, letters []letter) (told int, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.pub.timeout)
	defer cancel()
	msgs := make([]*nats.Msg, len(letters))
	for i, l := range letters {
		msgs[i] = l.msg
	}
	if f.pub.ordered(len(msgs)) {
		if acks, err := f.pub.batch(ctx, msgs); err == nil {
			if err := acks[0].err; err != nil {
				return 0, err
			}
			return len(letters), nil
		}
	}
	if f.pub.chain(ctx, msgs) != nil {
		return len(letters), nil
	}
	for i, l := range letters { // what the stream has of them already, it drops by their ids
		if err := f.alone(ctx, l); err != nil {
			return i, err
		}
	}
	return len(letters), nil
}

// alone publishes a letter and waits for the answer. One that the broker never
// takes goes event by event, and an event that it never takes is left out: the
// history has it, and to wait would hold up everything behind it.
func (f *follower) alone(ctx context.Context, l letter) error {
	err := f.pub.async(ctx, []*nats.Msg{l.msg})[0].err
	switch {
	case err == nil || !isRefused(err):
		return err
	case l.to == l.from+1:
		e := l.row.At(l.from).Event
		f.relay.cfg.Log.ErrorContext(ctx, "broker refuses an event", "job", string(e.Job), "version", e.Version, "error", err.Error())
		return nil
	}
	for i := l.from; i < l.to; i++ {
		if err := f.alone(ctx, f.letter(l.row, i, i+1)); err != nil {
			return err
		}
	}
	return nil
}
