package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/seed-245eaa15/obs/internal/load"
)

const leastEventTable = `
CREATE TABLE least_agent_events (id text PRIMARY KEY, project text NOT NULL, payload text NOT NULL, at timestamptz NOT NULL)`

const leastAccept = `WITH w AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS w (e, j, p)
), stored AS (
	INSERT INTO least_agent_events SELECT e, 'bench', p, now() FROM w
), made AS (
	INSERT INTO least_jobs SELECT j, 'bench', 'event', e, 'queued', 1, now() FROM w RETURNING id
), noted AS (
	INSERT INTO least_events SELECT id, 1, 'bench', 'queued', now(), 'bench' FROM made
) INSERT INTO least_outbox (job_id) SELECT id FROM made`

// leastDoor is a server that stores what is posted, with a job for each, and answers when that is durable. Requests
// share transactions: all that came while the last one was under way. It reads the body as JSON once, and checks
// nothing.
type leastDoor struct {
	b    *leastBed
	gate chan leastPost
}

type leastPost struct {
	payloads []string
	done     chan error
}

// groupsOf is how many requests share a transaction at most.
const groupsOf = 64

func (d *leastDoor) commit(ctx context.Context) {
	for {
		var posts []leastPost
		select {
		case <-ctx.Done():
			return
		case p := <-d.gate:
			posts = append(posts, p)
		}
		for more := true; more && len(posts) < groupsOf; {
			select {
			case p := <-d.gate:
				posts = append(posts, p)
			default:
				more = false
			}
		}
		var ids, jobs, payloads []string
		for _, p := range posts {
			for _, payload := range p.payloads {
				event, _ := d.b.name()
				job, _ := d.b.name()
				ids, jobs, payloads = append(ids, event), append(jobs, job), append(payloads, payload)
			}
		}
		_, err := d.b.pool.Exec(ctx, leastAccept, ids, jobs, payloads)
		for _, p := range posts {
			p.done <- err
		}
	}
}

func (d *leastDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p := leastPost{done: make(chan error, 1)}
	if body[0] == '[' {
		var each []json.RawMessage
		if err := json.Unmarshal(body, &each); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, e := range each {
			p.payloads = append(p.payloads, string(e))
		}
	} else {
		p.payloads = []string{string(body)}
	}
	d.gate <- p
	if err := <-p.done; err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write([]byte(`{"id":"an answer"}`)) // the client sees that it broke off
}

// leastHTTP is requests to the least server, which runs in this process, as their sender does.
func leastHTTP(o options, what string, conns int, request func(load.App) load.Request) figure {
	return leastFigure(what, "the least: net/http and the rows without a check (its server is in the client)", "events", func(ctx context.Context, b *leastBed, m load.Meter) (_ load.Sample, err error) {
		if _, err := b.pool.Exec(ctx, leastEventTable); err != nil {
			return load.Sample{}, err
		}
		var listen net.ListenConfig
		l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return load.Sample{}, err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		d := &leastDoor{b: b, gate: make(chan leastPost)}
		for range 2 { // one reads what comes while the other waits for the disk
			go d.commit(ctx)
		}
		srv := &http.Server{Handler: d, ReadHeaderTimeout: time.Minute}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		defer func() { err = errors.Join(err, srv.Close(), onlyClosed(<-served)) }()
		h, err := load.DialHTTP(ctx, "http://"+l.Addr().String(), "bench", conns)
		if err != nil {
			return load.Sample{}, err
		}
		defer h.Close()
		r := request(load.App{Project: "bench"})
		if err := h.One(ctx, r); err != nil {
			return load.Sample{}, err
		}
		full, err := h.Flood(ctx, m, r, o.For, 0)
		if err != nil {
			return full, err
		}
		half, err := h.Pace(ctx, nil, r, full.Rate()/float64(r.Units)/2, o.For)
		full.Latency = half.Latency
		return full, err
	})
}

func onlyClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
