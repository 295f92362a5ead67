package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/secrets/secretstest"
)

func (w *world) set(t *testing.T, ch observe.SettingsChange) {
	t.Helper()
	require.NoError(t, w.SetSettings(t.Context(), w.me, w.project, ch))
}

// asModel makes the provider one that is asked in words.
func (w *world) asModel() { w.provider.Provider = named{w.provider.Provider, "openai"} }

type named struct {
	llm.Provider
	name string
}

func (n named) Name() string { return n.name }

func (n named) Answer(ctx context.Context, q llm.Question) (llm.Answer, error) {
	a, err := n.Provider.Answer(ctx, q)
	a.Provider = n.name
	return a, err
}

// A project's storage takes out of what is stored what it says, and the
// event's id and key stay those of what was sent.
func TestStorageIsWhatTheProjectWants(t *testing.T) {
	t.Parallel()
	const private, plainText = "hunter2", "kept"
	secret := "AKIA" + "QWERTYUIOPASDFGH"
	text := "a <private>" + private + "</private> b " + secret + " " + plainText
	raw := newWorld(t)
	ids := map[string]string{}
	for _, storage := range append(observe.Storages(), "") {
		w := newWorldOn(t, raw.pool)
		w.set(t, observe.SettingsChange{Storage: &storage})
		e := w.event(1)
		e.Payload = marshal(t, map[string]any{"prompt": text, "list": []string{"<private>", private, "</private>"}, "deep": map[string]string{text: "x"}})
		e.EventType, e.Metadata = text, marshal(t, map[string]string{"m": text})
		e.ProjectID = w.project
		first := w.record(t, e)[0]
		again := w.record(t, e)[0]
		require.False(t, again.Created, "the identity is of what was sent")
		require.Equal(t, first.Event.ID, again.Event.ID)
		session, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{ProjectID: w.project, ExternalSessionID: new("s"), Metadata: marshal(t, map[string]string{"prompt": text})})
		require.NoError(t, err)
		narrow := w.caller(t, w.team, w.project, observe.ScopeAll)
		_, _, err = w.Summarize(t.Context(), narrow, "s", nil, text)
		require.NoError(t, err)
		var event, kept string
		require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT t::text FROM agent_events t WHERE id = $1", first.Event.ID).Scan(&event))
		require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT string_agg(t::text, ' ') FROM server_sessions t WHERE project_id = $1", w.project).Scan(&kept))
		for _, stored := range []string{event, kept} {
			require.Contains(t, stored, plainText)
			require.Equal(t, storage == "" || storage == observe.StorageRaw, strings.Contains(stored, private), storage)
			require.Equal(t, storage != observe.StorageRedacted, strings.Contains(stored, secret), storage)
			require.Equal(t, storage == observe.StorageRedacted, strings.Contains(stored, "[redacted:aws-access-token]"), storage)
		}
		require.NotEmpty(t, session.ID)
		ids[storage] = first.Event.ID
	}
	require.Len(t, ids, 4)
	raw.check(t)
}

// A change counts at once in the process that made it, and elsewhere soon; the
// audit tells of it without the texts.
func TestSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	texts := llm.Texts{Observe: "Only decisions, please: {types}"}
	w.set(t, observe.SettingsChange{Storage: new(observe.StorageRedacted), Texts: &texts, Policy: &observe.Policy{Name: observe.PolicyDebounce}})
	set, err := w.ProjectSettings(t.Context(), w.me, w.project)
	require.NoError(t, err)
	require.Equal(t, observe.Settings{Storage: observe.StorageRedacted, Texts: texts}, set)
	p, err := w.ProjectPolicy(t.Context(), w.me, w.project)
	require.NoError(t, err)
	require.Equal(t, observe.PolicyDebounce, p.Name)

	w.set(t, observe.SettingsChange{Storage: new("")})
	set, err = w.ProjectSettings(t.Context(), w.me, w.project)
	require.NoError(t, err)
	require.Equal(t, observe.Settings{Texts: texts}, set, "what is not named stays")
	w.set(t, observe.SettingsChange{Texts: &llm.Texts{}, Mode: new("code")})
	set, err = w.ProjectSettings(t.Context(), w.me, w.project)
	require.NoError(t, err)
	require.Equal(t, observe.Settings{Mode: "code"}, set)
	w.same(t, func() { w.set(t, observe.SettingsChange{}) })

	entries := w.audit(t, w.me, observe.AuditFilter{Action: "project.settings"})
	require.Len(t, entries, 3)
	require.NotContains(t, fmt.Sprint(entries), "Only decisions")
	require.Equal(t, 1, w.audited(t, "project.policy"))

	for _, bad := range []observe.SettingsChange{
		{Storage: new("elsewhere")},
		{Mode: new("nobody")},
		{Texts: &llm.Texts{System: strings.Repeat("x", 17<<10)}},
		{Texts: &llm.Texts{Summary: "a\x00"}},
		{Policy: &observe.Policy{Name: "sometimes"}},
	} {
		w.same(t, func() { require.ErrorIs(t, w.SetSettings(t.Context(), w.me, w.project, bad), observe.ErrInvalid) })
	}
}

// Each project is asked about in its own mode and words, and its observations
// say which those were.
func TestModesAndWordsAreAProjectsOwn(t *testing.T) {
	t.Parallel()
	modes, err := llm.Modes(fstest.MapFS{
		"mail/mode.json":  {Data: []byte(`{"types":[{"name":"promise","description":"who owes what"}],"concepts":[{"name":"who","description":"a person"}],"tokens":{"observe":2000,"summary":2000}}`)},
		"mail/system.md":  {Data: []byte("You read letters.")},
		"mail/observe.md": {Data: []byte("Types:\n{types}")},
		"mail/summary.md": {Data: []byte("Sum up.")},
	})
	require.NoError(t, err)
	w := newWorld(t, func(c *observe.Config) { c.Modes = modes })
	w.asModel()
	require.Equal(t, []string{"code", "mail"}, w.Modes())
	home := w.project
	other, err := w.CreateProject(t.Context(), w.team, "other")
	require.NoError(t, err)
	w.me = w.caller(t, w.team, "", observe.ScopeAll)
	w.set(t, observe.SettingsChange{Mode: new("mail")})
	require.NoError(t, w.SetSettings(t.Context(), w.me, other, observe.SettingsChange{Texts: &llm.Texts{Observe: "Only decisions."}}))
	versions := map[string]string{}
	for i, project := range []string{home, other} {
		e := w.event(i)
		e.ProjectID = project
		job := w.record(t, e)[0].Job
		shown, err := w.JobPrompts(t.Context(), w.me, job.ID, true)
		require.NoError(t, err)
		require.Len(t, shown.Prompts, 1)
		w.do(t, job.ID)
		asked := w.provider.questions()
		require.Equal(t, asked[len(asked)-1].Prompt(true), shown.Prompts[0], "it is exactly what was sent")
		var prompt string
		require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT metadata->>'prompt' FROM observations WHERE project_id = $1 LIMIT 1", project).Scan(&prompt))
		require.Equal(t, shown.Prompts[0].Version, prompt)
		versions[project] = prompt + shown.Prompts[0].System
	}
	require.Contains(t, versions[home], "mail@")
	require.Contains(t, versions[home], "You read letters.")
	require.Contains(t, versions[home], "- promise: who owes what")
	require.Contains(t, versions[other], "code@")
	require.Contains(t, versions[other], "Only decisions.")
	require.NotContains(t, versions[other], "Write a note on each thing")

	// A mode that this process does not know, because another one set it.
	elsewhere := newWorldOn(t, w.pool)
	elsewhere.team, elsewhere.project, elsewhere.me = w.team, home, w.me
	shown, err := elsewhere.JobPrompts(t.Context(), w.me, w.record(t, w.event(7))[0].Job.ID, false)
	require.NoError(t, err)
	require.Contains(t, shown.Prompts[0].Version, "code@")
}

// What is shown of a job is what its provider is sent, for each kind of job,
// before and after it was done.
func TestTheShownPromptIsTheOneThatIsSent(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*observe.Config){"each": debounce(0), "burst": debounce(1 << 40)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, change)
			s := w.session(t, "s")
			w.record(t, w.inSession(1, s.ID), w.inSession(2, s.ID))
			_, job, err := w.EndSession(t.Context(), w.me, s.ID)
			require.NoError(t, err)
			jobs, _, err := w.ListJobs(t.Context(), w.me, observe.JobFilter{Limit: 200})
			require.NoError(t, err)
			kinds := map[string]bool{}
			for _, j := range jobs {
				if j.ID == job.ID {
					continue
				}
				before, err := w.JobPrompts(t.Context(), w.me, j.ID, false)
				require.NoError(t, err)
				w.do(t, j.ID)
				asked := w.provider.questions()
				require.Equal(t, []llm.Prompt{asked[len(asked)-1].Prompt(false)}, before.Prompts)
				after, err := w.JobPrompts(t.Context(), w.me, j.ID, false)
				require.NoError(t, err)
				require.Equal(t, before.Prompts, after.Prompts)
				kinds[string(j.Kind)] = true
			}
			sum, err := w.JobPrompts(t.Context(), w.me, job.ID, true)
			require.NoError(t, err)
			require.Equal(t, llm.TaskSummarize, sum.Task)
			w.do(t, job.ID)
			asked := w.provider.questions()
			require.Equal(t, []llm.Prompt{asked[len(asked)-1].Prompt(true)}, sum.Prompts)
			require.Contains(t, sum.Prompts[0].User, "<note type=", "the notes are in it")
			require.Contains(t, sum.Prompts[0].User, "make it faster", "and the prompt")
			require.Contains(t, sum.Prompts[0].User, "openBatch1.go", "and the events")
			require.Len(t, kinds, 1)

			re, err := w.Reindex(t.Context(), w.me, w.project, "")
			require.NoError(t, err)
			_, err = w.JobPrompts(t.Context(), w.me, re.ID, true)
			require.ErrorIs(t, err, observe.ErrConflict)
			empty := w.event(9)
			empty.Payload = json.RawMessage(`"<private>all of it</private>"`)
			none, err := w.JobPrompts(t.Context(), w.me, w.record(t, empty)[0].Job.ID, true)
			require.NoError(t, err)
			require.Empty(t, none.Prompts)
			require.Equal(t, 1, none.Private)
		})
	}
}

// No planted secret leaves, of whatever kind and wherever it stands: not in
// what a provider is asked, not in what is stored of its answer, which quotes
// it all, not in a log, not in a prompt that is shown.
func TestNoSecretLeaves(t *testing.T) {
	t.Parallel()
	planted := secretstest.Planted(3)
	kinds := map[string]bool{}
	for _, s := range planted {
		kinds[s.Kind] = true
	}
	require.GreaterOrEqual(t, len(planted), 60)
	require.GreaterOrEqual(t, len(kinds), 20)
	for name, model := range map[string]bool{"offline": false, "a provider that quotes": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said spoken
			w := newWorld(t, debounce(1<<40), func(c *observe.Config) { c.Log = said.logger() })
			if model {
				w.asModel()
				w.provider.before = func(_ context.Context, q llm.Question) (*llm.Answer, error) {
					// It was shown no secret, and makes one up all the same.
					all := string(marshal(t, q)) + planted[0].Text
					return &llm.Answer{
						Observations: []llm.Observation{{Type: "change", Title: all, Narrative: all, Facts: []string{all, planted[1].Text}, FilesRead: []string{planted[2].Text}, Concepts: []string{planted[3].Text}}},
						Summary:      &llm.Summary{Request: all, Learned: planted[4].Text, Notes: planted[5].Text},
					}, nil
				}
			}
			session, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{
				ProjectID: w.project, ExternalSessionID: new("s"), Metadata: marshal(t, map[string]string{"prompt": "take " + planted[0].Text}),
			})
			require.NoError(t, err)
			n := 0
			var evs []observe.NewEvent
			for _, s := range planted {
				lines := strings.Split(s.Text, "\n")
				for _, shape := range []any{
					s.Text,
					map[string]any{"prompt": "We will use\n" + s.Text + "\ninstead of the old one, because it works."},
					map[string]any{"tool_name": "Write", "tool_input": map[string]any{"content": "package x\n\n// It must be here, because nobody reads it.\n" + s.Text, "file_path": "/w/a.go"}, "tool_response": map[string]string{"type": "create"}},
					map[string]any{"tool_name": "Edit", "tool_input": map[string]any{"file_path": "/w/b.go"}, "tool_response": map[string]any{"filePath": "/w/b.go", "structuredPatch": []any{map[string]any{"lines": prefixed(lines)}}}},
					map[string]any{"tool_name": "Bash", "tool_input": map[string]string{"command": "cat <<EOF\n" + s.Text + "\nEOF"}, "tool_response": map[string]string{"stdout": "it\n" + s.Text + "\nis", "stderr": s.Text}},
					map[string]any{"tool_name": "Bash", "tool_input": map[string]string{"command": "go test ./x"}, "error": "Exit code 1\n--- FAIL: TestA (0.1s)\n    a_test.go:1: got\n" + s.Text},
					map[string]any{"tool_name": "Bash", "tool_response": string(marshal(t, map[string]string{"stdout": "x\n" + s.Text}))},
					map[string]any{"last_assistant_message": "The root cause was the key\n" + s.Text + "\nin it."},
					map[string]any{"env": map[string]any{"DB_PASSWORD": s.Parts[0], "list": []any{s.Text, 1}}, "headers": map[string]string{"X-Api-Key": s.Parts[0]}},
				} {
					n++
					e := w.event(n)
					e.ServerSessionID, e.Payload = &session.ID, marshal(t, shape)
					evs = append(evs, e)
				}
			}
			for len(evs) > 0 {
				k := min(len(evs), 100)
				w.record(t, evs[:k]...)
				evs = evs[k:]
			}
			narrow := w.caller(t, w.team, w.project, observe.ScopeAll)
			_, _, err = w.Summarize(t.Context(), narrow, "s", nil, "Done with "+planted[6].Text)
			require.NoError(t, err)
			_, err = w.AddMemory(t.Context(), w.me, observe.NewMemory{ProjectID: w.project, Content: "remember " + planted[7].Text, Metadata: marshal(t, map[string]string{"password": "Zx81spectrum"})})
			require.NoError(t, err)
			jobs, _, err := w.ListJobs(t.Context(), w.me, observe.JobFilter{Limit: 200})
			require.NoError(t, err)
			for w.doAll(t) > 0 {
			}
			var left strings.Builder
			for _, j := range jobs {
				p, err := w.JobPrompts(t.Context(), w.me, j.ID, true)
				require.NoError(t, err)
				for _, prompt := range p.Prompts {
					left.WriteString(prompt.System + prompt.User)
				}
			}
			require.NotEmpty(t, w.provider.questions())
			for _, q := range w.provider.questions() {
				left.Write(marshal(t, q))
				left.WriteString(q.LastMessage)
			}
			for _, table := range []string{"observations", "observation_sources", "observation_generation_jobs", "observation_generation_job_events", "audit_log", "outbox", "job_feed"} {
				var rows string
				require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT coalesce(string_agg(t::text, ' '), '') FROM "+table+" t").Scan(&rows))
				left.WriteString(rows)
			}
			require.NotZero(t, w.count(t, "observations"))
			left.WriteString(said.String())
			all := strings.NewReplacer(`\\`, `\`, `\/`, `/`, `&amp;`, `&`).Replace(left.String())
			require.Contains(t, all, "[redacted:")
			require.NotContains(t, all, "Zx81spectrum")
			for _, s := range planted {
				for _, part := range s.Parts {
					if at := strings.Index(all, part[:len(part)*2/3]); at >= 0 {
						require.Fail(t, "leaked: "+s.Kind, "%s", all[max(0, at-200):min(len(all), at+100)])
					}
				}
			}
		})
	}
}

func prefixed(lines []string) []string {
	out := []string{" before"}
	for _, l := range lines {
		out = append(out, "+"+l)
	}
	return append(out, " after")
}

// spoken keeps what was logged.
type spoken struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *spoken) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *spoken) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *spoken) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
