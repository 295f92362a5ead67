package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

type args struct {
	Name string `json:"name"`
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	type attempt = func(ctx context.Context) (pipeline.Commit, error)
	ok := func(context.Context) (pipeline.Commit, error) { return nil, nil }
	fail := func(context.Context) (pipeline.Commit, error) { return nil, boom }
	const (
		p, r, c, f = events.Processing, events.RetryScheduled, events.Completed, events.Failed
	)
	tests := []struct {
		name     string
		attempts []attempt // the last one goes on
		max      int
		args     string
		want     []events.Type
		lastErr  string // contained in it
		why      string // what the last event says of a job that is completed
	}{
		{name: "done", attempts: []attempt{ok}, want: []events.Type{p, c}},
		{
			name: "done, and why", want: []events.Type{p, c},
			attempts: []attempt{func(context.Context) (pipeline.Commit, error) {
				return func(context.Context, pgx.Tx) error { return nil }, fmt.Errorf("x: %w", pipeline.Done("as\x00 before"))
			}},
			why: "as before",
		},
		{name: "retried", attempts: []attempt{fail, ok}, want: []events.Type{p, r, p, c}},
		{name: "spent", attempts: []attempt{fail}, max: 2, want: []events.Type{p, r, p, f}, lastErr: "boom"},
		{
			name: "permanent", want: []events.Type{p, f}, lastErr: "boom",
			attempts: []attempt{func(context.Context) (pipeline.Commit, error) { return nil, pipeline.Permanent(boom) }},
		},
		{
			name: "nil is success", want: []events.Type{p, c},
			attempts: []attempt{func(context.Context) (pipeline.Commit, error) {
				return nil, errors.Join(pipeline.Permanent(nil), pipeline.RetryAfter(time.Hour, nil))
			}},
		},
		{
			name: "panic", max: 1, want: []events.Type{p, f}, lastErr: "panic: at the disco",
			attempts: []attempt{func(context.Context) (pipeline.Commit, error) { panic("at the disco") }},
		},
		{
			name: "too slow", max: 1, want: []events.Type{p, f}, lastErr: pipeline.ErrTimeout.Error(),
			attempts: []attempt{func(ctx context.Context) (pipeline.Commit, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}},
		},
		{name: "args", attempts: []attempt{ok}, args: `{"name":7}`, want: []events.Type{p, f}, lastErr: "args: "},
		{
			name: "long reason", max: 1, want: []events.Type{p, f}, lastErr: "…",
			attempts: []attempt{func(context.Context) (pipeline.Commit, error) {
				return nil, errors.New("\x00\xff" + strings.Repeat("ü", 2000))
			}},
		},
		{
			name: "commit fails", max: 1, want: []events.Type{p, f}, lastErr: "commit: boom",
			attempts: []attempt{func(context.Context) (pipeline.Commit, error) {
				return func(context.Context, pgx.Tx) error { return boom }, nil
			}},
		},
		{
			name: "commit panics", max: 1, want: []events.Type{p, f}, lastErr: "commit: panic: in it",
			attempts: []attempt{func(context.Context) (pipeline.Commit, error) {
				return func(context.Context, pgx.Tx) error { panic("in it") }, nil
			}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.add(t, "a", tt.name, func(j *events.Job) {
				j.MaxAttempts = tt.max
				if tt.args != "" {
					j.Args = []byte(tt.args)
				}
			})
			var n atomic.Int64
			_, stop := b.start(t, func(w *pipeline.Worker) {
				pipeline.Handle(w, "a", func(ctx context.Context, job events.Job, _ args) (pipeline.Commit, error) {
					i := int(n.Add(1))
					if job.Attempts != i || job.LockedBy != "w1" {
						return nil, pipeline.Permanent(errors.New("not the job as it was claimed"))
					}
					return tt.attempts[min(i, len(tt.attempts))-1](ctx)
				}, pipeline.Timeout(200*time.Millisecond))
			})
			last := tt.want[len(tt.want)-1]
			j := b.wait(t, id, map[events.Type]events.Status{c: events.StatusCompleted, f: events.StatusFailed}[last])
			require.Equal(t, tt.want, b.history(t, id))
			require.Contains(t, j.LastError, tt.lastErr)
			require.LessOrEqual(t, utf8.RuneCountInString(j.LastError), 500)
			require.True(t, utf8.ValidString(j.LastError))
			b.empty(t)
			require.NoError(t, stop())
			_, history, err := b.mem.Get(context.Background(), scope, id)
			require.NoError(t, err)
			if last == c {
				require.Equal(t, tt.why, history[len(history)-1].Reason)
			}
			for _, e := range history[1:] {
				require.Equal(t, "w1", e.Process)
				require.Equal(t, "v1", e.Build)
				require.Equal(t, "req-"+tt.name, e.RequestID)
			}
		})
	}
}

func TestRetryAfterWaitsAtLeast(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ backoff, after, want time.Duration }{
		"longer than the back-off":  {time.Second, time.Hour, time.Hour},
		"shorter than the back-off": {time.Hour, time.Second, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.cfg.Backoff = func(int) time.Duration { return tt.backoff }
			id := b.add(t, "a", "x")
			b.start(t, func(w *pipeline.Worker) {
				pipeline.Handle(w, "a", func(context.Context, events.Job, none) (pipeline.Commit, error) {
					return nil, pipeline.RetryAfter(tt.after, errors.New("busy"))
				})
			})
			require.Eventually(t, func() bool { return len(b.history(t, id)) == 2 }, patience, tick)
			j := b.job(t, id)
			require.Equal(t, events.StatusQueued, j.Status)
			require.Equal(t, tt.want, j.NextAt.Sub(j.UpdatedAt))
			require.Equal(t, "busy", j.LastError)
		})
	}
}

// One commit that cannot be stored must not hold up those that share its
// transaction.
func TestPoisonousCommitHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Backoff = func(int) time.Duration { return time.Hour }
	const n = 20
	ids := make([]events.ID, n)
	for i := range ids {
		ids[i] = b.add(t, "a", "job"+string(rune('a'+i)))
	}
	var all sync.WaitGroup // so that they end, and are settled, together
	all.Add(n)
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(_ context.Context, job events.Job, _ none) (pipeline.Commit, error) {
			all.Done()
			all.Wait()
			return func(context.Context, pgx.Tx) error {
				if job.ID == ids[7] {
					return errors.New("constraint")
				}
				return nil
			}, nil
		}, pipeline.Slots(n))
	})
	for i, id := range ids {
		if i == 7 {
			continue
		}
		b.wait(t, id, events.StatusCompleted)
		require.Equal(t, []events.Type{events.Processing, events.Completed}, b.history(t, id))
	}
	require.Eventually(t, func() bool { return len(b.history(t, ids[7])) == 2 }, patience, tick)
	require.Equal(t, []events.Type{events.Processing, events.RetryScheduled}, b.history(t, ids[7]))
	require.Equal(t, "commit: constraint", b.job(t, ids[7]).LastError)
	b.empty(t)
	require.NoError(t, stop())
}

// A handler that does not listen to its context loses its job and its slot
// when its time is over, and what it returns later is ignored.
func TestTheDeafLoseTheirJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Grace = time.Second
	deaf, next := b.add(t, "a", "deaf", func(j *events.Job) { j.MaxAttempts = 1 }), b.add(t, "a", "next")
	goOn, ended := make(chan struct{}), make(chan struct{})
	_, stop := b.start(t, func(w *pipeline.Worker) {
		pipeline.Handle(w, "a", func(_ context.Context, j events.Job, _ args) (pipeline.Commit, error) {
			if j.ID == deaf {
				defer close(ended)
				<-goOn
			}
			return nil, nil
		}, pipeline.Slots(1), pipeline.Timeout(50*time.Millisecond))
	})
	require.Contains(t, b.wait(t, deaf, events.StatusFailed).LastError, pipeline.ErrTimeout.Error())
	b.wait(t, next, events.StatusCompleted)
	close(goOn)
	<-ended
	require.NoError(t, stop())
	require.Equal(t, []events.Type{events.Processing, events.Failed}, b.history(t, deaf))
}
