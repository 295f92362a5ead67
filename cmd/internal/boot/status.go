package boot

import (
	"encoding/json"
	"net/http"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

// statusRoutes are those of the API that make sense without an application,
// in the same shapes where there is one.
func (p *Process) statusRoutes(mux *http.ServeMux, name string) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok", "runtime": name})
	})
	mux.HandleFunc("GET /api/health", func(w http.ResponseWriter, r *http.Request) {
		body := p.Health.Health(r.Context()).Body(name, Version(), p.started)
		answer(w, body.Code(), body)
	})
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, p.infoBody(name, p.Health.Broker(r.Context())))
	})
	mux.Handle("GET /metrics", p.metrics())
}

type infoBody struct {
	Name         string         `json:"name"`
	Runtime      string         `json:"runtime"`
	Version      string         `json:"version"`
	Build        string         `json:"build"`
	Process      string         `json:"process"`
	StartedEpoch int64          `json:"startedAtEpoch"`
	Broker       api.BrokerBody `json:"broker"`
	Leader       *bool          `json:"leader,omitempty"` // of a relay
	Lanes        []laneBody     `json:"lanes"`
	Totals       *totalsBody    `json:"totals,omitempty"` // of a relay
	Trouble      string         `json:"trouble,omitempty"`
}

type totalsBody struct {
	Published  uint64 `json:"published"`
	Duplicates uint64 `json:"duplicates"`
	Refused    uint64 `json:"refused"`
	Reclaimed  uint64 `json:"reclaimed"`
	Told       uint64 `json:"told"`
}

// laneBody is a lane as the relay or the worker of this process sees it.
type laneBody struct {
	Kind      string `json:"kind"`
	Slots     int    `json:"slots,omitempty"`
	Active    int    `json:"active"`
	Completed int64  `json:"completed"`
	Failed    int64  `json:"failed"`
	Retried   int64  `json:"retried"`
	Waiting   int    `json:"waiting,omitempty"`
	OnStream  int    `json:"onStream,omitempty"`
	Window    int    `json:"window,omitempty"`
}

func (p *Process) infoBody(name string, b api.Broker) infoBody {
	body := infoBody{
		Name: "obs-" + name, Runtime: name, Version: Version(), Build: Build(), Process: p.ID,
		StartedEpoch: p.started.UnixMilli(), Lanes: []laneBody{},
		Broker: b.Body(),
	}
	if p.relay != nil {
		body.ofRelay(p.relay.State())
	}
	if p.worker != nil {
		body.ofWorker(p.worker.State())
	}
	return body
}

func (b *infoBody) ofRelay(s outbox.State) {
	b.Leader, b.Trouble = new(s.Leader), areas(s.Error)
	b.Totals = &totalsBody{s.Published, s.Duplicates, s.Refused, s.Reclaimed, s.Told}
	for _, l := range s.Lanes {
		b.Lanes = append(b.Lanes, laneBody{Kind: string(l.Kind), Waiting: l.Waiting, OnStream: l.OnStream, Window: l.Window})
	}
}

func (b *infoBody) ofWorker(s pipeline.State) {
	for _, l := range s.Lanes {
		b.Lanes = append(b.Lanes, laneBody{
			Kind: string(l.Kind), Slots: l.Slots, Active: l.Active, Completed: l.Completed, Failed: l.Failed, Retried: l.Retried,
		})
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error says that the client is gone
}
