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

-- A job knows its row in the outbox, which had an index of random names for
-- that: an entry to insert for each attempt, and one to look for. Programs from
-- before this must not run any more: they would make jobs that know nothing of
-- their row, and so may not make any.
ALTER TABLE observation_generation_jobs ADD COLUMN ask bigint NOT NULL DEFAULT 0; -- while it is queued; else what is left of that
ALTER TABLE observation_generation_jobs ALTER COLUMN ask DROP DEFAULT;
UPDATE observation_generation_jobs j SET ask = o.id FROM outbox o WHERE o.job_id = j.id;
ALTER TABLE outbox DROP CONSTRAINT outbox_job_id_key;

-- That a job was asked for, the audit reads from the jobs.
DROP INDEX observation_generation_job_events_project_id_event_type_at_idx;
CREATE INDEX observation_generation_job_events_project_id_event_type_at_idx
    ON observation_generation_job_events (project_id, event_type, at) WHERE event_type <> 'queued';

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
