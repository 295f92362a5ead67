-- +goose Up
-- What each job pays for its arguments (docs/adr/0043). They are read and
-- written whole: as jsonb they were taken apart when it was made, and put
-- together again for each attempt.
ALTER TABLE observation_generation_jobs ALTER COLUMN payload DROP DEFAULT;
ALTER TABLE observation_generation_jobs ALTER COLUMN payload TYPE json USING payload::json;
ALTER TABLE observation_generation_jobs ALTER COLUMN payload SET DEFAULT '{}';

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
