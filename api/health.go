package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// runtimeName is what the product calls this way of running it.
const runtimeName = "server"

// askLimit is how long the door waits for what tells the process's state.
const askLimit = 2 * time.Second

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

// healthBody has also what older clients look for.
type healthBody struct {
	HealthBody

	WorkerPath  string   `json:"workerPath"`
	Managed     bool     `json:"managed"`
	HasIPC      bool     `json:"hasIpc"`
	Initialized bool     `json:"initialized"`
	MCPReady    bool     `json:"mcpReady"`
	RateLimits  struct{} `json:"rateLimits"`
}

func (b healthBody) status() int { return b.Code() }

// health tells whether the work gets done: 503 while anything that it needs
// is away.
func (s *server) health(ctx context.Context, _ observe.Caller, _ none) (healthBody, error) {
	return healthBody{HealthBody: s.checked(ctx).Body(runtimeName, s.cfg.Version, s.started), Initialized: true, MCPReady: true}, nil
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
