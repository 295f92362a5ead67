package testenv_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestDatabasesAreIndependent(t *testing.T) {
	t.Parallel()
	one, two := testenv.Pool(t), testenv.Pool(t)

	_, err := one.Exec(t.Context(), "CREATE TABLE only_here (n int)")
	require.NoError(t, err)

	require.True(t, hasTable(t, one, "only_here"))
	require.False(t, hasTable(t, two, "only_here"))
}

func TestDatabaseIsMigrated(t *testing.T) {
	t.Parallel()
	require.True(t, hasTable(t, testenv.Pool(t), "observation_generation_jobs"))
}

func TestEmptyDatabaseHasNoTables(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testenv.EmptyPostgres(t))
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))

	var tables int
	err = conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables)
	require.NoError(t, err)
	require.Zero(t, tables)
}

func TestManyDatabasesAtOnce(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		t.Run(fmt.Sprintf("Ünusual name/%d", n), func(t *testing.T) {
			t.Parallel()
			pool := testenv.Pool(t)
			_, err := pool.Exec(t.Context(), "CREATE TABLE mine AS SELECT $1::int AS n", n)
			require.NoError(t, err)
			var got int
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT n FROM mine").Scan(&got))
			require.Equal(t, n, got)
		})
	}
}

func TestDatabaseIsDroppedWithItsTest(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("short", func(t *testing.T) { url = testenv.Postgres(t) })

	_, err := pgx.Connect(t.Context(), url)
	require.ErrorContains(t, err, "does not exist")
}

func TestBrokersAreIndependent(t *testing.T) {
	t.Parallel()
	one, err := jetstream.New(testenv.NATS(t))
	require.NoError(t, err)
	two, err := jetstream.New(testenv.NATS(t))
	require.NoError(t, err)

	config := jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: jetstream.FileStorage}
	_, err = one.CreateStream(t.Context(), config)
	require.NoError(t, err)
	_, err = one.Publish(t.Context(), "s.a", []byte("x"))
	require.NoError(t, err)

	_, err = two.Stream(t.Context(), "S")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
}

func TestServerForOtherProcessesListens(t *testing.T) {
	t.Parallel()
	nc, err := nats.Connect(testenv.NATSServer(t).ClientURL(), nats.Timeout(time.Minute))
	require.NoError(t, err)
	defer nc.Close()
	require.NoError(t, nc.Flush())
}

func TestLogAfterTheTestIsDropped(t *testing.T) {
	t.Parallel()
	var late func()
	t.Run("short", func(t *testing.T) {
		log := testenv.Log(t)
		log.Debug("in time")
		late = func() { log.Info("too late") }
	})
	require.NotPanics(t, late)
}

func TestOutsideServer(t *testing.T) {
	t.Parallel()
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDatabaseIs|^TestEmpty", "-test.v")
	again.Env = append(os.Environ(), "OBS_TEST_DATABASE_URL="+testenv.EmptyPostgres(t))
	out, err := again.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: TestDatabaseIsMigrated")
}

func TestFoldersOfTheDeadAreSwept(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	first, release, err := testenv.ClaimFolder(base)
	require.NoError(t, err)
	dead := filepath.Join(base, "server-dead") // its lock file is there and nobody holds it
	require.NoError(t, os.MkdirAll(filepath.Join(dead, "pg"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dead, "alive.lock"), nil, 0o600))

	_, releaseSecond, err := testenv.ClaimFolder(base)
	require.NoError(t, err)
	require.NoDirExists(t, dead)
	require.DirExists(t, first, "its owner lives")

	require.NoError(t, release())
	require.NoDirExists(t, first)
	require.NoError(t, releaseSecond())
}

func hasTable(t *testing.T, pool *pgxpool.Pool, name string) bool {
	t.Helper()
	var found bool
	err := pool.QueryRow(t.Context(), "SELECT to_regclass($1) IS NOT NULL", name).Scan(&found)
	require.NoError(t, err)
	return found
}
