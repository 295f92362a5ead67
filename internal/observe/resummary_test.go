package observe_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// counted is a provider whose summary says how many events it saw.
func counted(w *world) *world {
	w.provider.before = func(_ context.Context, q llm.Question) (*llm.Answer, error) {
		if q.Task != llm.TaskSummarize {
			return &llm.Answer{Skipped: true}, nil
		}
		n := 0
		for _, e := range q.Events {
			if e.Type == "tool_use" {
				n++
			}
		}
		return &llm.Answer{Model: "m", Summary: &llm.Summary{Request: fmt.Sprintf("saw %d events, last %q", n, q.LastMessage)}}, nil
	}
	return w
}

// summaries gives the contents of a session's summaries.
func (w *world) summaries(t require.TestingT, session string) []string {
	rows, err := w.pool.Query(context.Background(), `SELECT o.content FROM observations o
		JOIN observation_sources s ON s.observation_id = o.id AND s.source_type = 'session_summary' AND s.source_id = $1`, session)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

func (w *world) end(t testing.TB, session string) events.Job {
	t.Helper()
	_, job, err := w.EndSession(t.Context(), w.me, session)
	require.NoError(t, err)
	return *job
}

// Claude Code ends its session after every turn.
func TestASessionThatGoesOnIsSummarizedAnew(t *testing.T) {
	t.Parallel()
	w := counted(newWorld(t))
	s := w.session(t, "s")
	w.record(t, w.inSession(1, s.ID))
	first := w.end(t, s.ID)
	w.do(t, first.ID)
	require.Equal(t, first.ID, w.end(t, s.ID).ID, "nothing came since")
	require.Len(t, w.summaries(t, s.ID), 1)

	w.record(t, w.inSession(2, s.ID), w.inSession(3, s.ID))
	second := w.end(t, s.ID)
	require.NotEqual(t, first.ID, second.ID)
	require.Equal(t, s.ID, second.SourceID)
	require.Equal(t, s.ID, observe.JobSession(second))
	require.Equal(t, second.ID, w.end(t, s.ID).ID)
	w.record(t, w.inSession(4, s.ID))
	require.Equal(t, second.ID, w.end(t, s.ID).ID, "what has not begun will see it")
	w.do(t, second.ID)
	require.Equal(t, []string{`Request: saw 4 events, last ""`}, w.summaries(t, s.ID))
	require.Equal(t, second.ID, w.end(t, s.ID).ID)
	told := w.audit(t, w.me, observe.AuditFilter{Action: "session_summary.generated"})
	require.Len(t, told, 2)
	require.Contains(t, string(told[0].Details), `"replaces": ["obs_`)

	// The last message alone is news as well.
	_, third, err := w.Summarize(t.Context(), w.me, "t", nil, "done")
	require.NoError(t, err)
	w.do(t, third.ID)
	_, same, err := w.Summarize(t.Context(), w.me, "t", nil, "done")
	require.NoError(t, err)
	require.Equal(t, third.ID, same.ID)
	session, next, err := w.Summarize(t.Context(), w.me, "t", nil, "really done")
	require.NoError(t, err)
	require.NotEqual(t, third.ID, next.ID)
	w.do(t, next.ID)
	require.Equal(t, []string{`Request: saw 0 events, last "really done"`}, w.summaries(t, session.ID))
	w.check(t)
}

// What a person made of a summary is not thrown away.
func TestAnEditedSummaryStays(t *testing.T) {
	t.Parallel()
	w := counted(newWorld(t))
	s := w.session(t, "s")
	w.record(t, w.inSession(1, s.ID))
	w.do(t, w.end(t, s.ID).ID)
	var id string
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT id FROM observations WHERE kind = 'summary'").Scan(&id))
	_, err := w.EditMemory(t.Context(), w.me, id, observe.MemoryEdit{Content: new("mine")})
	require.NoError(t, err)
	w.record(t, w.inSession(2, s.ID))
	w.do(t, w.end(t, s.ID).ID)
	require.ElementsMatch(t, []string{"mine", `Request: saw 2 events, last ""`}, w.summaries(t, s.ID))
	w.check(t)
}

// A later summary waits as the session's events do.
func TestALaterSummaryWaitsByThePolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy string
		want   time.Duration
	}{{observe.PolicyPerEvent, 0}, {observe.PolicyDebounce, time.Minute}, {observe.PolicyEndOfSession, time.Minute}} {
		t.Run(c.policy, func(t *testing.T) {
			t.Parallel()
			w := counted(newWorld(t))
			w.policy(t, c.policy, time.Minute)
			s := w.session(t, "s")
			w.record(t, w.inSession(1, s.ID))
			first := w.end(t, s.ID)
			require.True(t, w.due(t, first.ID).IsZero(), "the first one comes at once")
			w.do(t, first.ID)
			w.record(t, w.inSession(2, s.ID))
			due := w.due(t, w.end(t, s.ID).ID)
			if c.want == 0 {
				require.True(t, due.IsZero())
				return
			}
			require.WithinDuration(t, time.Now().Add(c.want), due, 30*time.Second)
		})
	}
}

// Many ends at once, while events come and workers work, leave one summary
// that has seen everything.
func TestEndsAtOnceLeaveOneSummary(t *testing.T) {
	t.Parallel()
	w := counted(newWorld(t))
	s := w.session(t, "s")
	var wg sync.WaitGroup
	for writer := range 3 {
		wg.Go(func() {
			for n := range 8 {
				_, err := w.Record(t.Context(), w.me, []observe.NewEvent{w.inSession(100*writer+n, s.ID)}, observe.RecordOptions{})
				if err == nil {
					_, _, err = w.EndSession(t.Context(), w.me, s.ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for ctx.Err() == nil {
				w.work(ctx)
			}
		})
	}
	wg.Wait()
	last := w.end(t, s.ID)
	require.Eventually(t, func() bool { return w.read(t, last.ID).Status == events.StatusCompleted }, time.Minute, 5*time.Millisecond)
	stop()
	workers.Wait()
	require.Eventually(t, func() bool { return !w.work(t.Context()) }, time.Minute, time.Millisecond)
	require.Equal(t, []string{`Request: saw 24 events, last ""`}, w.summaries(t, s.ID))
	w.check(t)
}

// work does one summary job that waits, as a worker would, and says whether
// there was one. Others may be faster.
func (w *world) work(ctx context.Context) bool {
	ctx = context.WithoutCancel(ctx) // who stops finishes what he has begun
	jobs, _, err := w.ListJobs(ctx, w.me, observe.JobFilter{Status: "queued", SourceType: observe.SourceSummary})
	if err != nil || len(jobs) == 0 {
		return false
	}
	claims, err := w.jobs.Begin(ctx, holder, []events.Envelope{jobs[0].Envelope()})
	if err != nil || claims[0].Err != nil {
		return true
	}
	full, _, err := w.Job(ctx, w.me, claims[0].Job.ID)
	if err != nil {
		return true
	}
	commit, err := w.Handler(full.Kind)(ctx, full)
	if err != nil {
		commit = nil
	}
	_, _ = w.jobs.Settle(context.WithoutCancel(ctx), []events.Step{completed(claims[0].Job)}, []func(context.Context, pgx.Tx) error{commit})
	return true
}

// The model of a session and its summaries.
type summaryModel struct {
	events  int // in the session
	asked   int // events at the last end; -1: never ended
	jobs    []events.ID
	begun   map[events.ID]begun // in hand
	stored  int                 // the number of the job whose summary there is; 0: none
	content string
}

type begun struct {
	job    events.Job
	commit func(context.Context, pgx.Tx) error
	saw    int // -1: nothing new to say
}

// In whatever order sessions go on, end, and are summarized, with workers that
// fail, are lost, are slow, or are told to stop: there is at most one summary,
// it is the one of the latest job that stored one, and an end asks for another
// job exactly when there is something new that no job is going to see.
func TestSummariesFollowTheModel(t *testing.T) {
	t.Parallel()
	w := counted(newWorld(t))
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		s := w.session(t, fmt.Sprint("s", round))
		m := summaryModel{asked: -1, begun: map[events.ID]begun{}}
		last := func() (events.ID, events.Job) {
			if len(m.jobs) == 0 {
				return "", events.Job{}
			}
			id := m.jobs[len(m.jobs)-1]
			return id, w.read(t, id)
		}
		pick := func(status events.Status) (events.Job, bool) {
			var some []events.Job
			for _, id := range m.jobs {
				if job := w.read(t, id); job.Status == status {
					some = append(some, job)
				}
			}
			if len(some) == 0 {
				return events.Job{}, false
			}
			return rapid.SampledFrom(some).Draw(r, "job"), true
		}
		number := func(id events.ID) int {
			for i, have := range m.jobs {
				if have == id {
					return i + 1
				}
			}
			r.Fatalf("job %s is none of the session's", id)
			return 0
		}
		settle := func(b begun, typ events.Type) error {
			e := events.Event{Type: typ, Actor: "worker", Process: holder.ID, Reason: "r"}
			commit := b.commit
			if typ != events.Completed {
				commit = nil
			}
			errs, err := w.jobs.Settle(t.Context(), []events.Step{{Job: b.job, Event: e}}, []func(context.Context, pgx.Tx) error{commit})
			require.NoError(r, err)
			delete(m.begun, b.job.ID)
			return errs[0]
		}
		r.Repeat(map[string]func(*rapid.T){
			"": func(r *rapid.T) {
				want := []string{}
				if m.stored > 0 {
					want = append(want, m.content)
				}
				require.Equal(r, want, w.summaries(r, s.ID), "summary of job %d", m.stored)
			},
			"event": func(*rapid.T) {
				m.events++
				w.record(t, w.inSession(1000*round+m.events, s.ID))
			},
			"end": func(r *rapid.T) {
				id, job := last()
				got := w.end(t, s.ID)
				switch {
				case id == "" || m.asked != m.events && job.Status != events.StatusQueued:
					require.NotContains(r, m.jobs, got.ID)
					m.jobs = append(m.jobs, got.ID)
				default:
					require.Equal(r, id, got.ID)
				}
				require.Equal(r, s.ID, got.SourceID)
				m.asked = m.events
			},
			"begin": func(r *rapid.T) {
				job, ok := pick(events.StatusQueued)
				if !ok || job.Attempts == job.MaxAttempts {
					r.Skip()
				}
				job = w.claim(t, job)
				commit, err := w.Handler(job.Kind)(t.Context(), job)
				require.NoError(r, err)
				b := begun{job, commit, m.events}
				if number(job.ID) < m.stored {
					b.saw = -1
				}
				m.begun[job.ID] = b
			},
			"complete": func(r *rapid.T) {
				job, ok := pick(events.StatusProcessing)
				if !ok {
					r.Skip()
				}
				b := m.begun[job.ID]
				require.NoError(r, settle(b, events.Completed))
				if n := number(job.ID); b.saw >= 0 && n > m.stored {
					m.stored, m.content = n, fmt.Sprintf("Request: saw %d events, last \"\"", b.saw)
				}
			},
			"fail": func(r *rapid.T) {
				job, ok := pick(events.StatusProcessing)
				if !ok {
					r.Skip()
				}
				require.NoError(r, settle(m.begun[job.ID], rapid.SampledFrom([]events.Type{events.Failed, events.Released}).Draw(r, "how")))
			},
			"cancel": func(r *rapid.T) {
				job, ok := pick(rapid.SampledFrom([]events.Status{events.StatusQueued, events.StatusProcessing}).Draw(r, "status"))
				if !ok {
					r.Skip()
				}
				_, _, err := w.CancelJob(t.Context(), w.me, job.ID)
				require.NoError(r, err)
				if b, ok := m.begun[job.ID]; ok { // its worker finds out when it is done
					require.ErrorIs(r, settle(b, events.Completed), events.ErrHeld)
				}
			},
			"retry": func(r *rapid.T) {
				job, ok := pick(rapid.SampledFrom([]events.Status{events.StatusFailed, events.StatusCancelled}).Draw(r, "status"))
				if !ok {
					r.Skip()
				}
				_, _, err := w.RetryJob(t.Context(), w.me, job.ID)
				require.NoError(r, err)
			},
		})
		// When all is quiet, the last end is summarized.
		for _, id := range m.jobs {
			job := w.read(t, id)
			if b, ok := m.begun[id]; ok && job.Status == events.StatusProcessing {
				require.NoError(r, settle(b, events.Completed))
			}
			if w.read(t, id).Status == events.StatusQueued {
				w.do(t, id)
			}
		}
		if id, job := last(); id != "" && job.Status == events.StatusCompleted {
			got := w.summaries(r, s.ID)
			require.Len(r, got, 1)
			n := 0
			_, err := fmt.Sscanf(strings.TrimPrefix(got[0], "Request: "), "saw %d events", &n)
			require.NoError(r, err)
			require.GreaterOrEqual(r, n, m.asked)
		}
	})
	w.check(t)
}
