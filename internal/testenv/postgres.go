package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
)

// poolConns is enough for a test's own concurrency and lets dozens of tests share the server.
const poolConns = 8

// Postgres returns the URL of a new database with all migrations applied. It is dropped when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	s := start(t)
	if s.template == "" {
		url := EmptyPostgres(t)
		require.NoError(t, migrate(t.Context(), url))
		return url
	}
	return s.create(t, " TEMPLATE "+s.template+s.strategy)
}

// EmptyPostgres returns the URL of a new database with nothing in it. It is dropped when the test ends.
func EmptyPostgres(t testing.TB) string {
	t.Helper()
	s := start(t)
	return s.create(t, " TEMPLATE template0"+s.strategy)
}

// Pool returns a pool of at most 8 connections to a new database as of [Postgres]. It is closed when the test
// ends; a connection that is never given back fails the test.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(Postgres(t))
	require.NoError(t, err)
	config.MaxConns = poolConns
	config.ConnConfig.RuntimeParams["enable_seqscan"] = "off" // as db.Open does, and for its reasons
	config.ConnConfig.RuntimeParams["jit"] = "off"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			pool.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(cleanupWithin):
			t.Errorf("close the test's pool: %d connections were not given back", pool.Stat().AcquiredConns())
		}
	})
	return pool
}

// create makes a database named after the test and drops it at the end.
func (s *server) create(t testing.TB, options string) string {
	t.Helper()
	name := databaseName(t.Name())
	url := s.url(name)
	require.NoError(t, s.exec(t.Context(), "CREATE DATABASE "+name+options))
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("OBS_TEST_KEEP") != "" {
			t.Logf("database kept: %s", url)
			return
		}
		ctx, cancel := cleanupContext()
		defer cancel()
		if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return url
}

// exec runs one statement on a connection of its own: nothing of it is left to look like a leak to a test.
func (s *server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.url(s.admin))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

func migrate(ctx context.Context, url string) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.MaxConns = 2 // one holds the migrations' lock
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := db.Migrate(ctx, pool); err != nil {
		return fmt.Errorf("migrate the test database: %w", err)
	}
	return nil
}

// databaseName is the test's name in letters that need no quoting, made unique: 63 bytes are PostgreSQL's limit.
func databaseName(test string) string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, test)
	plain = plain[:min(len(plain), 40)]
	return "t_" + plain + "_" + strings.ToLower(rand.Text()[:12])
}
