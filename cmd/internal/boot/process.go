package boot

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

// Process is the parts of one process, with what they share. Give it its
// parts with [Process.API], [Process.Relay], [Process.Worker] and
// [Process.Status], then call [Process.Run].
type Process struct {
	Config Config
	Links  *Links
	Log    *slog.Logger
	Jobs   *db.Jobs
	Bell   *outbox.Bell
	ID     string // of this run: host, process id and a random part
	Health *Health

	host    string
	started time.Time
	load    api.Load         // of the API
	serves  bool             // the API is in this process
	relay   *outbox.Relay    // nil: not in this process
	worker  *pipeline.Worker // likewise

	provider llm.Provider     // of the worker
	held     func() int64     // teams that have used up their month, as the worker knows
	parts    [lastRank][]part // by rank, which is the order in which they stop
}

type part struct {
	name string
	run  func(ctx context.Context) error
}

// The order in which parts stop.
const (
	rankDoor = iota
	rankRelay
	rankWorker
	rankLinks
	lastRank
)

// NewProcess gives a process that has no parts yet. The links stay the
// caller's.
func NewProcess(c Config, links *Links, log *slog.Logger) *Process {
	host := c.WorkerName
	if host == "" {
		host, _ = os.Hostname() // without a name, the other two parts have to do
	}
	id := fmt.Sprintf("%s-%d-%s", events.Token(strings.ReplaceAll(host, ".", "-")), os.Getpid(), strings.ToLower(rand.Text()[:6]))
	p := &Process{
		Config: c, Links: links, Log: log, ID: id, host: host, started: time.Now(),
		Jobs: db.NewJobs(links.Pool, db.JobsConfig{Process: id, Build: Build(), Beside: observe.Beside}),
		Bell: outbox.NewBell(links.NATS, c.Streams.Prefix),
	}
	p.Health = NewHealth(links, c.Streams, p.checks)
	p.Add("health", p.Health.Run)
	p.Add("nats", links.Watch)
	return p
}

// Add gives the process a part that stops after those that have a method of
// their own.
func (p *Process) Add(name string, run func(ctx context.Context) error) {
	p.add(rankLinks, name, run)
}

func (p *Process) add(rank int, name string, run func(ctx context.Context) error) {
	p.parts[rank] = append(p.parts[rank], part{name, run})
}

// startsWithin is when what only the start needed is given back: some 3 MiB of
// an idle server.
const startsWithin = time.Second

// Run runs the parts until ctx ends or one of them does, and stops them in
// order: the doors, the relay, the worker, the rest.
func (p *Process) Run(ctx context.Context) error {
	tuneGC(p.serves, p.worker != nil && !p.serves && p.relay == nil)
	tidy := time.AfterFunc(startsWithin, debug.FreeOSMemory)
	defer tidy.Stop()
	p.Health.Look(ctx) // the first one who asks is to be told
	stages := Stages{Log: p.Log}
	for _, parts := range p.parts {
		for _, one := range parts {
			stages.Go(ctx, one.name, one.run)
		}
	}
	return stages.Wait(ctx)
}

// Service makes the application. The provider may be nil where no handler
// runs.
func (p *Process) Service(provider llm.Provider) *observe.Service {
	p.provider = provider
	return observe.New(p.tortured(observe.Config{
		Pool: p.Links.Pool, Jobs: p.Jobs, Provider: provider, Modes: p.Config.Modes, Log: p.Log,
		Ring: p.Bell.Ring, Policy: p.Config.Policy, Debounce: p.Config.Debounce, MaxAttempts: p.Config.MaxAttempts, Limits: p.Config.Limits, Prices: p.Config.Prices, Near: p.Config.Near,
		Peppers: p.Config.Peppers,
		Process: p.ID, Build: Build(),
	}))
}

// waitLimit is how long ?wait=true waits, requestLimit how long a request may
// take besides.
const (
	waitLimit    = 30 * time.Second
	requestLimit = 30 * time.Second
)

// API makes the process serve the HTTP API on the listener, and tell the
// requests that wait what happens to jobs.
func (p *Process) API(l net.Listener, service *observe.Service) {
	admission := p.Config.Admission
	admission.Load = &p.load
	if admission.Requests == 0 {
		admission.Requests = 4 * int(p.Links.Pool.Config().MaxConns)
	}
	p.serves = true
	handler := api.New(api.Config{
		Admission: admission, FailedKeys: p.Config.FailedKeys,
		Service: service, Health: p.Health.Health, Info: p.info, Log: p.Log.With("part", "api"), Version: Version(),
		PublicURL: p.Config.PublicURL, WaitLimit: waitLimit, Timeout: requestLimit, Metrics: p.metrics(), Feed: p.feed,
	})
	p.add(rankDoor, "api", Serve(l, handler, waitLimit+requestLimit, p.Log))
	p.add(rankDoor, "follower", Follow(p.Links, p.Config.Streams, p.Log, service.Notice))
}

// feed is the api.Feed of this process.
func (p *Process) feed(ctx context.Context, scope events.Scope, after events.Cursor, tell func(events.Heard) error) error {
	return outbox.Follow(ctx, p.Links.JS, outbox.Following{Streams: p.Config.Streams, Scope: scope, After: after, Log: p.Log}, tell)
}

// Relay makes the process a relay.
func (p *Process) Relay() error {
	listening, stop := context.WithCancel(context.Background())
	wake, wakeFeed, err := p.Bell.Listen(listening)
	if err != nil {
		stop()
		return err
	}
	p.relay = outbox.New(p.Jobs, p.Jobs, p.Links.JS, outbox.Config{
		Streams: p.Config.Streams, Lease: p.Config.Lease, Wake: wake, WakeFeed: wakeFeed, Named: p.Bell.Named, Log: p.Log.With("part", "relay"),
	})
	p.add(rankRelay, "relay", func(ctx context.Context) error {
		defer stop()
		return p.relay.Run(ctx)
	})
	return nil
}

// Worker makes the process a worker with the handlers of the service.
func (p *Process) Worker(service *observe.Service) {
	p.worker = pipeline.New(p.Jobs, p.Links.JS, pipeline.Config{
		ID: p.ID, Name: fmt.Sprintf("%s (%d)", p.host, os.Getpid()), Build: Build(),
		Stream: p.Config.Streams.JobsStream(), Consumer: p.Config.Streams.Consumer,
		Lanes: p.Config.Lanes, Breaker: p.Config.Breaker, Lease: p.Config.Lease, Grace: p.Config.Grace,
		Settled: p.Bell.Settled, // a job may ask again, and followers are to be told
		Refused: service.Refused, Log: p.Log.With("part", "worker"),
	})
	service.Register(p.worker)
	p.add(rankWorker, "worker", p.worker.Run)
	p.Add("budgets", service.KeepBudgets)
	p.Add("vectors", service.KeepVectors)
	p.held = service.HeldTeams
}

// Status makes the process serve the small HTTP endpoint of a relay or a
// worker on the listener.
func (p *Process) Status(l net.Listener, name string) {
	mux := http.NewServeMux()
	p.statusRoutes(mux, name)
	p.add(rankDoor, "status", Serve(l, mux, 0, p.Log))
}

func (p *Process) info(ctx context.Context) (api.Info, error) {
	return api.Info{Build: Build(), Schema: p.Links.Schema, Broker: p.Health.Broker(ctx), Boundaries: p.boundaries()}, nil
}

func (p *Process) boundaries() map[string]api.Boundary {
	b := map[string]api.Boundary{
		"relay":  {Status: "disabled", Reason: "it is another process"},
		"worker": {Status: "disabled", Reason: "it is another process"},
	}
	for _, c := range p.checks() {
		b[c.Name] = api.Boundary{Status: "active"}
		if !c.OK {
			b[c.Name] = api.Boundary{Status: "errored", Reason: c.Reason}
		}
	}
	return b
}

// checks tell how the parts of this process are.
func (p *Process) checks() []api.Check {
	var own []api.Check
	if p.relay != nil {
		s := p.relay.State()
		own = append(own, api.Check{Name: "relay", OK: s.Error == "", Reason: areas(s.Error)})
	}
	if p.worker != nil {
		own = append(own, workerCheck(p.worker.State()))
		if c, several := providerCheck(p.provider); several {
			own = append(own, c)
		}
		if n := p.held(); n > 0 { // nothing is broken: it is as they were told
			own = append(own, api.Check{Name: "budgets", OK: true, Note: fmt.Sprintf("%d teams have used up their month, and their jobs wait", n)})
		}
	}
	return own
}

// areas keeps of the relay's trouble where it is: the causes are for the log,
// they may hold addresses.
func areas(trouble string) string {
	if trouble == "" {
		return ""
	}
	var names []string
	for one := range strings.SplitSeq(trouble, "; ") {
		name, _, _ := strings.Cut(one, ":")
		names = append(names, name)
	}
	return "in trouble with " + strings.Join(names, ", ") + "; the log says more"
}

func workerCheck(s pipeline.State) api.Check {
	c := api.Check{Name: "worker", OK: true}
	switch {
	case !s.Held && s.SeenAgo > 0:
		c.OK, c.Reason = false, "its lease is lost: Postgres has not answered for too long"
	case !s.Held:
		c.OK, c.Reason = false, "it waits for Postgres to know it"
	}
	for _, l := range s.Lanes {
		if c.OK && l.Trouble != "" {
			c.OK, c.Reason = false, fmt.Sprintf("lane %s waits for NATS or Postgres; the log says more", l.Kind)
		}
		if c.OK && !l.RestUntil.IsZero() {
			how := "rests until"
			if l.RestUntil.Before(time.Now()) {
				how = "tries with one job since"
			}
			c.OK, c.Reason = false, fmt.Sprintf("lane %s %s %s: %s", l.Kind, how, l.RestUntil.UTC().Format(time.RFC3339), l.RestsFor)
		}
	}
	return c
}
