package observe

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// vectorStore keeps where observations lie in the space of a model, and finds
// those that lie near a question. There are two, on one table, that give the
// same answers: one for every Postgres, which computes here, and one that has
// pgvector compute.
type vectorStore interface {
	// put notes vectors in place of those that the observations had. One that
	// is not there, or not the project's, is left out.
	put(ctx context.Context, on sqlc.DBTX, scope events.Scope, space string, all []placed) error
	// nearest gives what lies nearest, the nearest first.
	nearest(ctx context.Context, on sqlc.DBTX, a around) ([]near, error)
	// exact says that a vector has to be in the table's own column.
	exact() bool
}

// placed is the vector, of length 1, of an observation as it was at a time;
// nil where the model does not take its text.
type placed struct {
	id     string
	seen   time.Time // its updated_at
	vector []float32
}

// around is a question for observations near a vector.
type around struct {
	scope        events.Scope
	space        string
	vector       []float32 // of length 1
	since, until time.Time // when the observations were made
	asOf         time.Time // vectors that came later are not looked at
	among        []string  // only these observations; nil: any
	floor        float64   // the least likeness, 1 is the same
	most         int
	size         int // about how many the project has
}

// near is an observation that lies near, by the cosine of the angle between.
type near struct {
	id    string
	at    time.Time
	alike float64
}

// exactMost bounds how many of a project's vectors a search computes with: the
// newest.
const exactMost = 10_000

// exactVectors computes here.
type exactVectors struct{}

func (exactVectors) exact() bool { return true }

// putVectors has two holes: the column, and how its value is read.
const putVectors = `-- name: PutVectors :exec
WITH there AS (
    SELECT o.id, o.created_at FROM observations o
    WHERE o.id = ANY($3::text[]) AND CASE WHEN o.team_id = $1 AND o.project_id = $2 THEN true END
    ORDER BY o.id FOR KEY SHARE
)
INSERT INTO observation_vectors AS v (observation_id, team_id, project_id, model, dimensions, created_at, seen_at, %[1]s)
SELECT w.id, $1, $2, $4, w.dimensions, t.created_at, w.seen_at, w.vector%[2]s
FROM (SELECT unnest($3::text[]) AS id, unnest($5::int[]) AS dimensions, unnest($6::timestamptz[]) AS seen_at, unnest($7::%[3]s[]) AS vector) w
JOIN there t ON t.id = w.id
ORDER BY w.id
ON CONFLICT (observation_id) DO UPDATE SET
    model = excluded.model, dimensions = excluded.dimensions, created_at = excluded.created_at, seen_at = excluded.seen_at,
    made_at = excluded.made_at, vector = NULL, %[1]s = excluded.%[1]s
WHERE CASE WHEN v.team_id = excluded.team_id AND v.project_id = excluded.project_id THEN true END`

func (exactVectors) put(ctx context.Context, on sqlc.DBTX, scope events.Scope, space string, all []placed) error {
	sql := strings.Replace(fmt.Sprintf(putVectors, "vector", "", "bytea"), "vector = NULL, ", "", 1)
	return put(ctx, on, sql, scope, space, all, func(v []float32) any {
		b := make([]byte, 0, 4*len(v))
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		return b
	})
}

func put(ctx context.Context, on sqlc.DBTX, sql string, scope events.Scope, space string, all []placed, write func([]float32) any) error {
	ids, dimensions, seen, vectors := make([]string, len(all)), make([]int32, len(all)), make([]time.Time, len(all)), make([]any, len(all))
	for i, p := range all {
		ids[i], dimensions[i], seen[i] = p.id, int32(len(p.vector)), p.seen
		if p.vector != nil {
			vectors[i] = write(p.vector)
		}
	}
	if _, err := on.Exec(ctx, sql, scope.Team, scope.Project, ids, space, dimensions, seen, vectors); err != nil {
		return fmt.Errorf("store %d vectors: %w", len(all), err)
	}
	return nil
}

// aroundVectors are the conditions of all questions; it has a hole for the
// column.
const aroundVectors = `
    WHERE v.team_id = $1 AND v.project_id = $2 AND v.model = $3 AND v.dimensions = $4::int
      AND v.created_at >= $5 AND v.created_at <= $6 AND v.made_at <= $7 AND v.%s IS NOT NULL
      AND ($8::text[] IS NULL OR v.observation_id = ANY($8::text[]))`

func (a around) args() []any {
	return []any{a.scope.Team, a.scope.Project, a.space, len(a.vector), a.since, a.until, a.asOf, a.among}
}

func (exactVectors) nearest(ctx context.Context, on sqlc.DBTX, a around) ([]near, error) {
	rows, err := on.Query(ctx, `-- name: SearchVectors :many
    SELECT v.observation_id, v.created_at, v.vector FROM observation_vectors v`+fmt.Sprintf(aroundVectors, "vector")+`
    ORDER BY v.created_at DESC LIMIT $9`, append(a.args(), exactMost)...)
	if err != nil {
		return nil, fmt.Errorf("read vectors: %w", err)
	}
	defer rows.Close()
	var best []near
	floor := a.floor
	var vector pgtype.DriverBytes // where it came: it is read once, and there are many
	for rows.Next() {
		if err := rows.Scan(nil, nil, &vector); err != nil {
			return nil, fmt.Errorf("read a vector: %w", err)
		}
		n := near{alike: dot(a.vector, vector)}
		if n.alike < floor {
			continue
		}
		if err := rows.Scan(&n.id, &n.at, nil); err != nil {
			return nil, fmt.Errorf("read a vector: %w", err)
		}
		at, _ := slices.BinarySearchFunc(best, n, nearer)
		best = slices.Insert(best, at, n)
		if len(best) > a.most {
			best = best[:a.most]
			floor = best[a.most-1].alike
		}
	}
	return best, rows.Err()
}

func nearer(a, b near) int { return cmp.Or(cmp.Compare(b.alike, a.alike), strings.Compare(a.id, b.id)) }

// dot multiplies a vector with one as it is stored, of the same length.
func dot(v []float32, stored []byte) float64 {
	if len(stored) != 4*len(v) {
		return -2 // less than any floor
	}
	var sum [4]float32 // four at once do not wait for each other
	i := 0
	for ; i+4 <= len(v); i += 4 {
		b := stored[4*i : 4*i+16]
		sum[0] += v[i] * math.Float32frombits(binary.LittleEndian.Uint32(b))
		sum[1] += v[i+1] * math.Float32frombits(binary.LittleEndian.Uint32(b[4:]))
		sum[2] += v[i+2] * math.Float32frombits(binary.LittleEndian.Uint32(b[8:]))
		sum[3] += v[i+3] * math.Float32frombits(binary.LittleEndian.Uint32(b[12:]))
	}
	for ; i < len(v); i++ {
		sum[0] += v[i] * math.Float32frombits(binary.LittleEndian.Uint32(stored[4*i:]))
	}
	return float64(sum[0] + sum[1] + sum[2] + sum[3])
}

// vectorsFor is how old may be what is known of the table's columns.
const vectorsFor = time.Minute

// vectors is the store of this database.
func (s *Service) vectors(ctx context.Context, on sqlc.DBTX) (vectorStore, error) {
	if store, ok := s.store.get(struct{}{}); ok {
		return store, nil
	}
	var store vectorStore = exactVectors{}
	version, err := pgvector(ctx, on)
	if err != nil {
		return nil, err
	}
	if version != "" {
		var major, minor int
		_, _ = fmt.Sscanf(version, "%d.%d", &major, &minor) // what is no number is an old one
		store = pgVectors{walks: major > 0 || minor >= 8}
	}
	s.store.put(struct{}{}, store, vectorsFor)
	return store, nil
}

// pgvector is the version of the extension where the table has a column of
// its type; "" where not.
func pgvector(ctx context.Context, on sqlc.DBTX) (version string, err error) {
	err = on.QueryRow(ctx, `SELECT coalesce((
		SELECT x.extversion FROM pg_catalog.pg_extension x
		WHERE x.extname = 'vector' AND EXISTS (
			SELECT FROM pg_catalog.pg_attribute a
			WHERE a.attrelid = to_regclass('observation_vectors') AND a.attname = 'embedding' AND NOT a.attisdropped)), '')`).Scan(&version)
	if err != nil {
		return "", fmt.Errorf("look for pgvector: %w", err)
	}
	return version, nil
}
