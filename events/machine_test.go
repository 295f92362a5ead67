package events_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
)

const (
	none       = events.Status("")
	queued     = events.StatusQueued
	processing = events.StatusProcessing
	completed  = events.StatusCompleted
	failed     = events.StatusFailed
	cancelled  = events.StatusCancelled
)

// at is a job in a status, in the middle of its life.
func at(status events.Status) events.Job {
	j := events.Job{
		ID: "a_x", Kind: "a", Scope: events.Scope{Team: "t", Project: "p"}, MaxAttempts: 3,
		Status: status, Version: 5, Asked: 4, Attempts: 1, UpdatedAt: time.Unix(100, 0).UTC(),
	}
	switch status {
	case none:
		j.Version, j.Asked, j.Attempts = 0, 0, 0
	case processing:
		j.LockedBy, j.LockedAt = "w1", j.UpdatedAt
	case completed:
		j.CompletedAt = j.UpdatedAt
	case failed:
		j.FailedAt, j.LastError = j.UpdatedAt, "no"
	case cancelled:
		j.CancelledAt = j.UpdatedAt
	case queued:
	}
	return j
}

// Every status with every type of event, written out a second time: what is
// not here is forbidden.
func TestApplyEveryPair(t *testing.T) {
	t.Parallel()
	want := map[events.Status]map[events.Type]events.Status{
		none: {events.Queued: queued},
		queued: {
			events.Enqueued: queued, events.Processing: processing, events.Reclaimed: queued,
			events.Failed: failed, events.Cancelled: cancelled,
		},
		processing: {
			events.RetryScheduled: queued, events.Reclaimed: queued, events.Released: queued,
			events.Completed: completed, events.Failed: failed, events.Cancelled: cancelled,
		},
		completed: {},
		failed:    {events.Queued: queued},
		cancelled: {events.Queued: queued},
	}
	require.Len(t, want, len(events.Statuses())+1)
	pairs := 0
	for status, arrows := range want {
		for _, typ := range append(events.Types(), "", "unknown") {
			pairs++
			t.Run(fmt.Sprintf("%s/%s", status, typ), func(t *testing.T) {
				t.Parallel()
				j := at(status)
				e := events.Event{Type: typ, Process: "w2", Reason: "because", At: time.Unix(200, 0).UTC(), NextAt: time.Unix(300, 0).UTC()}
				got, err := j.Apply(e)
				to, ok := arrows[typ]
				if !ok {
					var refused *events.TransitionError
					require.ErrorAs(t, err, &refused)
					require.Equal(t, &events.TransitionError{Job: j.ID, From: status, Type: typ}, refused)
					require.Equal(t, j, got, "a refused step changes nothing")
					if status.Settled() {
						require.ErrorIs(t, err, events.ErrSettled)
						require.NotErrorIs(t, err, events.ErrHeld)
					} else {
						require.ErrorIs(t, err, events.ErrHeld)
						require.NotErrorIs(t, err, events.ErrSettled)
					}
					return
				}
				require.NoError(t, err)
				require.Equal(t, to, got.Status)
				require.Equal(t, j.Version+1, got.Version)
				require.Equal(t, e.At, got.UpdatedAt)
				invariants(t, got)
				if typ.Asks() {
					require.Equal(t, got.Version, got.Asked)
					require.Equal(t, e.NextAt, got.NextAt)
				} else {
					require.Equal(t, j.Asked, got.Asked)
				}
			})
		}
	}
	require.Equal(t, 6*11, pairs)
}

// invariants is what is true of every job that Apply has made.
func invariants(t require.TestingT, j events.Job) {
	require.Contains(t, events.Statuses(), j.Status)
	stamps := 0
	for status, stamp := range map[events.Status]time.Time{completed: j.CompletedAt, failed: j.FailedAt, cancelled: j.CancelledAt} {
		if !stamp.IsZero() {
			stamps++
			require.Equal(t, status, j.Status)
			require.Equal(t, j.UpdatedAt, stamp)
		}
	}
	if j.Status.Settled() {
		require.Equal(t, 1, stamps, "exactly one end")
	} else {
		require.Zero(t, stamps)
	}
	require.Equal(t, j.Status == processing, j.LockedBy != "")
	require.Equal(t, j.Status == processing, !j.LockedAt.IsZero())
	require.GreaterOrEqual(t, j.Attempts, 0)
	require.LessOrEqual(t, j.Attempts, j.MaxAttempts)
	require.GreaterOrEqual(t, j.Asked, 1)
	require.LessOrEqual(t, j.Asked, j.Version)
	if j.Status != queued {
		require.True(t, j.NextAt.IsZero())
	}
	if j.Status == completed {
		require.Empty(t, j.LastError)
	}
}

func TestApplyGuards(t *testing.T) {
	t.Parallel()
	spent := func(status events.Status) events.Job {
		j := at(status)
		j.Attempts = j.MaxAttempts
		return j
	}
	tests := []struct {
		name   string
		j      events.Job
		e      events.Event
		reason string // empty: it is allowed
	}{
		{"spent, begun", spent(queued), events.Event{Type: events.Processing, Process: "w"}, "all attempts are spent"},
		{"spent, retried", spent(processing), events.Event{Type: events.RetryScheduled}, "all attempts are spent"},
		{"spent, reclaimed", spent(processing), events.Event{Type: events.Reclaimed}, "all attempts are spent"},
		{"spent, released", spent(processing), events.Event{Type: events.Released}, ""},
		{"spent, failed", spent(processing), events.Event{Type: events.Failed}, ""},
		{"spent, asked for again", spent(queued), events.Event{Type: events.Reclaimed}, ""},
		{"nobody begins", at(queued), events.Event{Type: events.Processing}, "no worker is named"},
		{"the next version", at(queued), events.Event{Type: events.Enqueued, Version: 6}, ""},
		{"an old version", at(queued), events.Event{Type: events.Enqueued, Version: 5}, "version 5 does not follow 5"},
		{"a later version", at(queued), events.Event{Type: events.Enqueued, Version: 7}, "version 7 does not follow 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.j.Apply(tt.e)
			if tt.reason == "" {
				require.NoError(t, err)
				return
			}
			var refused *events.TransitionError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, tt.reason, refused.Reason)
			require.ErrorContains(t, err, tt.reason)
			require.Equal(t, tt.j, got)
		})
	}
}

func TestApplyFields(t *testing.T) {
	t.Parallel()
	then := time.Unix(200, 0).UTC()
	apply := func(j events.Job, e events.Event) events.Job {
		e.At = then
		n, err := j.Apply(e)
		require.NoError(t, err)
		return n
	}
	require.Equal(t, 2, apply(at(queued), events.Event{Type: events.Processing, Process: "w"}).Attempts)
	require.Equal(t, 0, apply(at(processing), events.Event{Type: events.Released}).Attempts)
	require.Equal(t, "lost", apply(at(processing), events.Event{Type: events.Reclaimed, Reason: "lost"}).LastError)
	require.Equal(t, "no", apply(at(processing), events.Event{Type: events.Failed, Reason: "no"}).LastError)
	again := apply(at(failed), events.Event{Type: events.Queued})
	require.Zero(t, again.Attempts, "an operator's retry starts anew")
	require.Empty(t, again.LastError)

	late := at(queued)
	late.NextAt = then.Add(time.Hour)
	noted := apply(late, events.Event{Type: events.Enqueued, Reason: "a note"})
	late.Version, late.UpdatedAt = late.Version+1, then
	require.Equal(t, late, noted, "a note changes nothing else")
}

// Whatever is tried, in whatever order: what was accepted folds to the job,
// what was refused changed nothing, and the job is always a possible one.
func TestAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		start, err := events.New(events.Job{
			ID: "a_x", Kind: "a", Scope: events.Scope{Team: "t", Project: "p"},
			MaxAttempts: rapid.IntRange(0, 4).Draw(t, "max attempts"),
		}, events.Event{Actor: "test"})
		require.NoError(t, err)
		j := start.Job
		var history []events.Event
		clock := time.Unix(0, 0).UTC()
		begun, ends, lastAsk := 0, 0, 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			clock = clock.Add(time.Second)
			e := events.Event{
				Type:    rapid.SampledFrom(events.Types()).Draw(t, "type"),
				At:      clock,
				Process: rapid.SampledFrom([]string{"", "w1", "w2"}).Draw(t, "process"),
				Reason:  rapid.SampledFrom([]string{"", "boom"}).Draw(t, "reason"),
			}
			if rapid.IntRange(0, 9).Draw(t, "numbered") == 0 {
				e.Version = rapid.IntRange(1, 20).Draw(t, "version")
			}
			if e.Type.Asks() && rapid.Bool().Draw(t, "later") {
				e.NextAt = clock.Add(time.Hour)
			}
			before := j
			next, stored, err := events.Step{Job: j, Event: e}.Next()
			if err != nil {
				require.Equal(t, before, next)
				continue
			}
			j = next
			history = append(history, stored)
			require.Equal(t, len(history), j.Version)
			invariants(t, j)
			switch e.Type {
			case events.Queued:
				begun, ends = 0, 0
			case events.Processing:
				begun++
			case events.Released:
				begun--
			case events.Completed, events.Failed, events.Cancelled:
				ends++
			default:
			}
			require.Equal(t, begun, j.Attempts)
			require.LessOrEqual(t, ends, 1)
			if e.Type.Asks() {
				require.Greater(t, j.Asked, lastAsk, "an ask is never the same as one before")
				lastAsk = j.Asked
			}
			require.Equal(t, lastAsk, j.Asked)
		}
		if len(history) == 0 {
			return
		}
		folded, err := events.Fold(j, slices.Values(history))
		require.NoError(t, err)
		require.Equal(t, j, folded)

		// A history with a hole, or of two jobs, is no history.
		hole := rapid.IntRange(0, len(history)-1).Draw(t, "hole")
		if hole < len(history)-1 {
			_, err = events.Fold(j, slices.Values(slices.Delete(slices.Clone(history), hole, hole+1)))
			require.Error(t, err)
		}
		foreign := slices.Clone(history)
		foreign[hole].Job = "a_y"
		_, err = events.Fold(j, slices.Values(foreign))
		require.ErrorContains(t, err, "is in the history of job a_x")
		newer := slices.Clone(history)
		newer[hole].Schema = events.Schema + 1
		_, err = events.Fold(j, slices.Values(newer))
		require.ErrorContains(t, err, "upgrade this program")
	})
}

func TestNew(t *testing.T) {
	t.Parallel()
	good := events.Job{ID: "a_x", Kind: "a", Scope: events.Scope{Team: "t", Project: "p"}}
	s, err := events.New(good, events.Event{Type: events.Completed, Actor: "me"})
	require.NoError(t, err)
	require.Equal(t, events.Queued, s.Event.Type)
	require.Equal(t, events.DefaultMaxAttempts, s.Job.MaxAttempts)
	j, e, err := s.Next()
	require.NoError(t, err)
	require.Equal(t, queued, j.Status)
	require.Equal(t, events.Event{
		Job: "a_x", Version: 1, Type: events.Queued, Status: queued, Actor: "me", Schema: events.Schema,
	}, e)

	for name, change := range map[string]func(*events.Job){
		"job id":            func(j *events.Job) { j.ID = "" },
		"want 1 to 64":      func(j *events.Job) { j.ID = "a.b" },
		"job kind":          func(j *events.Job) { j.Kind = "a b" },
		"a team":            func(j *events.Job) { j.Scope.Team = "" },
		"a project":         func(j *events.Job) { j.Scope.Project = "" },
		"one attempt":       func(j *events.Job) { j.MaxAttempts = -1 },
		"args are not JSON": func(j *events.Job) { j.Args = []byte("{") },
	} {
		j := good
		change(&j)
		_, err := events.New(j, events.Event{})
		require.ErrorContains(t, err, name)
	}
}
