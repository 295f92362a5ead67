package observe_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/search"
)

var missed = flag.Bool("retrieval.missed", false, "print the questions whose answer is not among the first five")

// jsonLines reads a file of the retrieval benchmark.
func jsonLines[T any](t testing.TB, name string) []T {
	t.Helper()
	text, err := os.ReadFile("../search/testdata/" + name)
	require.NoError(t, err)
	var all []T
	for line := range strings.Lines(string(text)) {
		var v T
		require.NoError(t, json.Unmarshal([]byte(line), &v))
		all = append(all, v)
	}
	return all
}

type (
	askedFor struct {
		Ask   string
		Right []string
	}
	observed struct {
		ID, Session, Kind string
		At                int64
		Note              search.Note
	}
)

// score is how well some way to search answers the questions.
type score struct {
	recall, reciprocal, n float64
}

// add counts one question: whether a right answer is among the first five, and
// the first right one's place.
func (s *score) add(right, found []string) bool {
	s.n++
	among := slices.ContainsFunc(found[:min(len(found), 5)], func(id string) bool { return slices.Contains(right, id) })
	if among {
		s.recall++
	}
	if i := slices.IndexFunc(found, func(id string) bool { return slices.Contains(right, id) }); i >= 0 {
		s.reciprocal += 1 / float64(i+1)
	}
	return among
}

func (s score) recall5() float64 { return s.recall / s.n }
func (s score) mrr() float64     { return s.reciprocal / s.n }

// The retrieval benchmark: notes of real sessions, and what a person would ask
// to find them again. `task bench:search` prints it.
func TestRetrieval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	notes, questions := jsonLines[observed](t, "observations.jsonl"), jsonLines[askedFor](t, "questions.jsonl")
	require.GreaterOrEqual(t, len(notes), 300)
	require.GreaterOrEqual(t, len(questions), 100)
	mark := search.Scope(w.team, w.project)
	vocabulary := map[string]string{}
	for _, o := range notes {
		entry := o.Note.Entry(mark, o.Kind)
		for _, word := range entry.Words {
			vocabulary[word.Lexeme] = word.Word
		}
		meta, err := json.Marshal(o.Note)
		require.NoError(t, err)
		_, err = w.pool.Exec(t.Context(), `INSERT INTO observations (id, team_id, project_id, kind, content, content_search, metadata, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6::text::tsvector, $7, $8, $8)`, o.ID, w.team, w.project, o.Kind,
			observe.NoteText(o.Note.Title, o.Note.Subtitle, o.Note.Narrative, o.Note.Facts), entry.Vector, meta, time.UnixMilli(o.At))
		require.NoError(t, err)
	}
	for lexeme, word := range vocabulary {
		_, err := w.pool.Exec(t.Context(), "INSERT INTO observation_words VALUES ($1, $2, $3, $4)", w.team, w.project, lexeme, word)
		require.NoError(t, err)
	}
	// The same with vectors: of no model, but of pieces of words (see
	// llmtest.Embed), which is what CI has. It shows what fusing two lists does.
	s := llmtest.New(t)
	fused := w.again(t, withVectors(t, s, "pieces"), func(cfg *observe.Config) { cfg.Near.Floor = 0.25 })
	require.NoError(t, fused.SweepVectors(t.Context()))
	fused.doAll(t)
	require.Equal(t, len(notes), w.count(t, "observation_vectors"))

	var ours, plain, both, near score
	for _, q := range questions {
		page, err := w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: q.Ask, Limit: 100})
		require.NoError(t, err)
		var found []string
		for _, h := range page.Hits {
			found = append(found, h.ID)
		}
		if !ours.add(q.Right, found) && *missed {
			t.Logf("%q should find %v, found %v", q.Ask, q.Right, found[:min(len(found), 5)])
		}
		plain.add(q.Right, w.plainly(t, q.Ask))
		ids, r := fused.hits(t, observe.Query{Query: q.Ask, Limit: 100})
		require.Equal(t, observe.RankedByBoth, r.RankedBy)
		both.add(q.Right, ids)
		near.add(q.Right, nearest(notes, q.Ask))
	}
	t.Logf("%d questions to %d observations", len(questions), len(notes))
	t.Logf("search:               recall@5 %.3f, MRR %.3f", ours.recall5(), ours.mrr())
	t.Logf("websearch_to_tsquery: recall@5 %.3f, MRR %.3f", plain.recall5(), plain.mrr())
	t.Logf("vectors alone:        recall@5 %.3f, MRR %.3f, of hashed pieces of words and no model", near.recall5(), near.mrr())
	t.Logf("search with those:    recall@5 %.3f, MRR %.3f", both.recall5(), both.mrr())
	require.Greater(t, ours.mrr(), 1.3*plain.mrr(), "it is worth what it costs")
	require.Greater(t, ours.mrr(), 0.6)
	require.Greater(t, both.mrr(), near.mrr(), "the words help")
	require.Greater(t, both.mrr(), 0.6, "and are not drowned by a list that is worse")
}

// nearest is what the vectors find by themselves.
func nearest(notes []observed, ask string) (ids []string) {
	question := llmtest.Embed(ask, llmtest.Dimensions)
	alike := map[string]float64{}
	for _, o := range notes {
		v := llmtest.Embed(observe.NoteText(o.Note.Title, o.Note.Subtitle, o.Note.Narrative, o.Note.Facts), llmtest.Dimensions)
		dot, length := 0.0, 0.0
		for i, x := range v {
			dot, length = dot+float64(x*question[i]), length+float64(x*x)
		}
		alike[o.ID] = dot / math.Sqrt(length)
		ids = append(ids, o.ID)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(cmp.Compare(alike[b], alike[a]), strings.Compare(a, b)) })
	return ids
}

// plainly is what Postgres finds in the contents by itself.
func (w *world) plainly(t testing.TB, query string) []string {
	t.Helper()
	rows, err := w.pool.Query(t.Context(), `SELECT id FROM observations, websearch_to_tsquery('english', $3) q
		WHERE team_id = $1 AND project_id = $2 AND to_tsvector('english', content) @@ q
		ORDER BY ts_rank(to_tsvector('english', content), q) DESC, updated_at DESC LIMIT 100`, w.team, w.project, query)
	require.NoError(t, err)
	var ids []string
	for rows.Next() {
		var id string
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	return ids
}
