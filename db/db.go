// Package db is Postgres as we run it: the pool, the migrations, the
// transactions, and [Jobs], the one type that may change a job. Jobs fits
// outbox.Store, outbox.Feed and pipeline.Ledger by its shape alone.
//
// Start with [Open] and [Migrate], then [NewJobs].
package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says how to reach Postgres. Only URL is needed.
type Config struct {
	URL      string
	MaxConns int32         // zero means 10
	Timeout  time.Duration // to connect; zero means 5 s
	Name     string        // application_name; empty means "obs"
}

// Open connects to Postgres and makes sure that it answers. The caller closes
// the pool.
func Open(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err)
	}
	pc.MaxConns = 10
	if cfg.MaxConns > 0 {
		pc.MaxConns = cfg.MaxConns
	}
	timeout := 5 * time.Second
	if cfg.Timeout > 0 {
		timeout = cfg.Timeout
	}
	pc.ConnConfig.ConnectTimeout = timeout
	if cfg.Name == "" {
		cfg.Name = "obs"
	}
	pc.ConnConfig.RuntimeParams["application_name"] = cfg.Name
	// A session whose program hangs inside a transaction must not hold back
	// vacuum, nor other writers, for ever.
	pc.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "60000"
	// No statement of ours reads enough to be worth compiling, and the planner
	// believes of a search that it might: 200 ms each.
	pc.ConnConfig.RuntimeParams["jit"] = "off"
	// A prepared statement keeps the plan that it got while its tables were
	// small, until they are analyzed: for a minute after the first start each
	// claim read all jobs. What does read a whole table says so, see [ReadAll].
	pc.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
	pc.AfterConnect = fastArrays

	pc.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > time.Second && ctx.Value(pinging{}) == nil
	}

	pc.AfterConnect = rawJSON

	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	return pool, nil
}

// pinging marks the context of a ping: it needs no other before it.
type pinging struct{}

// Alive asks Postgres whether it answers, with one ping where it does.
func Alive(ctx context.Context, pool *pgxpool.Pool) error {
	if err := pool.Ping(context.WithValue(ctx, pinging{}, true)); err == nil {
		return nil
	}
	return pool.Ping(ctx) // that connection was dead, which says nothing of the others
}

// InTx runs fn in one transaction, which is committed exactly when fn returns
// nil.
func InTx(ctx context.Context, pool *pgxpool.Pool, fn func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, pool, fn)
}

// ReadAll runs fn in a transaction that only reads, and that may read whole
// tables: other statements are planned as if that were never worth it.
func ReadAll(ctx context.Context, pool *pgxpool.Pool, fn func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: "BEGIN READ ONLY; SET LOCAL enable_seqscan = on"}, fn)
}
