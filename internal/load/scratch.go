package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ScratchPrefix begins the names of the databases that [Scratch] makes.
const ScratchPrefix = "obs_bench_"

// ErrMayNot says that the role may not make databases.
var ErrMayNot = errors.New("the role may not make databases")

// Scratch makes an empty database beside the one that at names, on the same server. drop drops it, also when ctx has
// ended.
func Scratch(ctx context.Context, at string) (scratch string, drop func() error, err error) {
	name := ScratchPrefix + strings.ToLower(rand.Text()[:12])
	run := func(ctx context.Context, sql string) error {
		conn, err := pgx.Connect(ctx, at)
		if err != nil {
			return fmt.Errorf("connect to postgres: %w", err)
		}
		defer conn.Close(context.WithoutCancel(ctx))
		_, err = conn.Exec(ctx, sql)
		return err
	}
	if err := run(ctx, "CREATE DATABASE "+name); err != nil {
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
			return "", nil, ErrMayNot
		}
		return "", nil, fmt.Errorf("make a database: %w", err)
	}
	return inDatabase(at, name), func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := run(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("drop database %s: %w", name, err)
		}
		return nil
	}, nil
}

// inDatabase is the same connection string with another database.
func inDatabase(at, name string) string {
	u, err := url.Parse(at)
	if err != nil || u.Scheme == "" {
		return at + " dbname=" + name // of words, the last one counts
	}
	u.Path = "/" + name
	q := u.Query()
	q.Del("dbname")
	u.RawQuery = q.Encode()
	return u.String()
}

// Server is what one sees of a Postgres from outside.
type Server struct {
	Version  string
	Others   int               // clients that are connected besides us
	Jobs     bool              // the database has jobs of obs
	Settings map[string]string // those that decide what a commit is worth
	PID      int               // of its first process, when that is on this machine; else 0
}

// Ask looks at the server and the database behind a pool.
func Ask(ctx context.Context, pool *pgxpool.Pool) (s Server, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return s, fmt.Errorf("ask postgres: %w", err)
	}
	defer conn.Release()
	var tables, here bool
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'),
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
		to_regclass('observation_generation_jobs') IS NOT NULL,
		coalesce(inet_server_addr() = inet_client_addr(), true)`).Scan(&s.Version, &s.Others, &tables, &here)
	if err != nil {
		return s, fmt.Errorf("ask postgres: %w", err)
	}
	if tables {
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM observation_generation_jobs)`).Scan(&s.Jobs); err != nil {
			return s, fmt.Errorf("ask postgres: %w", err)
		}
	}
	s.Settings = map[string]string{}
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"} {
		var value string
		if err := conn.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value); err != nil {
			return s, fmt.Errorf("ask postgres: %w", err)
		}
		s.Settings[name] = value
	}
	if here {
		s.PID = Postmaster(int(conn.Conn().PgConn().PID()))
	}
	return s, nil
}

// Postmaster is the postmaster of a backend on this machine. Behind a pooler, or in another container, the number means
// nothing here: then it is 0.
func Postmaster(backend int) int {
	_, s, ok := readStat("/proc/" + strconv.Itoa(backend) + "/stat")
	if !ok {
		return 0
	}
	for _, pid := range []int{backend, s.parent} {
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err != nil || !strings.HasPrefix(string(name), "postgres") && !strings.HasPrefix(string(name), "postmaster") {
			return 0
		}
	}
	return s.parent
}
