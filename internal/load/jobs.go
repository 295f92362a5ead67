package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

// FillBatch is how many jobs a transaction makes where their making is not what is measured.
const FillBatch = 1000

// Backlog is how far those who ask may be ahead of those who do, where both are at work.
const Backlog = 10_000

// fill makes n jobs.
func (b *Bed) fill(ctx context.Context, n int) error {
	var g errgroup.Group
	g.SetLimit(2)
	for at := 0; at < n; at += FillBatch {
		g.Go(func() error {
			_, _, err := b.ask(ctx, min(FillBatch, n-at))
			return err
		})
	}
	return g.Wait()
}

// Drain measures the doing of n jobs that are on the stream when it begins, their claim, three events each, settling
// and acknowledgement. The relay tells the events meanwhile unless alone is set: then the worker is alone. The time
// ends with the last job settled, the processor time when its event is told.
func (b *Bed) Drain(ctx context.Context, m Meter, n int, alone bool) (Sample, error) {
	if err := b.fill(ctx, n); err != nil {
		return Sample{}, err
	}
	s, err := b.run(ctx, 2*n, nil)
	if err != nil {
		return Sample{}, err
	}
	stopped := false
	defer func() {
		if !stopped {
			_ = s.stop() // the error that brought us here says more
		}
	}()
	err = until(ctx, Look, "publishing the jobs", func() (bool, error) {
		return int(s.relay.State().Published) >= n, nil
	})
	if err == nil { // what waits for a second gets a note in its history: that is part of waiting, not of being done
		err = until(ctx, 10*Look, "noting that the jobs wait", func() (bool, error) {
			h, err := b.History(ctx)
			return h.Events >= 2*n, err
		})
	}
	if err == nil {
		err = b.told(ctx)
	}
	if err != nil {
		return Sample{}, err
	}
	if alone {
		stopped = true
		if err := s.stop(); err != nil {
			return Sample{}, err
		}
	}
	wal, err := WAL(ctx, b.callers)
	if err != nil {
		return Sample{}, err
	}
	var done atomic.Int64
	before, began := m.Start(), time.Now()
	stop := b.work(ctx, s.bell, &done, func(int64) {})
	err = until(ctx, Look, "doing the jobs", func() (bool, error) { return done.Load() >= int64(n), nil })
	took := time.Since(began)
	if err == nil && !alone {
		err = b.told(ctx)
	}
	out := Sample{N: n, Seconds: took.Seconds()}
	m.Complete(&out, before)
	if err == nil {
		err = out.Wrote(ctx, b.callers, wal)
	}
	return out, errors.Join(err, stop())
}

// Steady measures jobs asked for, relayed, done and told at once: for so long, in transactions of batch jobs by so many
// clients, who wait while they are far ahead. The rate is over all the time until the last job is settled.
func (b *Bed) Steady(ctx context.Context, m Meter, clients, batch int, lasting time.Duration) (Sample, error) {
	s, err := b.run(ctx, 0, func(int64) {})
	if err != nil {
		return Sample{}, err
	}
	if err := b.warm(ctx, s); err != nil {
		return Sample{}, errors.Join(err, s.stop())
	}
	wal, err := WAL(ctx, b.callers)
	if err != nil {
		return Sample{}, errors.Join(err, s.stop())
	}
	before, began := m.Start(), time.Now()
	asked, err := Produce(ctx, clients, batch, lasting, func() int { return int(s.done.Load()) - 1 }, func(ctx context.Context) error {
		_, alone, err := b.ask(ctx, batch)
		s.bell.Ring(alone...)
		return err
	})
	if err == nil {
		err = until(ctx, Look, "doing the jobs", func() (bool, error) { return int(s.done.Load()) > asked, nil })
	}
	out := Sample{N: asked, Seconds: time.Since(began).Seconds()}
	if err == nil {
		err = b.told(ctx)
	}
	m.Complete(&out, before)
	if err == nil {
		err = out.Wrote(ctx, b.callers, wal)
	}
	return out, errors.Join(err, s.stop())
}

// warm takes one job through: the relay's lead and the worker's first fetch are not what is measured.
func (b *Bed) warm(ctx context.Context, s *system) error {
	if _, _, err := b.ask(ctx, 1); err != nil {
		return err
	}
	s.bell.Ring()
	return until(ctx, Look, "doing the first job", func() (bool, error) { return s.done.Load() == 1, nil })
}

// Produce has clients call ask, each time for batch units, for so long; they wait while more than Backlog units are
// asked for and not done. It gives the number of units.
func Produce(ctx context.Context, clients, batch int, lasting time.Duration, done func() int, ask func(context.Context) error) (int, error) {
	var asked atomic.Int64
	end := time.Now().Add(lasting)
	g, ctx := errgroup.WithContext(ctx)
	for range clients {
		g.Go(func() error {
			for time.Now().Before(end) {
				if int(asked.Add(int64(batch)))-done() > Backlog {
					asked.Add(-int64(batch))
					select {
					case <-ctx.Done():
						return context.Cause(ctx)
					case <-time.After(time.Millisecond):
					}
					continue
				}
				if err := ask(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return int(asked.Load()), err
}

// Relay measures the relay alone: n jobs wait in Postgres, and are put on the stream.
func (b *Bed) Relay(ctx context.Context, m Meter, n int, mode outbox.Mode) (Sample, error) {
	if err := b.fill(ctx, n); err != nil {
		return Sample{}, err
	}
	r := outbox.New(b.jobs, nil, b.relayJS, outbox.Config{Streams: b.streams, WindowMin: 2 * n, Mode: mode, Log: b.cfg.Log})
	before, began := m.Start(), time.Now()
	published, err := r.Once(ctx)
	out := Sample{N: published, Seconds: time.Since(began).Seconds()}
	m.Complete(&out, before)
	if err == nil && published != n {
		err = fmt.Errorf("relayed %d of %d jobs", published, n)
	}
	return out, err
}

// Enqueue measures the caller's transactions, by so many clients for so long. Each inserts rows rows of its own, then
// asks for one job or, when plain, inserts one more row. Nobody relays or works.
func (b *Bed) Enqueue(ctx context.Context, m Meter, clients, rows int, plain bool, lasting time.Duration) (Sample, error) {
	if plain {
		rows++
	}
	return Clients(ctx, m, clients, lasting, func(ctx context.Context) error {
		n := b.next.Add(1)
		return db.InTx(ctx, b.callers, func(tx pgx.Tx) error {
			for range rows {
				_, err := tx.Exec(ctx, `INSERT INTO bench_rows (name, payload) VALUES ($1, $2)`, "a row", b.pad)
				if err != nil {
					return err
				}
			}
			if plain {
				return nil
			}
			st, err := b.step(n)
			if err != nil {
				return err
			}
			_, err = b.asking.Enqueue(ctx, tx, st)
			return err
		})
	})
}

// Clients measures calls of do by so many clients for so long, and how long each took.
func Clients(ctx context.Context, m Meter, clients int, lasting time.Duration, do func(context.Context) error) (Sample, error) {
	each := make([][]time.Duration, clients)
	before, began := m.Start(), time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range clients {
		g.Go(func() error {
			for last := time.Now(); last.Sub(began) < lasting; {
				if err := do(ctx); err != nil {
					return err
				}
				now := time.Now()
				each[i] = append(each[i], now.Sub(last))
				last = now
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Sample{}, err
	}
	took := time.Since(began)
	var all []time.Duration
	for _, some := range each {
		all = append(all, some...)
	}
	out := Sample{N: len(all), Seconds: took.Seconds(), Latency: LatencyOf(all)}
	m.Complete(&out, before)
	return out, nil
}

// Latency measures the time from a commit to the start of the job's handler, of jobs that come one by one at a rate.
func (b *Bed) Latency(ctx context.Context, m Meter, rate int, lasting time.Duration) (Sample, error) {
	l := NewStarts()
	s, err := b.run(ctx, 0, l.Started)
	if err != nil {
		return Sample{}, err
	}
	if err := b.warm(ctx, s); err != nil {
		return Sample{}, errors.Join(err, s.stop())
	}
	l.forget()
	out, err := l.Paced(ctx, m, rate, lasting, func(ctx context.Context, committed func(n int64)) error {
		n, alone, err := b.ask(ctx, 1)
		if err == nil {
			committed(n)
			s.bell.Ring(alone...)
		}
		return err
	})
	if err == nil {
		err = b.told(ctx)
	}
	return out, errors.Join(err, s.stop())
}

// Starts keeps when jobs were committed and when their handlers started.
type Starts struct {
	mu        sync.Mutex
	committed map[int64]time.Time
	started   map[int64]time.Time
}

// NewStarts is one that knows nothing yet.
func NewStarts() *Starts {
	return &Starts{committed: map[int64]time.Time{}, started: map[int64]time.Time{}}
}

// Started notes that the handler of job n starts. A second start is not counted.
func (l *Starts) Started(n int64) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.started[n]; !again {
		l.started[n] = now
	}
}

func (l *Starts) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.started)
}

func (l *Starts) note(n int64) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed[n] = now
}

// Paced calls ask at a rate, however long each takes, then waits until every job has started. ask calls committed with
// the job's number when its commit has returned. The first tenth warms up and is not counted.
func (l *Starts) Paced(ctx context.Context, m Meter, rate int, lasting time.Duration, ask func(ctx context.Context, committed func(n int64)) error) (Sample, error) {
	n := int(float64(rate) * lasting.Seconds())
	before, began := m.Start(), time.Now()
	_, err := Paced(ctx, Callers, n, float64(rate), func(ctx context.Context, _ int) error { return ask(ctx, l.note) })
	if err == nil {
		err = until(ctx, Look, "starting the jobs", func() (bool, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.started) >= n, nil
		})
	}
	out := Sample{N: n, Seconds: time.Since(began).Seconds()}
	m.Complete(&out, before)
	if err != nil {
		return out, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	warm := began.Add(lasting / 10)
	var all []time.Duration
	for job, at := range l.committed {
		if at.After(warm) {
			all = append(all, max(0, l.started[job].Sub(at)))
		}
	}
	out.Latency = LatencyOf(all)
	return out, nil
}

// Paced calls do n times at a rate, by so many clients in turn, and gives how long each call took from when it was due:
// one that had to wait for its client counts the wait.
func Paced(ctx context.Context, clients, n int, rate float64, do func(ctx context.Context, i int) error) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	began := time.Now().Add(time.Millisecond)
	g, ctx := errgroup.WithContext(ctx)
	for c := range clients {
		g.Go(func() error {
			for i := c; i < n; i += clients {
				due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
				if wait := time.Until(due); wait > 0 {
					select {
					case <-ctx.Done():
						return context.Cause(ctx)
					case <-time.After(wait):
					}
				}
				if err := do(ctx, i); err != nil {
					return err
				}
				took[i] = time.Since(due)
			}
			return nil
		})
	}
	return took, g.Wait()
}

// History is what the bed's jobs came to, to see that a measurement measured what it says.
type History struct {
	Jobs, Completed, Events, Waiting int
}

// History counts.
func (b *Bed) History(ctx context.Context) (h History, err error) {
	err = b.callers.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM observation_generation_jobs WHERE team_id = $1 AND project_id = $2),
		(SELECT count(*) FROM observation_generation_jobs WHERE team_id = $1 AND project_id = $2 AND status = $3),
		(SELECT count(*) FROM observation_generation_job_events WHERE team_id = $1 AND project_id = $2),
		(SELECT count(*) FROM outbox WHERE team_id = $1 AND project_id = $2)`,
		b.scope.Team, b.scope.Project, string(events.StatusCompleted)).Scan(&h.Jobs, &h.Completed, &h.Events, &h.Waiting)
	return h, err
}
