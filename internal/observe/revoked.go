package observe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

// errRevokedKey is why a job fails that only a revoked key has asked for. It
// is what the history says, and the audit action is named after it.
var errRevokedKey = errors.New("revoked_key")

// trustFor is how long a key that was good is taken for good, so that a job
// costs no question to Postgres. A revocation reaches the jobs that late.
const trustFor = time.Second

// keyRef is a key as a job names it.
type keyRef struct {
	scope events.Scope
	id    string
}

// stillAsked fails a job whose key was revoked before it began, unless
// somebody else has asked for it again since. A key that has expired, or was
// rotated, may not ask any more; what it did ask for is done.
func (s *Service) stillAsked(ctx context.Context, job events.Job, a jobArgs) error {
	if a.Key == "" {
		return nil // whoever has the database
	}
	bad, _, err := s.revoked(ctx, keyRef{job.Scope, a.Key})
	if err != nil || !bad {
		return err
	}
	asker, err := s.q.LastAsker(ctx, sqlc.LastAskerParams{JobID: string(job.ID), TeamID: job.Scope.Team, ProjectID: job.Scope.Project})
	if errors.Is(err, pgx.ErrNoRows) {
		return pipeline.Permanent(errRevokedKey)
	}
	if err != nil {
		return fmt.Errorf("look up who asked for job %s: %w", job.ID, err)
	}
	if asker != a.Key {
		bad, known, err := s.revoked(ctx, keyRef{job.Scope, asker})
		if err != nil || !bad || !known { // not known: no key, an operator
			return err
		}
	}
	return pipeline.Permanent(errRevokedKey)
}

// revoked says whether a key is no longer trusted; one that is not there is
// not, and not known.
func (s *Service) revoked(ctx context.Context, key keyRef) (bad, known bool, err error) {
	if _, ok := s.trusted.get(key); ok {
		return false, true, nil
	}
	bad, known, err = s.keys.get(ctx, key)
	if err != nil {
		return false, false, fmt.Errorf("look up key %s: %w", key.id, err)
	}
	return bad || !known, known, nil
}

func (s *Service) loadRevoked(ctx context.Context, keys []keyRef) (map[keyRef]bool, error) {
	found := make(map[keyRef]bool, len(keys))
	for _, key := range keys {
		bad, err := s.q.KeyRevoked(ctx, sqlc.KeyRevokedParams{ID: plain(key.id), TeamID: key.scope.Team, ProjectID: key.scope.Project})
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return nil, err
		case !bad:
			s.trusted.put(key, struct{}{}, trustFor)
		}
		found[key] = bad
	}
	return found, nil
}
