package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// A client that fetches ahead had 20 such messages handled 47 times.
func TestSlowJobsAreHandledOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *setupOptions) { o.ackWait = 300 * time.Millisecond })
	ids := make([]events.ID, 20)
	for i := range ids {
		ids[i] = b.add(t, "a", fmt.Sprint("job", i))
	}
	var ran, active, most atomic.Int64
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
			ran.Add(1)
			most.Store(max(most.Load(), active.Add(1)))
			defer active.Add(-1)
			work(ctx, 50*time.Millisecond)
			return nil, nil
		})
	})
	for _, id := range ids {
		b.wait(t, id, events.StatusCompleted)
	}
	b.empty(t)
	require.NoError(t, stop())
	require.EqualValues(t, 20, ran.Load())
	require.EqualValues(t, 1, most.Load(), "one slot")
}

// work takes as long as a handler's slow part would.
func work(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// A job may take longer than AckWait: the broker is told that it goes on.
func TestLongJobIsNotRedelivered(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *setupOptions) { o.ackWait = 500 * time.Millisecond })
	id := b.add(t, "a", "long")
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(ctx context.Context, _ events.Job, _ none) (pipeline.Commit, error) {
			work(ctx, 1500*time.Millisecond)
			if n := b.redelivered(t, "a"); n != 0 {
				return nil, pipeline.Permanent(fmt.Errorf("redelivered %d times", n))
			}
			return nil, nil
		}, pipeline.Slots(2))
	})
	b.wait(t, id, events.StatusCompleted)
	require.NoError(t, stop())
}

func TestRedeliveryOfARunningJobIsIgnored(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *setupOptions) { o.ackWait = 2 * time.Second })
	id := b.add(t, "a", "x")
	var ran atomic.Int64
	began, goOn := make(chan struct{}, 10), make(chan struct{})
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
			ran.Add(1)
			began <- struct{}{}
			<-goOn
			return nil, nil
		}, pipeline.Slots(5))
		pipeline.Handle(w, "b", nothing)
	})
	<-began
	body := b.job(t, id).Envelope().Marshal()
	for range 3 { // the same message, in one batch and in several
		_, err := b.js.Publish(t.Context(), "jobs.a", body)
		require.NoError(t, err)
	}
	c, err := b.js.Consumer(t.Context(), "JOBS", "workers-a")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := c.Info(t.Context())
		return err == nil && info.NumPending == 0
	}, patience, tick, "the copies are delivered")
	close(goOn)
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	require.NoError(t, stop())
	require.EqualValues(t, 1, ran.Load())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
}

func TestLanesAreIsolated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stuck := b.add(t, "a", "stuck")
	free := make(chan struct{})
	w, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
			<-free
			return nil, nil
		})
		pipeline.Handle(w, "b", nothing)
	})
	b.wait(t, stuck, events.StatusProcessing)
	for i := range 20 {
		id := b.add(t, "b", fmt.Sprint(i))
		b.bell <- struct{}{}
		b.wait(t, id, events.StatusCompleted)
	}
	s := w.State()
	require.Equal(t, 1, s.Lanes[0].Active)
	require.EqualValues(t, 20, s.Lanes[1].Completed)
	close(free)
	b.wait(t, stuck, events.StatusCompleted)
	require.NoError(t, stop())
}

// What is not the job that it claims to be ends here, with a reason, and
// changes nothing.
func TestBadMessages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	type refusal struct {
		e    events.Envelope
		body string
		why  error
	}
	var mu sync.Mutex
	var refused []refusal
	b.cfg.Refused = func(_ context.Context, e events.Envelope, body []byte, why error) {
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, refusal{e, string(body), why})
	}
	victim := b.add(t, "a", "victim")
	good := b.job(t, victim).Envelope()
	forge := func(change func(*events.Envelope)) []byte {
		e := good
		change(&e)
		return e.Marshal()
	}
	bad := map[string]struct {
		body []byte
		why  error // nil: it is not even an envelope
	}{
		"not JSON":       {[]byte("{"), nil},
		"empty":          {[]byte(" "), nil},
		"no job":         {[]byte(`{"kind":"a","asked":1}`), nil},
		"wildcard":       {forge(func(e *events.Envelope) { e.Job = "a.>" }), nil},
		"unknown job":    {forge(func(e *events.Envelope) { e.Job = "a_nosuchjob" }), events.ErrUnknownJob},
		"future":         {forge(func(e *events.Envelope) { e.Asked = 99 }), events.ErrUnknownJob},
		"other team":     {forge(func(e *events.Envelope) { e.Scope.Team = "other" }), events.ErrScope},
		"other project":  {forge(func(e *events.Envelope) { e.Scope.Project = "other" }), events.ErrScope},
		"other's kind":   {forge(func(e *events.Envelope) { e.Kind = "b" }), nil},
		"nobody's kind":  {forge(func(e *events.Envelope) { e.Kind = "c" }), nil},
		"control bytes":  {[]byte("\x00\n\r\x1b[2J"), nil},
		"too big for us": {append(make([]byte, events.MaxEnvelope), good.Marshal()...), nil},
	}
	advisories, err := b.nc.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.JOBS.>")
	require.NoError(t, err)
	for _, m := range bad {
		_, err := b.js.Publish(t.Context(), "jobs.a", m.body)
		require.NoError(t, err)
	}
	var ran atomic.Int64
	w := pipeline.New(b.ledger, b.js, b.cfg)
	handler := func(context.Context, events.Job, none) (pipeline.Commit, error) { ran.Add(1); return nil, nil }
	pipeline.Handle(w, "a", handler, pipeline.Slots(4))
	pipeline.Handle(w, "b", handler)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	b.empty(t)
	cancel()
	require.NoError(t, <-done)

	require.Zero(t, ran.Load())
	require.Empty(t, b.history(t, victim), "nothing happened to the job")
	require.Len(t, refused, len(bad))
	require.EqualValues(t, len(bad), w.State().Lanes[0].Refused)
	for name, m := range bad {
		found := false
		for _, r := range refused {
			if r.body == string(m.body) {
				found = true
				require.Error(t, r.why, name)
				if m.why != nil {
					require.ErrorIs(t, r.why, m.why, name)
				}
			}
		}
		require.True(t, found, name)
	}
	for range bad {
		_, err := advisories.NextMsg(patience)
		require.NoError(t, err, "each was terminated, not acknowledged")
	}
}

// A forged message beside the true one, in one batch or while it runs, takes
// nothing from it.
func TestForgeryBesideTheTruth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refused := make(chan error, 10)
	b.cfg.Refused = func(_ context.Context, _ events.Envelope, _ []byte, why error) { refused <- why }
	id := b.add(t, "a", "x")
	forged := b.job(t, id).Envelope()
	forged.Scope.Team = "other"
	forge := func() {
		_, err := b.js.Publish(t.Context(), "jobs.a", forged.Marshal())
		require.NoError(t, err)
	}
	forge()
	require.NoError(t, b.publish(t.Context()))
	forge()
	began, goOn := make(chan struct{}), make(chan struct{})
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
			close(began)
			<-goOn
			return nil, nil
		}, pipeline.Slots(5))
	})
	<-began
	forge()
	for range 3 {
		require.ErrorIs(t, <-refused, events.ErrScope)
	}
	close(goOn)
	b.wait(t, id, events.StatusCompleted)
	b.empty(t)
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
}

// What an old message asks for is settled or held: it is acknowledged, and
// nothing else.
func TestStaleMessages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	done := b.add(t, "a", "done")
	held := b.add(t, "a", "held")
	other := events.Holder{ID: "w2"}
	claims, err := b.mem.Begin(t.Context(), other, []events.Envelope{b.job(t, done).Envelope(), b.job(t, held).Envelope()})
	require.NoError(t, err)
	errs, err := b.mem.Move(t.Context(), []events.Step{{Job: claims[0].Job, Event: events.Event{Type: events.Completed, Process: "w2"}}})
	require.NoError(t, errors.Join(append(errs, err)...))
	for _, id := range []events.ID{done, held} {
		_, err := b.js.Publish(t.Context(), "jobs.a", b.job(t, id).Envelope().Marshal())
		require.NoError(t, err)
	}
	var ran atomic.Int64
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) { ran.Add(1); return nil, nil })
	})
	b.empty(t)
	require.NoError(t, stop())
	require.Zero(t, ran.Load())
	require.Equal(t, "w2", b.job(t, held).LockedBy)
}

// A stream that is not there yet, or is deleted and made again, is waited for.
func TestStreamComesAndGoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.js.DeleteStream(t.Context(), "JOBS"))
	w := pipeline.New(b.ledger, b.js, b.cfg)
	pipeline.Handle(w, "a", nothing)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for i := range 2 {
		require.Eventually(t, func() bool { return w.State().Lanes[0].Trouble != "" }, patience, tick)
		b.ensure(t, 30*time.Second)
		id := b.add(t, "a", fmt.Sprint("job", i))
		require.NoError(t, b.publish(t.Context()))
		b.wait(t, id, events.StatusCompleted)
		require.Eventually(t, func() bool { return w.State().Lanes[0].Trouble == "" }, patience, tick)
		require.NoError(t, b.js.DeleteStream(t.Context(), "JOBS"))
	}
	cancel()
	require.NoError(t, <-done)
}

func TestWiring(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Lanes = map[events.Kind]pipeline.Lane{"a": {Slots: 3}, "b": {Slots: -1}}
	w := pipeline.New(b.ledger, b.js, b.cfg)
	pipeline.Handle(w, "a", nothing, pipeline.Slots(7))
	pipeline.Handle(w, "b", nothing)
	require.PanicsWithValue(t, `pipeline: two handlers of "a"`, func() { pipeline.Handle(w, "a", nothing) })
	require.Len(t, w.State().Lanes, 1)
	require.Equal(t, 3, w.State().Lanes[0].Slots, "the operator's word goes first")
	require.False(t, w.State().Held)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	require.Eventually(t, func() bool { return w.State().Held }, patience, tick)
	slots, err := b.mem.Slots(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Equal(t, map[events.Kind]int{"a": 3}, slots)
	require.Panics(t, func() { pipeline.Handle(w, "c", nothing) })
	cancel()
	require.NoError(t, <-done)
	require.ErrorContains(t, w.Run(t.Context()), "it ran before")
	slots, err = b.mem.Slots(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Empty(t, slots, "it said goodbye")
}

func TestExponential(t *testing.T) {
	t.Parallel()
	wait := pipeline.Exponential(time.Second, 4, 10*time.Minute)
	for attempt, most := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 4 * time.Second, 3: 16 * time.Second, 100: 10 * time.Minute,
		100_000: 10 * time.Minute,
	} {
		longest := time.Duration(0)
		for range 1000 {
			d := wait(attempt)
			require.GreaterOrEqual(t, d, time.Duration(0))
			require.LessOrEqual(t, d, most)
			longest = max(longest, d)
		}
		require.Greater(t, longest, most*9/10, "the whole range is used")
	}
}
