package load

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// App is a server that takes events, with a tenant, and its database to look into.
type App struct {
	URL     string
	Key     string
	Team    string
	Project string
	Pool    *pgxpool.Pool // stays the caller's
}

// BatchOf is how many events a batch has.
const BatchOf = 100

// event is a command that failed, so that there is something to note: about 0.6 KB.
func (a App) event(buf []byte, n int64) []byte {
	return fmt.Appendf(buf, `{"projectId":%q,"sourceType":"hook","eventType":"tool_use","occurredAtEpoch":%d,"sourceEventId":"bench-%d","contentSessionId":"session-%d",`+
		`"payload":{"tool_name":"Bash","tool_input":{"command":"go test ./part%d -run TestPart%d -count=1"},"tool_response":{"exit_code":1,`+
		`"stdout":"--- FAIL: TestPart%d (0.01s)\n    part_test.go:%d: the relay published %d messages, want %d\n    part_test.go:%d: two leaders at once\nFAIL\nFAIL\texample.com/part%d\t0.012s\nFAIL"}}}`,
		a.Project, 1_795_435_200_000+n, n, n%100, n, n, n, n%1000, n, n+1, n%1000+1, n)
}

// Single is a request with one event.
func (a App) Single() Request { return Request{Path: "/v1/events", Units: 1, Body: a.event} }

// Batch is a request with [BatchOf] events.
func (a App) Batch() Request {
	return Request{Path: "/v1/events/batch", Units: BatchOf, Body: func(buf []byte, n int64) []byte {
		buf = append(buf, '[')
		for i := range int64(BatchOf) {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = a.event(buf, n*BatchOf+i)
		}
		return append(buf, ']')
	}}
}

// Door measures how many events the server takes when every connection sends one request after the other, and then how
// long the answers take at half that rate, which is the sample's latency.
func (a App) Door(ctx context.Context, m Meter, conns int, r Request, lasting time.Duration) (Sample, error) {
	h, err := DialHTTP(ctx, a.URL, a.Key, conns)
	if err != nil {
		return Sample{}, err
	}
	defer h.Close()
	const first = 5 // connections to Postgres, statements, the key
	for range first {
		if err := h.One(ctx, r); err != nil {
			return Sample{}, err
		}
	}
	full, err := h.Flood(ctx, m, r, lasting, 0)
	if err != nil {
		return full, err
	}
	half, err := h.Pace(ctx, nil, r, full.Rate()/float64(r.Units)/2, lasting)
	if err != nil {
		return full, err
	}
	full.Latency = half.Latency
	return full, a.accepted(ctx, full.N+half.N+first*r.Units)
}

// Store measures n events from the first request to the last observation stored.
func (a App) Store(ctx context.Context, m Meter, n int) (Sample, error) {
	h, err := DialHTTP(ctx, a.URL, a.Key, 8)
	if err != nil {
		return Sample{}, err
	}
	defer h.Close()
	if err := h.One(ctx, a.Batch()); err != nil {
		return Sample{}, err
	}
	if err := a.stored(ctx, BatchOf); err != nil {
		return Sample{}, err
	}
	before, began := m.Start(), time.Now()
	sent, err := h.Flood(ctx, nil, a.Batch(), 0, n/BatchOf*BatchOf)
	if err != nil {
		return Sample{}, err
	}
	if err := a.stored(ctx, BatchOf+sent.N); err != nil {
		return Sample{}, err
	}
	out := Sample{N: sent.N, Seconds: time.Since(began).Seconds(), Also: map[string]float64{"accepted_per_s": sent.Rate()}}
	m.Complete(&out, before)
	return out, a.accepted(ctx, BatchOf+sent.N)
}

// StorePaced posts one event after the other at a rate, and looks for each observation until it is there: the latency is
// from the request to that.
func (a App) StorePaced(ctx context.Context, m Meter, rate float64, lasting time.Duration) (Sample, error) {
	h, err := DialHTTP(ctx, a.URL, a.Key, 1)
	if err != nil {
		return Sample{}, err
	}
	defer h.Close()
	const warm = 10
	n := warm + max(10, int(rate*lasting.Seconds()))
	took := make([]time.Duration, 0, n)
	before, began := m.Start(), time.Now()
	_, err = Paced(ctx, 1, n, rate, func(ctx context.Context, i int) error {
		sent := time.Now()
		if err := h.One(ctx, a.Single()); err != nil {
			return err
		}
		for there := 0; there <= i; {
			var err error
			if there, err = a.observations(ctx); err != nil {
				return err
			}
		}
		took = append(took, time.Since(sent))
		return nil
	})
	if err != nil {
		return Sample{}, err
	}
	out := Sample{N: n, Seconds: time.Since(began).Seconds()}
	m.Complete(&out, before)
	out.Latency = LatencyOf(took[warm:])
	return out, nil
}

func (a App) observations(ctx context.Context) (n int, err error) {
	err = a.Pool.QueryRow(ctx, `SELECT count(*) FROM observations WHERE team_id = $1 AND project_id = $2`, a.Team, a.Project).Scan(&n)
	return n, err
}

// accepted verifies that what was answered for is there, each with its job.
func (a App) accepted(ctx context.Context, n int) error {
	var stored, jobs int
	err := a.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM agent_events WHERE team_id = $1 AND project_id = $2),
		(SELECT count(*) FROM observation_generation_jobs WHERE team_id = $1 AND project_id = $2)`, a.Team, a.Project).Scan(&stored, &jobs)
	if err == nil && (stored != n || jobs != n) {
		err = fmt.Errorf("%d events were answered for, but %d are stored, with %d jobs", n, stored, jobs)
	}
	return err
}

// stored waits until there are n observations, and verifies that they have their sources and their jobs three events.
func (a App) stored(ctx context.Context, n int) error {
	first, began := -1, time.Now()
	for {
		there, err := a.observations(ctx)
		if err != nil {
			return err
		}
		if there >= n {
			break
		}
		if first < 0 {
			first = there
		}
		// Counting many takes Postgres a while, so it is asked again after half of the time that the rest should take.
		wait := 10 * Look
		if done := there - first; done > 0 {
			wait = max(Look, min(time.Since(began)/time.Duration(done)*time.Duration(n-there)/2, time.Second))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("storing observations: %w", context.Cause(ctx))
		case <-time.After(wait):
		}
	}
	var sources, events int
	err := a.Pool.QueryRow(ctx, `SELECT (SELECT count(DISTINCT source_id) FROM observation_sources WHERE team_id = $1 AND project_id = $2),
		(SELECT count(*) FROM observation_generation_job_events WHERE team_id = $1 AND project_id = $2)`, a.Team, a.Project).Scan(&sources, &events)
	if err == nil && (sources != n || events < 3*n) {
		err = fmt.Errorf("%d observations are stored, but of %d sources, and their jobs have %d events", n, sources, events)
	}
	return err
}
