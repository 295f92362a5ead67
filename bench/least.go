package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/load"
)

// leastTables are what a job with its history and an outbox needs at least: the same rows as ours, under names as ours
// are, found by nothing but their primary keys. Nobody checks a tenant, leases, retries, or tells followers.
const leastTables = `
CREATE TABLE least_jobs (id text PRIMARY KEY, project text NOT NULL, kind text NOT NULL, payload text NOT NULL, status text NOT NULL,
	version int NOT NULL, updated_at timestamptz NOT NULL) WITH (fillfactor = 50);
CREATE TABLE least_events (job_id text NOT NULL, version int NOT NULL, project text NOT NULL, type text NOT NULL, at timestamptz NOT NULL,
	actor text NOT NULL, PRIMARY KEY (job_id, version));
CREATE TABLE least_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id text NOT NULL);
CREATE TABLE least_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, payload text NOT NULL, at timestamptz NOT NULL DEFAULT now());
`

const (
	leastAsk = `WITH made AS (
		INSERT INTO least_jobs SELECT j, 'bench', 'bench', p, 'queued', 1, now() FROM unnest($1::text[], $2::text[]) AS w (j, p) RETURNING id
	), noted AS (
		INSERT INTO least_events SELECT id, 1, 'bench', 'queued', now(), 'bench' FROM made
	) INSERT INTO least_outbox (job_id) SELECT id FROM made`
	leastAskOne = `WITH made AS (
		INSERT INTO least_jobs VALUES ($1, 'bench', 'bench', $2, 'queued', 1, now()) RETURNING id
	), noted AS (
		INSERT INTO least_events VALUES ($1, 1, 'bench', 'queued', now(), 'bench')
	) INSERT INTO least_outbox (job_id) VALUES ($1)`
	leastRead   = `SELECT id, job_id FROM least_outbox ORDER BY id LIMIT 1000`
	leastDelete = `DELETE FROM least_outbox WHERE id = ANY ($1::bigint[])`
	leastLook   = `SELECT id, payload FROM least_jobs WHERE id = ANY ($1::text[])`
	leastSettle = `WITH moved AS (
		UPDATE least_jobs SET status = 'completed', version = 3, updated_at = now() WHERE id = ANY ($1::text[]) AND CASE WHEN version = 1 THEN true END RETURNING id
	) INSERT INTO least_events
		SELECT id, 2, 'bench', 'processing', now(), 'bench' FROM moved UNION ALL SELECT id, 3, 'bench', 'completed', now(), 'bench' FROM moved`
)

// leastBed is what remains of a queue in this design when everything that makes it one is left out. What it costs is
// what ours cannot go below on this machine.
type leastBed struct {
	pool   *pgxpool.Pool
	js     jetstream.JetStream
	prefix string
	pad    string
	ring   chan struct{} // something was committed
	next   atomic.Int64
	done   atomic.Int64
	starts func(n int64) // what job n starts with, where that is asked
	ends   func(n int64) // and what is done when it is settled
}

func leastFigure(what, title, unit string, run func(ctx context.Context, b *leastBed, m load.Meter) (load.Sample, error)) figure {
	return figure{who: "least", what: what, title: title, unit: unit, run: func(ctx context.Context, e *env) (load.Sample, error) {
		broker, err := e.broker(ctx, false)
		if err != nil {
			return load.Sample{}, err
		}
		url, drop, err := e.database(ctx, "", nil)
		if err != nil {
			return load.Sample{}, err
		}
		b := &leastBed{prefix: fmt.Sprintf("l%d", e.seq), pad: load.Pad(e.opts.Payload), ring: make(chan struct{}, 1), starts: func(int64) {}, ends: func(int64) {}}
		s, err := b.measure(ctx, url, broker.url, e.meter("least", broker), run)
		return s, errors.Join(err, drop())
	}}
}

func (b *leastBed) measure(ctx context.Context, url, natsURL string, m load.Meter, run func(context.Context, *leastBed, load.Meter) (load.Sample, error)) (_ load.Sample, err error) {
	if b.pool, err = pool(ctx, url, load.Callers+4); err != nil {
		return load.Sample{}, err
	}
	defer b.pool.Close()
	if _, err = b.pool.Exec(ctx, leastTables); err != nil {
		return load.Sample{}, err
	}
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return load.Sample{}, err
	}
	defer nc.Close()
	if b.js, err = jetstream.New(nc); err != nil {
		return load.Sample{}, err
	}
	_, err = b.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: b.prefix, Subjects: []string{b.prefix + ".>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Duplicates: 2 * time.Minute,
	})
	if err != nil {
		return load.Sample{}, err
	}
	s, err := run(ctx, b, m)
	return s, errors.Join(err, b.js.DeleteStream(context.WithoutCancel(ctx), b.prefix))
}

// name is that of a new job, as long as ours and in order of time.
func (b *leastBed) name() (id string, n int64) {
	n = b.next.Add(1)
	return string(events.NewIDAtMilli("bench", time.Now(), fmt.Sprintf("%s-%d", b.prefix, n))), n
}

// ask commits a batch of jobs in one statement, and gives the number of the last.
func (b *leastBed) ask(ctx context.Context, batch int) (n int64, err error) {
	ids, payloads := make([]string, batch), make([]string, batch)
	for i := range ids {
		ids[i], n = b.name()
		payloads[i] = fmt.Sprintf("%d %s", n, b.pad)
	}
	if batch == 1 {
		_, err = b.pool.Exec(ctx, leastAskOne, ids[0], payloads[0])
	} else {
		_, err = b.pool.Exec(ctx, leastAsk, ids, payloads)
	}
	select {
	case b.ring <- struct{}{}:
	default: // it rings already
	}
	return n, err
}

// relay publishes what waits until ctx ends.
func (b *leastBed) relay(ctx context.Context) error {
	for ctx.Err() == nil {
		rows, err := b.pool.Query(ctx, leastRead)
		if err != nil {
			return err
		}
		var ids []int64
		var sent []jetstream.PubAckFuture
		var id int64
		var job string
		_, err = pgx.ForEachRow(rows, []any{&id, &job}, func() error {
			f, err := b.js.PublishMsgAsync(&nats.Msg{Subject: b.prefix + ".a", Data: []byte(job), Header: nats.Header{jetstream.MsgIDHeader: {job}}})
			ids, sent = append(ids, id), append(sent, f)
			return err
		})
		if err != nil {
			return err
		}
		for _, f := range sent {
			select {
			case <-f.Ok():
			case err := <-f.Err():
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if len(ids) == 0 {
			select {
			case <-b.ring:
			case <-ctx.Done():
			}
		} else if _, err := b.pool.Exec(ctx, leastDelete, ids); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// work does what is on the stream until ctx ends, as much at once as has gathered.
func (b *leastBed) work(ctx context.Context, c jetstream.Consumer) error {
	for ctx.Err() == nil {
		batch, err := c.Fetch(500, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return err
		}
		var msgs []jetstream.Msg
		var ids []string
		settle := func() error {
			if len(ids) == 0 {
				return nil
			}
			rows, err := b.pool.Query(ctx, leastLook, ids)
			if err != nil {
				return err
			}
			var id, payload string
			var ns []int64
			_, err = pgx.ForEachRow(rows, []any{&id, &payload}, func() error {
				number, _, _ := strings.Cut(payload, " ")
				n, err := strconv.ParseInt(number, 10, 64)
				ns = append(ns, n)
				b.starts(n)
				return err
			})
			if err != nil {
				return err
			}
			if _, err := b.pool.Exec(ctx, leastSettle, ids); err != nil {
				return err
			}
			for _, msg := range msgs {
				if err := msg.Ack(); err != nil {
					return err
				}
			}
			for _, n := range ns {
				b.ends(n)
			}
			b.done.Add(int64(len(ids)))
			msgs, ids = nil, nil
			return nil
		}
		for msg := range batch.Messages() {
			msgs, ids = append(msgs, msg), append(ids, string(msg.Data()))
			if len(batch.Messages()) == 0 { // all that has come by now
				if err := settle(); err != nil {
					return err
				}
			}
		}
		if err := settle(); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// running has a relay, unless there is none, and two workers at work while run runs.
func (b *leastBed) running(ctx context.Context, relays bool, run func(ctx context.Context) error) error {
	c, err := b.js.CreateConsumer(ctx, b.prefix, jetstream.ConsumerConfig{Durable: "least", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000})
	if err != nil {
		return err
	}
	g, work := errgroup.WithContext(ctx)
	work, end := context.WithCancelCause(work)
	ended := errors.New("it is done")
	if relays {
		g.Go(func() error { return b.relay(work) })
	}
	for range 2 {
		g.Go(func() error { return b.work(work, c) })
	}
	err = run(work)
	end(ended)
	if bad := g.Wait(); bad != nil && !errors.Is(bad, ended) && !errors.Is(bad, context.Canceled) {
		err = errors.Join(err, bad)
	}
	return err
}

func (b *leastBed) finished(ctx context.Context, n int) error {
	for int(b.done.Load()) < n {
		if err := wait(ctx, load.Look); err != nil {
			return err
		}
	}
	return nil
}

// counted verifies that n jobs are done, with three events each, or the figure is not one.
func (b *leastBed) counted(ctx context.Context, n int) error {
	var jobs, noted, waiting int
	err := b.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM least_jobs WHERE status = 'completed'), (SELECT count(*) FROM least_events), (SELECT count(*) FROM least_outbox)`).
		Scan(&jobs, &noted, &waiting)
	if err == nil && (jobs != n || noted != 3*n || waiting != 0) {
		err = fmt.Errorf("%d jobs were measured, but %d are completed, with %d events, and %d wait", n, jobs, noted, waiting)
	}
	return err
}
