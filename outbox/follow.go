package outbox

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
)

// Following says whom to follow and from where. Only Scope.Team has no
// default.
type Following struct {
	Streams Streams
	Scope   events.Scope  // an empty Project means all of the team's
	After   events.Cursor // where an earlier follower stopped; zero: from now on
	Beat    time.Duration // how often it makes sure that it misses nothing, and tells how far it is; default 15 s
	Log     *slog.Logger  // nil discards
}

const (
	followFirst   = 100 * time.Millisecond // before it tries again, doubled each time
	followMax     = 2 * time.Second
	followCall    = 2 * time.Second // for one question to the broker
	followIdle    = time.Minute     // after which the broker forgets a follower that is gone
	followBuffer  = 16              // messages that the broker sends ahead
	followBack    = 2 * tellAtOnce  // messages before the start that are read again to know a late copy
	versionsKept  = 10_000          // jobs whose last version a follower remembers, at least
	pullHeartbeat = 5 * time.Second
)

// Errors that end one consumer of a follower. The next one begins at the right place.
var (
	errSkipped = errors.New("a message did not arrive")
	errMoved   = errors.New("the stream was made anew or trimmed meanwhile")
)

// Follow tells what happens to the jobs of one tenant, in order, until ctx
// ends or tell gives an error, which is then its own. No event is told twice,
// none is left out without a [events.Heard] that says Reset, and none of
// another tenant is told, whatever its ids are. What tell is told first is
// where it starts, as soon as the broker answers; while the broker is away
// nothing is told, and later what was missed.
//
// A message may tell several events. Each has a place of its own, and a follower
// that comes back between two of them is told the rest.
//
// It holds one consumer of the broker, reads ahead by 16 messages, and waits
// while tell does not return.
func Follow(ctx context.Context, js jetstream.JetStream, cfg Following, tell func(events.Heard) error) error {
	if cfg.Scope.Team == "" {
		return errors.New("follow: no team given")
	}
	if cfg.Beat <= 0 {
		cfg.Beat = 15 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Streams = cfg.Streams.withDefaults()
	f := &following{cfg: cfg, js: js, at: cfg.After}
	f.tell = func(h events.Heard) error {
		if err := tell(h); err != nil {
			f.told = err
			return err
		}
		return nil
	}
	for wait := followFirst; ; wait = min(2*wait, followMax) {
		began := f.at
		err := f.consume(ctx)
		switch {
		case f.told != nil:
			return f.told
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		cfg.Log.DebugContext(ctx, "following again", "at", f.at.String(), "err", err)
		if f.at != began {
			wait = followFirst
		}
		if err := pause(ctx, jitter(wait)); err != nil {
			return err
		}
	}
}

// following is the state of one Follow. All of it belongs to its goroutine.
type following struct {
	cfg  Following
	js   jetstream.JetStream
	tell func(events.Heard) error
	told error // what tell answered; not nil ends all

	at       events.Cursor // all up to here was told
	started  bool          // the first word was said
	trimmed  bool          // messages were dropped that may not have been told
	sequence uint64        // of the consumer's last message
	checked  uint64        // where at was when check was last content
	versions versions
}

// subject is what the broker is asked for. Tokens may collide, so heard looks
// at the body as well.
func (f *following) subject() string {
	project := "*"
	if p := f.cfg.Scope.Project; p != "" {
		project = events.Token(p)
	}
	return f.cfg.Streams.subject("ev.") + events.Token(f.cfg.Scope.Team) + "." + project + ".>"
}

// consume makes a consumer at the right place, and hears it until something
// breaks. It is not the client's ordered consumer: that one would go on at the
// same number in a stream that is not the same.
func (f *following) consume(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, followCall)
	defer cancel()
	stream, err := f.js.Stream(asking, f.cfg.Streams.EventsStream())
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if err := f.begin(info); err != nil {
		return err
	}
	start := max(f.at.Seq+1, followBack+1) - followBack
	asking, cancel = context.WithTimeout(ctx, followCall) // begin may have taken long
	defer cancel()
	consumer, err := f.js.CreateConsumer(asking, f.cfg.Streams.EventsStream(), jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       max(start, info.State.FirstSeq),
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubjects:    []string{f.subject()},
		InactiveThreshold: followIdle,
		Replicas:          1,
		MemoryStorage:     true,
	})
	if err != nil {
		return err
	}
	defer f.forget(ctx, consumer)
	// Asked again: if it is still the same stream, the consumer is of it too.
	if info, err = stream.Info(asking); err != nil {
		return err
	}
	if info.Created.UnixNano() != f.at.Epoch || info.State.FirstSeq > f.at.Seq+1 {
		return errMoved
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(followBuffer),
		jetstream.PullHeartbeat(pullHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer messages.Stop()
	f.sequence, f.checked = 0, f.at.Seq
	for {
		if err := f.listen(ctx, messages); err != nil {
			return err
		}
		if err := f.check(ctx, stream); err != nil {
			return err
		}
	}
}

// begin compares the place to go on from with the stream as it is.
func (f *following) begin(info *jetstream.StreamInfo) error {
	first, last := info.State.FirstSeq, info.State.LastSeq
	h := events.Heard{At: events.CursorAt(info.Created, last)}
	switch {
	case f.at.IsZero():
	case f.trimmed, f.at.Epoch != h.At.Epoch, h.At.Before(f.at), f.at.Seq+1 < first:
		h.Reset = true
	case f.started:
		return nil
	default:
		h.At = f.at
	}
	if err := f.tell(h); err != nil {
		return err
	}
	f.at, f.started, f.trimmed = h.At, true, false
	return nil
}

// listen hears messages until the next check is due.
func (f *following) listen(ctx context.Context, messages jetstream.MessagesContext) error {
	beat, cancel := context.WithTimeout(ctx, f.cfg.Beat)
	defer cancel()
	for beat.Err() == nil {
		msg, err := messages.Next(jetstream.NextContext(beat))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && beat.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if err := f.hear(msg); err != nil {
			return err
		}
	}
	return nil
}

func (f *following) hear(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	if meta.Sequence.Consumer != f.sequence+1 {
		return errSkipped
	}
	f.sequence++
	at := events.Cursor{Epoch: f.at.Epoch, Seq: meta.Sequence.Stream - 1}
	var read lines
	for rest, more := msg.Data(), true; more; {
		var line []byte
		line, rest, more = bytes.Cut(rest, newline)
		from := at
		if at.Part++; !more {
			at.Seq, at.Part = meta.Sequence.Stream, 0
		}
		m, _ := read.next(line) // others may publish there what we cannot read: that is nobody's
		if err := f.hearEvent(&m, from, at); err != nil {
			return err
		}
	}
	return nil
}

// hearEvent hears what is between two places.
func (f *following) hearEvent(m *EventMessage, from, at events.Cursor) error {
	s := f.cfg.Scope
	ours := m.Team == s.Team && (s.Project == "" || m.Project == s.Project)
	fresh := f.at.Before(at) // one from before the start is heard for its version alone
	if ours && f.versions.rises(m.Job, m.Version) && fresh {
		if err := f.tell(events.Heard{At: at, Event: new(m.feedEvent()), From: from}); err != nil {
			return err
		}
	}
	if fresh {
		f.at = at
	}
	return nil
}

// check makes sure that it is still the same stream, and that nothing was
// dropped before it was told. Then it tells how far the stream has come: a
// tenant where nothing happens would otherwise stay at a place that is dropped
// one day.
func (f *following) check(ctx context.Context, stream jetstream.Stream) error {
	asking, cancel := context.WithTimeout(ctx, followCall)
	defer cancel()
	info, err := stream.Info(asking)
	if err != nil {
		return err
	}
	if info.Created.UnixNano() != f.at.Epoch {
		return errMoved
	}
	if info.State.FirstSeq > f.checked+1 {
		f.trimmed = true
		return errMoved
	}
	// All up to where the stream was then is told if the last one for us is. A
	// broker that lets others than the leader answer may not know it yet.
	if far := info.State.LastSeq; far > f.at.Seq && !info.Config.AllowDirect {
		last, err := stream.GetLastMsgForSubject(asking, f.subject())
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound), err == nil && last.Sequence <= f.at.Seq:
			f.at.Seq, f.at.Part = far, 0
			if err := f.tell(events.Heard{At: f.at}); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	f.checked = f.at.Seq
	return nil
}

// forget saves the broker from keeping the consumer until it is idle.
func (f *following) forget(ctx context.Context, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// Whatever goes wrong, the broker drops it by itself.
	_ = f.js.DeleteConsumer(ctx, f.cfg.Streams.EventsStream(), consumer.CachedInfo().Name)
}

// feedEvent is what the event was told from, but for what stays at home.
func (m EventMessage) feedEvent() events.FeedEvent {
	return events.FeedEvent{
		Scope: events.Scope{Team: m.Team, Project: m.Project}, Kind: m.Kind,
		Event: events.Event{
			Job: m.Job, Version: m.Version, Type: m.Type, Status: m.Status, Attempt: m.Attempt, At: m.At,
			NextAt: m.NextAt, Reason: m.Reason, RequestID: m.RequestID, Process: m.Process,
		},
	}
}

// versions remembers the last version of the jobs that were heard of lately:
// those of a job only rise, so one that does not is a copy.
type versions struct{ young, old map[events.ID]int }

func (v *versions) rises(job events.ID, version int) bool {
	last, ok := v.young[job]
	if !ok {
		last = v.old[job]
	}
	if version <= last {
		return false
	}
	if len(v.young) >= versionsKept || v.young == nil {
		v.young, v.old = map[events.ID]int{}, v.young
	}
	v.young[job] = version
	return true
}
