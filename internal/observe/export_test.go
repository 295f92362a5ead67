package observe

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// What tests look at directly.
var (
	Strip        = strip
	HideDocument = hideDocument
	Showable     = showable
	Storable     = storable
	Portions     = portions
	TextsOf      = texts
)

const MaxBurst = maxBurst

// Handler is the handler that Register would give a worker.
func (s *Service) Handler(kind events.Kind) pipeline.Handler {
	h := s.handlers()[kind]
	return func(ctx context.Context, job events.Job) (pipeline.Commit, error) {
		var a jobArgs
		if err := json.Unmarshal(job.Args, &a); err != nil {
			return nil, err
		}
		return h(ctx, job, a)
	}
}

// Hashes are all that a key may be stored as, for the fuzz test.
func (p Peppers) Hashes(secret string) (sums [][]byte) {
	for _, h := range p.hashes(secret) {
		sums = append(sums, h.sum)
	}
	return sums
}

// RecordCall is a call of Record.
type RecordCall struct {
	Caller  Caller
	Events  []NewEvent
	Options RecordOptions

	Answer []Recorded
	Err    error
}

// RecordTogether does calls in one transaction, or as many as it takes, in
// the order that they have.
func (s *Service) RecordTogether(ctx context.Context, calls []*RecordCall) error {
	var recs []*recording
	var of []*RecordCall
	var places [][]int
	for _, c := range calls {
		if c.Err = c.Caller.granted(toWrite); c.Err != nil {
			continue
		}
		ready, at, err := prepare(c.Caller.Team, c.Events, c.Options.Batch)
		if c.Err = err; err != nil {
			continue
		}
		recs = append(recs, &recording{c: c.Caller, o: c.Options, ready: ready, events: len(c.Events)})
		of, places = append(of, c), append(places, at)
	}
	if len(recs) == 0 {
		return nil
	}
	if err := s.recorder.share(ctx, recs); err != nil {
		return err
	}
	for i, rec := range recs {
		if of[i].Err = rec.err; rec.held != "" {
			return errors.New("held: " + rec.held)
		}
		for _, at := range places[i] {
			if rec.err == nil {
				of[i].Answer = append(of[i].Answer, rec.answer[at])
			}
		}
	}
	return nil
}

// WaitingLanes is how many projects requests wait for.
func (s *Service) WaitingLanes() int {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	return len(s.recorder.lanes)
}

// Gather gives the do of a gatherer.
func Gather[T any](atOnce, crowd, most int, run func(ctx context.Context, calls []T) error) (do func(ctx context.Context, what T, weight int) error) {
	return (&gatherer[T]{atOnce: atOnce, crowd: crowd, most: most, split: 6, run: run}).do
}

const Patience = patience

// PlaceNew and SweepVectors are what KeepVectors does now and then.
func (s *Service) PlaceNew(ctx context.Context) error     { return s.placeNew(ctx, time.Now()) }
func (s *Service) SweepVectors(ctx context.Context) error { return s.sweepVectors(ctx) }
