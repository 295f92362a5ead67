package pipeline_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/pipeline"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var scope = events.Scope{Team: "team", Project: "project"}

const (
	patience = 20 * time.Second
	tick     = 2 * time.Millisecond
)

// faulty is a ledger that can be made to fail: the function of a method runs
// before it, and its error is returned instead of an answer.
type faulty struct {
	*eventstest.Memory
	begin, settle, seen atomic.Pointer[func() error]
	look                atomic.Pointer[func() error]
	begun, looked       atomic.Int64                 // calls
	stored              atomic.Pointer[func() error] // after a settle that was stored
	poison              func(events.Envelope) error  // fails the whole Begin
}

func run(f *atomic.Pointer[func() error]) error {
	if f := f.Load(); f != nil {
		return (*f)()
	}
	return nil
}

func (f *faulty) Begin(ctx context.Context, w events.Holder, es []events.Envelope) ([]events.Claim, error) {
	f.begun.Add(1)
	if err := run(&f.begin); err != nil {
		return nil, err
	}
	if f.poison != nil {
		for _, e := range es {
			if err := f.poison(e); err != nil {
				return nil, err
			}
		}
	}
	return f.Memory.Begin(ctx, w, es)
}

func (f *faulty) Look(ctx context.Context, w events.Holder, es []events.Envelope) ([]events.Claim, error) {
	f.looked.Add(1)
	if err := run(&f.look); err != nil {
		return nil, err
	}
	return f.Memory.Look(ctx, w, es)
}

func (f *faulty) Settle(ctx context.Context, steps []events.Step, commits []func(context.Context, pgx.Tx) error, last ...func(context.Context, pgx.Tx) error) ([]error, error) {
	if err := run(&f.settle); err != nil {
		return nil, err
	}
	errs, err := f.Memory.Settle(ctx, steps, commits, last...)
	if err == nil {
		if err := run(&f.stored); err != nil {
			return nil, err
		}
	}
	return errs, err
}

func (f *faulty) Seen(ctx context.Context, w events.Holder) error {
	if err := run(&f.seen); err != nil {
		return err
	}
	return f.Memory.Seen(ctx, w)
}

// times makes a fault that happens n times.
func times(n int64, err error) *func() error {
	var left atomic.Int64
	left.Store(n)
	f := func() error {
		if left.Add(-1) >= 0 {
			return err
		}
		return nil
	}
	return &f
}

// bundle is a store, a broker with the lanes "a" and "b", and a relay that is
// no more than it takes.
type bundle struct {
	mem    *eventstest.Memory
	ledger *faulty
	nc     *nats.Conn
	js     jetstream.JetStream
	bell   chan struct{}
	sent   map[events.Envelope]bool
	cfg    pipeline.Config
}

type setupOptions struct {
	ackWait time.Duration
}

func setup(t testing.TB, opts ...func(*setupOptions)) *bundle {
	t.Helper()
	o := setupOptions{ackWait: 30 * time.Second}
	for _, opt := range opts {
		opt(&o)
	}
	mem := eventstest.NewMemory()
	b := &bundle{
		mem: mem, ledger: &faulty{Memory: mem}, nc: testenv.NATS(t),
		bell: make(chan struct{}, 1), sent: map[events.Envelope]bool{},
	}
	var err error
	b.js, err = jetstream.New(b.nc)
	require.NoError(t, err)
	b.ensure(t, o.ackWait)
	b.cfg = pipeline.Config{
		ID: "w1", Build: "v1", Heartbeat: 200 * time.Millisecond, Grace: 5 * time.Second, Log: testenv.Log(t),
		Backoff: func(int) time.Duration { return 0 },
		Settled: func([]events.Step) {
			select {
			case b.bell <- struct{}{}:
			default:
			}
		},
	}
	return b
}

func (b *bundle) ensure(t testing.TB, ackWait time.Duration) {
	t.Helper()
	_, err := b.js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{
		Name: "JOBS", Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy,
		Discard: jetstream.DiscardNew, Storage: jetstream.MemoryStorage,
	})
	require.NoError(t, err)
	for _, kind := range []string{"a", "b"} {
		_, err := b.js.CreateOrUpdateConsumer(t.Context(), "JOBS", jetstream.ConsumerConfig{
			Durable: "workers-" + kind, FilterSubject: "jobs." + kind, AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: ackWait, MaxDeliver: -1, MaxAckPending: 10_000,
		})
		require.NoError(t, err)
	}
}

// add makes a job, asks is what may be changed in it.
func (b *bundle) add(t testing.TB, kind events.Kind, name string, change ...func(*events.Job)) events.ID {
	t.Helper()
	j := events.Job{
		ID: events.NewID(kind, name), Kind: kind, Scope: scope, SourceType: "test", SourceID: name, RequestID: "req-" + name,
	}
	for _, c := range change {
		c(&j)
	}
	step, err := events.New(j, events.Event{Actor: "test"})
	require.NoError(t, err)
	added, err := b.mem.Enqueue(t.Context(), step)
	require.NoError(t, err)
	require.Equal(t, []bool{true}, added)
	return j.ID
}

// publish sends every ask that was not sent yet.
func (b *bundle) publish(ctx context.Context) error {
	asks, err := b.mem.Asks(ctx, events.AskQuery{Limit: 100_000})
	if err != nil {
		return err
	}
	for _, a := range asks {
		if b.sent[a.Envelope] {
			continue
		}
		if _, err := b.js.PublishAsync("jobs."+string(a.Envelope.Kind), a.Envelope.Marshal(), jetstream.WithMsgID(a.Envelope.MsgID())); err != nil {
			return err
		}
		b.sent[a.Envelope] = true
	}
	select {
	case <-b.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// start runs a worker and the relay until stop is called or the test ends;
// stop gives what Run returned.
func (b *bundle) start(t testing.TB, handlers func(w *pipeline.Worker)) (w *pipeline.Worker, stop func() error) {
	t.Helper()
	w = pipeline.New(b.ledger, b.js, b.cfg)
	handlers(w)
	ctx, cancel := context.WithCancel(t.Context())
	ran, relayed := make(chan error, 1), make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	go func() {
		for {
			if err := b.publish(ctx); err != nil {
				relayed <- err
				return
			}
			select {
			case <-b.bell:
			case <-ctx.Done():
				relayed <- nil
				return
			}
		}
	}()
	var result error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			if err := <-relayed; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("the relay: %v", err)
			}
			result = <-ran
		}
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return w, stop
}

func (b *bundle) job(t testing.TB, id events.ID) events.Job {
	t.Helper()
	j, _, err := b.mem.Get(context.Background(), scope, id)
	require.NoError(t, err)
	return j
}

// history is the types of a job's events, without the first.
func (b *bundle) history(t testing.TB, id events.ID) []events.Type {
	t.Helper()
	_, es, err := b.mem.Get(context.Background(), scope, id)
	require.NoError(t, err)
	types := []events.Type{}
	for _, e := range es[1:] {
		types = append(types, e.Type)
	}
	return types
}

func (b *bundle) wait(t testing.TB, id events.ID, status events.Status) events.Job {
	t.Helper()
	require.Eventually(t, func() bool { return b.job(t, id).Status == status }, patience, tick,
		"job %s is not %s", id, status)
	return b.job(t, id)
}

// empty waits until the stream has no message left.
func (b *bundle) empty(t testing.TB) {
	t.Helper()
	stream, err := b.js.Stream(t.Context(), "JOBS")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	}, patience, tick, "messages are left")
}

func (b *bundle) redelivered(t testing.TB, kind string) int {
	t.Helper()
	c, err := b.js.Consumer(t.Context(), "JOBS", "workers-"+kind)
	require.NoError(t, err)
	return c.CachedInfo().NumRedelivered
}

type none = struct{}

// nothing is a handler that succeeds at once.
func nothing(context.Context, events.Job, none) (pipeline.Commit, error) { return nil, nil }
