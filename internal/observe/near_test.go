package observe_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// byTopic is an endpoint that knows what words mean: those of one topic point
// in one direction.
func byTopic(topics ...string) llmtest.Answer {
	return func(w http.ResponseWriter, _ *http.Request, q llmtest.Question) {
		var data []map[string]any
		for i, text := range q.Input {
			v := make([]float32, len(topics)+1)
			v[len(topics)] = 0.3
			for t, words := range topics {
				for word := range strings.FieldsSeq(words) {
					v[t] += float32(strings.Count(strings.ToLower(text), word))
				}
			}
			data = append(data, map[string]any{"index": i, "embedding": v})
		}
		body, err := json.Marshal(map[string]any{"data": data, "usage": map[string]int{"prompt_tokens": 10 * len(q.Input)}})
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(body) // who left does not read it
	}
}

var oneTopic = byTopic("lease renting tenancy", "parrot bird feather")

// withVectors has a server make vectors by a model. It waits long for it: the
// machine may be slow.
func withVectors(t testing.TB, s *llmtest.Server, model string) func(*observe.Config) {
	t.Helper()
	e, err := llm.NewEmbeddings(llm.EmbedConfig{Config: llm.Config{URL: s.URL, Key: "sk-loopback-0123456789", Model: model, Timeout: time.Minute}})
	require.NoError(t, err)
	_, err = llm.ParsePrices("embeddings * 100000 0\n")
	require.Error(t, err, "that is too much")
	prices, err := llm.ParsePrices("embeddings * 1000 0\n")
	require.NoError(t, err)
	return func(cfg *observe.Config) {
		cfg.Prices, cfg.Near = prices, observe.Near{Embeddings: e, Patience: time.Minute, Floor: 0.5}
	}
}

func (w *world) memory(t testing.TB, content string, change ...func(*observe.NewMemory)) string {
	t.Helper()
	m := observe.NewMemory{ProjectID: w.project, Content: content}
	for _, fn := range change {
		fn(&m)
	}
	o, err := w.AddMemory(t.Context(), w.me, m)
	require.NoError(t, err)
	return o.ID
}

func (w *world) hits(t testing.TB, query observe.Query) ([]string, observe.Results) {
	t.Helper()
	query.ProjectID = w.project
	r, err := w.Search(t.Context(), w.me, query)
	require.NoError(t, err)
	var ids []string
	for _, h := range r.Hits {
		ids = append(ids, h.ID)
	}
	return ids, r
}

// again is the same database with another configuration.
func (w *world) again(t testing.TB, change ...func(*observe.Config)) *world {
	t.Helper()
	cfg := observe.Config{Pool: w.pool, Jobs: w.jobs, Provider: w.provider}
	for _, fn := range change {
		fn(&cfg)
	}
	return &world{Service: observe.New(cfg), pool: w.pool, jobs: w.jobs, provider: w.provider, team: w.team, project: w.project, me: w.me}
}

// placed has all jobs for vectors done.
func (w *world) placed(t testing.TB) {
	t.Helper()
	require.NoError(t, w.PlaceNew(t.Context()))
	w.doAll(t)
}

func TestASearchFindsWhatIsMeant(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Always(oneTopic)
	w := newWorld(t, withVectors(t, s, "m1"))
	lease := w.memory(t, "The lease of the relay ends when nobody asks for it.")
	bird := w.memory(t, "A parrot is what the tests call their process.", func(m *observe.NewMemory) { m.Kind = "bugfix" })
	w.memory(t, "Something else altogether.")
	require.Equal(t, 3, w.doAll(t), "each asked for its own vector")
	require.Equal(t, 3, w.count(t, "observation_vectors"))
	asked := len(s.Asked())
	require.Equal(t, 3, asked)

	ids, r := w.hits(t, observe.Query{Query: "renting"})
	require.Equal(t, []string{lease}, ids, "in other words")
	require.Equal(t, observe.Ranking{RankedBy: observe.RankedByBoth}, r.Ranking)
	require.Empty(t, r.Hits[0].Highlights)
	ids, _ = w.hits(t, observe.Query{Query: "feather process"})
	require.Equal(t, bird, ids[0])
	require.Len(t, s.Asked(), asked+2)
	w.hits(t, observe.Query{Query: "renting"})
	require.Len(t, s.Asked(), asked+2, "what was asked a moment ago is known")
	ids, r = w.hits(t, observe.Query{Query: "why not with the renting of it"})
	require.Equal(t, []string{lease}, ids)
	require.Equal(t, observe.RankedByBoth, r.RankedBy)

	// What narrows a search narrows both lists.
	for _, q := range []observe.Query{
		{Query: "renting", Kinds: []string{"bugfix"}},
		{Query: "renting -relay"},
		{Query: `renting "of the parrot"`},
		{Query: `renting -"lease of the relay"`},
		{Query: "renting", Path: "a.go"},
		{Query: "renting", PlatformSource: new("cursor")},
		{Query: "renting", SessionID: "s"},
		{Query: "renting", Until: time.Now().Add(-time.Hour)},
		{Query: "renting", Since: time.Now().Add(time.Hour)},
	} {
		ids, _ = w.hits(t, q)
		require.Empty(t, ids, "%+v", q)
	}
	ids, _ = w.hits(t, observe.Query{Query: "feather -lease", Kinds: []string{"bugfix", "manual"}, Since: time.Now().Add(-time.Hour)})
	require.Equal(t, []string{bird}, ids)

	// A context for a prompt is a search.
	c, err := w.Context(t.Context(), w.me, observe.ContextQuery{Query: observe.Query{ProjectID: w.project, Query: "renting"}})
	require.NoError(t, err)
	require.Contains(t, c.Text, "The lease of the relay")
	require.Equal(t, observe.RankedByBoth, c.RankedBy)

	// What is changed is placed anew, what is taken away is gone.
	_, err = w.EditMemory(t.Context(), w.me, lease, observe.MemoryEdit{Content: new("A bird took over.")})
	require.NoError(t, err)
	w.doAll(t)
	ids, _ = w.hits(t, observe.Query{Query: "renting"})
	require.Empty(t, ids)
	ids, _ = w.hits(t, observe.Query{Query: "feather"})
	require.ElementsMatch(t, []string{lease, bird}, ids)
	require.NoError(t, w.DeleteMemory(t.Context(), w.me, bird))
	ids, _ = w.hits(t, observe.Query{Query: "feather"})
	require.Equal(t, []string{lease}, ids)
	_, err = w.Purge(t.Context(), w.caller(t, w.team, "", observe.ScopeAll), w.project)
	require.NoError(t, err)
	require.Zero(t, w.count(t, "observation_vectors"))
	w.check(t)
}

// What jobs store is placed by one job for all of it; and with a new model all
// is placed anew, by itself.
func TestVectorsOfWhatJobsStore(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	w := newWorld(t, withVectors(t, s, "m1"))
	w.record(t, w.event(1), w.event(2), w.event(3))
	require.Equal(t, 3, w.doAll(t))
	require.Empty(t, s.Asked(), "storing asks nobody")
	require.NoError(t, w.PlaceNew(t.Context()))
	jobs, _, err := w.ListJobs(t.Context(), w.me, observe.JobFilter{Status: "queued"})
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	require.Equal(t, observe.KindReindex, jobs[0].Kind)
	w.doAll(t)
	require.Len(t, s.Asked(), 1, "all in one question")
	require.Len(t, s.Asked()[0].Body.Input, 3)
	require.Equal(t, 3, w.count(t, "observation_vectors WHERE model = 'm1' AND dimensions = 256"))
	w.placed(t)
	require.Len(t, s.Asked(), 1, "nothing is new")

	other := w.again(t, withVectors(t, s, "m2"))
	require.NoError(t, other.SweepVectors(t.Context()))
	require.Zero(t, other.doAll(t), "what is new is left to those who come soon")
	_, err = w.pool.Exec(t.Context(), "UPDATE observations SET updated_at = updated_at - interval '1 hour'")
	require.NoError(t, err)
	require.NoError(t, other.SweepVectors(t.Context()))
	require.NoError(t, other.SweepVectors(t.Context()), "two workers ask for one job")
	require.Equal(t, 1, other.doAll(t))
	require.Equal(t, 3, w.count(t, "observation_vectors WHERE model = 'm2'"))
	require.Len(t, s.Asked(), 2)

	// The reindex that a client asks for does it too, and it may be one observation.
	job, err := w.Reindex(t.Context(), w.me, w.project, "")
	require.NoError(t, err)
	w.do(t, job.ID)
	require.Equal(t, 3, w.count(t, "observation_vectors WHERE model = 'm1'"))
	entries := w.audit(t, w.me, observe.AuditFilter{Action: "observation.reindexed", Limit: 1})
	require.Contains(t, string(entries[0].Details), `"placed": 3`)

	// Nobody pays for it where nobody is named.
	plain := w.again(t)
	job, err = plain.Reindex(t.Context(), w.me, w.project, "")
	require.NoError(t, err)
	plain.do(t, job.ID)
	require.Len(t, s.Asked(), 3)
	_, r := plain.hits(t, observe.Query{Query: "openBatch1"})
	require.Zero(t, r.Ranking)
	require.NotEmpty(t, r.Hits)
	w.check(t)
}

func TestMoreVectorsThanOneQuestionHolds(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	w := newWorld(t, withVectors(t, s, "m1"))
	const n = 3*llm.MaxEmbedded + 7
	for i := range n {
		_, err := w.pool.Exec(t.Context(), "INSERT INTO observations (id, team_id, project_id, kind, content) VALUES ($1, $2, $3, 'k', $4)",
			fmt.Sprint("o", i), w.team, w.project, fmt.Sprint("note ", i))
		require.NoError(t, err)
	}
	_, err := w.pool.Exec(t.Context(), "UPDATE observations SET updated_at = updated_at - interval '1 hour'")
	require.NoError(t, err)
	require.NoError(t, w.SweepVectors(t.Context()))
	w.doAll(t)
	require.Len(t, s.Asked(), 4)
	require.Equal(t, n, w.count(t, "observation_vectors"))
}

func TestVectorsAreOfATenant(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Always(oneTopic)
	w := newWorld(t, withVectors(t, s, "m1"))
	mine := w.memory(t, "The lease ends.")
	team, project := w.tenant(t, "away")
	them := w.caller(t, team, project, observe.ScopeAll)
	theirs, err := w.AddMemory(t.Context(), them, observe.NewMemory{ProjectID: project, Content: "Another lease ends."})
	require.NoError(t, err)
	w.doAll(t)
	other := w.again(t, withVectors(t, s, "m1"))
	other.team, other.project, other.me = team, project, them
	other.doAll(t)
	require.Equal(t, 2, w.count(t, "observation_vectors"))
	ids, _ := w.hits(t, observe.Query{Query: "renting"})
	require.Equal(t, []string{mine}, ids)
	ids, _ = other.hits(t, observe.Query{Query: "renting"})
	require.Equal(t, []string{theirs.ID}, ids)

	asked := len(s.Asked())
	_, err = w.Search(t.Context(), them, observe.Query{ProjectID: w.project, Query: "what is a tenancy"})
	require.ErrorIs(t, err, observe.ErrForbidden)
	require.Len(t, s.Asked(), asked, "who may not search costs nothing")
	require.NotContains(t, fmt.Sprint(s.Asked()), project, "who asks is nobody's business")
}

// The endpoint is away: a search ranks by text, says so, and does not ask again
// for a while.
func TestASearchWithoutItsEndpoint(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Always(oneTopic)
	w := newWorld(t, withVectors(t, s, "m1"))
	lease := w.memory(t, "The lease ends.")
	w.memory(t, "The renting of a parrot.")
	w.doAll(t)
	ids, r := w.hits(t, observe.Query{Query: "renting", Limit: 1})
	require.NotEmpty(t, r.Next)
	first := ids

	for name, answer := range map[string]llmtest.Answer{
		"429": llmtest.TooMany("60"), "500": llmtest.Status(500, ""), "401": llmtest.Status(401, "invalid_api_key"), "cut": llmtest.Truncated,
		"dimensions": llmtest.Edited(func(all []map[string]any) []map[string]any { all[0]["embedding"] = []int{}; return all }),
	} {
		s.Always(answer)
		again := w.again(t, withVectors(t, s, "m1"))
		before := len(s.Asked())
		for range 3 {
			ids, r := again.hits(t, observe.Query{Query: "lease " + name})
			require.Equal(t, []string{lease}, ids)
			require.Equal(t, observe.RankedByText, r.RankedBy)
			require.Contains(t, r.Why, "does not answer")
		}
		require.Len(t, s.Asked(), before+1, "the others do not wait for it")
	}
	s.Always(llmtest.Hang)
	hurried := w.again(t, withVectors(t, s, "m1"), func(cfg *observe.Config) { cfg.Near.Patience = 50 * time.Millisecond })
	_, r2 := hurried.hits(t, observe.Query{Query: "lease"})
	require.Equal(t, observe.RankedByText, r2.RankedBy)
	s.Always(llmtest.Status(400, "context_length_exceeded"))
	_, r2 = w.again(t, withVectors(t, s, "m1")).hits(t, observe.Query{Query: "lease"})
	require.Contains(t, r2.Why, "does not take the query")

	// The next page of one that was ranked by both still is.
	ids, r = w.hits(t, observe.Query{Query: "renting", Limit: 1, Cursor: r.Next})
	require.Equal(t, observe.RankedByBoth, r.RankedBy)
	require.Len(t, ids, 1)
	require.NotEqual(t, first, ids)

	// And that of one that was ranked by text stays so.
	away := w.again(t, withVectors(t, s, "m1"))
	s.Always(llmtest.Status(500, ""))
	_, r = away.hits(t, observe.Query{Query: "ends or renting", Limit: 1})
	require.Equal(t, observe.RankedByText, r.RankedBy)
	require.NotEmpty(t, r.Next)
	s.Always(oneTopic)
	before := len(s.Asked())
	ids, r = w.again(t, withVectors(t, s, "m1")).hits(t, observe.Query{Query: "ends or renting", Limit: 1, Cursor: r.Next})
	require.Len(t, ids, 1)
	require.Equal(t, observe.Ranking{RankedBy: observe.RankedByText, Why: "so was the first page"}, r.Ranking)
	require.Len(t, s.Asked(), before)
}

// Pages of a search over what changes have nothing twice and leave out nothing
// that was there.
func TestPagesOfAFusedSearch(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Always(oneTopic)
	w := newWorld(t, withVectors(t, s, "m1"))
	var all []string
	for i := range 12 {
		text := fmt.Sprintf("Note %d of a lease.", i)
		if i%3 == 0 {
			text = fmt.Sprintf("Note %d about renting.", i)
		}
		all = append(all, w.memory(t, text))
	}
	w.doAll(t)
	var seen []string
	q := observe.Query{Query: "renting", Limit: 5}
	for {
		ids, r := w.hits(t, q)
		seen = append(seen, ids...)
		w.memory(t, "A newer note of a lease and of renting.")
		w.doAll(t)
		if q.Cursor = r.Next; q.Cursor == "" {
			break
		}
	}
	require.Len(t, seen, len(all))
	require.ElementsMatch(t, all, seen)
	require.Zero(t, len(slices.Compact(slices.Sorted(slices.Values(seen))))-len(all))
	for _, id := range seen[:4] { // in both lists
		require.Zero(t, slices.Index(all, id)%3)
	}
}

// Vectors are paid for by the team, and a team that has used up its month has
// none made, and searches by text.
func TestVectorsAndBudgets(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Always(oneTopic) // ten tokens a text, a cent each
	w := newWorld(t, withVectors(t, s, "m1"))
	admin := w.caller(t, w.team, "", observe.ScopeAll)
	w.memory(t, "The lease ends.")
	w.doAll(t)
	_, r := w.hits(t, observe.Query{Query: "renting"})
	require.Equal(t, observe.RankedByBoth, r.RankedBy)
	used, err := w.Usage(t.Context(), w.me)
	require.NoError(t, err)
	require.Equal(t, []observe.UsedBy{{Project: w.project, Provider: "embeddings", Model: "m1", TokensIn: 20, Cost: 20_000}}, used.By)

	_, err = w.SetBudget(t.Context(), admin, observe.Budget{Cost: new(int64(20_000))})
	require.NoError(t, err)
	w.memory(t, "Another lease ends.")
	jobs, _, err := w.ListJobs(t.Context(), w.me, observe.JobFilter{Status: "queued"})
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	asked := len(s.Asked())
	job := w.claim(t, jobs[0])
	_, err = w.Handler(job.Kind)(t.Context(), job)
	require.ErrorContains(t, err, "0.02 of the 0.02 USD of its month")
	_, r = w.hits(t, observe.Query{Query: "tenancy"})
	require.Equal(t, observe.RankedByText, r.RankedBy)
	require.Contains(t, r.Why, "of its month")
	require.Len(t, s.Asked(), asked)
	_, err = w.SetBudget(t.Context(), admin, observe.Budget{})
	require.NoError(t, err)
	_, r = w.hits(t, observe.Query{Query: "tenancy"})
	require.Equal(t, observe.RankedByBoth, r.RankedBy)
	require.Len(t, r.Hits, 1)
}

func TestWhatBecomesOfAJobForVectors(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	var most atomic.Int64
	w := newWorld(t, withVectors(t, s, "m1"))
	w.memory(t, "short")
	jobs, _, err := w.ListJobs(t.Context(), w.me, observe.JobFilter{Status: "queued"})
	require.NoError(t, err)
	job := w.claim(t, jobs[0])
	for want, answer := range map[string]llmtest.Answer{
		"status 429": llmtest.TooMany("5"), "status 401": llmtest.Status(401, ""), "broke off": llmtest.Truncated,
		"0 vectors for 1": llmtest.Edited(func([]map[string]any) []map[string]any { return nil }),
	} {
		s.Always(answer)
		_, err := w.Handler(job.Kind)(t.Context(), job)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "sk-loopback")
		require.NotContains(t, err.Error(), "short")
		require.Zero(t, w.count(t, "observation_vectors"))
	}

	// A text that is too long for the model is cut, and one that is never short
	// enough is given up and not asked about again; the others get theirs.
	for i, size := range []int{100, 5000, 5000} {
		_, err := w.pool.Exec(t.Context(), "INSERT INTO observations (id, team_id, project_id, kind, content) VALUES ($1, $2, $3, 'k', $4)",
			fmt.Sprint("o", i), w.team, w.project, strings.Repeat("x", size))
		require.NoError(t, err)
	}
	most.Store(2000)
	s.Always(func(rw http.ResponseWriter, r *http.Request, q llmtest.Question) {
		llmtest.TooLong(int(most.Load()))(rw, r, q)
	})
	_, err = w.Handler(job.Kind)(t.Context(), events.Job{ID: job.ID, Kind: job.Kind, Scope: job.Scope, Args: json.RawMessage(`{"vectors":"all"}`)})
	require.NoError(t, err)
	require.Equal(t, 4, w.count(t, "observation_vectors WHERE dimensions = 256"))
	_, err = w.pool.Exec(t.Context(), "DELETE FROM observation_vectors")
	require.NoError(t, err)
	most.Store(200)
	for range 2 {
		_, err = w.Handler(job.Kind)(t.Context(), events.Job{ID: job.ID, Kind: job.Kind, Scope: job.Scope, Args: json.RawMessage(`{"vectors":"all"}`)})
		require.NoError(t, err)
		require.Equal(t, 2, w.count(t, "observation_vectors WHERE dimensions = 256"))
		require.Equal(t, 2, w.count(t, "observation_vectors WHERE dimensions = 0"))
	}
}

// No secret leaves, whoever wrote it, and none stands in the tables.
func TestNoSecretGoesToWhoMakesVectors(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	w := newWorld(t, withVectors(t, s, "m1"))
	const key = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
	_, err := w.pool.Exec(t.Context(), "INSERT INTO observations (id, team_id, project_id, kind, content) VALUES ('old', $1, $2, 'k', $3)",
		w.team, w.project, "written before there were rules: "+key+" <private>the salary</private> the rest")
	require.NoError(t, err)
	w.memory(t, "kept with "+key)
	w.doAll(t)
	job, err := w.Reindex(t.Context(), w.me, w.project, "")
	require.NoError(t, err)
	w.do(t, job.ID)
	w.hits(t, observe.Query{Query: "who has " + key + " <private>the salary</private>"})
	_, r := w.hits(t, observe.Query{Query: "<private>the salary</private>"})
	require.Equal(t, observe.RankedByText, r.RankedBy)
	require.GreaterOrEqual(t, len(s.Asked()), 3)
	for _, a := range s.Asked() {
		require.NotContains(t, a.Raw, key[4:])
		require.NotContains(t, a.Raw, "salary")
	}
	require.Contains(t, fmt.Sprint(s.Asked()), "the rest")
	require.NotContains(t, dump(t, w.pool), "sk-loopback")
}

// A job that takes long leaves the rest to another one.
func TestVectorsOfManyObservationsByMoreThanOneJob(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	w := newWorld(t, withVectors(t, s, "m1"), func(cfg *observe.Config) { cfg.Near.Within = time.Nanosecond })
	const n = 1300
	_, err := w.pool.Exec(t.Context(), `INSERT INTO observations (id, team_id, project_id, kind, content, created_at, updated_at)
		SELECT 'o' || i, $1, $2, 'k', 'note ' || i, now() - interval '1 hour' + i * interval '1 s', now() - interval '1 hour' FROM generate_series(1, $3::int) i`, w.team, w.project, n)
	require.NoError(t, err)
	require.NoError(t, w.SweepVectors(t.Context()))
	jobs := 0
	for {
		done := w.doAll(t)
		if jobs += done; done == 0 || jobs > 10 {
			break
		}
	}
	require.Equal(t, 3, jobs, "each looks at 500")
	require.Equal(t, n, w.count(t, "observation_vectors"))
	require.Len(t, s.Asked(), 2*8+5)
	w.check(t)
}

// A search and a job read few rows, and none of another project, whatever the
// planner believes.
func TestVectorsReadFewRowsWithColdStatistics(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	pool, rec := coldPool(t)
	w := newWorldOn(t, pool, withVectors(t, s, "m1"), func(cfg *observe.Config) { cfg.Near.Floor = 0 })
	team, project := w.tenant(t, "away")
	for _, at := range [][2]string{{team, project}, {w.team, w.project}} {
		for _, sql := range []string{
			`INSERT INTO observations (id, team_id, project_id, kind, content, created_at, updated_at)
			 SELECT $2 || i, $1, $2, 'k', 'c', now() - i * interval '1 s', now() - interval '1 h' FROM generate_series(1, 6000) i`,
			`INSERT INTO observation_vectors (observation_id, team_id, project_id, model, dimensions, created_at, seen_at, vector)
			 SELECT id, team_id, project_id, 'm1', 256, created_at, updated_at, decode(repeat('0000803d', 256), 'hex') FROM observations WHERE team_id = $1 AND project_id = $2`,
		} {
			_, err := pool.Exec(t.Context(), sql, at[0], at[1])
			require.NoError(t, err)
		}
	}
	for range 8 {
		_, r := w.hits(t, observe.Query{Query: "note"})
		require.Len(t, r.Hits, 20)
		_, r = w.hits(t, observe.Query{Query: "note", Kinds: []string{"k"}})
		require.Len(t, r.Hits, 20)
	}
	// Each row is counted once for each step that it goes through.
	require.Less(t, rowsRead(t, pool, rec.last["SearchVectors"]), 3*6000+100)
	require.Less(t, rowsRead(t, pool, rec.last["SearchFitting"]), 3*6000+100)
	job, err := w.Reindex(t.Context(), w.me, w.project, w.memory(t, "one more"))
	require.NoError(t, err)
	w.do(t, job.ID)
	require.Less(t, rowsRead(t, pool, rec.last["NotInSpace"]), 100, "of one observation")
	_, err = pool.Exec(t.Context(), "DELETE FROM observation_vectors WHERE observation_id = $1", w.project+"7")
	require.NoError(t, err)
	w.record(t, w.event(1))
	w.doAll(t)
	w.placed(t)
	require.Less(t, rowsRead(t, pool, rec.last["NotInSpace"]), 20*500) // and no sum of all 6000
	require.NoError(t, w.SweepVectors(t.Context()))
	require.Less(t, rowsRead(t, pool, rec.last["ProjectsNotInSpace"]), 2*10*200)
}
