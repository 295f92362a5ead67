package observe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// pgVectors has pgvector compute, in a column that [Service.prepareVectors]
// adds where the extension is there.
type pgVectors struct {
	walks bool // an index is walked on until there is enough that fits: from 0.8 on
}

const (
	indexFrom  = 50_000 // vectors of a project from which on an index is worth its misses
	maxIndexed = 2000   // dimensions that the index takes
)

func (pgVectors) exact() bool { return false }

func (pgVectors) put(ctx context.Context, on sqlc.DBTX, scope events.Scope, space string, all []placed) error {
	return put(ctx, on, fmt.Sprintf(putVectors, "embedding", "::vector", "text"), scope, space, all, func(v []float32) any { return vectorText(v) })
}

// vectorText is a vector as pgvector reads it.
func vectorText(v []float32) string {
	b := make([]byte, 0, 12*len(v))
	for _, x := range v {
		b = strconv.AppendFloat(append(b, ','), float64(x), 'g', -1, 32)
	}
	if len(b) == 0 {
		return "[]"
	}
	b[0] = '['
	return string(append(b, ']'))
}

// nearest looks at all of a project's, and at those that an index leads to
// where they are too many for that.
func (p pgVectors) nearest(ctx context.Context, on sqlc.DBTX, a around) ([]near, error) {
	args := append(a.args(), vectorText(a.vector), a.most)
	sql := `-- name: SearchNearest :many
SELECT x.id, x.at, x.alike FROM (
    SELECT v.observation_id AS id, v.created_at AS at, 1 - (v.embedding <=> $9::text::vector) AS alike
    FROM observation_vectors v` + fmt.Sprintf(aroundVectors, "embedding") + ` OFFSET 0) x
ORDER BY x.alike DESC, x.id LIMIT $10`
	if p.walks && a.size >= indexFrom && a.among == nil && len(a.vector) <= maxIndexed {
		if _, err := on.Exec(ctx, "SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', '200', true)"); err != nil {
			return nil, fmt.Errorf("set up the index of vectors: %w", err)
		}
		// The tenant decides inside a CASE, so that nothing but the nearness leads to the rows.
		sql = strings.ReplaceAll(`-- name: SearchVectorsByIndex :many
SELECT v.observation_id, v.created_at, 1 - (v.embedding::vector({d}) <=> $9::text::vector({d})) FROM observation_vectors v
WHERE v.dimensions = {d} AND $4::int = {d} AND $8::text[] IS NULL
  AND CASE WHEN v.team_id = $1 AND v.project_id = $2 AND v.model = $3 AND v.created_at >= $5 AND v.created_at <= $6 AND v.made_at <= $7 THEN true END
ORDER BY v.embedding::vector({d}) <=> $9::text::vector({d}) LIMIT $10`, "{d}", strconv.Itoa(len(a.vector)))
	}
	rows, err := on.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look for the nearest vectors: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (n near, err error) {
		err = r.Scan(&n.id, &n.at, &n.alike)
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for the nearest vectors: %w", err)
	}
	for i, n := range all {
		if n.alike < a.floor {
			return all[:i], nil
		}
	}
	return all, nil
}

// prepareVectors adds pgvector's column where the extension is there and this
// role may create it, and takes over what was computed before. why says that
// it is there and may not be used.
func (s *Service) prepareVectors(ctx context.Context) (why error, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		var there bool
		err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'vector') FROM pg_advisory_xact_lock(hashtextextended('obs vectors', 0))").Scan(&there)
		if err != nil || !there {
			return err
		}
		for _, sql := range []string{
			"CREATE EXTENSION IF NOT EXISTS vector",
			"ALTER TABLE observation_vectors ADD COLUMN IF NOT EXISTS embedding vector",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "42501" || pg.Code == "58P01" || pg.Code == "0A000") { // may not, or half of it is missing
		return err, nil
	}
	if err != nil {
		return nil, fmt.Errorf("prepare for vectors: %w", err)
	}
	s.store.drop(struct{}{})
	store, err := s.vectors(ctx, s.pool)
	if err != nil || store.exact() {
		return nil, err
	}
	return nil, s.takeOver(ctx)
}

// floats reads a vector as exactVectors stores it.
func floats(stored []byte) []float32 {
	v := make([]float32, len(stored)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(stored[4*i:]))
	}
	return v
}

// takeOver gives pgvector what was written while it was not there.
func (s *Service) takeOver(ctx context.Context) error {
	const page = 200
	after := ""
	for {
		rows, err := s.pool.Query(ctx, `-- name: VectorsToTakeOver :many
			SELECT observation_id, vector FROM observation_vectors
			WHERE vector IS NOT NULL AND embedding IS NULL AND observation_id > $1 ORDER BY observation_id LIMIT $2`, after, page)
		if err != nil {
			return fmt.Errorf("read vectors to take over: %w", err)
		}
		var ids, vectors []string
		var id string
		var stored []byte
		if _, err = pgx.ForEachRow(rows, []any{&id, &stored}, func() error {
			ids, vectors = append(ids, id), append(vectors, vectorText(floats(stored)))
			return nil
		}); err != nil {
			return fmt.Errorf("read vectors to take over: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		_, err = s.pool.Exec(ctx, `-- name: TakeOverVectors :exec
			UPDATE observation_vectors v SET embedding = w.vector::vector, vector = NULL
			FROM (SELECT unnest($1::text[]) AS id, unnest($2::text[]) AS vector) w
			WHERE v.observation_id = w.id AND v.vector IS NOT NULL`, ids, vectors)
		if err != nil {
			return fmt.Errorf("take over %d vectors: %w", len(ids), err)
		}
		after = ids[len(ids)-1]
	}
}

// indexVectors makes the index of vectors of so many dimensions, which is
// quick while there are few.
func indexVectors(ctx context.Context, on sqlc.DBTX, dimensions int) error {
	if dimensions == 0 || dimensions > maxIndexed {
		return nil
	}
	name := "observation_vectors_near_" + strconv.Itoa(dimensions)
	var there bool
	if err := on.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&there); err != nil || there {
		return err
	}
	_, err := on.Exec(ctx, strings.NewReplacer("{name}", name, "{d}", strconv.Itoa(dimensions)).Replace(
		"CREATE INDEX IF NOT EXISTS {name} ON observation_vectors USING hnsw ((embedding::vector({d})) vector_cosine_ops) WHERE dimensions = {d}"))
	return err
}
