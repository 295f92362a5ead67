package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

const planted = "hunter2"

// hidden are texts that hold the secret in a privacy tag, each its own way.
func hidden() []string {
	var all []string
	for _, name := range []string{"private", "claude-mem-context", "system_instruction", "system-instruction", "persisted-output", "system-reminder"} {
		all = append(all,
			fmt.Sprintf("before <%s>%s</%s> after", name, planted, name),
			fmt.Sprintf("before <%s>%s", name, planted),
			fmt.Sprintf("<%s reason=\"a > b\">\n%s\n</%s\n>", name, planted, name),
			fmt.Sprintf("<%s>x<%s>y</%s>%s</%s>", name, name, name, planted, name),
			fmt.Sprintf(`{"inner":"\u003c%s\u003e%s\u003c/%s\u003e"}`, name, planted, name),
			fmt.Sprintf(`{"inner":"<%s>%s<\/%s>"}`, name, planted, name),
			fmt.Sprintf("&lt;%s&gt;%s&lt;/%s&gt;", name, planted, name),
		)
	}
	return append(all, "<PRIVATE>"+planted+"</Private>", "a<private/>"+planted)
}

// Whatever way a secret goes in, no provider sees it and no observation, job
// or audit row holds it; the event itself keeps it.
func TestAPlantedSecretStaysWithTheEvent(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*observe.Config){"each": debounce(0), "burst": debounce(time.Minute)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, change)
			project, err := w.CreateProject(t.Context(), w.team, "named <private>"+planted+"</private>")
			require.NoError(t, err)
			w.project, w.me = project, w.caller(t, w.team, project, observe.ScopeAll)
			texts := hidden()
			// It answers with all that it was shown, so that nothing is lost on the way to the observations.
			w.provider.before = func(_ context.Context, q llm.Question) (*llm.Answer, error) {
				all := string(marshal(t, q))
				return &llm.Answer{
					Observations: []llm.Observation{{
						Type: "change", Title: all, Narrative: all, Facts: append([]string{all}, texts...), FilesRead: texts, Concepts: texts, FilesModified: texts,
					}},
					Summary: &llm.Summary{Request: all, Learned: texts[0], Notes: texts[1], Completed: texts[len(texts)-1]},
				}, nil
			}
			session, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{
				ProjectID: project, ExternalSessionID: new("s"), Metadata: marshal(t, map[string]string{"prompt": texts[0]}),
			})
			require.NoError(t, err)
			for i, text := range texts {
				shapes := []any{
					text,
					map[string]any{"tool_name": "Write", "tool_input": map[string]any{"content": text, "file_path": "/a/" + text}, "tool_response": []any{text, 1}},
					map[string]any{text: "key", "nested": map[string]any{text: []any{text}}},
					map[string]any{"prompt": text},
					map[string]any{"last_assistant_message": text},
					map[string]any{"tool_name": "Edit", "tool_response": map[string]any{"structuredPatch": []any{
						map[string]any{"lines": []string{"+<private>", "+" + planted}}, map[string]any{"lines": []string{" " + planted, "+</private>"}},
					}}},
					map[string]any{"tool_name": "Bash", "tool_input": map[string]string{"command": "echo " + text}, "tool_response": string(marshal(t, map[string]string{"stdout": text}))},
				}
				var evs []observe.NewEvent
				for k, shape := range shapes {
					e := w.event(i*len(shapes) + k)
					e.ServerSessionID, e.Payload = &session.ID, marshal(t, shape)
					e.EventType, e.PlatformSource, e.HasPlatform = text, &text, true
					evs = append(evs, e)
				}
				w.record(t, evs...)
			}
			_, _, err = w.EndSession(t.Context(), w.me, session.ID)
			require.NoError(t, err)
			for w.doAll(t) > 0 {
			}
			_, err = w.Reindex(t.Context(), w.me, project, "")
			require.NoError(t, err)
			w.doAll(t)

			require.NotEmpty(t, w.provider.questions())
			for _, q := range w.provider.questions() {
				require.NotContains(t, string(marshal(t, q)), planted)
			}
			require.NotZero(t, w.count(t, "observations"))
			for _, table := range []string{"observations", "observation_sources", "observation_generation_jobs", "observation_generation_job_events", "audit_log", "outbox", "job_feed"} {
				var n int
				require.NoError(t, w.pool.QueryRow(t.Context(),
					"SELECT count(*) FROM "+table+" t WHERE t::text LIKE '%"+planted+"%'").Scan(&n))
				require.Zero(t, n, table)
			}
			var raw int
			require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT count(*) FROM agent_events WHERE payload::text LIKE '%"+planted+"%'").Scan(&raw))
			require.Equal(t, len(texts)*7, raw, "the events are kept as they came")
			w.check(t)
		})
	}
}

// An event that privacy leaves nothing of is not asked about, and its job is
// done.
func TestAWhollyPrivateEventIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, payload := range []any{
		"<private>" + planted + "</private>",
		map[string]any{"a": "<private>" + planted + "</private>", "b": []any{" ", "<system-reminder>x"}, "n": 1},
	} {
		e := w.event(i)
		e.Payload = marshal(t, payload)
		r := w.record(t, e)[0]
		w.do(t, r.Job.ID)
		require.Equal(t, "completed", string(w.read(t, r.Job.ID).Status))
	}
	require.Empty(t, w.provider.questions())
	require.Zero(t, w.count(t, "observations"))
	var details json.RawMessage
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT details FROM audit_log WHERE action = 'observation.generated' LIMIT 1").Scan(&details))
	require.JSONEq(t, `{"observations":0,"events":0,"private":1}`, string(details))
	w.check(t)
}
