package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

// openDir is a new folder that every user may enter, as a data directory's parents usually are: testing makes
// its own for one user.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

func start(t *testing.T, cfg embedded.PostgresConfig) *embedded.Postgres {
	t.Helper()
	pg, err := embedded.StartPostgres(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, pg) })
	return pg
}

func stop(t *testing.T, pg *embedded.Postgres) {
	t.Helper()
	require.NoError(t, pg.Stop(context.WithoutCancel(t.Context())))
}

func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), sql)
	require.NoError(t, err)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return value
}

func exec(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestDataOutlivesTheServer(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	var told []string
	cfg := embedded.PostgresConfig{Dir: dir, Progress: func(s string) { told = append(told, s) }}

	first := start(t, cfg)
	exec(t, first.URL(embedded.Database), "CREATE TABLE notes AS SELECT 'kept' AS note")
	stop(t, first)
	require.False(t, embedded.Running(first.Pid()))

	second := start(t, cfg)
	require.Equal(t, "kept", query[string](t, second.URL(embedded.Database), "SELECT note FROM notes"))
	require.Len(t, told, 1, "only the first start makes a data directory")
}

func TestServerIsPrivateAndNotRoot(t *testing.T) {
	t.Parallel()
	pg := start(t, embedded.PostgresConfig{Dir: openDir(t), Fast: true})

	require.Empty(t, query[string](t, pg.URL("postgres"), "SHOW listen_addresses"))
	for _, dir := range []string{pg.RunDir(), query[string](t, pg.URL("postgres"), "SHOW data_directory")} {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.ModeDir|0o700, info.Mode(), dir)
	}
	require.True(t, strings.HasPrefix(query[string](t, pg.URL("postgres"), "SHOW server_version"), pg.Version))
	require.FileExists(t, filepath.Join(pg.BinDir, "initdb"))
}

func TestSearchFoldsLettersOutsideASCII(t *testing.T) {
	t.Parallel()
	pg := start(t, embedded.PostgresConfig{Dir: openDir(t), Fast: true})
	require.Equal(t, "ärger", query[string](t, pg.URL("postgres"), "SELECT lower('ÄRGER')"))
}

func TestFolderClosedToOthers(t *testing.T) {
	t.Parallel()
	// testing made the parent 0700: as root, the user that the server usually runs as may not enter.
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o700))

	pg, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir, Fast: true})
	if err != nil { // root where there are no user namespaces
		require.ErrorContains(t, err, "choose a --data-dir under a folder that every user may enter")
		return
	}
	exec(t, pg.URL("postgres"), "CREATE TABLE notes AS SELECT 'kept' AS note")
	stop(t, pg)
	again := start(t, embedded.PostgresConfig{Dir: dir, Fast: true})
	require.Equal(t, "kept", query[string](t, again.URL("postgres"), "SELECT note FROM notes"))
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), strings.Repeat("long", 30))
	pg := start(t, embedded.PostgresConfig{Dir: dir, Fast: true})

	require.Equal(t, 1, query[int](t, pg.URL("postgres"), "SELECT 1"))
	require.NotContains(t, pg.RunDir(), dir)
	stop(t, pg)
	require.NoDirExists(t, pg.RunDir())
}

func TestDirWithOddCharacters(t *testing.T) {
	t.Parallel()
	pg := start(t, embedded.PostgresConfig{Dir: filepath.Join(openDir(t), `a "b", c%20`), Fast: true})
	require.Equal(t, 1, query[int](t, pg.URL("postgres"), "SELECT 1"))
}

func TestSecondStarterIsTold(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: openDir(t), Fast: true}
	start(t, cfg)

	_, err := embedded.StartPostgres(t.Context(), cfg)
	require.ErrorIs(t, err, embedded.ErrInUse)
	require.Regexp(t, `^another obs is using \S+ \(pid \d+\): stop it or choose another --data-dir$`, err.Error())
}

func TestStartFailureTellsTheServersReason(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: openDir(t), Fast: true, Settings: map[string]string{"shared_buffers": "lots"}}

	_, err := embedded.StartPostgres(t.Context(), cfg)
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "lots"`)
	require.NotContains(t, err.Error(), "\n")

	cfg.Settings = nil
	start(t, cfg) // and nothing is left in the way
}

func TestDataOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pg"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg", "PG_VERSION"), []byte("9\n"), 0o600))

	_, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir})
	var version *embedded.VersionError
	require.ErrorAs(t, err, &version)
	require.Equal(t, 9, version.Made)
	require.Regexp(t, `^data directory \S+/pg was made by PostgreSQL 9, but only [\d, ]+ is installed: `+
		`install PostgreSQL 9, or move the directory away or choose another --data-dir$`, err.Error())
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	thesis := filepath.Join(dir, "pg", "thesis.txt")
	require.NoError(t, os.Mkdir(filepath.Dir(thesis), 0o700))
	require.NoError(t, os.WriteFile(thesis, []byte("mine"), 0o600))

	_, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir})
	require.ErrorContains(t, err, "holds other files and no database")
	require.FileExists(t, thesis)
}

func TestKilledFirstStartIsMadeGood(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	half := filepath.Join(dir, "pg.tmp", "base")
	require.NoError(t, os.MkdirAll(half, 0o700))

	pg := start(t, embedded.PostgresConfig{Dir: dir, Fast: true})
	require.Equal(t, 1, query[int](t, pg.URL("postgres"), "SELECT 1"))
	require.NoDirExists(t, half)
}

func TestNoDir(t *testing.T) {
	t.Parallel()
	_, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{})
	require.ErrorContains(t, err, "no data directory given")
}
