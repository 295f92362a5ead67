package api_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
)

// What the relay and the worker answer is what the API answers, less what only
// older clients of the API look for.
func TestHealthBody(t *testing.T) {
	t.Parallel()
	started := time.Now().Add(-90 * time.Second)
	since := time.UnixMilli(1_700_000_000_000)

	well := api.Health{Checks: []api.Check{{Name: "postgres", OK: true, Reason: "of before", Since: since}}}.Body("relay", "1.2.3", started)
	require.Equal(t, http.StatusOK, well.Code())
	require.Equal(t, "ok", well.Status)
	require.Equal(t, "relay", well.Runtime)
	require.Equal(t, "1.2.3", well.Version)
	require.GreaterOrEqual(t, well.Uptime, int64(90))
	require.NotNil(t, well.Reasons, "[] and not null")
	require.Empty(t, well.Reasons)
	text, err := json.Marshal(well.Dependencies)
	require.NoError(t, err)
	require.JSONEq(t, `{"degraded":false,"statuses":[{"name":"postgres","status":"ok","sinceEpoch":1700000000000}]}`, string(text))

	ill := api.Health{Checks: []api.Check{
		{Name: "postgres", OK: true}, {Name: "nats", Reason: "not connected", Since: since}, {Name: "streams"},
	}}.Body("worker", "1.2.3", started)
	require.Equal(t, http.StatusServiceUnavailable, ill.Code())
	require.Equal(t, "degraded", ill.Status)
	require.Equal(t, []string{"nats: not connected", "streams: not available"}, ill.Reasons)
	text, err = json.Marshal(ill.Dependencies)
	require.NoError(t, err)
	require.JSONEq(t, `{"degraded":true,"statuses":[
		{"name":"postgres","status":"ok","sinceEpoch":null},
		{"name":"nats","status":"degraded","reason":"not connected","sinceEpoch":1700000000000},
		{"name":"streams","status":"degraded","sinceEpoch":null}]}`, string(text))

	text, err = json.Marshal(api.Health{}.Body("relay", "", started).Dependencies)
	require.NoError(t, err)
	require.JSONEq(t, `{"degraded":false,"statuses":[]}`, string(text))
}

func TestBrokerBody(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(api.Broker{}.Body())
	require.NoError(t, err)
	require.JSONEq(t, `{"connected":false,"version":"","cluster":"","server":"","streams":[]}`, string(text))

	text, err = json.Marshal(api.Broker{Connected: true, Version: "2.12.0", Cluster: "c", Server: "s", Streams: []api.Stream{
		{Name: "JOBS", Messages: 2, Bytes: 512, Replicas: 3, Created: time.UnixMilli(1_700_000_000_000), Consumers: []api.Consumer{
			{Name: "event", Pending: 1, AckPending: 4, Redelivered: 5, Waiting: 6},
		}},
		{Name: "EVENTS"},
	}}.Body())
	require.NoError(t, err)
	require.JSONEq(t, `{"connected":true,"version":"2.12.0","cluster":"c","server":"s","streams":[
		{"name":"JOBS","messages":2,"bytes":512,"replicas":3,"createdAtEpoch":1700000000000,"consumers":[
			{"name":"event","pending":1,"ackPending":4,"redelivered":5,"waiting":6}]},
		{"name":"EVENTS","messages":0,"bytes":0,"replicas":0,"createdAtEpoch":null,"consumers":[]}]}`, string(text))
}
