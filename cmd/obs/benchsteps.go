package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/pipeline"
)

// benchStep is one figure.
type benchStep struct {
	name, title string
	run         func(ctx context.Context, b *bench) (load.Sample, error)
}

const (
	benchPayload = 512 // bytes of a job, as in docs/performance.md
	benchSlots   = 64  // events at once, where observations are made
)

// steps are those that are wanted, in order.
func (c benchCommand) steps() []benchStep {
	all := []benchStep{
		{"postgres.copy", "Postgres alone: rows, 1,000 a COPY", func(ctx context.Context, b *bench) (load.Sample, error) { return b.onPostgres(ctx, true) }},
		{"postgres.commit", "Postgres alone: commits of one row", func(ctx context.Context, b *bench) (load.Sample, error) { return b.onPostgres(ctx, false) }},
		{"nats.publish", "NATS alone: published", func(ctx context.Context, b *bench) (load.Sample, error) { return b.onNATS(ctx, load.Publish) }},
		{"nats.consume", "NATS alone: pulled and acknowledged", func(ctx context.Context, b *bench) (load.Sample, error) { return b.onNATS(ctx, load.Consume) }},
		onBed("jobs.ask", "jobs asked for, one a transaction", func(ctx context.Context, b *bench, bed *load.Bed) (load.Sample, error) {
			return bed.Enqueue(ctx, b.meter, load.Callers, 0, false, b.For)
		}),
		onBed("jobs.relay", "jobs relayed to NATS", func(ctx context.Context, b *bench, bed *load.Bed) (load.Sample, error) {
			return bed.Relay(ctx, b.meter, b.Jobs, "")
		}),
		onBed("jobs.done", "jobs done that waited", func(ctx context.Context, b *bench, bed *load.Bed) (load.Sample, error) {
			return bed.Drain(ctx, b.meter, b.Jobs, false)
		}),
		onBed("jobs.through-100", "jobs right through, 100 a transaction", func(ctx context.Context, b *bench, bed *load.Bed) (load.Sample, error) {
			return bed.Steady(ctx, b.meter, 2, 100, b.For)
		}),
		onBed("jobs.through-1", "jobs right through, one a transaction", func(ctx context.Context, b *bench, bed *load.Bed) (load.Sample, error) {
			return bed.Steady(ctx, b.meter, load.Callers, 1, b.For)
		}),
		onBed("jobs.latency", "from commit to handler, 100 a second", func(ctx context.Context, b *bench, bed *load.Bed) (load.Sample, error) {
			return bed.Latency(ctx, b.meter, 100, b.For)
		}),
		onApp("events.one", "events over HTTP, one by one", func(ctx context.Context, b *bench, app load.App) (load.Sample, error) {
			return app.Door(ctx, b.meter, 64, app.Single(), b.For)
		}),
		onApp("events.batch", "events over HTTP, batches of 100", func(ctx context.Context, b *bench, app load.App) (load.Sample, error) {
			return app.Door(ctx, b.meter, 16, app.Batch(), b.For)
		}),
		onApp("events.stored", "events to stored observations", func(ctx context.Context, b *bench, app load.App) (load.Sample, error) {
			return app.Store(ctx, b.meter, max(load.BatchOf, b.Jobs/4))
		}),
		onApp("events.answer", "POST to stored observation, 10 a second", func(ctx context.Context, b *bench, app load.App) (load.Sample, error) {
			return app.StorePaced(ctx, b.meter, 10, b.For)
		}),
	}
	return slices.DeleteFunc(all, func(s benchStep) bool {
		return len(c.Only) > 0 && !slices.ContainsFunc(c.Only, func(word string) bool { return strings.Contains(s.name, word) })
	})
}

func (b *bench) onPostgres(ctx context.Context, rows bool) (load.Sample, error) {
	url, _, drop, err := b.scratch(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	pool, err := db.Open(ctx, db.Config{URL: url, MaxConns: load.Callers, Name: "obs bench"})
	if err != nil {
		return load.Sample{}, errors.Join(err, drop())
	}
	var s load.Sample
	if rows {
		s, err = load.Rows(ctx, b.meter, pool, 4, 1000, benchPayload, b.For)
	} else {
		s, err = load.Commits(ctx, b.meter, pool, load.Callers, benchPayload, b.For)
	}
	pool.Close()
	return s, errors.Join(err, drop())
}

// onNATS measures NATS' own client with messages as long as a job's.
func (b *bench) onNATS(ctx context.Context, run func(context.Context, load.Meter, *nats.Conn, string, int, []byte) (load.Sample, error)) (load.Sample, error) {
	nc, err := b.dial(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	defer nc.Close()
	b.made++
	return run(ctx, b.meter, nc, "obs-bench-limit", b.Jobs, []byte(load.Pad(160)))
}

func (b *bench) dial(ctx context.Context) (*nats.Conn, error) {
	links, err := boot.ConnectNATS(ctx, b.config, "obs-bench")
	if err != nil {
		return nil, err
	}
	return links.NATS, nil
}

// onBed is a step with jobs that do nothing.
func onBed(name, title string, run func(ctx context.Context, b *bench, bed *load.Bed) (load.Sample, error)) benchStep {
	return benchStep{name, title, func(ctx context.Context, b *bench) (load.Sample, error) {
		url, word, drop, err := b.scratch(ctx)
		if err != nil {
			return load.Sample{}, err
		}
		streams := b.config.Streams
		streams.Prefix = word
		bed, err := load.NewBed(ctx, load.BedConfig{
			Database: url, Streams: streams, Payload: benchPayload, Dial: func() (*nats.Conn, error) { return b.dial(ctx) },
		}, b.Jobs)
		if err != nil {
			return load.Sample{}, errors.Join(err, drop())
		}
		s, err := run(ctx, b, bed)
		return s, errors.Join(err, bed.Close(context.WithoutCancel(ctx)), drop())
	}}
}

// onApp is a step with all of obs, in this process.
func onApp(name, title string, run func(ctx context.Context, b *bench, app load.App) (load.Sample, error)) benchStep {
	return benchStep{name, title, func(ctx context.Context, b *bench) (_ load.Sample, err error) {
		url, word, drop, err := b.scratch(ctx)
		if err != nil {
			return load.Sample{}, err
		}
		defer func() { err = errors.Join(err, drop()) }()
		config := b.config
		config.DatabaseURL, config.Streams.Prefix = url, word
		dir := filepath.Join(b.dir, word)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return load.Sample{}, err
		}
		l, err := startLocal(ctx, localConfig{Config: config, dir: dir, log: quietLog, progress: func(string) {}})
		if err != nil {
			return load.Sample{}, err
		}
		defer l.close(ctx)
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- l.run(running) }()
		s, err := run(ctx, b, load.App{URL: l.url, Key: l.key, Team: l.team, Project: l.project, Pool: l.links.Pool})
		stop()
		js, forgotten := l.links.JS, context.WithoutCancel(ctx)
		return s, errors.Join(err, <-ended, js.DeleteStream(forgotten, config.Streams.JobsStream()), js.DeleteStream(forgotten, config.Streams.EventsStream()))
	}}
}

// benchConfig is that of a machine that has nothing else to do.
func benchConfig(database boot.DatabaseFlags, broker boot.BrokerFlags) (boot.Config, error) {
	c, err := boot.LoadOptional(
		boot.HTTPFlags{Addr: "127.0.0.1:0"}, database, broker,
		boot.JobFlags{Debounce: "0s", MaxAttempts: "3"},
		boot.LeaseFlags{Lease: "30s"},
		boot.LaneFlags{Grace: "2s", Timeout: "1m", Pause: "5s"},
		boot.ProviderFlags{Provider: "offline", Answer: "1m", MaxTokens: "4096"},
		boot.LogFlags{LogLevel: "info", LogFormat: "text"},
	)
	if c.Lanes != nil {
		c.Lanes[observe.KindEvent] = pipeline.Lane{Slots: benchSlots}
	}
	return c, err
}
