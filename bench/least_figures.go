package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/internal/load"
)

// leastSteady asks for jobs and does them at once.
func leastSteady(o options, what string, clients, batch int) figure {
	return leastFigure(what, "the least: rows and messages, nothing else", "jobs", func(ctx context.Context, b *leastBed, m load.Meter) (s load.Sample, err error) {
		err = b.running(ctx, true, func(ctx context.Context) error {
			wal, err := load.WAL(ctx, b.pool)
			if err != nil {
				return err
			}
			before, began := m.Start(), time.Now()
			s.N, err = load.Produce(ctx, clients, batch, o.For, func() int { return int(b.done.Load()) }, func(ctx context.Context) error {
				_, err := b.ask(ctx, batch)
				return err
			})
			if err == nil {
				err = b.finished(ctx, s.N)
			}
			s.Seconds = time.Since(began).Seconds()
			m.Complete(&s, before)
			return errors.Join(err, s.Wrote(context.WithoutCancel(ctx), b.pool, wal))
		})
		if err == nil {
			err = b.counted(ctx, s.N)
		}
		return s, err
	})
}

func leastDrain(o options) figure {
	return leastFigure("drain-alone", "the least: the worker alone, rows and messages", "jobs", func(ctx context.Context, b *leastBed, m load.Meter) (s load.Sample, err error) {
		for range o.Jobs / load.FillBatch {
			if _, err := b.ask(ctx, load.FillBatch); err != nil {
				return s, err
			}
		}
		s.N = o.Jobs / load.FillBatch * load.FillBatch
		if err := b.relayAll(ctx); err != nil {
			return s, err
		}
		wal, err := load.WAL(ctx, b.pool)
		if err != nil {
			return s, err
		}
		before, began := m.Start(), time.Now()
		err = b.running(ctx, false, func(ctx context.Context) error {
			err := b.finished(ctx, s.N)
			s.Seconds = time.Since(began).Seconds()
			m.Complete(&s, before)
			return errors.Join(err, s.Wrote(context.WithoutCancel(ctx), b.pool, wal))
		})
		if err == nil {
			err = b.counted(ctx, s.N)
		}
		return s, err
	})
}

// relayAll publishes what waits, and returns when nothing does.
func (b *leastBed) relayAll(ctx context.Context) error {
	work, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- b.relay(work) }()
	for {
		var left bool
		if err := b.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM least_outbox)`).Scan(&left); err != nil {
			return err
		}
		if !left {
			end()
			<-ended // it has nothing in the air
			return nil
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(load.Look):
		}
	}
}

// leastEnqueue is a transaction that writes the rows of a job.
func leastEnqueue(o options) figure {
	return leastFigure("enqueue", "the least: the job's rows in three tables without a check", "transactions", func(ctx context.Context, b *leastBed, m load.Meter) (load.Sample, error) {
		return load.Clients(ctx, m, load.Callers, o.short(), func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
				id, _ := b.name()
				_, err := tx.Exec(ctx, leastAskOne, id, b.pad)
				return err
			})
		})
	})
}

// leastLatency is from the commit to the start of the handler, with a ring, a read, the broker and a look in between.
func leastLatency(o options, what string, rate int) figure {
	return leastFigure(what, "the least: a ring, a read, the broker, a look", "jobs", func(ctx context.Context, b *leastBed, m load.Meter) (s load.Sample, err error) {
		l := load.NewStarts()
		b.starts = l.Started
		err = b.running(ctx, true, func(ctx context.Context) error {
			var err error
			s, err = l.Paced(ctx, m, rate, o.For, func(ctx context.Context, committed func(int64)) error {
				n, err := b.ask(ctx, 1)
				committed(n)
				return err
			})
			return errors.Join(err, b.finished(ctx, s.N))
		})
		return s, err
	})
}

// leastStoredPaced is from the first commit to the second, which settles: no HTTP, no extractor, no observation.
func leastStoredPaced(o options) figure {
	return leastFigure("stored-paced", "the least: two commits, a ring, a read, the broker and a look between them", "jobs", func(ctx context.Context, b *leastBed, m load.Meter) (s load.Sample, err error) {
		settled := make(chan int64, 1)
		b.ends = func(n int64) { settled <- n }
		err = b.running(ctx, true, func(ctx context.Context) error {
			s.N = max(10, int(10*o.For.Seconds()))
			before, began := m.Start(), time.Now()
			took, err := load.Paced(ctx, 1, s.N, 10, func(ctx context.Context, _ int) error {
				if _, err := b.ask(ctx, 1); err != nil {
					return err
				}
				select {
				case <-settled:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
			s.Seconds, s.Latency = time.Since(began).Seconds(), load.LatencyOf(took)
			m.Complete(&s, before)
			return err
		})
		return s, err
	})
}
