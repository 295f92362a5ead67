package observe

import (
	"context"
	"errors"

	"github.com/seed-245eaa15/obs/events"
)

func (s *Service) Reindex(ctx context.Context, c Caller, project, observation string) (events.Job, error) {
	return events.Job{}, errors.ErrUnsupported
}
