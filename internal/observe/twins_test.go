package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
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
		"at another time": {fmt.Sprintf(written, ""), fmt.Sprintf(written, "")},
		"by its id":       {fmt.Sprintf(written, `,"tool_use_id":"toolu_1"`), fmt.Sprintf(written, `,"tool_use_id":"toolu_1","cwd":"/"`)},
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
