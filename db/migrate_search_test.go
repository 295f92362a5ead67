package db_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// before is a database without the migration of that name and those after it.
func before(t *testing.T, name string) *pgxpool.Pool {
	t.Helper()
	pool := open(t, testenv.EmptyPostgres(t))
	files, err := filepath.Glob("migrations/*_" + name + ".sql")
	require.NoError(t, err)
	require.Len(t, files, 1)
	number, _, _ := strings.Cut(filepath.Base(files[0]), "_")
	version, err := strconv.ParseInt(number, 10, 64)
	require.NoError(t, err)
	conn := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { conn.Close() })
	p, err := goose.NewProvider(goose.DialectPostgres, conn, os.DirFS("migrations"))
	require.NoError(t, err)
	_, err = p.UpTo(t.Context(), version-1)
	require.NoError(t, err)
	return pool
}

// What was stored before the program cut the texts itself is found as before,
// by the mark of its project.
func TestMigrateMarksWhatIsThere(t *testing.T) {
	t.Parallel()
	pool := before(t, "search")
	_, err := pool.Exec(t.Context(), `
		INSERT INTO teams (id, name) VALUES ('t-ü', 't'), ('other', 'o');
		INSERT INTO projects (id, team_id, name) VALUES ('p''1', 't-ü', 'p'), ('p2', 'other', 'p');
		INSERT INTO observations (id, team_id, project_id, kind, content) VALUES
			('o1', 't-ü', 'p''1', 'security_note', 'The relays wait'), ('o2', 'other', 'p2', 'it''s \ odd', 'The relays wait')`)
	require.NoError(t, err)
	require.NoError(t, db.Migrate(t.Context(), pool))
	for id, want := range map[string]string{
		"o1": search.Scope("t-ü", "p'1") + "&" + search.Kind("security_note") + "&relay&wait",
		"o2": search.Scope("other", "p2") + "&" + search.Kind(`it's \ odd`) + "&relay&wait",
	} {
		var found bool
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT content_search @@ $2::text::tsquery FROM observations WHERE id = $1", id, want).Scan(&found))
		require.True(t, found, want)
	}
}

// A role that may not create extensions has everything but pg_trgm.
func TestMigrateWithoutTheRightToCreateExtensions(t *testing.T) {
	t.Parallel()
	dsn := testenv.EmptyPostgres(t)
	admin := open(t, dsn)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	role := strings.TrimPrefix(u.Path, "/") + "_r"
	_, err = admin.Exec(t.Context(), `CREATE ROLE "`+role+`" LOGIN; GRANT ALL ON SCHEMA public TO "`+role+`"`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), `DROP OWNED BY "`+role+`"; DROP ROLE "`+role+`"`)
		if err != nil {
			t.Log(err)
		}
	})
	u.User = url.User(role)
	pool := open(t, u.String())
	require.NoError(t, db.Migrate(t.Context(), pool))
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'").Scan(&n))
	require.Zero(t, n)
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT cardinality(similar_words('t', 'p', 'relya', 3))").Scan(&n))
	require.Zero(t, n)
}
