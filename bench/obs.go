package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/outbox"
)

// bed makes a new database with our schema, and streams, and runs one measurement there. What it leaves is gone.
func (e *env) bed(ctx context.Context, syncAlways bool, change func(*load.BedConfig), measure func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error)) (load.Sample, error) {
	broker, err := e.broker(ctx, syncAlways)
	if err != nil {
		return load.Sample{}, err
	}
	url, drop, err := e.database(ctx, "obs", migrated)
	if err != nil {
		return load.Sample{}, err
	}
	cfg := load.BedConfig{
		Database: url, Streams: outbox.Streams{Prefix: fmt.Sprintf("b%d", e.seq)}, Payload: e.opts.Payload, Slots: e.opts.Slots,
		Dial: func() (*nats.Conn, error) { return nats.Connect(broker.url) },
	}
	change(&cfg)
	b, err := load.NewBed(ctx, cfg, e.opts.Jobs)
	if err != nil {
		return load.Sample{}, errors.Join(err, drop())
	}
	s, err := measure(ctx, b, e.meter("obs", broker))
	return s, errors.Join(err, b.Close(context.WithoutCancel(ctx)), drop())
}

func migrated(ctx context.Context, url string) error {
	p, err := pool(ctx, url, 2)
	if err != nil {
		return err
	}
	defer p.Close()
	return db.Migrate(ctx, p)
}

// ours makes a figure of obs.
func ours(what, title, unit string, run func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error)) figure {
	return figure{who: "obs", what: what, title: title, unit: unit, run: func(ctx context.Context, e *env) (load.Sample, error) {
		return e.bed(ctx, false, usual, run)
	}}
}

func usual(*load.BedConfig) {}

// untold is a figure of obs without the stream of events.
func untold(what, title, unit string, run func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error)) figure {
	return figure{who: "obs", what: what, title: title, unit: unit, run: func(ctx context.Context, e *env) (load.Sample, error) {
		return e.bed(ctx, false, func(c *load.BedConfig) { c.Untold = true }, run)
	}}
}

// claimed is a figure of obs with jobs that are claimed before they are done.
func claimed(what, title, unit string, run func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error)) figure {
	return figure{who: "obs", what: what, title: title, unit: unit, run: func(ctx context.Context, e *env) (load.Sample, error) {
		return e.bed(ctx, false, func(c *load.BedConfig) { c.Claimed = true }, run)
	}}
}

// steady is producing and working at once; what was promised is counted afterwards.
func steady(o options, clients, batch int) func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
	return func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
		s, err := b.Steady(ctx, m, clients, batch, o.For)
		if err != nil {
			return s, err
		}
		return s, whole(ctx, b, s.N+1) // one has warmed it up
	}
}

// whole verifies that n jobs were done with their full history, or the figure is not one.
func whole(ctx context.Context, b *load.Bed, n int) error {
	h, err := b.History(ctx)
	if err == nil && (h.Jobs != n || h.Completed != n || h.Events < 3*n || h.Waiting != 0) {
		err = fmt.Errorf("%d jobs were measured, but there are %d, %d of them completed, with %d events, and %d wait", n, h.Jobs, h.Completed, h.Events, h.Waiting)
	}
	return err
}

func drain(o options, alone bool) func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
	return func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
		s, err := b.Drain(ctx, m, o.Jobs, alone)
		if err != nil {
			return s, err
		}
		return s, whole(ctx, b, o.Jobs)
	}
}

func relayed(o options, what, title string, mode outbox.Mode, syncAlways bool) figure {
	return figure{who: "obs", what: what, title: title, unit: "messages", synced: syncAlways, run: func(ctx context.Context, e *env) (load.Sample, error) {
		return e.bed(ctx, syncAlways, usual, func(ctx context.Context, b *load.Bed, m load.Meter) (load.Sample, error) {
			return b.Relay(ctx, m, o.relayed(), mode)
		})
	}}
}
