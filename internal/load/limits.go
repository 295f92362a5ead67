package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// Rows measures what Postgres takes of rows alone: COPY, so many rows a transaction, by so many clients.
func Rows(ctx context.Context, m Meter, pool *pgxpool.Pool, clients, batch, payload int, lasting time.Duration) (Sample, error) {
	if err := table(ctx, pool); err != nil {
		return Sample{}, err
	}
	s, err := Clients(ctx, m, clients, lasting, copied(pool, batch, payload))
	s.N *= batch
	s.Latency = nil
	return s, err
}

// PacedRows is [Rows] at so many transactions a second. The latency is a transaction's, from when it was due.
func PacedRows(ctx context.Context, m Meter, pool *pgxpool.Pool, clients, batch, payload int, rate float64, lasting time.Duration) (Sample, error) {
	if err := table(ctx, pool); err != nil {
		return Sample{}, err
	}
	n, one := max(1, int(rate*lasting.Seconds())), copied(pool, batch, payload)
	wrote, err := WAL(ctx, pool)
	if err != nil {
		return Sample{}, err
	}
	before, began := m.Start(), time.Now()
	took, err := Paced(ctx, clients, n, rate, func(ctx context.Context, _ int) error { return one(ctx) })
	if err != nil {
		return Sample{}, err
	}
	out := Sample{N: n * batch, Seconds: time.Since(began).Seconds(), Latency: LatencyOf(took)}
	m.Complete(&out, before)
	return out, out.Wrote(ctx, pool, wrote)
}

// copied copies so many rows in a transaction.
func copied(pool *pgxpool.Pool, batch, payload int) func(ctx context.Context) error {
	pad := Pad(payload)
	return func(ctx context.Context) error {
		_, err := pool.CopyFrom(ctx, pgx.Identifier{"limit_rows"}, []string{"name", "payload"},
			pgx.CopyFromSlice(batch, func(int) ([]any, error) { return []any{"a row", pad}, nil }))
		return err
	}
}

// Commits measures what Postgres takes of transactions that insert one row each.
func Commits(ctx context.Context, m Meter, pool *pgxpool.Pool, clients, payload int, lasting time.Duration) (Sample, error) {
	if err := table(ctx, pool); err != nil {
		return Sample{}, err
	}
	pad := Pad(payload)
	return Clients(ctx, m, clients, lasting, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO limit_rows (name, payload) VALUES ($1, $2)`, "a row", pad)
			return err
		})
	})
}

// WAL is how many bytes Postgres has ever written to its log. What a unit of work wrote stands in [Sample.Also] as
// "wal_bytes".
func WAL(ctx context.Context, pool *pgxpool.Pool) (bytes float64, err error) {
	if err := pool.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0')::float8`).Scan(&bytes); err != nil {
		return 0, fmt.Errorf("ask how much was written: %w", err)
	}
	return bytes, nil
}

// Wrote adds to the sample what was written to the log since before.
func (s *Sample) Wrote(ctx context.Context, pool *pgxpool.Pool, before float64) error {
	after, err := WAL(ctx, pool)
	if err == nil && s.N > 0 {
		if s.Also == nil {
			s.Also = map[string]float64{}
		}
		s.Also["wal_bytes"] = math.Round((after - before) / float64(s.N))
	}
	return err
}

func table(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `DROP TABLE IF EXISTS limit_rows;
		CREATE TABLE limit_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, payload text NOT NULL)`)
	if err != nil {
		return fmt.Errorf("make a table: %w", err)
	}
	return nil
}

// inFlight is how many publishes the client alone has in the air, about what the relay has.
const inFlight = 3000

// Publish measures the client alone: n messages as large as a job's, published asynchronously under message ids to a
// stream of its own, which is deleted again.
func Publish(ctx context.Context, m Meter, nc *nats.Conn, stream string, n int, body []byte) (Sample, error) {
	js, drop, err := scratch(ctx, nc, stream)
	if err != nil {
		return Sample{}, err
	}
	before, began := m.Start(), time.Now()
	if err := publish(ctx, js, stream, n, body, true); err != nil {
		return Sample{}, errors.Join(err, drop())
	}
	out := Sample{N: n, Seconds: time.Since(began).Seconds()}
	m.Complete(&out, before)
	return out, drop()
}

// Consume measures the client alone: n messages are on a stream, are pulled a thousand at a time and acknowledged.
func Consume(ctx context.Context, m Meter, nc *nats.Conn, stream string, n int, body []byte) (Sample, error) {
	js, drop, err := scratch(ctx, nc, stream)
	if err != nil {
		return Sample{}, err
	}
	if err := publish(ctx, js, stream, n, body, false); err != nil {
		return Sample{}, errors.Join(err, drop())
	}
	out, err := consume(ctx, m, js, stream, n)
	return out, errors.Join(err, drop())
}

func consume(ctx context.Context, m Meter, js jetstream.JetStream, stream string, n int) (Sample, error) {
	c, err := js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000})
	if err != nil {
		return Sample{}, err
	}
	before, began := m.Start(), time.Now()
	for got := 0; got < n; {
		batch, err := c.Fetch(min(1000, n-got), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			return Sample{}, err
		}
		some := 0
		for msg := range batch.Messages() {
			if err := msg.Ack(); err != nil {
				return Sample{}, err
			}
			some++
		}
		if some == 0 {
			return Sample{}, errors.Join(fmt.Errorf("consumed %d of %d messages", got, n), batch.Error())
		}
		got += some
	}
	flushing, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := js.Conn().FlushWithContext(flushing); err != nil { // the acks are with the server
		return Sample{}, err
	}
	out := Sample{N: n, Seconds: time.Since(began).Seconds()}
	m.Complete(&out, before)
	return out, nil
}

// scratch makes a stream as the jobs' is: on file, one copy, each message once.
func scratch(ctx context.Context, nc *nats.Conn, name string) (js jetstream.JetStream, drop func() error, err error) {
	js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(inFlight), jetstream.WithPublishAsyncTimeout(30*time.Second))
	if err != nil {
		return nil, nil, err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{name + ".>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Duplicates: 2 * time.Minute,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make a stream: %w", err)
	}
	return js, func() error { return js.DeleteStream(context.WithoutCancel(ctx), name) }, nil
}

func publish(ctx context.Context, js jetstream.JetStream, stream string, n int, body []byte, ids bool) error {
	g, ctx := errgroup.WithContext(ctx)
	sent := make(chan jetstream.PubAckFuture, inFlight)
	g.Go(func() error {
		defer close(sent)
		for i := range n {
			msg := &nats.Msg{Subject: stream + ".a", Data: body}
			if ids {
				msg.Header = nats.Header{jetstream.MsgIDHeader: {fmt.Sprintf("%s-%032d", stream, i)}}
			}
			f, err := js.PublishMsgAsync(msg, jetstream.WithStallWait(time.Minute))
			if err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			select {
			case sent <- f:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	g.Go(func() error {
		for f := range sent {
			select {
			case <-f.Ok():
			case err := <-f.Err():
				return fmt.Errorf("publish: %w", err)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	return g.Wait()
}
