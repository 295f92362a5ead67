package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

func TestAnEventBecomesAnObservation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.session(t, "s")
	e := w.event(7)
	e.ServerSessionID = &session.ID
	r := w.record(t, e)[0]
	w.do(t, r.Job.ID)

	got, err := w.EventObservations(t.Context(), w.me, r.Event.ID)
	require.NoError(t, err)
	require.Len(t, got, 1)
	o := got[0]
	require.Equal(t, session.ID, *o.ServerSessionID)
	require.Equal(t, string(r.Job.ID), *o.CreatedByJobID)
	require.Equal(t, observe.GenerationKey(r.Job.ID, 0, o.Content), *o.GenerationKey)
	require.Equal(t, observe.SourceEvent, o.Source.SourceType)
	require.Equal(t, r.Event.ID, o.Source.SourceID)
	require.Equal(t, string(r.Job.ID), *o.Source.GenerationJobID)
	var m map[string]any
	require.NoError(t, json.Unmarshal(o.Metadata, &m))
	for _, name := range []string{"title", "subtitle", "facts", "narrative", "concepts", "files_read", "files_modified", "provider", "model"} {
		require.Contains(t, m, name)
	}
	require.Equal(t, "offline", m["provider"])
	require.True(t, strings.HasPrefix(o.Content, m["title"].(string)))

	q := w.provider.questions()
	require.Len(t, q, 1)
	require.Equal(t, llm.TaskObserve, q[0].Task)
	require.Equal(t, "home", q[0].Project)
	require.Equal(t, session.ID, q[0].Session)
	require.Equal(t, 1, w.audited(t, "observation.created"))
	require.Equal(t, 1, w.audited(t, "generation_job.completed"))
	require.Equal(t, events.StatusCompleted, w.read(t, r.Job.ID).Status)
	w.check(t)
}

// A look at jobs brings the texts of their events along, of one and of several,
// and nothing of another tenant's, whatever the envelope says.
func TestALookBringsTheEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var es []events.Envelope
	var of []string
	for _, r := range w.record(t, w.event(1), w.event(2), w.event(3)) {
		es, of = append(es, r.Job.Envelope()), append(of, r.Event.ID)
	}
	other, project := w.tenant(t, "away")
	for n := 1; n <= len(es); n++ {
		claims, err := w.jobs.Look(t.Context(), holder, es[:n])
		require.NoError(t, err)
		for i, c := range claims {
			require.NoError(t, c.Err)
			event := c.Beside.(sqlc.AgentEvent)
			require.Equal(t, of[i], event.ID)
			require.Contains(t, string(event.Payload), fmt.Sprintf("openBatch%d.go", i+1))
		}
		forged := slices.Clone(es[:n])
		forged[0].Scope = events.Scope{Team: other, Project: project}
		claims, err = w.jobs.Look(t.Context(), holder, forged)
		require.NoError(t, err)
		require.ErrorIs(t, claims[0].Err, events.ErrHeld)
		require.Nil(t, claims[0].Beside)
		ask, found := observe.Beside(forged)
		require.NoError(t, ask(t.Context(), sqlc.New(w.pool)))
		require.Nil(t, found(w.read(t, es[0].Job)))
	}
}

func TestHowAnObservationReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.provider.before = func(context.Context, llm.Question) (*llm.Answer, error) {
		return &llm.Answer{Model: "m-1", TokensIn: 3, TokensOut: 4, Observations: []llm.Observation{
			{}, // says nothing; it still counts for the place
			{
				Type: "bugfix", Title: " T\x00 ", Subtitle: "S <private>x</private>", Narrative: "N", Facts: []string{"one", " ", "two"},
				Concepts: []string{"eventStore"}, FilesRead: []string{"a/<private>secret</private>b.go"}, FilesModified: []string{"c/openBatch.go"},
				Events: []string{"somebody-elses-event"},
			},
			{Type: "", Title: strings.Repeat("ü", 50_000)},
		}}, nil
	}
	r := w.record(t, w.event(1))[0]
	w.do(t, r.Job.ID)
	got, err := w.EventObservations(t.Context(), w.me, r.Event.ID)
	require.NoError(t, err)
	require.Len(t, got, 2)
	if got[0].Kind != "bugfix" {
		got[0], got[1] = got[1], got[0]
	}
	require.Equal(t, "T\uFFFD\n\nS\n\nN\n\n- one\n- two", got[0].Content)
	require.Equal(t, observe.GenerationKey(r.Job.ID, 1, got[0].Content), *got[0].GenerationKey)
	require.JSONEq(t, `{"title":"T`+"\uFFFD"+`","subtitle":"S","facts":["one","two"],"narrative":"N","concepts":["eventStore"],
		"files_read":["a/b.go"],"files_modified":["c/openBatch.go"],"provider":"offline","model":"m-1"}`, string(got[0].Metadata))
	require.Equal(t, "discovery", got[1].Kind)
	require.Less(t, len(got[1].Content), 1000)
	for _, word := range []string{"openbatch", "batch", "store", "b.go", `"c/openBatch.go"`} {
		found, err := w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: word})
		require.NoError(t, err)
		require.Len(t, found.Hits, 1, word)
	}
}

func TestABatchRestsOnTheEventsThatItsNotesName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, debounce(time.Minute))
	session := w.session(t, "s")
	evs := make([]observe.NewEvent, 260) // more than one question holds
	for i := range evs {
		evs[i] = w.event(i)
		evs[i].ServerSessionID = &session.ID
	}
	w.provider.before = func(_ context.Context, q llm.Question) (*llm.Answer, error) {
		return &llm.Answer{Observations: []llm.Observation{
			{Type: "change", Title: "first of " + q.Events[0].ID, Events: []string{q.Events[0].ID, "unknown"}},
			{Type: "change", Title: "all of " + q.Events[0].ID},
		}}, nil
	}
	got := w.record(t, evs...)
	require.Equal(t, observe.KindBatch, got[0].Job.Kind)
	w.do(t, got[0].Job.ID)
	questions := w.provider.questions()
	require.Len(t, questions, 3)
	seen := 0
	for _, q := range questions {
		for _, e := range q.Events {
			require.Equal(t, got[seen].Event.ID, e.ID, "oldest first")
			seen++
		}
	}
	require.Equal(t, 260, seen)
	require.Equal(t, 6, w.count(t, "observations"))
	require.Equal(t, 3+260, w.count(t, "observation_sources"))
	of, err := w.EventObservations(t.Context(), w.me, got[0].Event.ID)
	require.NoError(t, err)
	require.Len(t, of, 2)
	w.check(t)
}

func TestPortions(t *testing.T) {
	t.Parallel()
	var shown []llm.Event
	for range 101 {
		shown = append(shown, llm.Event{Payload: []byte("{}")})
	}
	shown = append(shown, llm.Event{Payload: make([]byte, 3<<20)}, llm.Event{Payload: make([]byte, 2<<20)}, llm.Event{Payload: make([]byte, 9<<20)}, llm.Event{})
	var sizes []int
	for _, p := range observe.Portions(shown) {
		sizes = append(sizes, len(p))
	}
	require.Equal(t, []int{100, 2, 1, 1, 1}, sizes)
	require.Empty(t, observe.Portions(nil))
}

// Doing the same again, as after a lost answer, stores nothing twice.
func TestACommitMayRunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.record(t, w.event(1))[0]
	job := w.claim(t, *r.Job)
	for range 2 {
		commit, err := w.Handler(job.Kind)(t.Context(), job)
		require.NoError(t, err)
		for range 2 {
			require.NoError(t, pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error { return commit(t.Context(), tx) }))
		}
	}
	require.Equal(t, 1, w.count(t, "observations"))
	require.Equal(t, 1, w.count(t, "observation_sources"))
	require.Equal(t, 1, w.audited(t, "observation.created"))
}

func TestAWorkerThatLostItsJobStoresNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.record(t, w.event(1))[0]
	job := w.claim(t, *r.Job)
	commit, err := w.Handler(job.Kind)(t.Context(), job)
	require.NoError(t, err)
	_, _, err = w.CancelJob(t.Context(), w.me, job.ID)
	require.NoError(t, err)
	errs, err := w.jobs.Settle(t.Context(), []events.Step{completed(job)}, []func(context.Context, pgx.Tx) error{commit})
	require.NoError(t, err)
	require.ErrorIs(t, errs[0], events.ErrHeld)
	require.Zero(t, w.count(t, "observations"))
	require.Zero(t, w.audited(t, "generation_job.completed"))
	w.check(t)
}

func TestWhatAProvidersFaultMeans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cause := errors.New("cause")
	job := w.claim(t, *w.record(t, w.event(1))[0].Job)
	for _, fault := range []*llm.Error{
		{Fault: llm.FaultRefused, Err: cause},
		{Fault: llm.FaultExhausted, Err: cause},
		{Fault: llm.FaultExhausted, After: time.Hour, Err: cause},
		{Fault: llm.FaultBusy, After: time.Second, Err: cause},
		{Fault: llm.FaultBusy, Err: cause},
		{Fault: llm.FaultBroken, Err: cause},
		{Fault: llm.FaultDenied, Err: cause},
		{Fault: llm.FaultAnswer, Err: cause},
	} {
		w.provider.before = func(context.Context, llm.Question) (*llm.Answer, error) { return nil, fault }
		_, err := w.Handler(job.Kind)(t.Context(), job)
		require.ErrorIs(t, err, cause)
		// The pipeline's marks are told by their names: it keeps them to itself.
		mark := fmt.Sprintf("%T", err)
		switch {
		case fault.Fault == llm.FaultRefused:
			require.Equal(t, fmt.Sprintf("%T", pipeline.Permanent(cause)), mark)
		case fault.Fault != llm.FaultAnswer:
			require.Equal(t, fmt.Sprintf("%T", pipeline.Unavailable(1, cause)), mark)
		default:
			require.Same(t, fault, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.provider.before = nil
	_, err := w.Handler(job.Kind)(ctx, job)
	require.ErrorIs(t, err, context.Canceled)
}

// A job whose source is not its tenant's, or is gone, does nothing.
func TestASourceOfAnotherTenantIsNoSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.session(t, "s")
	r := w.record(t, w.event(1))[0]
	team, project := w.tenant(t, "other")
	for kind, source := range map[events.Kind]string{observe.KindEvent: r.Event.ID, observe.KindSummary: session.ID} {
		for _, scope := range []events.Scope{{Team: team, Project: project}, {Team: w.team, Project: project}, {Team: team, Project: w.project}} {
			_, err := w.Handler(kind)(t.Context(), events.Job{ID: "x", Kind: kind, Scope: scope, SourceID: source, Args: []byte(`{}`)})
			require.ErrorIs(t, err, observe.ErrNotFound)
			require.Equal(t, fmt.Sprintf("%T", pipeline.Permanent(err)), fmt.Sprintf("%T", err))
		}
	}
	require.Empty(t, w.provider.questions())
}

func TestNothingWorthRecordingIsNoFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.provider.before = func(context.Context, llm.Question) (*llm.Answer, error) { return &llm.Answer{Skipped: true}, nil }
	r := w.record(t, w.event(1))[0]
	w.do(t, r.Job.ID)
	require.Zero(t, w.count(t, "observations"))
	require.Equal(t, 1, w.audited(t, "generation_job.completed"))
	w.check(t)
}

func TestASummaryTellsOfAllTheSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.session(t, "s") // asks "make it faster"
	_, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{
		ProjectID: w.project, ExternalSessionID: new("s"), Metadata: json.RawMessage(`{"prompt":"and <private>x</private>smaller"}`),
	})
	require.NoError(t, err)
	var evs []observe.NewEvent
	for i := range 120 {
		e := w.event(i)
		e.ServerSessionID = &session.ID
		evs = append(evs, e)
	}
	last := w.event(500)
	last.ServerSessionID, last.EventType = &session.ID, "assistant_message"
	last.Payload = json.RawMessage(`{"last_assistant_message":"All done <private>hunter2</private>now."}`)
	got := w.record(t, append(evs, last)...)
	w.do(t, got[3].Job.ID)

	ended, job, err := w.EndSession(t.Context(), w.me, session.ID)
	require.NoError(t, err)
	require.NotNil(t, ended.EndedAt)
	require.Equal(t, observe.KindSummary, job.Kind)
	require.Equal(t, session.ID, job.SourceID)
	require.Equal(t, session.ID, observe.JobSession(*job))
	w.do(t, job.ID)

	questions := w.provider.questions()
	q := questions[len(questions)-1]
	require.Equal(t, llm.TaskSummarize, q.Task)
	require.Len(t, q.Events, 2+121)
	require.JSONEq(t, `{"prompt":"make it faster"}`, string(q.Events[0].Payload))
	require.JSONEq(t, `{"prompt":"and smaller"}`, string(q.Events[1].Payload))
	for i, r := range got {
		require.Equal(t, r.Event.ID, q.Events[2+i].ID, "oldest first, done or not")
	}
	require.Equal(t, "All done now.", q.LastMessage)
	require.Len(t, q.Notes, 1)
	require.NotEmpty(t, q.Notes[0].Title)

	var kind, content string
	require.NoError(t, w.pool.QueryRow(t.Context(),
		"SELECT kind, content FROM observations WHERE created_by_job_id = $1", string(job.ID)).Scan(&kind, &content))
	require.Equal(t, "summary", kind)
	require.Contains(t, content, "Request: ")
	require.NotContains(t, content, "hunter2")
	after, err := w.Session(t.Context(), w.me, session.ID)
	require.NoError(t, err)
	require.Equal(t, "completed", after.GenerationStatus)
	require.NotNil(t, after.LastGeneratedAt)
	w.check(t)
}

func TestASessionWithNothingToTellIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{ProjectID: w.project, Metadata: json.RawMessage(`{"prompt":"<private>x</private>"}`)})
	require.NoError(t, err)
	_, job, err := w.EndSession(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	w.do(t, job.ID)
	require.Empty(t, w.provider.questions())
	require.Zero(t, w.count(t, "observations"))
	w.check(t)
}

func TestAWorkerGetsAHandlerForEachKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	worker := pipeline.New(w.jobs, nil, pipeline.Config{})
	w.Register(worker)
	var kinds []events.Kind
	for _, lane := range worker.State().Lanes {
		kinds = append(kinds, lane.Kind)
	}
	require.ElementsMatch(t, observe.Kinds(), kinds)
}
