package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/events"
)

// streamSchema is the version of the settings below. A program leaves alone
// what a newer one has written, so that two versions do not fight.
const streamSchema = 1

const schemaKey = "obs.schema"

// roomForHeaders is what an envelope's headers take on the job stream, with
// room for those of a batch.
const roomForHeaders = 1 << 10

// ErrRetention says that a stream of ours exists with another retention. It
// is not changed: that would drop messages or forbid consumers, so a person
// decides.
var ErrRetention = errors.New("the stream has another retention")

// errCodeNoStorage is nats-server's JSStorageResourcesExceededErr, which
// nats.go has no name for.
const errCodeNoStorage jetstream.ErrorCode = 10047

// raced is how often Ensure reads again after somebody else was faster.
const raced = 10

// Ensure makes the streams and consumers, or brings those that exist to these
// settings. What is as it should be is not touched, and neither are settings
// that we have no opinion on. It may run in many processes at once.
func Ensure(ctx context.Context, js jetstream.JetStream, s Streams) error {
	s = s.withDefaults()
	if s.Prefix != "" && events.Token(s.Prefix) != s.Prefix {
		return fmt.Errorf("streams: prefix %q: want letters, digits, '_' and '-'", s.Prefix)
	}
	for _, want := range []jetstream.StreamConfig{s.jobs(), s.events()} {
		if err := ensureStream(ctx, js, want); err != nil {
			return err
		}
	}
	for _, kind := range s.Kinds {
		if err := ensureConsumer(ctx, js, s, kind); err != nil {
			return err
		}
	}
	return nil
}

func (s Streams) jobs() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               s.JobsStream(),
		Description:        "one message is one attempt of one job; the store can fill it again",
		Subjects:           []string{s.subject("jobs.>")},
		Retention:          jetstream.WorkQueuePolicy,
		Discard:            jetstream.DiscardNew, // a refusal makes the relay wait, a drop would lose a job
		MaxMsgs:            s.JobsMaxMsgs,
		MaxBytes:           s.JobsMaxBytes,
		MaxMsgSize:         events.MaxEnvelope + roomForHeaders,
		Storage:            s.Storage,
		Replicas:           s.Replicas,
		Duplicates:         s.DuplicateWindow,
		AllowAtomicPublish: true,
		Metadata:           map[string]string{schemaKey: strconv.Itoa(streamSchema)},
	}
}

func (s Streams) events() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               s.EventsStream(),
		Description:        "what happens to jobs: ev.<team>.<project>.<kind>.<type>",
		Subjects:           []string{s.subject("ev.>")},
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardOld,
		MaxMsgs:            -1,
		MaxBytes:           s.EventsMaxBytes,
		MaxAge:             s.EventsMaxAge,
		MaxMsgSize:         MaxEvent,
		Storage:            s.Storage,
		Replicas:           s.Replicas,
		Duplicates:         min(s.DuplicateWindow, s.EventsMaxAge), // the server refuses a longer one
		AllowAtomicPublish: true,
		Compression:        jetstream.S2Compression,
		DenyDelete:         true,
		DenyPurge:          true,
		Metadata:           map[string]string{schemaKey: strconv.Itoa(streamSchema)},
	}
}

func (s Streams) consumer(kind events.Kind) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name:          s.Consumer(kind),
		Durable:       s.Consumer(kind),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.AckWait,
		MaxDeliver:    -1, // at a limit the message would stay for ever, delivered to nobody
		MaxAckPending: s.MaxAckPending,
		FilterSubject: s.JobSubject(kind),
		Metadata:      map[string]string{schemaKey: strconv.Itoa(streamSchema)},
	}
}

func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	for try := range raced {
		stream, err := js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			_, err = js.CreateStream(ctx, want)
		case err == nil:
			have := stream.CachedInfo().Config
			next, differs, refused := mergeStream(have, want)
			if refused != nil {
				return refused
			}
			if differs {
				_, err = js.UpdateStream(ctx, next)
			}
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse), errors.Is(err, jetstream.ErrStreamNotFound):
			if err := pause(ctx, time.Duration(try)*10*time.Millisecond); err != nil {
				return fmt.Errorf("ensure stream %s: %w", want.Name, err)
			}
		default:
			if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == errCodeNoStorage {
				err = fmt.Errorf("%w: the stream wants %d MiB set aside, and nats-server may use less (without a limit of its own,"+
					" three quarters of what is free on its disk): make room there, or give the stream a smaller limit", err, want.MaxBytes>>20)
			}
			return fmt.Errorf("ensure stream %s: %w", want.Name, err)
		}
	}
	return fmt.Errorf("ensure stream %s: it was made and deleted by others %d times", want.Name, raced)
}

// mergeStream puts the settings that we own into what is there.
func mergeStream(have, want jetstream.StreamConfig) (next jetstream.StreamConfig, differs bool, err error) {
	if have.Retention != want.Retention {
		return have, false, fmt.Errorf("stream %s: %w: it has %v, want %v; delete it or use another prefix, the store can fill it again",
			want.Name, ErrRetention, have.Retention, want.Retention)
	}
	if have.Storage != want.Storage {
		return have, false, fmt.Errorf("stream %s: it is kept in %v, want %v: the server cannot change that, delete it or use another prefix",
			want.Name, have.Storage, want.Storage)
	}
	next = have
	if newerSchema(have.Metadata) {
		return next, false, nil
	}
	own(&differs, &next.Description, want.Description)
	own(&differs, &next.Discard, want.Discard)
	own(&differs, &next.MaxMsgs, want.MaxMsgs)
	own(&differs, &next.MaxBytes, want.MaxBytes)
	own(&differs, &next.MaxAge, want.MaxAge)
	own(&differs, &next.MaxMsgSize, want.MaxMsgSize)
	own(&differs, &next.Replicas, want.Replicas)
	own(&differs, &next.Duplicates, want.Duplicates)
	own(&differs, &next.AllowAtomicPublish, want.AllowAtomicPublish)
	own(&differs, &next.Compression, want.Compression)
	// The server never takes these two back.
	own(&differs, &next.DenyDelete, have.DenyDelete || want.DenyDelete)
	own(&differs, &next.DenyPurge, have.DenyPurge || want.DenyPurge)
	if !slices.Equal(have.Subjects, want.Subjects) {
		next.Subjects, differs = want.Subjects, true
	}
	next.Metadata, differs = mergeMetadata(have.Metadata, want.Metadata, differs)
	return next, differs, nil
}

func ensureConsumer(ctx context.Context, js jetstream.JetStream, s Streams, kind events.Kind) error {
	want := s.consumer(kind)
	for try := range raced {
		consumer, err := js.Consumer(ctx, s.JobsStream(), want.Name)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound):
			_, err = js.CreateConsumer(ctx, s.JobsStream(), want)
		case err == nil:
			next, differs := mergeConsumer(consumer.CachedInfo().Config, want)
			if differs {
				_, err = js.UpdateConsumer(ctx, s.JobsStream(), next)
			}
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, jetstream.ErrConsumerExists), errors.Is(err, jetstream.ErrConsumerDoesNotExist),
			errors.Is(err, jetstream.ErrConsumerNotFound):
			if err := pause(ctx, time.Duration(try)*10*time.Millisecond); err != nil {
				return fmt.Errorf("ensure consumer %s: %w", want.Name, err)
			}
		default:
			return fmt.Errorf("ensure consumer %s: %w", want.Name, err)
		}
	}
	return fmt.Errorf("ensure consumer %s: it was made and deleted by others %d times", want.Name, raced)
}

func mergeConsumer(have, want jetstream.ConsumerConfig) (next jetstream.ConsumerConfig, differs bool) {
	next = have
	if newerSchema(have.Metadata) {
		return next, false
	}
	own(&differs, &next.AckWait, want.AckWait)
	own(&differs, &next.MaxDeliver, want.MaxDeliver)
	own(&differs, &next.MaxAckPending, want.MaxAckPending)
	own(&differs, &next.FilterSubject, want.FilterSubject)
	if len(have.BackOff) > 0 {
		next.BackOff, differs = nil, true
	}
	next.Metadata, differs = mergeMetadata(have.Metadata, want.Metadata, differs)
	return next, differs
}

func own[T comparable](differs *bool, have *T, want T) {
	if *have != want {
		*have, *differs = want, true
	}
}

func newerSchema(metadata map[string]string) bool {
	n, err := strconv.Atoi(metadata[schemaKey])
	return err == nil && n > streamSchema
}

// mergeMetadata keeps what others, the server too, have noted there.
func mergeMetadata(have, want map[string]string, differs bool) (map[string]string, bool) {
	next := maps.Clone(have)
	if next == nil {
		next = map[string]string{}
	}
	maps.Copy(next, want)
	return next, differs || !maps.Equal(next, have)
}

// pause waits, or ends early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
