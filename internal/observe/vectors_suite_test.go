package observe

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

func TestExactVectors(t *testing.T) {
	t.Parallel()
	vectorSuite(t, testenv.Pool(t), exactVectors{})
}

// shelf is a database with notes of projects, for the suite.
type shelf struct {
	pool  *pgxpool.Pool
	store vectorStore
	rng   *rand.Rand
}

// shelves counts the projects: the suite may run twice on one database.
var shelves atomic.Int64

var epochOfTests = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// project makes a project with n observations, a minute apart.
func (s *shelf) project(t *testing.T, n int) (scope events.Scope, ids []string) {
	t.Helper()
	nth := shelves.Add(1)
	scope = events.Scope{Team: fmt.Sprintf("team%d", nth), Project: fmt.Sprintf("project%d", nth)}
	s.exec(t, "INSERT INTO teams (id, name) VALUES ($1, $1)", scope.Team)
	s.exec(t, "INSERT INTO projects (id, team_id, name) VALUES ($1, $2, $1)", scope.Project, scope.Team)
	for i := range n {
		ids = append(ids, fmt.Sprintf("obs-%d-%03d", nth, i))
		s.exec(t, "INSERT INTO observations (id, team_id, project_id, kind, content, created_at) VALUES ($1, $2, $3, 'k', 'c', $4)",
			ids[i], scope.Team, scope.Project, epochOfTests.Add(time.Duration(i)*time.Minute))
	}
	return scope, ids
}

func (s *shelf) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := s.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// vector has a random direction.
func (s *shelf) vector(dimensions int) []float32 {
	v, sum := make([]float32, dimensions), 0.0
	for i := range v {
		v[i] = float32(s.rng.NormFloat64())
		sum += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

func (s *shelf) put(t *testing.T, scope events.Scope, space string, all ...placed) {
	t.Helper()
	require.NoError(t, s.store.put(t.Context(), s.pool, scope, space, all))
}

// nearest asks in a transaction, as a search does.
func (s *shelf) nearest(t *testing.T, scope events.Scope, space string, v []float32, change ...func(*around)) []string {
	t.Helper()
	a := around{scope: scope, space: space, vector: v, until: endOfTime, asOf: endOfTime, floor: -1, most: 100}
	for _, fn := range change {
		fn(&a)
	}
	var found []near
	require.NoError(t, db.InTx(t.Context(), s.pool, func(tx pgx.Tx) (err error) {
		if _, err = tx.Exec(t.Context(), "SELECT set_config('enable_sort', 'off', true)"); err != nil {
			return err
		}
		found, err = s.store.nearest(t.Context(), tx, a)
		return err
	}))
	ids := make([]string, len(found))
	for i, n := range found {
		ids[i] = n.id
		require.False(t, n.at.Before(epochOfTests))
		require.GreaterOrEqual(t, n.alike, a.floor)
		if i > 0 {
			require.GreaterOrEqual(t, found[i-1].alike, n.alike)
		}
	}
	return ids
}

// vectorSuite is what every vectorStore does. It uses one connection at a
// time.
func vectorSuite(t *testing.T, pool *pgxpool.Pool, store vectorStore) {
	t.Helper()
	s := &shelf{pool: pool, store: store, rng: rand.New(rand.NewPCG(1, 2))}

	t.Run("the nearest first", func(t *testing.T) {
		scope, ids := s.project(t, 60)
		for _, dimensions := range []int{1, 3, 8, 33, 768} {
			space := fmt.Sprint("m", dimensions)
			all := make([]placed, len(ids))
			for i, id := range ids {
				all[i] = placed{id: id, seen: epochOfTests, vector: s.vector(dimensions)}
			}
			s.put(t, scope, space, all[:40]...)
			s.put(t, scope, space, all[40:]...)
			question := s.vector(dimensions)
			slices.SortFunc(all, func(a, b placed) int {
				return nearer(near{id: a.id, alike: cosine(question, a.vector)}, near{id: b.id, alike: cosine(question, b.vector)})
			})
			got := s.nearest(t, scope, space, question)
			require.Len(t, got, len(all))
			for i, id := range got { // where two are as near by the last bit, either may be the first
				at := slices.IndexFunc(all, func(p placed) bool { return p.id == id })
				require.InDelta(t, cosine(question, all[i].vector), cosine(question, all[at].vector), 1e-5, "place %d of %d dimensions", i, dimensions)
			}
			require.Len(t, s.nearest(t, scope, space, question, func(a *around) { a.most = 7 }), 7)
			few := s.nearest(t, scope, space, question, func(a *around) { a.floor = 0.1 })
			require.Len(t, few, len(slices.DeleteFunc(slices.Clone(all), func(p placed) bool { return cosine(question, p.vector) < 0.1 })))
		}
	})

	t.Run("tenants and models", func(t *testing.T) {
		mine, ids := s.project(t, 3)
		theirs, others := s.project(t, 3)
		v := s.vector(4)
		s.put(t, mine, "m", placed{ids[0], epochOfTests, v}, placed{others[0], epochOfTests, v}, placed{"nothing", epochOfTests, v})
		s.put(t, theirs, "m", placed{others[1], epochOfTests, v})
		require.Equal(t, ids[:1], s.nearest(t, mine, "m", v), "another's observation is not placed in ours")
		require.Equal(t, others[1:2], s.nearest(t, theirs, "m", v))
		require.Empty(t, s.nearest(t, events.Scope{Team: mine.Team, Project: theirs.Project}, "m", v))
		require.Empty(t, s.nearest(t, events.Scope{Team: theirs.Team, Project: mine.Project}, "m", v))
		require.Empty(t, s.nearest(t, mine, "n", v))
		require.Empty(t, s.nearest(t, mine, "m", s.vector(5)), "of another number of dimensions")
		require.Empty(t, s.nearest(t, mine, "m", v, func(a *around) { a.among = others }))
		s.put(t, theirs, "m", placed{ids[0], epochOfTests, s.vector(4)})
		require.Equal(t, ids[:1], s.nearest(t, mine, "m", v, func(a *around) { a.floor = 0.9999 }), "who may not see it may not change it")

		s.put(t, mine, "n", placed{ids[0], epochOfTests, v})
		require.Empty(t, s.nearest(t, mine, "m", v), "an observation lies in one space")
		require.Equal(t, ids[:1], s.nearest(t, mine, "n", v))
		s.put(t, mine, "n", placed{ids[0], epochOfTests, nil})
		require.Empty(t, s.nearest(t, mine, "n", v), "a text that the model does not take")
		var dimensions int
		require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT dimensions FROM observation_vectors WHERE observation_id = $1", ids[0]).Scan(&dimensions))
		require.Zero(t, dimensions)
	})

	t.Run("when and among", func(t *testing.T) {
		scope, ids := s.project(t, 10)
		v := s.vector(8)
		s.put(t, scope, "m", placed{ids[0], epochOfTests, v}, placed{ids[5], epochOfTests, v})
		var made time.Time
		require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT max(made_at) FROM observation_vectors WHERE project_id = $1", scope.Project).Scan(&made))
		require.Eventually(t, func() bool { // a Postgres in WebAssembly has a clock of milliseconds
			var later bool
			require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT clock_timestamp() > $1", made).Scan(&later))
			return later
		}, time.Minute, time.Millisecond)
		s.put(t, scope, "m", placed{ids[9], epochOfTests, v})
		minute := func(n int) time.Time { return epochOfTests.Add(time.Duration(n) * time.Minute) }
		sorted := func(change ...func(*around)) []string {
			return slices.Sorted(slices.Values(s.nearest(t, scope, "m", v, change...)))
		}
		require.Equal(t, []string{ids[0], ids[5], ids[9]}, sorted())
		require.Equal(t, []string{ids[5], ids[9]}, sorted(func(a *around) { a.since = minute(5) }))
		require.Equal(t, []string{ids[0], ids[5]}, sorted(func(a *around) { a.until = minute(8) }))
		require.Equal(t, []string{ids[0], ids[5]}, sorted(func(a *around) { a.asOf = made }), "what came later is not of the next page")
		require.Equal(t, []string{ids[5]}, sorted(func(a *around) { a.among = []string{ids[5], ids[6], "x"} }))
		require.Empty(t, sorted(func(a *around) { a.among = []string{} }))
		s.put(t, scope, "m", placed{ids[9], epochOfTests, v})
		require.Equal(t, []string{ids[0], ids[5]}, sorted(func(a *around) { a.asOf = made }))
	})

	t.Run("they go with what they are of", func(t *testing.T) {
		scope, ids := s.project(t, 3)
		v := s.vector(8)
		for _, id := range ids {
			s.put(t, scope, "m", placed{id, epochOfTests, v})
		}
		s.exec(t, "DELETE FROM observations WHERE id = $1", ids[1])
		require.ElementsMatch(t, []string{ids[0], ids[2]}, s.nearest(t, scope, "m", v))
		s.exec(t, "DELETE FROM projects WHERE id = $1 AND team_id = $2", scope.Project, scope.Team)
		var n int
		require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM observation_vectors WHERE project_id = $1", scope.Project).Scan(&n))
		require.Zero(t, n)
	})
}

func cosine(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// BenchmarkExactVectors is what a search pays for as many vectors as it looks
// at at most.
func BenchmarkExactVectors(b *testing.B) {
	pool := testenv.Pool(b)
	ctx := context.Background()
	const rows, dimensions = exactMost, 768
	_, err := pool.Exec(ctx, `INSERT INTO teams (id, name) VALUES ('t', 't')`)
	require.NoError(b, err)
	_, err = pool.Exec(ctx, `INSERT INTO projects (id, team_id, name) VALUES ('p', 't', 'p')`)
	require.NoError(b, err)
	_, err = pool.Exec(ctx, `INSERT INTO observations (id, team_id, project_id, kind, content) SELECT 'o' || n, 't', 'p', 'k', 'c' FROM generate_series(1, $1) n`, rows)
	require.NoError(b, err)
	s := &shelf{rng: rand.New(rand.NewPCG(1, 2))}
	scope, store := events.Scope{Team: "t", Project: "p"}, exactVectors{}
	for at := 0; at < rows; at += 1000 {
		var all []placed
		for i := range 1000 {
			all = append(all, placed{fmt.Sprint("o", at+i+1), epochOfTests, s.vector(dimensions)})
		}
		require.NoError(b, store.put(ctx, pool, scope, "m", all))
	}
	question := s.vector(dimensions)
	b.ResetTimer()
	for b.Loop() {
		found, err := store.nearest(ctx, pool, around{scope: scope, space: "m", vector: question, until: endOfTime, asOf: endOfTime, floor: -1, most: nearMost})
		if err != nil || len(found) != nearMost {
			b.Fatal(len(found), err)
		}
	}
	b.ReportMetric(rows, "vectors")
}
