package api

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// tail makes frames of what is heard.
type tail struct {
	s     *server
	scope events.Scope
	req   streamRequest
}

func (t *tail) run(ctx context.Context, frames chan<- []byte) (err error) {
	defer func() {
		if r := recover(); r != nil { // not in the goroutine of the request, where it would be caught
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return t.s.cfg.Feed(ctx, t.scope, t.req.after, func(h events.Heard) error {
		seen := t.req.seen
		if h.From != t.req.after {
			seen = "" // it is not the event that was sent in part
		}
		put := func(id, name string, data any) error {
			f, err := frame(id, name, data)
			if err != nil {
				return err
			}
			select {
			case frames <- f:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		switch {
		case h.Reset:
			return put(h.At.String(), "reset", resetBody{Resume: "/v1/jobs?since="})
		case h.Event == nil && h.At == t.req.after:
			return nil // the client is there, or even half an event further
		case h.Event == nil:
			return put(h.At.String(), "", nil)
		case h.Event.Event.Type == events.Completed:
			if err := t.observations(ctx, h, seen, put); err != nil {
				return err
			}
		}
		return put(h.At.String(), "job", asStreamed(*h.Event))
	})
}

// observations sends those of a completed job. They are there: its event is
// told after the commit. While Postgres is away it waits, for what is behind
// must not come before.
func (t *tail) observations(ctx context.Context, h events.Heard, seen string, put func(id, name string, data any) error) error {
	for {
		page, err := t.load(ctx, h.Event, seen)
		if err != nil {
			t.s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "stream waits for observations", slog.Any("err", err))
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(loadAgain):
				continue
			}
		}
		for _, o := range page {
			id := ""
			if events.Token(o.ID) == o.ID { // others come again if the client leaves now
				id = eventID(h.From, o.ID)
			}
			if err := put(id, "observation", madeBody{asObservation(o), o.CreatedByJobID}); err != nil {
				return err
			}
			seen = o.ID
		}
		if len(page) < observe.ObservationPage {
			return nil
		}
	}
}

func (t *tail) load(ctx context.Context, e *events.FeedEvent, seen string) ([]observe.Observation, error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	return t.s.cfg.Service.ObservationsOfJob(ctx, e.Scope, e.Event.Job, seen)
}

type resetBody struct {
	Resume string `json:"resume"`
}

// madeBody is an observation with the job that made it.
type madeBody struct {
	observationBody
	CreatedByJobID *string `json:"createdByJobId"`
}

// streamedBody is an event of a job, and whose it is.
type streamedBody struct {
	JobID     events.ID   `json:"jobId"`
	ProjectID string      `json:"projectId"`
	TeamID    string      `json:"teamId"`
	JobType   events.Kind `json:"jobType"`
	happenedBody
}

func asStreamed(f events.FeedEvent) streamedBody {
	return streamedBody{f.Event.Job, f.Scope.Project, f.Scope.Team, f.Kind, asHappened(f.Event)}
}
