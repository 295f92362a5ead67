package boot

import (
	"context"
	"fmt"
	"log/slog"
	"net"
)

// RelayFlags are those of a relay: `obs relay` and obs-relay are the same.
type RelayFlags struct {
	DatabaseFlags
	BrokerFlags
	LeaseFlags
	HTTPFlags
	LogFlags
}

// Run runs a relay until ctx ends.
func (f RelayFlags) Run(ctx context.Context, std Std) error {
	c, err := Load(f.DatabaseFlags, f.BrokerFlags, f.LeaseFlags, f.HTTPFlags, f.LogFlags)
	if err != nil {
		return err
	}
	return alone(ctx, std, c, "relay", func(p *Process) error { return p.Relay() })
}

// WorkerFlags are those of a worker: `obs worker` and obs-worker are the same.
type WorkerFlags struct {
	DatabaseFlags
	BrokerFlags
	LeaseFlags
	LaneFlags
	ProviderFlags
	EmbedFlags
	PromptFlags
	LimitFlags
	HTTPFlags
	LogFlags
}

// Run runs a worker until ctx ends.
func (f WorkerFlags) Run(ctx context.Context, std Std) error {
	c, err := Load(f.DatabaseFlags, f.BrokerFlags, f.LeaseFlags, f.LaneFlags, f.ProviderFlags, f.EmbedFlags, f.PromptFlags, f.LimitFlags, f.HTTPFlags, f.LogFlags)
	if err != nil {
		return err
	}
	return alone(ctx, std, c, "worker", func(p *Process) error {
		provider, err := c.OpenProvider(p.Log)
		if err != nil {
			return err
		}
		p.Worker(p.Service(provider))
		return nil
	})
}

// ServerFlags are those of a process that serves the API and nothing else.
type ServerFlags struct {
	DatabaseFlags
	BrokerFlags
	JobFlags
	EmbedFlags
	PriceFlags
	PromptFlags
	KeyFlags
	LimitFlags
	HTTPFlags
	LogFlags
}

// Run serves the API until ctx ends.
func (f ServerFlags) Run(ctx context.Context, std Std) error {
	c, err := Load(f.DatabaseFlags, f.BrokerFlags, f.JobFlags, f.EmbedFlags, f.PriceFlags, f.PromptFlags, f.KeyFlags, f.LimitFlags, f.HTTPFlags, f.LogFlags)
	if err != nil {
		return err
	}
	if c.Addr == "" {
		return Misused("--addr (OBS_ADDR): a server has to listen somewhere, want host:port")
	}
	log := NewLog(std.Stderr, c)
	l, err := Listen(c.Addr) // before all else: it is quick to tell
	if err != nil {
		return err
	}
	defer l.Close()
	links, err := Connect(ctx, c, "obs-server", log, nil)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer links.Close()
	p := NewProcess(c, links, log)
	p.API(l, p.Service(nil)) //nolint:contextcheck // a request has its own
	log.InfoContext(ctx, "up", "part", "api", "url", "http://"+l.Addr().String(), "process", p.ID, "version", Version())
	return p.Run(ctx)
}

// alone runs one part with its status endpoint.
func alone(ctx context.Context, std Std, c Config, name string, add func(*Process) error) error {
	log := NewLog(std.Stderr, c)
	var l net.Listener
	var err error
	if c.Addr != "" {
		if l, err = Listen(c.Addr); err != nil {
			return err
		}
		defer l.Close()
	}
	links, err := Connect(ctx, c, "obs-"+name, log, nil)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer links.Close()
	p := NewProcess(c, links, log)
	if err := add(p); err != nil {
		return fmt.Errorf("start the %s: %w", name, err)
	}
	attrs := []slog.Attr{slog.String("part", name), slog.String("process", p.ID), slog.String("version", Version())}
	if l != nil {
		p.Status(l, name)
		attrs = append(attrs, slog.String("url", "http://"+l.Addr().String()))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "up", attrs...)
	err = p.Run(ctx)
	log.InfoContext(ctx, "stopped", "process", p.ID)
	return err
}

// unlessStopped forgets an error of the start when the process was told to
// end meanwhile.
func unlessStopped(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}
