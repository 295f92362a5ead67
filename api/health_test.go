package api_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
)

func init() {
	good := func(has map[string]any) func(*world) []check {
		return func(*world) []check {
			return []check{
				{name: "good", want: 200, has: has},
				{name: "a bad key does not matter", request: request{key: "unknown"}, want: 200},
			}
		}
	}
	routeCases["GET /healthz"] = good(map[string]any{"status": "ok", "runtime": "server"})
	routeCases["GET /api/health"] = good(map[string]any{"status": "ok", "runtime": "server", "version": "1.2.3", "reasons": []any{}, "dependencies.degraded": false})
	routeCases["GET /api/readiness"] = good(map[string]any{"status": "ready"})
	routeCases["GET /api/version"] = good(map[string]any{"version": "1.2.3"})
	routeCases["GET /metrics"] = func(*world) []check { return []check{{name: "good", want: 200, says: "obs_up 1"}} }
	routeCases["GET /v1/info"] = func(w *world) []check {
		w.posted("e1")
		return []check{{
			name: "good", want: 200,
			has: map[string]any{
				"name": "obs", "runtime": "server", "version": "1.2.3", "authMode": "api-key", "broker.connected": false, "broker.streams": []any{},
				"queueLanes.0.kind": "event", "queueLanes.0.waiting": 1, "queueLanes.0.unavailable": false, "queueLanes.3.kind": "reindex",
			},
		}}
	}
}

func TestHealthTellsTheTruth(t *testing.T) {
	t.Parallel()
	since := time.UnixMilli(1700000000000)
	state := []api.Check{{Name: "postgres", OK: true}, {Name: "nats", OK: true, Since: since}}
	w := bare(t, func(c *api.Config) {
		c.Health = func(context.Context) api.Health { return api.Health{Checks: state} }
	})
	ask := func(path string) answer { return w.do(request{method: "GET", path: path}) }
	require.Equal(t, http.StatusOK, ask("/api/health").status)

	state[1] = api.Check{Name: "nats", Reason: "not connected", Since: since}
	a := ask("/api/health")
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "degraded", a.str("status"))
	require.Equal(t, "nats: not connected", a.str("reasons.0"))
	require.Equal(t, true, a.at("dependencies.degraded"))
	require.Equal(t, "ok", a.str("dependencies.statuses.0.status"))
	require.Equal(t, "degraded", a.str("dependencies.statuses.1.status"))
	require.InDelta(t, since.UnixMilli(), a.at("dependencies.statuses.1.sinceEpoch"), 0)
	require.Equal(t, http.StatusOK, ask("/healthz").status, "the process lives")
	require.Equal(t, http.StatusOK, ask("/api/readiness").status, "events can be taken in without the broker")

	state[0] = api.Check{Name: "postgres"}
	require.Equal(t, "postgres: not available", ask("/api/health").str("reasons.0"))
	ready := ask("/api/readiness")
	require.Equal(t, http.StatusServiceUnavailable, ready.status)
	require.Equal(t, "initializing", ready.str("status"))

	state[0].OK, state[1].OK = true, true
	require.Equal(t, http.StatusOK, ask("/api/health").status, "it comes back by itself")
}

// TestHealthDoesNotHang: a check that never answers is an answer too.
func TestHealthDoesNotHang(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	for name, health := range map[string]func(context.Context) api.Health{
		"stuck":  func(context.Context) api.Health { <-stuck; return api.Health{} },
		"panics": func(context.Context) api.Health { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := bare(t, func(c *api.Config) { c.Health = health })
			a := w.do(request{method: "GET", path: "/api/health"})
			require.Equal(t, http.StatusServiceUnavailable, a.status)
			require.Contains(t, a.str("reasons.0"), "health: ")
		})
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	born := time.UnixMilli(1700000000000)
	var fails error
	w := newWorld(t, func(c *api.Config) {
		c.Info = func(context.Context) (api.Info, error) {
			return api.Info{
				Build: "abc", Schema: 7, Boundaries: map[string]api.Boundary{"worker": {Status: "disabled", Reason: "obs-worker runs it"}},
				Broker: api.Broker{
					Connected: true, Version: "2.15.2", Cluster: "c1", Server: "n1",
					Streams: []api.Stream{{
						Name: "JOBS", Messages: 3, Bytes: 300, Replicas: 1, Created: born,
						Consumers: []api.Consumer{{Name: "event", Pending: 2, AckPending: 1}},
					}},
				},
			}, fails
		}
	})
	a := w.do(request{method: "GET", path: "/v1/info"})
	require.Equal(t, http.StatusOK, a.status)
	for path, want := range map[string]any{
		"build": "abc", "postgres.schemaVersion": 7, "postgres.initialized": true, "boundaries.worker.status": "disabled",
		"broker.version": "2.15.2", "broker.cluster": "c1", "broker.streams.0.name": "JOBS", "broker.streams.0.messages": 3,
		"broker.streams.0.createdAtEpoch": born.UnixMilli(), "broker.streams.0.consumers.0.pending": 2,
	} {
		require.EqualValues(t, want, a.at(path), path)
	}

	fails = errors.New("dial nats://user:password@host: refused")
	a = w.do(request{method: "GET", path: "/v1/info"})
	require.Equal(t, http.StatusOK, a.status)
	require.Equal(t, false, a.at("broker.connected"))
	require.NotContains(t, a.text, "password")
}
