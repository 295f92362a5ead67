-- +goose Up
-- What each job pays (docs/adr/0030).

-- Postgres reads the text of a table's checks anew for each statement that
-- writes to it: 25 µs each time, whatever it writes. The rows are computed by
-- events.Job.Apply, and obs check holds each to its history (I1, I12).
ALTER TABLE observation_generation_jobs
    DROP CONSTRAINT observation_generation_jobs_max_attempts_check,
    DROP CONSTRAINT observation_generation_jobs_status_check,
    DROP CONSTRAINT observation_generation_jobs_version_check,
    DROP CONSTRAINT observation_generation_jobs_check,
    DROP CONSTRAINT observation_generation_jobs_check1,
    DROP CONSTRAINT job_source,
    DROP CONSTRAINT job_lock,
    DROP CONSTRAINT job_end;
ALTER TABLE observation_generation_job_events DROP CONSTRAINT observation_generation_job_events_version_check;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
