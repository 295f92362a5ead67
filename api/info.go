package api

import (
	"context"
	"log/slog"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// Info is what the program knows of itself and of the broker. The zero value
// says nothing, and is fine.
type Info struct {
	Build      string // of the program, as in the jobs' histories
	Schema     int64  // the version of the database's schema; 0: not known
	Broker     Broker
	Boundaries map[string]Boundary // what runs in this process: "relay", "worker"
}

// Boundary is a part of the system that may run in this process.
type Boundary struct {
	Status string `json:"status"` // "active", "disabled" or "errored"
	Reason string `json:"reason,omitempty"`
}

type infoBody struct {
	Name         string              `json:"name"`
	Runtime      string              `json:"runtime"`
	Version      string              `json:"version"`
	Build        string              `json:"build"`
	StartedEpoch int64               `json:"startedAtEpoch"`
	AuthMode     string              `json:"authMode"`
	Postgres     postgresBody        `json:"postgres"`
	Broker       BrokerBody          `json:"broker"`
	Boundaries   map[string]Boundary `json:"boundaries"`
	Lanes        []laneBody          `json:"queueLanes"`
}

type postgresBody struct {
	Initialized bool  `json:"initialized"`
	Schema      int64 `json:"schemaVersion"`
}

type laneBody struct {
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Waiting     int64  `json:"waiting"`
	Active      int64  `json:"active"`
	Delayed     int64  `json:"delayed"`
	Failed      int64  `json:"failed"`
	Completed   int64  `json:"completed"`
	OldestMS    int64  `json:"oldestWaitingMs"`
	Unavailable bool   `json:"unavailable"`
	Why         string `json:"unavailableReason,omitempty"`
}

// info tells what this program is and how much it has to do. It answers also
// when Postgres or the broker does not: what is not known is then said to be so.
func (s *server) info(ctx context.Context, _ observe.Caller, _ none) (infoBody, error) {
	lanes := make(chan []laneBody, 1)
	go func() { lanes <- s.lanes(ctx) }()
	known, err := answered(ctx, s.cfg.Info)
	if err != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "info is not complete", slog.Any("err", err))
		known = Info{}
	}
	body := infoBody{
		Name: "obs", Runtime: runtimeName, Version: s.cfg.Version, Build: known.Build,
		StartedEpoch: epoch(s.started), AuthMode: "api-key",
		Postgres: postgresBody{known.Schema > 0, known.Schema},
		Broker:   known.Broker.Body(), Boundaries: known.Boundaries, Lanes: <-lanes,
	}
	if body.Boundaries == nil {
		body.Boundaries = map[string]Boundary{}
	}
	return body, nil
}

func (s *server) lanes(ctx context.Context) []laneBody {
	bodies := []laneBody{}
	// A count that takes longer than anyone waits goes on, so that the next
	// one who asks finds it done.
	lanes, err := answered(ctx, func(ctx context.Context) ([]observe.Lane, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)
		defer cancel()
		return s.cfg.Service.Lanes(ctx)
	})
	if err != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "lanes are not known", slog.Any("err", err))
		for _, k := range observe.Kinds() {
			bodies = append(bodies, laneBody{
				Kind: string(k), Name: "jobs." + string(k), Unavailable: true, Why: "the database does not answer",
			})
		}
		return bodies
	}
	for _, l := range lanes {
		bodies = append(bodies, laneBody{
			Kind: string(l.Kind), Name: "jobs." + string(l.Kind), Waiting: l.Waiting, Active: l.Active,
			Delayed: l.Delayed, Failed: l.Failed, Completed: l.Completed, OldestMS: l.Oldest.Milliseconds(),
		})
	}
	return bodies
}
