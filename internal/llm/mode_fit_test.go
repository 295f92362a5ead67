package llm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

// modeOf is a mode with these types and concepts, each "name" or "name: what it is".
func modeOf(t *testing.T, types, concepts []string) *llm.Mode {
	t.Helper()
	list := func(terms []string) string {
		var all []string
		for _, term := range terms {
			name, about, _ := strings.Cut(term, ": ")
			all = append(all, fmt.Sprintf(`{"name":%q,"description":%q}`, name, about))
		}
		return strings.Join(all, ",")
	}
	all, err := llm.Modes(fstest.MapFS{
		"mine/mode.json":  {Data: fmt.Appendf(nil, `{"types":[%s],"concepts":[%s],"tokens":{"observe":2000,"summary":2000}}`, list(types), list(concepts))},
		"mine/system.md":  {Data: []byte("a")},
		"mine/observe.md": {Data: []byte("b")},
		"mine/summary.md": {Data: []byte("c")},
	})
	require.NoError(t, err)
	return all["mine"]
}

// The offline extractor writes the types and concepts of the mode, whatever
// they are, and says the same of the events.
func TestTheExtractorKeepsToTheMode(t *testing.T) {
	t.Parallel()
	every := map[string]bool{} // type of the extractor's own: all occur in the sessions
	for name, tt := range map[string]struct {
		types, concepts []string
		as              map[string]string
	}{
		"none fits": {[]string{"promise", "letter"}, []string{"who"}, map[string]string{
			"bugfix": "promise", "feature": "promise", "refactor": "promise", "change": "promise", "discovery": "promise", "decision": "promise", "security_note": "promise",
		}},
		"by name": {[]string{"finding", "incident", "work-done", "agreement", "security-note"}, []string{"gotcha", "what-changed"}, map[string]string{
			"bugfix": "incident", "feature": "work-done", "refactor": "work-done", "change": "work-done", "discovery": "finding", "decision": "agreement", "security_note": "security-note",
		}},
		"by what it is": {[]string{"a: a thing that was learnt", "b: what was built or changed", "c: a choice"}, []string{"gotcha"}, map[string]string{
			"bugfix": "b", "feature": "b", "refactor": "b", "change": "b", "discovery": "a", "decision": "c", "security_note": "a",
		}},
		"some are the same": {[]string{"bugfix", "change", "discovery"}, []string{"how-it-works", "pattern"}, map[string]string{
			"bugfix": "bugfix", "feature": "change", "refactor": "change", "change": "change", "discovery": "discovery", "decision": "discovery", "security_note": "discovery",
		}},
	} {
		m := modeOf(t, tt.types, tt.concepts)
		var types, concepts []string
		for _, term := range m.Types {
			types = append(types, term.Name)
		}
		for _, term := range m.Concepts {
			concepts = append(concepts, term.Name)
		}
		for _, s := range allSessions(t) {
			q := llm.Question{Task: llm.TaskObserve, Events: s.events}
			own, err := llm.NewOffline().Answer(t.Context(), q)
			require.NoError(t, err)
			q.Mode = m
			got, err := llm.NewOffline().Answer(t.Context(), q)
			require.NoError(t, err)
			require.Len(t, got.Observations, len(own.Observations))
			for i, o := range got.Observations {
				was := own.Observations[i]
				every[was.Type] = true
				require.Contains(t, types, o.Type, name)
				require.Equal(t, tt.as[was.Type], o.Type, "%s: %s", name, was.Type)
				require.Equal(t, slices.DeleteFunc(slices.Clone(was.Concepts), func(c string) bool { return !slices.Contains(concepts, c) }), o.Concepts)
				was.Type, was.Concepts = o.Type, o.Concepts
				require.Equal(t, was, o, "nothing else differs")
			}
		}
	}
	for _, typ := range []string{"bugfix", "feature", "refactor", "change", "discovery", "decision"} {
		require.True(t, every[typ], "the sessions have a %s", typ)
	}
}

// A summary tells what was done from what was looked at also by the mode's
// own words.
func TestASummaryReadsTheModesTypes(t *testing.T) {
	t.Parallel()
	m := modeOf(t, []string{"finding", "work"}, []string{"who"})
	all, err := llm.Modes(nil)
	require.NoError(t, err)
	a, err := llm.NewOffline().Answer(t.Context(), llm.Question{Task: llm.TaskSummarize, Mode: m, Notes: []llm.Observation{
		{Type: "finding", Title: "How the relay starts"},
		{Type: "work", Title: "The relay polls", FilesModified: []string{"relay.go"}},
	}})
	require.NoError(t, err)
	require.Equal(t, &llm.Summary{Investigated: "How the relay starts.", Completed: "The relay polls.", Notes: "1 file changed: relay.go"}, a.Summary)
	for _, s := range allSessions(t) { // the mode that comes with obs is the extractor's own
		own, err := llm.NewOffline().Answer(t.Context(), llm.Question{Task: llm.TaskObserve, Events: s.events, Mode: all["code"]})
		require.NoError(t, err)
		plain, err := llm.NewOffline().Answer(t.Context(), llm.Question{Task: llm.TaskObserve, Events: s.events})
		require.NoError(t, err)
		require.Equal(t, plain, own)
	}
}

// A model that is not held to the schema says other words than the mode's.
func TestAModelKeepsToTheMode(t *testing.T) {
	t.Parallel()
	m := modeOf(t, []string{"finding", "incident", "work-done"}, []string{"who"})
	s := llmtest.New(t)
	for said, want := range map[string]string{
		"incident": "incident", "Work Done": "work-done", "bugfix": "incident", "feature": "work-done", "fix": "incident", "Discovery": "finding",
		"security_note": "finding", "whatever": "finding", "": "finding",
	} {
		s.Always(llmtest.Says(fmt.Sprintf(`{"observations":[{"type":%q,"title":"a title","narrative":"n"}]}`, said)))
		q := observing("e1")
		q.Mode = m
		a, err := openAI(t, s).Answer(t.Context(), q)
		require.NoError(t, err)
		require.Equal(t, want, a.Observations[0].Type, "%q", said)
	}
}
