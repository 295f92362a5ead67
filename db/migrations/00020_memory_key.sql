-- +goose Up
-- A memory is found by its key. With the tenant in front, and no statistics, a
-- tenant's observations by time looked as good, and all of them were read.
CREATE UNIQUE INDEX observations_memory_by_key ON observations (generation_key, project_id, team_id) WHERE created_by_job_id IS NULL;
DROP INDEX observations_memory_key;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
