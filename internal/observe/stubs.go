package observe

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

type waiters struct{ mu sync.Mutex }

type laneCache struct{ mu sync.Mutex }

func (s *Service) Record(ctx context.Context, c Caller, evs []NewEvent, o RecordOptions) ([]Recorded, error) {
	return nil, errors.ErrUnsupported
}

func (s *Service) Event(ctx context.Context, c Caller, id string) (AgentEvent, error) {
	return AgentEvent{}, errors.ErrUnsupported
}

func (s *Service) EventObservations(ctx context.Context, c Caller, id string) ([]SourcedObservation, error) {
	return nil, errors.ErrUnsupported
}

func (s *Service) ListJobs(ctx context.Context, c Caller, f JobFilter) (jobs []events.Job, total int, err error) {
	return nil, 0, errors.ErrUnsupported
}

func (s *Service) Job(ctx context.Context, c Caller, id events.ID) (events.Job, []events.Event, error) {
	return events.Job{}, nil, errors.ErrUnsupported
}

func (s *Service) RetryJob(ctx context.Context, c Caller, id events.ID) (job events.Job, already bool, err error) {
	return events.Job{}, false, errors.ErrUnsupported
}

func (s *Service) CancelJob(ctx context.Context, c Caller, id events.ID) (job events.Job, already bool, err error) {
	return events.Job{}, false, errors.ErrUnsupported
}

func (s *Service) WaitJobs(ctx context.Context, c Caller, ids []events.ID, limit time.Duration) (jobs map[events.ID]events.Job, timedOut bool, err error) {
	return nil, false, errors.ErrUnsupported
}
func (s *Service) Notice(id events.ID, status events.Status) {}

func (s *Service) Search(ctx context.Context, c Caller, q Query) ([]Observation, error) {
	return nil, errors.ErrUnsupported
}

func (s *Service) Context(ctx context.Context, c Caller, q Query) ([]Observation, string, error) {
	return nil, "", errors.ErrUnsupported
}

func (s *Service) Reindex(ctx context.Context, c Caller, project, observation string) (events.Job, error) {
	return events.Job{}, errors.ErrUnsupported
}

func (s *Service) Lanes(ctx context.Context) ([]Lane, error) { return nil, errors.ErrUnsupported }

func orEmpty(raw []byte) []byte {
	if len(raw) == 0 || string(raw) == "null" {
		return []byte("{}")
	}
	return raw
}
