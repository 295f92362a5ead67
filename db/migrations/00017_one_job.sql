-- +goose Up
-- What a job pays that is asked for by itself (docs/adr/0040).

-- That it is queued, followers are told from its row here: by the statement
-- that takes the row away, or by the relay where it waits. So its transaction
-- writes to one table less. Programs from before this must not run any more:
-- they take the row away and tell nothing.
ALTER TABLE outbox
    ADD COLUMN told boolean NOT NULL DEFAULT true, -- or job_feed has it
    ADD COLUMN at timestamptz,                     -- what to tell; null where nothing ever was
    ADD COLUMN actor text,
    ADD COLUMN process text,
    ADD COLUMN build text,
    ADD COLUMN request_id text,
    ADD COLUMN schema smallint;

-- An index that grows at its left end has half-empty pages, and splits them
-- twice as often. Read backwards it gives the same.
CREATE INDEX observation_generation_jobs_by_time ON observation_generation_jobs (team_id, project_id, created_at);
DROP INDEX observation_generation_jobs_team_id_project_id_created_at_idx;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
