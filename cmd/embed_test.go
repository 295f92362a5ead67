package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

// The real programs with an endpoint for embeddings, which one variable turns
// on: what workers store is found by what looks alike, the key is seen nowhere,
// and when the endpoint is away a search says so and finds by words.
func TestSearchByMeaning(t *testing.T) {
	t.Parallel()
	const key = "sk-embed-loopback-0123456789"
	s := newStack(t)
	endpoint := llmtest.New(t)
	env := []string{"OBS_EMBED_MODEL=pieces", "OBS_EMBED_URL=" + endpoint.URL, "OBS_EMBED_KEY=" + key, "OBS_EMBED_SEARCH_TIMEOUT=1m"}
	server := s.startWith(env, "obs", "server")
	s.relay()
	w := s.startWith(env, "obs-worker", "--lease", lease)
	s.send(0, 20)
	require.Eventually(t, func() bool { return s.count(`SELECT count(*) FROM observation_vectors WHERE model = 'pieces'`) == 20 }, patience, look)
	require.Eventually(t, func() bool { return s.jobs("queued")+s.jobs("processing") == 0 }, patience, look)
	require.GreaterOrEqual(t, 2, s.count(`SELECT count(*) FROM observation_generation_jobs WHERE job_type = 'reindex' AND source_id LIKE 'vectors%'`), "few jobs for all of it")

	type answer struct {
		Observations []struct{ Content string }
		RankedBy     string
		Reason       string `json:"rankedByReason"`
	}
	search := func(query string) (a answer) {
		code, body := s.post("/v1/search", map[string]string{"projectId": s.project, "query": query})
		require.Equal(t, http.StatusOK, code, "%s", body)
		require.NoError(t, json.Unmarshal(body, &a))
		return a
	}
	a := search("a file that was written")
	require.Equal(t, "text+vectors", a.RankedBy)
	used := s.usage()
	require.Equal(t, "embeddings", used.By[0].Provider)
	require.Equal(t, "pieces", used.By[0].Model)
	require.Positive(t, used.By[0].TokensIn)

	endpoint.Always(llmtest.TooMany("60"))
	a = search("another question")
	require.Equal(t, "text", a.RankedBy)
	require.Contains(t, a.Reason, "does not answer")
	require.Eventually(t, func() bool { return strings.Contains(server.out.String(), "ranked by text alone") }, patience, look)

	require.Equal(t, key, strings.TrimPrefix(endpoint.Asked()[0].Header.Get("Authorization"), "Bearer "))
	for _, text := range []string{w.out.String(), server.out.String()} {
		require.NotContains(t, text, key)
	}
	for _, table := range []string{"observation_generation_job_events", "observation_generation_jobs", "observation_vectors", "audit_log", "usage_events"} {
		require.Zero(t, s.count(fmt.Sprintf(`SELECT count(*) FROM %s t WHERE t::text LIKE '%%' || $1 || '%%'`, table), key))
	}
	s.check()
}
