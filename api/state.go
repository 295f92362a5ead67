package api

import (
	"cmp"
	"net/http"
	"os"
	"runtime"
	"time"
)

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
	Note   string    // what else they should know while it is OK
	Since  time.Time // since when it is as it is; zero: not known
}

// HealthBody is what each of the programs answers to GET /api/health.
type HealthBody struct {
	Status       string       `json:"status"`
	Reasons      []string     `json:"reasons"`
	Runtime      string       `json:"runtime"`
	Version      string       `json:"version"`
	Uptime       int64        `json:"uptime"` // seconds
	PID          int          `json:"pid"`
	Platform     string       `json:"platform"`
	Dependencies dependencies `json:"dependencies"`
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

// Body tells of the health of this process, which started then.
func (h Health) Body(name, version string, started time.Time) HealthBody {
	body := HealthBody{
		Status: "ok", Reasons: []string{}, Runtime: name, Version: version,
		Uptime: int64(time.Since(started).Seconds()), PID: os.Getpid(), Platform: runtime.GOOS,
		Dependencies: dependencies{Statuses: []checkBody{}},
	}
	for _, c := range h.Checks {
		one := checkBody{Name: c.Name, Status: "ok", Reason: c.Note, SinceEpoch: epochOrNull(c.Since)}
		if !c.OK {
			one.Status, one.Reason = "degraded", c.Reason
			body.Status, body.Dependencies.Degraded = "degraded", true
			body.Reasons = append(body.Reasons, c.Name+": "+cmp.Or(c.Reason, "not available"))
		}
		body.Dependencies.Statuses = append(body.Dependencies.Statuses, one)
	}
	return body
}

// Code is the status that goes with the body.
func (b HealthBody) Code() int {
	if b.Dependencies.Degraded {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// Broker is the NATS server that the process is connected to.
type Broker struct {
	Connected bool
	Version   string
	Cluster   string // empty: it is alone
	Server    string // its name
	Streams   []Stream
}

// Stream is one of the broker's streams.
type Stream struct {
	Name      string
	Messages  uint64
	Bytes     uint64
	Replicas  int
	Created   time.Time
	Consumers []Consumer
}

// Consumer is one of a stream's consumers.
type Consumer struct {
	Name        string
	Pending     uint64 // not delivered yet
	AckPending  int    // delivered, and not acknowledged yet
	Redelivered int
	Waiting     int // pull requests that wait for a message
}

// BrokerBody is what each of the programs tells of the broker.
type BrokerBody struct {
	Connected bool         `json:"connected"`
	Version   string       `json:"version"`
	Cluster   string       `json:"cluster"`
	Server    string       `json:"server"`
	Streams   []streamBody `json:"streams"`
}

type streamBody struct {
	Name         string         `json:"name"`
	Messages     uint64         `json:"messages"`
	Bytes        uint64         `json:"bytes"`
	Replicas     int            `json:"replicas"`
	CreatedEpoch *int64         `json:"createdAtEpoch"`
	Consumers    []consumerBody `json:"consumers"`
}

type consumerBody struct {
	Name        string `json:"name"`
	Pending     uint64 `json:"pending"`
	AckPending  int    `json:"ackPending"`
	Redelivered int    `json:"redelivered"`
	Waiting     int    `json:"waiting"`
}

// Body tells of the broker.
func (b Broker) Body() BrokerBody {
	body := BrokerBody{Connected: b.Connected, Version: b.Version, Cluster: b.Cluster, Server: b.Server, Streams: []streamBody{}}
	for _, st := range b.Streams {
		one := streamBody{
			Name: st.Name, Messages: st.Messages, Bytes: st.Bytes, Replicas: st.Replicas,
			CreatedEpoch: epochOrNull(st.Created), Consumers: []consumerBody{},
		}
		for _, c := range st.Consumers {
			one.Consumers = append(one.Consumers, consumerBody(c))
		}
		body.Streams = append(body.Streams, one)
	}
	return body
}
