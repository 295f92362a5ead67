package api

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// runtimeName is what the product calls this way of running it.
const runtimeName = "server"

// askLimit is how long the door waits for what tells the process's state.
const askLimit = 2 * time.Second

// Health is what a process knows of what it depends on. The zero value is
// healthy.
type Health struct {
	Checks []Check
}

// Check is one thing that the process depends on or does: "postgres", "nats",
// "streams", "relay", "worker".
type Check struct {
	Name   string
	OK     bool
	Reason string    // why it is not OK, for people who may not read the log: no addresses, no secrets
	Since  time.Time // since when it is as it is; zero: not known
}

func (h Health) reasons() []string {
	reasons := []string{}
	for _, c := range h.Checks {
		switch {
		case c.OK:
		case c.Reason == "":
			reasons = append(reasons, c.Name+": not available")
		default:
			reasons = append(reasons, c.Name+": "+c.Reason)
		}
	}
	return reasons
}

// answered calls ask, and gives up on it after askLimit, also where it does
// not heed its context. What it still does then is left to end by itself.
func answered[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				got <- answer{err: fmt.Errorf("panic: %v", r)}
			}
		}()
		v, err := ask(ctx)
		got <- answer{v, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("no answer within %s: %w", askLimit, ctx.Err())
	}
}

func (s *server) checked(ctx context.Context) Health {
	h, err := answered(ctx, func(ctx context.Context) (Health, error) { return s.cfg.Health(ctx), nil })
	if err != nil {
		return Health{Checks: []Check{{Name: "health", Reason: fmt.Sprintf("no answer within %s", askLimit)}}}
	}
	return h
}

type aliveBody struct {
	Status  string `json:"status"`
	Runtime string `json:"runtime"`
}

// alive tells only that this process answers.
func (s *server) alive(context.Context, observe.Caller, none) (aliveBody, error) {
	return aliveBody{"ok", runtimeName}, nil
}

type healthBody struct {
	Status       string       `json:"status"`
	Reasons      []string     `json:"reasons"`
	Runtime      string       `json:"runtime"`
	Version      string       `json:"version"`
	WorkerPath   string       `json:"workerPath"`
	Uptime       int64        `json:"uptime"` // seconds
	Managed      bool         `json:"managed"`
	HasIPC       bool         `json:"hasIpc"`
	Platform     string       `json:"platform"`
	PID          int          `json:"pid"`
	Initialized  bool         `json:"initialized"`
	MCPReady     bool         `json:"mcpReady"`
	Dependencies dependencies `json:"dependencies"`
	RateLimits   struct{}     `json:"rateLimits"`
}

type dependencies struct {
	Degraded bool        `json:"degraded"`
	Statuses []checkBody `json:"statuses"`
}

type checkBody struct {
	Name       string `json:"name"`
	Status     string `json:"status"`
	Reason     string `json:"reason,omitempty"`
	SinceEpoch *int64 `json:"sinceEpoch"`
}

func (b healthBody) status() int {
	if b.Dependencies.Degraded {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// health tells whether the work gets done: 503 while anything that it needs
// is away.
func (s *server) health(ctx context.Context, _ observe.Caller, _ none) (healthBody, error) {
	h := s.checked(ctx)
	body := healthBody{
		Status: "ok", Reasons: h.reasons(), Runtime: runtimeName, Version: s.cfg.Version,
		Uptime: int64(time.Since(s.started).Seconds()), Platform: runtime.GOOS, PID: os.Getpid(), Initialized: true, MCPReady: true,
		Dependencies: dependencies{Statuses: []checkBody{}},
	}
	for _, c := range h.Checks {
		one := checkBody{Name: c.Name, Status: "ok", SinceEpoch: epochOrNull(c.Since)}
		if !c.OK {
			one.Status, one.Reason = "degraded", c.Reason
			body.Status, body.Dependencies.Degraded = "degraded", true
		}
		body.Dependencies.Statuses = append(body.Dependencies.Statuses, one)
	}
	return body, nil
}

type readinessBody struct {
	Status   string `json:"status"`
	MCPReady bool   `json:"mcpReady"`
	Message  string `json:"message,omitempty"`
}

func (b readinessBody) status() int {
	if b.Status != "ready" {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// readiness tells whether a request makes sense now: writing an event needs
// Postgres, and nothing else.
func (s *server) readiness(ctx context.Context, _ observe.Caller, _ none) (readinessBody, error) {
	for _, c := range s.checked(ctx).Checks {
		if !c.OK && (c.Name == "postgres" || c.Name == "health") {
			return readinessBody{Status: "initializing", Message: c.Name + ": " + c.Reason}, nil
		}
	}
	return readinessBody{Status: "ready", MCPReady: true}, nil
}

type versionBody struct {
	Version string `json:"version"`
}

func (s *server) version(context.Context, observe.Caller, none) (versionBody, error) {
	return versionBody{s.cfg.Version}, nil
}
