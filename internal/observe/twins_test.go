package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/pipeline"
)

// model is a provider that words the same thing differently each time.
type model struct {
	mu   sync.Mutex
	says []llm.Observation // one an answer, then from the beginning
	n    int
}

func (*model) Name() string { return "model" }

func (m *model) Answer(context.Context, llm.Question) (llm.Answer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.says[m.n%len(m.says)]
	m.n++
	return llm.Answer{Observations: []llm.Observation{o}}, nil
}

func says(all ...llm.Observation) func(*observe.Config) {
	return func(cfg *observe.Config) { cfg.Provider = &model{says: all} }
}

// use is a tool use of a session, as it is reported at a time by some hook.
func (w *world) use(session string, at int64, source, payload string) observe.NewEvent {
	return observe.NewEvent{
		ProjectID: w.project, SourceType: source, EventType: "tool_use", OccurredAtEpoch: at, ServerSessionID: &session,
		Payload: json.RawMessage(payload),
	}
}

const written = `{"tool_name":"Write","tool_input":{"file_path":"/src/a.go","content":"package a\n\nfunc New() {}\n"},"tool_response":{"type":"create"}%s}`

// requireOne asserts that the events rest on one observation, and it on all.
func (w *world) requireOne(t *testing.T, got ...observe.Recorded) {
	t.Helper()
	ids := map[string]bool{}
	for _, r := range got {
		found, err := w.EventObservations(t.Context(), w.me, r.Event.ID)
		require.NoError(t, err)
		require.Len(t, found, 1)
		ids[found[0].ID] = true
		require.Equal(t, string(r.Job.ID), *found[0].Source.GenerationJobID, "each source says whose it is")
	}
	require.Len(t, ids, 1)
	w.check(t)
}

func TestAToolUseThatIsToldTwiceIsOneObservation(t *testing.T) {
	t.Parallel()
	for name, twice := range map[string][2]string{
		"at another time":                {fmt.Sprintf(written, ""), fmt.Sprintf(written, "")},
		"by its id, from another folder": {fmt.Sprintf(written, `,"tool_use_id":"toolu_1"`), fmt.Sprintf(written, `,"tool_use_id":"toolu_1","cwd":"/src","permission_mode":"plan"`)},
		"by its id":                      {fmt.Sprintf(written, `,"tool_use_id":"toolu_1"`), fmt.Sprintf(written, `,"tool_use_id":"toolu_1","cwd":"/"`)},
	} {
		for provider, change := range map[string][]func(*observe.Config){
			"offline": nil,
			"a model": {says(llm.Observation{Type: "feature", Title: "A constructor"}, llm.Observation{Type: "change", Title: "New in another file"})},
		} {
			t.Run(name+", "+provider, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, change...)
				s := w.session(t, "s")
				got := w.record(t, w.use(s.ID, 1000, "hook", twice[0]), w.use(s.ID, 2000, "api", twice[1]))
				require.NotEqual(t, got[0].Event.ID, got[1].Event.ID, "what was told is all kept")
				w.do(t, got[0].Job.ID)
				w.do(t, got[1].Job.ID)
				require.Equal(t, 1, w.count(t, "observations"))
				w.requireOne(t, got...)

				// In another session it is another one.
				other := w.record(t, w.use(w.session(t, "t").ID, 1000, "hook", twice[0]))
				w.do(t, other[0].Job.ID)
				require.Equal(t, 2, w.count(t, "observations"))
			})
		}
	}
}

// Two jobs of one transaction, and two of two workers at the same moment.
func TestTwinsThatAreSettledAtOnce(t *testing.T) {
	t.Parallel()
	near := []llm.Observation{
		{Type: "bugfix", Title: "The relay lost its lease when its clock ran ahead of the database, by four seconds", Narrative: "One clock decides now, the database's, and workers ask it again."},
		{Type: "bugfix", Title: "The relay lost its lease when its clock ran ahead of the database by four seconds!", Narrative: "One clock decides now: the database's, and the workers ask it again."},
	}
	for provider, change := range map[string][]func(*observe.Config){"offline": nil, "a model": {says(near...)}} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, change...)
			s := w.session(t, "s")
			settle := func(got ...observe.Recorded) {
				var steps []events.Step
				var commits []func(context.Context, pgx.Tx) error
				for _, r := range got {
					job := w.claim(t, w.read(t, r.Job.ID))
					commit, err := w.Handler(job.Kind)(t.Context(), job)
					require.NoError(t, err)
					steps, commits = append(steps, completed(job)), append(commits, commit)
				}
				errs, err := w.jobs.Settle(t.Context(), steps, commits)
				require.NoError(t, err)
				for _, err := range errs {
					require.NoError(t, err)
				}
			}
			var uses []observe.NewEvent
			for i := range 12 {
				payload := fmt.Sprintf(written, "")
				if provider != "offline" { // not the same tool use: a model says of two what is nearly the same
					payload = fmt.Sprintf(written, fmt.Sprintf(`,"tool_use_id":"toolu_%d"`, i))
				}
				uses = append(uses, w.use(s.ID, int64(i)*1000, "hook", payload))
			}
			got := w.record(t, uses...)
			settle(got[0], got[1])
			var all sync.WaitGroup
			for _, r := range got[2:] {
				all.Go(func() { settle(r) })
			}
			all.Wait()
			require.Equal(t, 1, w.count(t, "observations"))
			w.requireOne(t, got...)
		})
	}
}

// Not everything that is alike is the same.
func TestWhatDiffersIsNotMerged(t *testing.T) {
	t.Parallel()
	notes := []llm.Observation{
		{Type: "change", Title: "maxAttempts in relay.go: 3 → 5", Narrative: "The relay tries five times before it gives a message up for lost."},
		{Type: "change", Title: "maxAttempts in relay.go: 5 → 7", Narrative: "The relay tries five times before it gives a message up for lost."},
		{Type: "change", Title: "maxAttempts in relay.go: 3 → 5", Narrative: "The relay tries not five times before it gives a message up for lost."},
		{Type: "bugfix", Title: "maxAttempts in relay.go: 3 → 5", Narrative: "The relay tries five times before it gives a message up for lost."},
		{Type: "change", Title: "minAttempts in relay.go: 3 → 5", Narrative: "The relay tries five times before it gives a message up for lost."},
	}
	w := newWorld(t, says(notes...))
	s := w.session(t, "s")
	for i := range notes {
		got := w.record(t, w.use(s.ID, int64(i), "hook", fmt.Sprintf(`{"tool_name":"Bash","tool_input":{"command":"x%d"}}`, i)))
		w.do(t, got[0].Job.ID)
	}
	require.Equal(t, len(notes), w.count(t, "observations"))
	w.check(t)
}

// asks has a worker ask a model behind a real API, of which every call counts.
func asks(t *testing.T, s *llmtest.Server) func(*observe.Config) {
	t.Helper()
	p, err := llm.Open(llm.Config{Provider: "openai", URL: s.URL, Key: "k", Timeout: time.Minute})
	require.NoError(t, err)
	return func(cfg *observe.Config) { cfg.Provider = p }
}

// The second report of a tool use costs no answer: it is known before anybody
// is asked.
func TestATwinIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	w := newWorld(t, asks(t, s))
	session := w.session(t, "s").ID
	plain := fmt.Sprintf(written, "")
	got := w.record(t, w.use(session, 1000, "hook", plain), w.use(session, 2000, "api", plain), w.use(session, 3000, "hook", plain))
	w.do(t, got[0].Job.ID)
	w.do(t, got[1].Job.ID)
	w.do(t, got[2].Job.ID)
	require.Len(t, s.Asked(), 1)
	w.requireOne(t, got...)
	for i, want := range []string{"", "same tool use as " + got[0].Event.ID, "same tool use as " + got[0].Event.ID} {
		require.Equal(t, want, w.why(t, got[i].Job.ID))
	}
	entries := w.audit(t, w.me, observe.AuditFilter{Action: "observation.generated", Limit: 1})
	require.Contains(t, string(entries[0].Details), fmt.Sprintf(`"same_tool_use_as": %q`, got[0].Job.ID))
	used, err := w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	require.EqualValues(t, 120, used.Totals[observe.UsageTokens])

	// Another use, and the same one of another session, are asked about.
	other := w.record(t, w.use(session, 1, "hook", `{"tool_name":"Bash","tool_input":{"command":"x"}}`), w.use(w.session(t, "t").ID, 1, "hook", plain))
	w.do(t, other[0].Job.ID)
	w.do(t, other[1].Job.ID)
	require.Len(t, s.Asked(), 3)

	// What the first one found may have been taken away since: it is not found again.
	for _, o := range []observe.Recorded{got[0], other[1]} {
		found, err := w.EventObservations(t.Context(), w.me, o.Event.ID)
		require.NoError(t, err)
		require.NoError(t, w.DeleteMemory(t.Context(), w.me, found[0].ID))
	}
	late := w.record(t, w.use(session, 4000, "hook", plain))
	w.do(t, late[0].Job.ID)
	require.Len(t, s.Asked(), 3)
	found, err := w.EventObservations(t.Context(), w.me, late[0].Event.ID)
	require.NoError(t, err)
	require.Empty(t, found)

	// One about which there was nothing to say has a twin of which the same holds.
	s.Always(llmtest.Says(`{"skip":true}`))
	quiet := w.record(t, w.use(session, 1, "hook", `{"tool_name":"Bash","tool_input":{"command":"y"}}`), w.use(session, 2, "hook", `{"tool_name":"Bash","tool_input":{"command":"y"}}`))
	w.do(t, quiet[0].Job.ID)
	w.do(t, quiet[1].Job.ID)
	require.Len(t, s.Asked(), 4)

	// Purged, nothing is left of it.
	_, err = w.Purge(t.Context(), w.caller(t, w.team, "", observe.ScopeAll), w.project)
	require.NoError(t, err)
	require.Zero(t, w.count(t, "tool_uses"))
	w.check(t)
}

// Twins in flight at once: one asks, the others wait for it and lose no attempt.
func TestTwinsInFlightAskOnce(t *testing.T) {
	t.Parallel()
	const twins = 8
	s := llmtest.New(t)
	w := newWorld(t, asks(t, s))
	session := w.session(t, "s").ID
	var uses []observe.NewEvent
	for i := range twins {
		uses = append(uses, w.use(session, int64(i), "hook", fmt.Sprintf(written, `,"tool_use_id":"toolu_1"`)))
	}
	got := w.record(t, uses...)
	jobs := make([]events.Job, twins)
	commits, errs := make([]pipeline.Commit, twins), make([]error, twins)
	for i, r := range got {
		jobs[i] = w.claim(t, w.read(t, r.Job.ID))
	}
	var all sync.WaitGroup
	for i, job := range jobs {
		all.Go(func() { commits[i], errs[i] = w.Handler(job.Kind)(t.Context(), job) })
	}
	all.Wait()
	require.Len(t, s.Asked(), 1)
	first := slices.IndexFunc(errs, func(err error) bool { return err == nil })
	require.GreaterOrEqual(t, first, 0)
	for i, err := range errs {
		if i != first {
			require.ErrorContains(t, err, string(jobs[first].ID)+" is about the same tool use and not done yet")
			require.Equal(t, fmt.Sprintf("%T", pipeline.Hold(1, errors.New("x"))), fmt.Sprintf("%T", err))
		}
	}
	settled, err := w.jobs.Settle(t.Context(), []events.Step{completed(jobs[first])}, []func(context.Context, pgx.Tx) error{commits[first]})
	require.NoError(t, err)
	require.NoError(t, settled[0])
	for i, job := range jobs {
		if i != first {
			w.finish(t, job)
		}
	}
	require.Len(t, s.Asked(), 1)
	w.requireOne(t, got...)
}

// A job that failed or was cancelled leaves the tool use to its twin.
func TestATwinOfAFailedJobIsAskedAbout(t *testing.T) {
	t.Parallel()
	for _, end := range []events.Type{events.Failed, events.Cancelled} {
		t.Run(string(end), func(t *testing.T) {
			t.Parallel()
			s := llmtest.New(t)
			w := newWorld(t, asks(t, s))
			session := w.session(t, "s").ID
			plain := fmt.Sprintf(written, "")
			got := w.record(t, w.use(session, 1, "hook", plain), w.use(session, 2, "hook", plain))
			job := w.claim(t, w.read(t, got[0].Job.ID))
			s.Plan(llmtest.Status(400, "context_length_exceeded"))
			_, err := w.Handler(job.Kind)(t.Context(), job)
			require.Error(t, err)
			if end == events.Cancelled {
				_, _, err = w.CancelJob(t.Context(), w.me, job.ID)
				require.NoError(t, err)
			} else {
				errs, err := w.jobs.Settle(t.Context(), []events.Step{{Job: job, Event: events.Event{Type: end, Actor: "worker", Process: holder.ID, Reason: "x"}}},
					[]func(context.Context, pgx.Tx) error{nil})
				require.NoError(t, err)
				require.NoError(t, errs[0])
			}
			w.do(t, got[1].Job.ID)
			require.Len(t, s.Asked(), 2)
			require.Equal(t, 1, w.count(t, "observations"))

			// Tried again, the first is the twin.
			_, _, err = w.RetryJob(t.Context(), w.me, got[0].Job.ID)
			require.NoError(t, err)
			w.do(t, got[0].Job.ID)
			require.Len(t, s.Asked(), 2)
			w.requireOne(t, got...)
		})
	}
}

// In a burst the second report is not shown, and is a source all the same.
func TestTwinsOfABurstAreShownOnce(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	w := newWorld(t, asks(t, s), debounce(time.Minute))
	session := w.session(t, "s").ID
	plain := fmt.Sprintf(written, "")
	got := w.record(t, w.use(session, 1, "hook", plain), w.use(session, 2, "api", plain), w.use(session, 3, "hook", `{"tool_name":"Bash","tool_input":{"command":"x"}}`))
	w.do(t, got[0].Job.ID)
	require.Len(t, s.Asked(), 1)
	require.Equal(t, 2, strings.Count(s.Asked()[0].Raw, `u003cagent_event id=`)+strings.Count(s.Asked()[0].Raw, `<agent_event id=`))
	for i, want := range []int{1, 1, 0} { // the note is on the first event
		found, err := w.EventObservations(t.Context(), w.me, got[i].Event.ID)
		require.NoError(t, err)
		require.Len(t, found, want)
	}
	prompts, err := w.JobPrompts(t.Context(), w.me, got[0].Job.ID, true)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(prompts.Prompts[0].User, "<agent_event id="))
	w.check(t)
}

// A tool use that is told again in a later burst is not asked about again,
// whoever writes: its event rests on what the first burst found.
func TestTwinsOfAnotherBurst(t *testing.T) {
	t.Parallel()
	for _, provider := range []string{"offline", "a model"} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			s := llmtest.New(t)
			change := []func(*observe.Config){debounce(time.Minute)}
			if provider != "offline" {
				change = append(change, asks(t, s))
			}
			w := newWorld(t, change...)
			asked := func() int {
				if provider != "offline" {
					return len(s.Asked())
				}
				return len(w.provider.questions())
			}
			session := w.session(t, "s").ID
			plain, id := fmt.Sprintf(written, ""), fmt.Sprintf(written, `,"tool_use_id":"toolu_1"`)
			bash := `{"tool_name":"Bash","tool_input":{"command":"go test ./a"},"tool_response":{"exit_code":1,"stdout":"--- FAIL: TestA\n    a_test.go:3: broken"}}`
			first := w.record(t, w.use(session, 1, "hook", plain), w.use(session, 2, "hook", id))
			w.do(t, first[0].Job.ID)
			require.Equal(t, 1, asked())
			require.Empty(t, w.why(t, first[0].Job.ID))
			before := w.count(t, "observations")

			// All of it again: nobody is asked.
			again := w.record(t, w.use(session, 3, "api", plain), w.use(session, 4, "api", id), w.use(session, 5, "hook", id))
			require.NotEqual(t, first[0].Job.ID, again[0].Job.ID)
			w.do(t, again[0].Job.ID)
			require.Equal(t, 1, asked())
			require.Equal(t, before, w.count(t, "observations"))
			for _, r := range first {
				require.Contains(t, w.why(t, again[0].Job.ID), r.Event.ID)
			}
			require.True(t, strings.HasPrefix(w.why(t, again[0].Job.ID), "same tool use as "))
			of := func(r observe.Recorded) (ids []string) {
				found, err := w.EventObservations(t.Context(), w.me, r.Event.ID)
				require.NoError(t, err)
				for _, o := range found {
					ids = append(ids, o.ID)
				}
				return ids
			}
			for i, r := range again {
				require.Equal(t, of(first[min(i, 1)]), of(r))
			}
			prompts, err := w.JobPrompts(t.Context(), w.me, again[0].Job.ID, true)
			require.NoError(t, err)
			require.Empty(t, prompts.Prompts)
			require.Equal(t, 3, prompts.Told)

			// Some of it again: the question is about the rest.
			third := w.record(t, w.use(session, 6, "api", plain), w.use(session, 7, "hook", bash))
			w.do(t, third[0].Job.ID)
			require.Equal(t, 2, asked())
			require.Equal(t, "1 of 2 events: same tool use as "+first[0].Event.ID, w.why(t, third[0].Job.ID))
			require.NotEmpty(t, of(third[1]))
			if provider != "offline" {
				require.Equal(t, 1, strings.Count(s.Asked()[1].Raw, "agent_event id="))
			}
			prompts, err = w.JobPrompts(t.Context(), w.me, third[0].Job.ID, true)
			require.NoError(t, err)
			require.Len(t, prompts.Prompts, 1)
			require.Equal(t, 1, prompts.Told)

			// That a tool is about to be used is another thing than what came of it.
			before4 := w.record(t, w.use(session, 8, "hook", `{"tool_name":"Write","tool_input":{"file_path":"/src/b.go"},"tool_use_id":"toolu_2"}`))
			w.do(t, before4[0].Job.ID)
			after := w.record(t, w.use(session, 9, "hook", `{"tool_name":"Write","tool_input":{"file_path":"/src/b.go","content":"package b\n\nfunc New() {}\n"},"tool_response":{"type":"create"},"tool_use_id":"toolu_2"}`))
			w.do(t, after[0].Job.ID)
			require.Equal(t, 4, asked())
			require.NotEmpty(t, of(after[0]))
			w.check(t)
		})
	}
}

// Bursts that tell each other's tool uses wait for one that waits for nobody.
func TestBurstsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	w := newWorld(t, asks(t, s), debounce(time.Minute))
	session := w.session(t, "s").ID
	use := func(n int) string { return fmt.Sprintf(`{"tool_name":"Bash","tool_input":{"command":"x%d"}}`, n) }
	var jobs []events.Job
	for burst := range 4 { // each has two in common with the next one, and one with the one after that
		var uses []observe.NewEvent
		for n := range 3 {
			uses = append(uses, w.use(session, int64(10*burst+n), "hook", use((burst+n)%4)))
		}
		jobs = append(jobs, w.claim(t, w.read(t, w.record(t, uses...)[0].Job.ID)))
	}
	commits, errs := make([]pipeline.Commit, len(jobs)), make([]error, len(jobs))
	for len(jobs) > 0 {
		var all sync.WaitGroup
		for i, job := range jobs {
			all.Go(func() { commits[i], errs[i] = w.Handler(job.Kind)(t.Context(), job) })
		}
		all.Wait()
		var waiting []events.Job
		for i, job := range jobs {
			why, done := errors.AsType[pipeline.Done](errs[i])
			if errs[i] != nil && !done {
				require.ErrorContains(t, errs[i], "is about the same tool use and not done yet")
				waiting = append(waiting, job)
				continue
			}
			step := completed(job)
			step.Event.Reason = string(why)
			settled, err := w.jobs.Settle(t.Context(), []events.Step{step}, []func(context.Context, pgx.Tx) error{commits[i]})
			require.NoError(t, err)
			require.NoError(t, settled[0])
		}
		require.Less(t, len(waiting), len(jobs), "one of them goes on")
		jobs = waiting
	}
	shown := 0
	for _, asked := range s.Asked() {
		shown += strings.Count(asked.Raw, "agent_event id=")
	}
	require.Equal(t, 4, shown, "each tool use was asked about once")
	w.check(t)
}

// The offline extractor costs nothing, and no statement for this.
func TestTheOfflineExtractorNotesNoToolUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.record(t, w.use(w.session(t, "s").ID, 1, "hook", fmt.Sprintf(written, "")))
	w.do(t, got[0].Job.ID)
	require.Zero(t, w.count(t, "tool_uses"))
	require.Zero(t, w.count(t, "observation_vectors"))
}

// What is remembered of tool uses goes with the jobs, and a twin that comes
// later still is no second observation.
func TestPrunedTwinsAreForgotten(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	w := newWorld(t, asks(t, s))
	session := w.session(t, "s").ID
	plain := fmt.Sprintf(written, "")
	got := w.record(t, w.use(session, 1, "hook", plain))
	w.do(t, got[0].Job.ID)
	require.Equal(t, 1, w.count(t, "tool_uses"))
	_, err := w.Prune(t.Context(), w.caller(t, w.team, "", observe.ScopeAll), w.project, observe.PruneConfig{Before: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.Zero(t, w.count(t, "tool_uses"))
	late := w.record(t, w.use(session, 2, "hook", plain))
	w.do(t, late[0].Job.ID)
	require.Len(t, s.Asked(), 2)
	require.Equal(t, 1, w.count(t, "observations"))
}
