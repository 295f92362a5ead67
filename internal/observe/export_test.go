package observe

import (
	"context"
	"encoding/json"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// What tests look at directly.
var (
	Strip         = strip
	StripDocument = stripDocument
	Storable      = storable
	Portions      = portions
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
