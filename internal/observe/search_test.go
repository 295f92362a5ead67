package observe_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// note makes an observation by a job, as all are made.
func (w *world) note(t *testing.T, e observe.NewEvent, o llm.Observation) {
	t.Helper()
	w.provider.before = func(context.Context, llm.Question) (*llm.Answer, error) {
		return &llm.Answer{Observations: []llm.Observation{o}}, nil
	}
	w.do(t, w.record(t, e)[0].Job.ID)
}

func (w *world) found(t *testing.T, query string, platform *string) []string {
	t.Helper()
	page, err := w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: query, PlatformSource: platform})
	require.NoError(t, err)
	titles := []string{}
	for _, o := range page.Hits {
		title, _, _ := strings.Cut(o.Content, "\n")
		titles = append(titles, title)
	}
	return titles
}

func TestSearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _, err := w.StartSession(t.Context(), w.me, observe.NewSession{
		ProjectID: w.project, ExternalSessionID: new("s"), PlatformSource: new("cursor"),
	})
	require.NoError(t, err)
	w.note(t, w.inSession(1, s.ID), llm.Observation{Type: "change", Title: "Relays", Narrative: "One relay leads and the other waits."})
	claude := w.event(2)
	claude.PlatformSource, claude.HasPlatform = new("claude"), true
	w.note(t, claude, llm.Observation{Type: "change", Title: "The leader of relays", FilesModified: []string{"outbox/adaptivePoll.go"}})
	w.note(t, w.event(3), llm.Observation{Type: "bugfix", Title: "Deadlock", Facts: []string{"two workers waited"}})

	require.ElementsMatch(t, []string{"Relays", "The leader of relays"}, w.found(t, "relay", nil))
	require.Equal(t, []string{"Relays"}, w.found(t, "relay waiting", nil), "one that has all words, in any form, leaves out those that have half of them")
	require.Equal(t, []string{"Deadlock"}, w.found(t, `"two workers"`, nil))
	require.Equal(t, []string{"Relays"}, w.found(t, "waits -workers", nil))
	require.Equal(t, []string{"The leader of relays"}, w.found(t, "poll", nil))
	require.Equal(t, []string{"The leader of relays"}, w.found(t, "adaptivePoll.go", nil))
	require.Equal(t, []string{"Relays"}, w.found(t, "relay", new("Cursor")), "the session's platform")
	require.Equal(t, []string{"The leader of relays"}, w.found(t, "relay", new("claude")), "the event's, where there is no session")
	for _, nothing := range []string{"the", "!!", "\x00", "' OR 1=1 --", "\xff", ":*", "nowhere"} {
		require.Empty(t, w.found(t, nothing, nil), "%q", nothing)
	}
	require.Equal(t, "Relays", w.found(t, "relays", nil)[0], "a word in a short title weighs most")
}

func TestContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, title := range []string{"first note", "second note"} {
		w.note(t, w.event(i), llm.Observation{Type: "change", Title: title})
	}
	r, err := w.Context(t.Context(), w.me, observe.ContextQuery{Query: observe.Query{ProjectID: w.project, Query: "note"}})
	found, text := r.Observations, r.Text
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, found[0].Content+"\n\n"+found[1].Content, text)
	require.Contains(t, found[0].Content, "second", "of equal matches the newest is first")

	r, err = w.Context(t.Context(), w.me, observe.ContextQuery{Query: observe.Query{ProjectID: w.project, Query: "note", Limit: 1}})
	found, text = r.Observations, r.Text
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, found[0].Content, text)
}

func TestABadQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for field, q := range map[string]observe.Query{
		"projectId": {Query: "x"},
		"query":     {ProjectID: w.project},
		"limit":     {ProjectID: w.project, Query: "x", Limit: 101},
	} {
		_, err := w.Search(t.Context(), w.me, q)
		require.Equal(t, []any{field}, as[*observe.Invalid](t, err).Issues[0].Path)
	}
	_, err := w.Context(t.Context(), w.me, observe.ContextQuery{Query: observe.Query{ProjectID: w.project, Query: "x", Limit: 51}})
	require.ErrorIs(t, err, observe.ErrInvalid)
	_, err = w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: strings.Repeat("x", 10_001)})
	require.ErrorIs(t, err, observe.ErrInvalid)
	_, err = w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: "x", Limit: -1})
	require.ErrorIs(t, err, observe.ErrInvalid)
}

func TestReindex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 450 // more than a page
	var evs []observe.NewEvent
	for i := range n {
		evs = append(evs, w.event(i))
	}
	got := w.record(t, evs...)
	w.provider.before = func(context.Context, llm.Question) (*llm.Answer, error) {
		return &llm.Answer{Observations: []llm.Observation{{Type: "change", Title: "title", FilesRead: []string{"a/openBatch.go"}}}}, nil
	}
	for _, r := range got {
		w.do(t, r.Job.ID)
	}
	one, err := w.EventObservations(t.Context(), w.me, got[0].Event.ID)
	require.NoError(t, err)
	// As an older program may have left them.
	_, err = w.pool.Exec(t.Context(), `UPDATE observations SET content = 'old <private>hunter2</private>', content_search = '',
		metadata = metadata || '{"narrative": "n <private>hunter2</private>"}'`)
	require.NoError(t, err)
	_, err = w.pool.Exec(t.Context(), `INSERT INTO observations (id, team_id, project_id, kind, content, metadata)
		VALUES ('by-hand', $1, $2, 'manual', 'written <private>hunter2</private>', '{"x": "<private>hunter2</private>"}')`, w.team, w.project)
	require.NoError(t, err)

	job, err := w.Reindex(t.Context(), w.me, w.project, one[0].ID)
	require.NoError(t, err)
	w.do(t, job.ID)
	require.Equal(t, 1, w.like(t, "title%n%"))
	again, err := w.Reindex(t.Context(), w.me, w.project, "")
	require.NoError(t, err)
	require.NotEqual(t, job.ID, again.ID, "each request is a job")
	w.do(t, again.ID)
	require.Equal(t, n, w.like(t, "title\n\nn"))
	require.Equal(t, 1, w.like(t, "written"))
	_, observations, _ := strings.Cut(dump(t, w.pool), "\nobservations\n")
	require.Contains(t, observations, "by-hand")
	require.NotContains(t, observations, "hunter2")
	var words string
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT content_search::text FROM observations WHERE id = $1", one[0].ID).Scan(&words))
	require.Contains(t, words, "'batch'")

	var stamps, after string
	const last = "SELECT string_agg(updated_at::text, ',' ORDER BY id) FROM observations"
	require.NoError(t, w.pool.QueryRow(t.Context(), last).Scan(&stamps))
	job, err = w.Reindex(t.Context(), w.me, w.project, "")
	require.NoError(t, err)
	w.do(t, job.ID)
	require.NoError(t, w.pool.QueryRow(t.Context(), last).Scan(&after))
	require.Equal(t, stamps, after, "what is right already is not written again")

	_, err = w.Reindex(t.Context(), w.me, w.project, "nope")
	require.ErrorIs(t, err, observe.ErrNotFound)
	_, err = w.Reindex(t.Context(), w.me, "", "")
	require.ErrorIs(t, err, observe.ErrInvalid)
	w.check(t)
}

func (w *world) like(t *testing.T, pattern string) int {
	t.Helper()
	var n int
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT count(*) FROM observations WHERE content LIKE $1", pattern).Scan(&n))
	return n
}

// What people paste into a search is no fault of ours, whatever it is.
func TestAnyTextCanBeSearchedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, text := range []string{
		strings.Repeat("a", 4096), strings.Repeat("a ", 2048), strings.Repeat(`"`, 4095), strings.Repeat("-", 4096) + "x", strings.Repeat("- ", 2000) + "x", "a" + strings.Repeat(" -b", 1000),
		strings.Repeat("-\u00a0", 1000) + "x", strings.Repeat("-\u3000", 1000) + "x", strings.Repeat("-'", 1000) + "x", strings.Repeat("-(", 1000) + "x", strings.Repeat(`-"`, 1000) + "x", strings.Repeat(`-""`, 1000) + "x",
		strings.Repeat("or ", 1365),
		strings.Repeat(`-"a b" or `, 400), "a\x00b", "\xff", "& | ! <-> :* ( ) '", `\`, "the of and", strings.Repeat("é", 2048), "\u2028", "<private>x",
	} {
		_, err := w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: text})
		require.NoError(t, err, "%.40q", text)
	}
}
