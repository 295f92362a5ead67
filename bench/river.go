package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/seed-245eaa15/obs/internal/load"
)

// riverArgs are as large as those of our jobs.
type riverArgs struct {
	N   int64  `json:"n"`
	Pad string `json:"pad"`
}

func (riverArgs) Kind() string { return "bench" }

// riverBed is River at the best settings that were found: many workers, and a fetch each millisecond.
type riverBed struct {
	callers *pgxpool.Pool
	pool    *pgxpool.Pool
	pad     string
	next    atomic.Int64
	done    atomic.Int64 // handlers that have ended
	handle  func(n int64)
	client  *river.Client[pgx.Tx] // works
	insert  *river.Client[pgx.Tx] // only inserts
}

const riverWorkers = 2000

func riverFigure(what, unit string, run func(ctx context.Context, b *riverBed, m load.Meter) (load.Sample, error)) figure {
	return figure{who: "river", what: what, title: "River", unit: unit, run: func(ctx context.Context, e *env) (load.Sample, error) {
		url, drop, err := e.database(ctx, "river", riverMigrated)
		if err != nil {
			return load.Sample{}, err
		}
		b := &riverBed{pad: load.Pad(e.opts.Payload), handle: func(int64) {}}
		s, err := b.measure(ctx, url, e.meter("river"), run)
		return s, errors.Join(err, drop())
	}}
}

func riverMigrated(ctx context.Context, url string) error {
	p, err := pool(ctx, url, 2)
	if err != nil {
		return err
	}
	defer p.Close()
	m, err := rivermigrate.New(riverpgxv5.New(p), nil)
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

func (b *riverBed) measure(ctx context.Context, url string, m load.Meter, run func(context.Context, *riverBed, load.Meter) (load.Sample, error)) (load.Sample, error) {
	var err error
	if b.pool, err = pool(ctx, url, 20); err != nil {
		return load.Sample{}, err
	}
	defer b.pool.Close()
	if b.callers, err = pool(ctx, url, load.Callers+1); err != nil {
		return load.Sample{}, err
	}
	defer b.callers.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(_ context.Context, job *river.Job[riverArgs]) error {
		b.handle(job.Args.N)
		b.done.Add(1)
		return nil
	}))
	quiet := slog.New(slog.DiscardHandler)
	b.client, err = river.NewClient(riverpgxv5.New(b.pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}},
		Workers: workers, FetchCooldown: time.Millisecond, FetchPollInterval: 100 * time.Millisecond, Logger: quiet,
	})
	if err != nil {
		return load.Sample{}, err
	}
	if b.insert, err = river.NewClient(riverpgxv5.New(b.callers), &river.Config{Logger: quiet}); err != nil {
		return load.Sample{}, err
	}
	return run(ctx, b, m)
}

// ask commits a batch of jobs in one transaction.
func (b *riverBed) ask(ctx context.Context, batch int) (first int64, err error) {
	first = b.next.Add(int64(batch)) - int64(batch)
	return first, pgx.BeginFunc(ctx, b.callers, func(tx pgx.Tx) error {
		if batch == 1 {
			_, err := b.insert.InsertTx(ctx, tx, riverArgs{first, b.pad}, nil)
			return err
		}
		params := make([]river.InsertManyParams, batch)
		for i := range params {
			params[i].Args = riverArgs{first + int64(i), b.pad}
		}
		_, err := b.insert.InsertManyFastTx(ctx, tx, params)
		return err
	})
}

// settled waits until n jobs are completed in Postgres: their handlers end before.
func (b *riverBed) settled(ctx context.Context, n int) error {
	tick := time.NewTicker(load.Look)
	defer tick.Stop()
	for {
		if int(b.done.Load()) >= n {
			var left bool
			if err := b.callers.QueryRow(ctx, `SELECT EXISTS (SELECT FROM river_job WHERE state IN ('available', 'running'))`).Scan(&left); err != nil {
				return err
			}
			if !left {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("river has done %d of %d jobs: %w", b.done.Load(), n, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func (b *riverBed) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return b.client.StopAndCancel(ctx)
}

// running starts the workers and takes one job through, so that it is known to work.
func (b *riverBed) running(ctx context.Context, run func() (load.Sample, error)) (load.Sample, error) {
	if err := b.client.Start(context.WithoutCancel(ctx)); err != nil {
		return load.Sample{}, err
	}
	_, err := b.ask(ctx, 1)
	if err == nil {
		err = b.settled(ctx, 1)
	}
	var s load.Sample
	if err == nil {
		s, err = run()
	}
	return s, errors.Join(err, b.stop(ctx))
}

func riverSteady(o options, what string, clients, batch int) figure {
	return riverFigure(what, "jobs", func(ctx context.Context, b *riverBed, m load.Meter) (load.Sample, error) {
		return b.running(ctx, func() (load.Sample, error) {
			wal, err := load.WAL(ctx, b.callers)
			if err != nil {
				return load.Sample{}, err
			}
			before, began := m.Start(), time.Now()
			asked, err := load.Produce(ctx, clients, batch, o.For, func() int { return int(b.done.Load()) - 1 }, func(ctx context.Context) error {
				_, err := b.ask(ctx, batch)
				return err
			})
			if err == nil {
				err = b.settled(ctx, asked+1)
			}
			s := load.Sample{N: asked, Seconds: time.Since(began).Seconds()}
			m.Complete(&s, before)
			return s, errors.Join(err, s.Wrote(ctx, b.callers, wal))
		})
	})
}

func riverDrain(o options) figure {
	return riverFigure("drain", "jobs", func(ctx context.Context, b *riverBed, m load.Meter) (load.Sample, error) {
		for at := 0; at < o.Jobs; at += load.FillBatch {
			if _, err := b.ask(ctx, min(load.FillBatch, o.Jobs-at)); err != nil {
				return load.Sample{}, err
			}
		}
		wal, err := load.WAL(ctx, b.callers)
		if err != nil {
			return load.Sample{}, err
		}
		before, began := m.Start(), time.Now()
		if err := b.client.Start(context.WithoutCancel(ctx)); err != nil {
			return load.Sample{}, err
		}
		err = b.settled(ctx, o.Jobs)
		s := load.Sample{N: o.Jobs, Seconds: time.Since(began).Seconds()}
		m.Complete(&s, before)
		return s, errors.Join(err, s.Wrote(ctx, b.callers, wal), b.stop(ctx))
	})
}

func riverLatency(o options, what string, rate int) figure {
	return riverFigure(what, "jobs", func(ctx context.Context, b *riverBed, m load.Meter) (load.Sample, error) {
		l := load.NewStarts()
		// Who inserts tells the workers once in his own cooldown, by default 100 ms: best where rates
		// are measured, and worst here.
		var err error
		if b.insert, err = river.NewClient(riverpgxv5.New(b.callers), &river.Config{
			FetchCooldown: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		}); err != nil {
			return load.Sample{}, err
		}
		return b.running(ctx, func() (load.Sample, error) {
			b.handle = l.Started // nobody works now: the only job is settled
			s, err := l.Paced(ctx, m, rate, o.For, func(ctx context.Context, committed func(int64)) error {
				n, err := b.ask(ctx, 1)
				if err == nil {
					committed(n)
				}
				return err
			})
			if err == nil {
				err = b.settled(ctx, s.N+1)
			}
			return s, err
		})
	})
}
