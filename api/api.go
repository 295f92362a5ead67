// Package api is the HTTP door: it decodes a request, finds the caller by its
// key, calls internal/observe, and encodes what comes back. It decides
// nothing about the work and nothing about who may see which row.
//
// [New] makes the handler. The table in [server.routes] is the table of
// contents; docs/api.md tells the same to people, and a test holds the two
// together.
package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// Config is what the door needs. Only Service must be set.
type Config struct {
	Service *observe.Service

	// Health and Info tell what the process knows of what it depends on. They
	// are asked often, and are to answer from what they have seen lately; one
	// that takes more than 2 s counts as not answering. Nil means that
	// nothing is known.
	Health func(ctx context.Context) Health
	Info   func(ctx context.Context) (Info, error)

	PublicURL string        // where clients reach the API; empty: what they called
	BodyLimit int64         // the largest body, in bytes; zero means 5 MiB
	WaitLimit time.Duration // how long ?wait=true waits for jobs; zero means 30 s
	Timeout   time.Duration // how long a request may take besides waiting; zero means 30 s
	Log       *slog.Logger  // nil discards
	Version   string        // of the program; empty means "dev"
	Metrics   http.Handler  // serves GET /metrics, without a key; nil means there is none

	Admission  Admission // what it takes on at once
	FailedKeys int       // keys that let nobody in, of one address in a minute; zero means 100, less than zero any number

	Feed   Feed // what GET /v1/stream tells; nil means there is none
	Stream StreamConfig
}

func (c Config) withDefaults() Config {
	if c.Health == nil {
		c.Health = func(context.Context) Health { return Health{} }
	}
	if c.Info == nil {
		c.Info = func(context.Context) (Info, error) { return Info{}, nil }
	}
	if c.BodyLimit == 0 {
		c.BodyLimit = 5 << 20
	}
	if c.WaitLimit == 0 {
		c.WaitLimit = 30 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.FailedKeys == 0 {
		c.FailedKeys = 100
	}
	c.Stream = c.Stream.withDefaults()
	return c
}

// New makes the handler. The caller serves it, with its own timeouts for slow
// readers and writers: the longest answer takes Timeout plus WaitLimit. To
// stop soon, cancel the server's base context with a cause: who waits for a job
// is then answered as if the wait had run out, anybody else with 503. Without
// a cause it looks as if the client had left.
func New(cfg Config) http.Handler {
	s := &server{cfg: cfg.withDefaults(), started: time.Now()}
	s.gate, s.guard = newGate(s.cfg.Admission), newGuard(s.cfg.FailedKeys)
	s.mcp = s.newMCP()
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Logger.SetOutput(io.Discard) // all that is to be said is said by logged
	e.IPExtractor = echo.ExtractIPDirect()
	e.HTTPErrorHandler = fail
	always := chain(matched, identify, logged(s.cfg.Log), recovered, secure, crossOrigin, s.bounded)
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return always })
	for _, r := range s.routes() {
		var guard []echo.MiddlewareFunc
		if r.scope != anyone {
			switch r.path {
			case streamPath: // one that lives for hours has limits of its own
			case eventsPath:
				guard = append(guard, s.admitted(placePart))
			default:
				guard = append(guard, s.admitted(placeWhole))
			}
			guard = append(guard, s.keyed(r.scope, r.path == eventsPath || r.path == batchPath))
		}
		do := chain(r.do, guard...)
		e.Add(r.method, r.path, do)
		if r.method == http.MethodGet {
			e.Add(http.MethodHead, r.path, do) // net/http leaves out the body
		}
	}
	return e
}

type server struct {
	cfg     Config
	started time.Time
	mcp     http.Handler // see newMCP
	streams streams
	gate    *gate
	guard   *guard
}

// route is a line of the table.
type route struct {
	method, path string
	scope        string // what the key must allow, or anyone, or anyKey
	do           echo.HandlerFunc
}

const (
	get    = http.MethodGet
	post   = http.MethodPost
	patch  = http.MethodPatch
	remove = http.MethodDelete

	reads  = observe.ScopeRead
	writes = observe.ScopeWrite
	admins = observe.ScopeAdmin
	all    = observe.ScopeAll
	anyone = ""    // no key is asked for
	anyKey = "key" // it depends on the row, and observe knows
)

const (
	streamPath = "/v1/stream"
	eventsPath = "/v1/events"
	batchPath  = "/v1/events/batch"
)

func (s *server) routes() []route {
	table := []route{
		{get, "/", anyone, page(landing)},
		{get, "/docs", anyone, page(reference)},
		{get, "/live", anyone, asset("live.html", "text/html; charset=utf-8")},
		{get, "/live.css", anyone, asset("live.css", "text/css; charset=utf-8")},
		{get, "/live.js", anyone, asset("live.js", "text/javascript; charset=utf-8")},
		{get, "/openapi.json", anyone, getDocument},
		{get, "/api/instructions", anyone, handle(s, s.instructions)},

		{get, "/healthz", anyone, handle(s, s.alive)},
		{get, "/api/health", anyone, handle(s, s.health)},
		{get, "/api/readiness", anyone, handle(s, s.readiness)},
		{get, "/api/version", anyone, handle(s, s.version)},
		{get, "/v1/info", anyone, handle(s, s.info)},

		{post, eventsPath, writes, handle(s, s.postEvent)},
		{post, batchPath, writes, handle(s, s.postEvents)},
		{get, "/v1/events/:id", reads, handle(s, s.getEvent)},
		{get, "/v1/events/:id/observations", reads, handle(s, s.getEventObservations)},

		{get, "/v1/jobs", reads, handle(s, s.listJobs)},
		{get, "/v1/teams/:teamId/jobs", reads, handle(s, s.listTeamJobs)},
		{get, "/v1/projects/:projectId/jobs", reads, handle(s, s.listProjectJobs)},
		{get, "/v1/jobs/:id", reads, handle(s, s.getJob)},
		{get, "/v1/jobs/:id/prompt", reads, handle(s, s.getJobPrompt)},
		{post, "/v1/jobs/:id/retry", writes, handle(s, s.retryJob)},
		{post, "/v1/jobs/:id/cancel", writes, handle(s, s.cancelJob)},

		{post, "/v1/sessions/start", writes, handle(s, s.startSession)},
		{get, "/v1/sessions/:id", reads, handle(s, s.getSession)},
		{post, "/v1/sessions/:id/end", writes, handle(s, s.endSession)},

		{post, "/api/sessions/observations", writes, handle(s, s.postToolUse)},
		{post, "/api/sessions/summarize", writes, handle(s, s.summarize)},

		{post, "/v1/memories", writes, handle(s, s.createMemory)},
		{get, "/v1/memories/:id", reads, handle(s, s.getMemory)},
		{patch, "/v1/memories/:id", writes, handle(s, s.editMemory)},
		{remove, "/v1/memories/:id", writes, handle(s, s.deleteMemory)},
		{remove, "/v1/projects/:projectId/memory", writes, handle(s, s.purgeProject)},

		{post, "/v1/search", reads, handle(s, s.search)},
		{post, "/v1/context", reads, handle(s, s.context)},
		{get, "/v1/context", reads, handle(s, s.readContext)},
		{post, "/v1/reindex", writes, handle(s, s.reindex)},

		{post, "/v1/mcp", reads, s.postMCP},
		{get, "/v1/mcp", reads, s.getMCP},

		{get, "/v1/projects", reads, handle(s, s.listProjects)},
		{post, "/v1/projects", admins, handle(s, s.createProject)},
		{get, "/v1/projects/:id", reads, handle(s, s.getProject)},
		{patch, "/v1/projects/:id", admins, handle(s, s.setProject)},
		{get, "/v1/teams", reads, handle(s, s.listTeams)},
		{post, "/v1/teams", all, handle(s, s.createTeam)},
		{get, "/v1/connect", reads, handle(s, s.connect)},
		{get, "/v1/usage", reads, handle(s, s.usage)},
		{get, "/v1/audit", admins, handle(s, s.audit)},

		{post, "/v1/keys", writes, handle(s, s.createKey)},
		{get, "/v1/keys", admins, handle(s, s.listKeys)},
		{post, "/v1/keys/:id/revoke", anyKey, handle(s, s.revokeKey)},
		{remove, "/v1/keys/:id", anyKey, handle(s, s.revokeKey)},
	}
	if s.cfg.Feed != nil {
		table = append(table, route{get, streamPath, reads, s.stream})
	}
	if s.cfg.Metrics != nil {
		table = append(table, route{get, "/metrics", anyone, echo.WrapHandler(s.cfg.Metrics)})
	}
	return table
}
