package boot_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

// process is relay and worker in one, with their status endpoint, and stops
// with the test.
func process(t *testing.T) (p *boot.Process, service *observe.Service, url string) {
	t.Helper()
	c := boot.Config{
		DatabaseURL: testenv.Postgres(t), NATSURL: testenv.NATSServer(t).ClientURL(), ConnectTimeout: time.Minute,
		Streams: outbox.Streams{Kinds: observe.Kinds()}, Lease: 5 * time.Second, Grace: time.Second,
	}
	p = boot.NewProcess(c, connect(t, c), testenv.Log(t))
	require.NoError(t, p.Relay())
	service = p.Service(llm.NewOffline())
	p.Worker(service)
	l, err := boot.Listen("127.0.0.1:0")
	require.NoError(t, err)
	p.Status(l, "worker")
	p.Add("follower", boot.Follow(p.Links, c.Streams, testenv.Log(t), service.Notice))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return p, service, "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func TestAProcessDoesJobsAndTellsOfIt(t *testing.T) {
	t.Parallel()
	_, service, url := process(t)
	team, project, err := service.EnsureLocal(t.Context(), "x")
	require.NoError(t, err)
	caller := observe.Caller{Actor: "test", Team: team, Project: project, Scopes: []string{observe.ScopeAll}}
	recorded, err := service.Record(t.Context(), caller, []observe.NewEvent{{
		ProjectID: project, SourceType: "hook", EventType: "tool_use", OccurredAtEpoch: 1,
		Payload: json.RawMessage(`{"tool_name":"Bash","tool_input":{"command":"go vet ./x"},"tool_response":{"exit_code":1,"stdout":"x.go:1: bad"}}`),
	}}, observe.RecordOptions{Generate: true})
	require.NoError(t, err)
	id := recorded[0].Job.ID
	jobs, timedOut, err := service.WaitJobs(t.Context(), caller, []events.ID{id}, time.Minute)
	require.NoError(t, err)
	require.False(t, timedOut, "the follower told that it is done")
	require.Equal(t, events.StatusCompleted, jobs[id].Status)

	code, body := get(t, url+"/healthz")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"status":"ok","runtime":"worker"}`, body)
	require.Eventually(t, func() bool { code, _ := get(t, url+"/api/health"); return code == http.StatusOK }, time.Minute, look)
	_, body = get(t, url+"/api/health")
	var health api.HealthBody
	require.NoError(t, json.Unmarshal([]byte(body), &health))
	require.Equal(t, "worker", health.Runtime)
	require.Empty(t, health.Reasons)
	require.NotEmpty(t, health.Dependencies.Statuses)

	_, body = get(t, url+"/v1/info")
	var info struct {
		Name   string
		Leader bool
		Totals struct{ Published int }
		Broker struct {
			Connected bool
			Streams   []struct{ Name string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &info))
	require.Equal(t, "obs-worker", info.Name)
	require.True(t, info.Leader)
	require.True(t, info.Broker.Connected)
	require.Len(t, info.Broker.Streams, 2)
	require.Equal(t, 1, info.Totals.Published)

	require.Eventually(t, func() bool {
		_, body = get(t, url+"/metrics")
		return containsAll(body,
			`obs_worker_attempts_total{kind="event",outcome="completed"} 1`, `obs_relay_leader 1`, `obs_dependency_up{name="nats"} 1`)
	}, 5*time.Second, look)
}

func containsAll(text string, parts ...string) bool {
	for _, p := range parts {
		if !contains(text, p) {
			return false
		}
	}
	return true
}

// The stream of events is deleted and made again: followers go on hearing.
func TestFollowersOutliveTheStream(t *testing.T) {
	t.Parallel()
	p, service, _ := process(t)
	require.NoError(t, p.Links.JS.DeleteStream(t.Context(), "EVENTS"))
	team, project, err := service.EnsureLocal(t.Context(), "x")
	require.NoError(t, err)
	caller := observe.Caller{Actor: "test", Team: team, Project: project, Scopes: []string{observe.ScopeAll}}
	recorded, err := service.Record(t.Context(), caller, []observe.NewEvent{{
		ProjectID: project, SourceType: "hook", EventType: "tool_use", OccurredAtEpoch: 1, Payload: json.RawMessage(`{}`),
	}}, observe.RecordOptions{Generate: true})
	require.NoError(t, err)
	_, timedOut, err := service.WaitJobs(t.Context(), caller, []events.ID{recorded[0].Job.ID}, 25*time.Second)
	require.NoError(t, err)
	require.False(t, timedOut)
}

// A request that waits does not hold the process up when it stops.
func TestServeStopsSoon(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	inside, cause := make(chan struct{}), make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
		cause <- context.Cause(r.Context())
		w.WriteHeader(http.StatusTeapot)
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- boot.Serve(l, h, 0, testenv.Log(t))(ctx) }()
	answered := make(chan int, 1)
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answered <- 0
			return
		}
		res.Body.Close()
		answered <- res.StatusCode
	}()
	<-inside
	stop()
	require.NoError(t, <-done)
	require.Equal(t, http.StatusTeapot, <-answered, "it could still answer")
	require.EqualError(t, <-cause, "the server stops", "or it would look as if the client had left")
}
