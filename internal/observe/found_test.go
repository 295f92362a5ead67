package observe_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// library is a project with notes on identifiers and paths.
func library(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	for i, o := range []llm.Observation{
		{Type: "feature", Title: "Users are read by getUserById", FilesModified: []string{"src/api/handle.go"}, Facts: []string{"the cache keeps them for an hour"}},
		{Type: "bugfix", Title: "Retries waited for ever", Narrative: "The backoff doubled without a bound.", FilesModified: []string{"outbox/adaptivePoll.go"}, FilesRead: []string{"./part3"}},
		{Type: "decision", Title: "Keys are hashed with a pepper", Concepts: []string{"security"}, FilesRead: []string{"internal/observe/keys.go"}},
	} {
		w.note(t, w.event(i), o)
	}
	return w
}

func TestNamesAreFoundByTheirParts(t *testing.T) {
	t.Parallel()
	w := library(t)
	for query, want := range map[string]string{
		"getUserById":                 "Users are read by getUserById",
		"get_user_by_id":              "Users are read by getUserById",
		"user":                        "Users are read by getUserById",
		"src/api/handle.go":           "Users are read by getUserById",
		"handle.go":                   "Users are read by getUserById",
		"api/handle":                  "Users are read by getUserById",
		"adaptive":                    "Retries waited for ever",
		"part3":                       "Retries waited for ever",
		"part 3":                      "Retries waited for ever",
		"peppers":                     "Keys are hashed with a pepper",
		"pepp*":                       "Keys are hashed with a pepper",
		"hash":                        "Keys are hashed with a pepper",
		`"without a bound"`:           "Retries waited for ever",
		"how long is a user cached":   "Users are read by getUserById",
		"why do retries not end":      "Retries waited for ever",
		"what did we say about keys?": "Keys are hashed with a pepper",
	} {
		found := w.found(t, query, nil)
		require.NotEmpty(t, found, query)
		require.Equal(t, want, found[0], query)
	}
	require.Empty(t, w.found(t, `"a without bound"`, nil))
	require.Empty(t, w.found(t, `pepper -"hashed with a"`, nil))
	require.Len(t, w.found(t, `pepper -"a with hashed"`, nil), 1)
	require.Empty(t, w.found(t, "cache -user", nil))
}

func TestAMistypedWordIsForgiven(t *testing.T) {
	t.Parallel()
	w := library(t)
	for typed, meant := range map[string]string{"peper": "pepper", "retreis": "retries", "hased": "hashed", "bakcoff": "backoff"} {
		page, err := w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: typed})
		require.NoError(t, err)
		require.NotEmpty(t, page.Hits, typed)
		require.Contains(t, page.Meant[typed], meant)
		require.NotEmpty(t, page.Hits[0].Highlights)
	}
	// A word that is cut short is no mistake.
	page, err := w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: "adapt"})
	require.NoError(t, err)
	require.Len(t, page.Hits, 1)
	require.Empty(t, page.Meant)

	// What another project says is no word of this one.
	other, err := w.CreateProject(t.Context(), w.team, "other")
	require.NoError(t, err)
	c := w.caller(t, w.team, "", observe.ScopeAll)
	page, err = w.Search(t.Context(), c, observe.Query{ProjectID: other, Query: "peper"})
	require.NoError(t, err)
	require.Empty(t, page.Hits)
	require.Empty(t, page.Meant)

	// Where Postgres has no pg_trgm, nothing is forgiven and all else works.
	_, err = w.pool.Exec(t.Context(), "DROP EXTENSION pg_trgm CASCADE")
	require.NoError(t, err)
	require.Empty(t, w.found(t, "peper", nil))
	require.Len(t, w.found(t, "pepper", nil), 1)
}

func TestASearchIsNarrowed(t *testing.T) {
	t.Parallel()
	w := library(t)
	s := w.session(t, "s")
	w.note(t, w.inSession(9, s.ID), llm.Observation{Type: "bugfix", Title: "Keys were read twice", FilesRead: []string{"internal/observe/keys.go"}})
	titles := func(q observe.Query) []string {
		q.ProjectID, q.Query = w.project, "keys or retries or user"
		page, err := w.Search(t.Context(), w.me, q)
		require.NoError(t, err)
		var out []string
		for _, h := range page.Hits {
			out = append(out, h.Content[:4])
		}
		return out
	}
	require.ElementsMatch(t, []string{"User", "Retr", "Keys", "Keys"}, titles(observe.Query{}))
	require.ElementsMatch(t, []string{"Retr", "Keys"}, titles(observe.Query{Kinds: []string{"bugfix"}}))
	require.ElementsMatch(t, []string{"Retr", "Keys", "Keys"}, titles(observe.Query{Kinds: []string{"bugfix", "decision"}}))
	require.Len(t, titles(observe.Query{SessionID: s.ID}), 1)
	require.Empty(t, titles(observe.Query{SessionID: "another"}))
	require.Len(t, titles(observe.Query{Path: "keys.go"}), 2)
	require.Len(t, titles(observe.Query{Path: "internal/observe/"}), 2)
	require.Len(t, titles(observe.Query{Path: "/src/api/handle.go"}), 1)
	require.Empty(t, titles(observe.Query{Path: "eys.go"}))
	require.Empty(t, titles(observe.Query{Until: time.Now().Add(-time.Hour)}))
	require.Len(t, titles(observe.Query{Since: time.Now().Add(-time.Hour)}), 4)
}

// Pages have everything once, in the order of the first, whatever comes
// meanwhile.
func TestPagesOfASearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 9 {
		w.note(t, w.event(i), llm.Observation{Type: "change", Title: fmt.Sprintf("note %d of the relay", i)})
	}
	query := observe.Query{ProjectID: w.project, Query: "relay", Limit: 4}
	var pages [][]string
	for n := 0; ; n++ {
		page, err := w.Search(t.Context(), w.me, query)
		require.NoError(t, err)
		var ids []string
		for _, h := range page.Hits {
			ids = append(ids, h.ID)
		}
		pages = append(pages, ids)
		w.note(t, w.event(100+n), llm.Observation{Type: "change", Title: "relay: a note that came meanwhile, of the relay"})
		if page.Next == "" {
			break
		}
		query.Cursor = page.Next
	}
	require.Len(t, pages, 3)
	seen := map[string]bool{}
	for _, p := range pages {
		for _, id := range p {
			require.False(t, seen[id])
			seen[id] = true
		}
	}
	require.Len(t, seen, 9)

	query.Query = "another"
	_, err := w.Search(t.Context(), w.me, query)
	require.ErrorIs(t, err, observe.ErrInvalid, "the cursor is of another query")
	query.Cursor = "x"
	_, err = w.Search(t.Context(), w.me, query)
	require.ErrorIs(t, err, observe.ErrInvalid)
}

// A project so large that its newest notes are not all: old ones are found by
// the index, also with filters, and those of another tenant never.
func TestOldNotesAreFoundByTheIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.event(1)
	w.note(t, old, llm.Observation{Type: "decision", Title: "zebras decide about stripes", FilesModified: []string{"zoo/zebra.go"}})
	_, err := w.pool.Exec(t.Context(), "UPDATE observations SET created_at = now() - interval '5 years'")
	require.NoError(t, err)
	fillNotes(t, w, newBabble(t, 3), 3000)
	stranger := newWorldOn(t, w.pool)
	for _, q := range []observe.Query{
		{Query: "zebras"},
		{Query: "zebra stripes"},
		{Query: "test go zebra"},
		{Query: "go", Kinds: []string{"decision"}, Path: "zoo/zebra.go"},
		{Query: `"decide about stripes"`},
		{Query: "zebra", Path: "zoo"},
	} {
		q.ProjectID = w.project
		page, err := w.Search(t.Context(), w.me, q)
		require.NoError(t, err)
		require.NotEmpty(t, page.Hits, q.Query)
		require.Equal(t, "zebras decide about stripes", page.Hits[0].Content, q.Query)
		q.ProjectID = stranger.project
		page, err = stranger.Search(t.Context(), stranger.me, q)
		require.NoError(t, err)
		require.Empty(t, page.Hits)
	}
}
