//go:build npm

package observe

import (
	"bufio"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// The Postgres of these tests is PGlite: Postgres 17 with pgvector 0.8, compiled
// for node, from the npm registry, since no package of Debian 12 has pgvector
// for its Postgres. It is fetched once, into the user's cache, in the versions
// of the lock file, whose hashes npm verifies.
const pglite = "testdata/pglite"

// pgliteURL starts one for the test. It takes one connection at a time.
func pgliteURL(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err, "the tests with -tags npm need it")
	}
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	dir := filepath.Join(cache, "obs", "pglite")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"package.json", "package-lock.json", "serve.mjs"} {
		text, err := os.ReadFile(filepath.Join(pglite, name))
		require.NoError(t, err)
		if kept, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(kept) != string(text) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "node_modules")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err != nil {
		install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
		install.Dir = dir
		out, err := install.CombinedOutput()
		require.NoError(t, err, "PGlite is not in %s, and npm could not fetch it: %s", dir, out)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, "node", "serve.mjs")
	server.Dir, server.Stderr = dir, os.Stderr
	out, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		stop()
		_ = server.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "it says on which port it listens")
	return "postgres://postgres:any@127.0.0.1:" + strings.TrimSpace(line) + "/postgres?sslmode=disable&pool_max_conns=1"
}

// TestPgvector is the conformance suite with pgvector, and what a worker does
// when it finds it: also with vectors that were written without.
func TestPgvector(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig(pgliteURL(t))
	require.NoError(t, err)
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, db.Migrate(t.Context(), pool))
	service := New(Config{Pool: pool, Jobs: db.NewJobs(pool, db.JobsConfig{Process: "test"}), Log: testenv.Log(t)})
	store, err := service.vectors(t.Context(), pool)
	require.NoError(t, err)
	require.True(t, store.exact(), "nobody has added its column yet")
	vectorSuite(t, pool, store)

	s := &shelf{pool: pool, store: store, rng: rand.New(rand.NewPCG(7, 7))}
	scope, ids := s.project(t, 40)
	for _, id := range ids {
		s.put(t, scope, "m", placed{id, epochOfTests, s.vector(16)})
	}
	question := s.vector(16)
	before := s.nearest(t, scope, "m", question)
	why, err := service.prepareVectors(t.Context())
	require.NoError(t, err)
	require.NoError(t, why)
	store, err = service.vectors(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, pgVectors{walks: true}, store)
	s.store = store
	require.Equal(t, before, s.nearest(t, scope, "m", question), "what was written without it is taken over")
	why, err = service.prepareVectors(t.Context())
	require.NoError(t, err, "it may be done again")
	require.NoError(t, why)
	vectorSuite(t, pool, store)

	// By the index the same, also for one project among others.
	require.NoError(t, indexVectors(t.Context(), pool, 16))
	require.NoError(t, indexVectors(t.Context(), pool, 16))
	require.NoError(t, indexVectors(t.Context(), pool, 3072), "an index takes no more than 2000")
	for range 5 {
		other, ids := s.project(t, 40)
		for _, id := range ids {
			s.put(t, other, "m", placed{id, epochOfTests, s.vector(16)})
		}
	}
	big := func(a *around) { a.size = indexFrom }
	require.Equal(t, before[:10], s.nearest(t, scope, "m", question, big, func(a *around) { a.most = 10 }))
	rows, err := pool.Query(t.Context(), "EXPLAIN SELECT observation_id FROM observation_vectors v WHERE v.dimensions = 16 ORDER BY v.embedding::vector(16) <=> $1::text::vector(16) LIMIT 10", vectorText(question))
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, strings.Join(plan, "\n"), "observation_vectors_near_16")
	vectorSuite(t, pool, store)
}
